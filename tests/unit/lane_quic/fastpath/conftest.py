"""Tests of the fast path run twice: with packets sealed and opened in Python, and compiled."""

from collections.abc import Iterator

import pytest

from tests.support import compiled


@pytest.fixture(scope="module", autouse=True, params=compiled.WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """How packets are sealed and opened in this module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        compiled.use(patch, request.param)
        yield request.param

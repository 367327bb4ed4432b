"""What applications reach through real lane processes."""

from collections.abc import Iterator

import pytest

from tests.support.origin import Origin


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin

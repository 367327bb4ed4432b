"""`lane top` and what it does not find. tests/end_to_end/test_top.py has it in terminals."""

from argparse import Namespace

import pytest

from lane.cli import top
from lane.errors import Unreachable


def test_a_path_that_can_not_be_looked_at_is_one_line(tmp_path):
    """Nor can one in a folder of another user, but root, whom tests may run as, can."""
    path = tmp_path / ("c" * 300)
    with pytest.raises(Unreachable, match=r"no client answers at .*: File name too long"):
        top.run(Namespace(once=True, path=path, who="client", json=False), None)

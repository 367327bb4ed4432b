"""What the tests of several modules of the command line use: see also `tests.support.command_line`."""

import pytest


@pytest.fixture
def conf(tmp_path):
    """A function that writes a configuration file."""

    def write(text):
        file = tmp_path / "lane.conf"
        file.write_text(text)
        return file

    return write

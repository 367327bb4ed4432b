import pytest

from lane.errors import Status
from lane.users.ending import Ending, ending_of


@pytest.mark.parametrize("ending", Ending)
def test_each_reason_has_a_code_of_its_own_and_a_text(ending):
    assert ending_of(int(ending)) is ending
    assert ending.value not in [*Status]
    assert ending.text


@pytest.mark.parametrize("code", [0, 6, 31, 2**32 - 1])
def test_other_codes_are_no_reasons(code):
    assert ending_of(code) is None

"""Results that are remembered until a crowd has gone."""

from lane import memo


def test_a_result_is_remembered_until_it_is_forgotten():
    asked = []

    @memo.remembered(2)
    def double(number):
        asked.append(number)
        return 2 * number

    assert [double(1), double(1)] == [2, 2]
    assert asked == [1]
    memo.forget()
    assert double(1) == 2
    assert asked == [1, 1]

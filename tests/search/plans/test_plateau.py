"""When it is time to ask for a plateau, and what `--until` takes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.plans.limits.budget import Budget
from search.plans.limits.plateau import DEFAULT_SHARE, parse_until, trials_left
from trainables.errors import UserError


def test_until() -> None:
    assert parse_until("plateau") == DEFAULT_SHARE == 0.02
    assert parse_until("plateau=0.005") == 0.005


@pytest.mark.parametrize("text", ["", "flat", "plateau=", "plateau=0", "plateau=1", "plateau=nan"])
def test_mistakes(text: str) -> None:
    with pytest.raises(UserError, match=r"`--until` must be plateau, or plateau=SHARE .* got '"):
        parse_until(text)


def test_by_hand() -> None:
    assert trials_left(100, 24, 20) is None  # less than a quarter
    assert trials_left(100, 50, 7) is None  # too few complete
    assert trials_left(100, 25, 20) == 60  # 20 for 25, so 60 for 75
    assert trials_left(100.0, 80.0, 36) == 9
    assert trials_left(100, 99, 40) == 1
    assert trials_left(100.0, 130.0, 40) == 1  # what is at work overruns a budget


@settings(max_examples=200, deadline=None)
@given(st.floats(1, 1e6), st.integers(0, 200).map(lambda k: k / 100), st.integers(0, 10**4))
def test_never_before_a_quarter_and_at_least_one(amount: float, share: float, num: int) -> None:
    left = trials_left(amount, share * amount, num)
    if left is None:
        assert share < 0.25 + 1e-9 or num < 8
    else:
        assert share >= 0.25 - 1e-9
        assert 1 <= left <= max(1, 3 * num)


def test_a_budget_keeps_its_plateau_and_an_extension_has_its_own() -> None:
    budget = Budget(trials=10, plateau=0.02)
    assert budget.to_json() == {"trials": 10, "plateau": 0.02}
    assert Budget(**budget.to_json()) == budget
    assert (budget.unit, budget.amount, budget.option) == ("trials", 10.0, "--trials")
    assert budget.text == "10 trials or a plateau (2 %)"
    assert budget.raised(Budget(trials=5)) == Budget(trials=15)
    assert Budget(trials=10).raised(Budget(trials=5, plateau=0.1)) == Budget(trials=15, plateau=0.1)

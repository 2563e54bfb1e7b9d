"""Trials are named by number and by name."""

import pytest

from trainables.errors import UserError
from trainables.sweep.folder import trial_name, trial_number


@pytest.mark.parametrize("text", ["27", "00027", "demo-00027", "demo-27", " 27 "])
def test_a_trial_is_named_by_number_or_by_name(text: str) -> None:
    assert trial_number(text, "demo") == 27
    assert trial_number(trial_name("a-1-b", 3), "a-1-b") == 3


@pytest.mark.parametrize("text", ["other-00027", "demo-", "", "-1", "2.5", "demo-00027/model.pt"])
def test_what_names_no_trial_of_the_study_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"`--trial` must be a number or a name of study 'demo'"):
        trial_number(text, "demo")

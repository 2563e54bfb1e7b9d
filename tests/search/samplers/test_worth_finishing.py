"""Which trials a model would have trained on, though a scheduler would stop them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from search.samplers.learning_curves import CurveModel
from search.samplers.outlook import Outlook
from search.samplers.trial_sampler import TrialSampler
from spaces.space import Parameter, Space

SPACE = Space(
    name="one",
    doc="one number",
    parameters=(Parameter(name="x", kind="float", low=0.0, high=1.0, default=0.5, doc=""),),
)
# Minimised; their front is where x is between 0.4 and 0.6. Curves cross: at a third of training the
# error is the other way round.
END = {x / 10: ((x / 10 - 0.6) ** 2, (x / 10 - 0.4) ** 2) for x in range(11)}


def early(x: float) -> tuple[float, float]:
    first, second = END[x]
    return 0.5 - first, 0.5 - second


def known(xs: Sequence[float], seed: int = 0) -> CurveModel:
    """A model of trials that ended, with a report at a third of each."""
    model = CurveModel(seed=seed)
    for number, x in enumerate(xs):
        model.started(number, {"x": x})
        model.reported(number, 1 / 3, early(x))
        model.ended(number, END[x])
    return model


def asked(x: float, params: dict[str, Any] | None = None, fraction: float = 0.34) -> bool:
    model = known([0.0, 0.1, 0.3, 0.7, 0.9, 1.0])
    model.started(6, params or {"x": x})
    for reported in sorted({0.12, 0.34, fraction}):  # the model keeps the first after a milestone
        if reported <= fraction:
            model.reported(6, reported, early(x))
    return model.worth_finishing(6, SPACE, fraction)


def test_what_is_expected_at_the_end_counts_and_not_where_others_are() -> None:
    """0.5 is dominated so far and will be on the front; 0.0 is ahead so far and will not."""
    assert all(ahead < behind for ahead, behind in zip(early(0.0), early(0.5), strict=True))
    assert asked(0.5)
    assert not asked(0.0)


@pytest.mark.parametrize(
    ("own", "best", "fraction", "expected"),
    [
        (0.5, 1.0, 0.49, False),
        (0.5, 1.0, 0.5, True),
        (0.5, 1.0, 0.9, True),
        (0.1, 1.0, 0.89, False),
        (2.0, 1.0, 0.12, True),
        (0.0, 0.0, 0.9, False),
        (1e-9, 0.0, 0.34, True),
    ],
)
def test_an_epoch_of_it_must_promise_as_much_as_one_of_the_best_new_candidate(
    own: float, best: float, fraction: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(self: Outlook, working: Any, candidates: Sequence[Any], generator: Any) -> Any:
        assert candidates[0] == {"x": 0.5}
        gains = np.linspace(0.0, best, len(candidates))
        gains[0] = own
        return np.column_stack([gains, np.zeros(len(candidates))])

    monkeypatch.setattr(Outlook, "scores", scores)
    assert asked(0.5, fraction=fraction) == expected


def test_of_what_is_not_known_nothing_is_expected() -> None:
    assert not asked(0.5, {"y": 0.5})  # of another space
    model = known([0.0, 1.0])
    model.started(2, {"x": 0.5})
    assert not model.worth_finishing(2, SPACE, 0.34)  # it has said nothing
    model = known([0.0])
    model.started(1, {"x": 0.5})
    model.reported(1, 0.34, early(0.5))
    assert not model.worth_finishing(1, SPACE, 0.34)  # too few are complete
    model = known([0.0, 0.3])
    for number in range(2):
        model.ended(number, END[0.3], {"cap": 1.0})
    model.started(2, {"x": 0.5})
    model.reported(2, 0.34, early(0.5))
    assert not model.worth_finishing(2, SPACE, 0.34)  # none holds the constraints


def test_another_at_work_that_promises_the_same_makes_it_worth_less() -> None:
    model = known([0.0, 0.1, 0.3, 0.7, 0.9, 1.0])
    for number in (6, 7, 8):
        model.started(number, {"x": 0.5})
        model.reported(number, 0.34, early(0.5))
    assert not model.worth_finishing(6, SPACE, 0.34)


@pytest.mark.parametrize("x", [0.0, 0.4, 0.5])
def test_the_answer_depends_on_what_was_told_and_not_on_when(x: float) -> None:
    first, second = known([0.0, 0.3, 0.7, 1.0]), CurveModel(seed=0)
    second.started(4, {"x": x})
    second.reported(4, 0.34, early(x))
    for number, other in reversed(list(enumerate([0.0, 0.3, 0.7, 1.0]))):
        second.started(number, {"x": other})
        second.ended(number, END[other])
        second.reported(number, 1 / 3, early(other))
    first.started(4, {"x": x})
    first.reported(4, 0.34, early(x))
    answers = [model.worth_finishing(4, SPACE, 0.34) for model in (first, first, second)]
    assert len(set(answers)) == 1


@pytest.mark.parametrize(("sampler", "expected"), [("curves", True), ("random", False)])
def test_only_a_sampler_with_a_model_expects_anything(sampler: str, expected: bool) -> None:
    one = TrialSampler(num_objectives=2, sampler=sampler, seed=0)
    for number, x in enumerate([0.0, 0.1, 0.3, 0.7, 0.9, 1.0]):
        one.ask(number, SPACE, {"x": x})
        one.report(number, 1 / 3, early(x), {})
        one.tell(number, "complete", END[x])
    one.ask(6, SPACE, {"x": 0.5})
    one.report(6, 0.34, early(0.5), {})
    assert one.worth_finishing(6, SPACE, 0.34) == expected

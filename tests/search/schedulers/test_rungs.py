"""The laws of ParetoASHA's decisions, without Ray; see `search.schedulers.rungs`."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.pareto import dominates
from search.schedulers.rungs import ParetoRungs, RungSettings
from trainables.errors import UserError

LEVELS = (-math.inf, -1.0, 0.0, 1.0, 2.0, math.inf)
VIOLATIONS = (0.0, 0.0, 0.0, -1.0, 0.5, 2.0, math.inf, math.nan)
Record = tuple[list[float], float]  # a vector, and how much it violates


@st.composite
def records(draw: st.DrawFn, *, least: int = 0, most: int = 14, nan: bool = True) -> list[Record]:
    num_objectives = draw(st.integers(1, 6))
    value = st.one_of(
        st.sampled_from((*LEVELS, math.nan) if nan else LEVELS),
        st.floats(allow_nan=nan, allow_subnormal=False),
    )
    row = st.lists(value, min_size=num_objectives, max_size=num_objectives)
    return draw(
        st.lists(st.tuples(row, st.sampled_from(VIOLATIONS)), min_size=least, max_size=most)
    )


def rungs_of(num_objectives: int, **changes: Any) -> ParetoRungs:
    """One rung, at half of training, that a third pass."""
    settings_ = {"grace": 0.5, **changes}
    return ParetoRungs(RungSettings(**settings_), num_objectives)


def told(known: list[Record], num_objectives: int) -> ParetoRungs:
    rungs = rungs_of(num_objectives)
    for number, (vector, violation) in enumerate(known):
        rungs.decide(f"known-{number}", 0.5, vector, violation=violation)
    return rungs


def answer(known: list[Record], record: Record) -> bool:
    vector, violation = record
    return told(known, len(vector)).decide("new", 0.5, vector, violation=violation)


def deb_before(known: Record, new: Record) -> bool | None:
    """Whether `known` comes before `new`; None where that is up to the order of feasible ones."""

    def kind(record: Record) -> int:
        vector, violation = record
        if math.isnan(violation) or any(map(math.isnan, vector)):
            return 2
        return 1 if violation > 0 else 0

    if kind(known) != kind(new):
        return kind(known) < kind(new)
    if kind(new) == 0:
        return None
    return kind(new) == 1 and known[1] < new[1]


@settings(max_examples=80, deadline=None)
@given(known=records(least=1, nan=False), data=st.data())
def test_what_dominates_every_record_goes_on(known: list[Record], data: st.DataObject) -> None:
    columns = zip(*[vector for vector, _ in known], strict=True)
    best = [min(column) for column in columns]
    vector = [data.draw(st.sampled_from([b, *(x for x in LEVELS if x < b)])) for b in best]
    assert answer(known, (vector, 0.0))


@settings(max_examples=40, deadline=None)
@given(record=records(least=1, most=1))
def test_the_first_goes_on_whatever_it_is(record: list[Record]) -> None:
    assert answer([], record[0])


@settings(max_examples=80, deadline=None)
@given(rows=records(least=2, nan=False), data=st.data())
def test_what_dominates_one_that_goes_on_goes_on(rows: list[Record], data: st.DataObject) -> None:
    *known, (worse, violation) = rows
    better = [data.draw(st.sampled_from([v, *(x for x in LEVELS if x < v)])) for v in worse]
    assert dominates(better, worse) or better == worse
    if answer(known, (worse, violation)):
        assert answer(known, (better, violation))
        if violation > 0:  # of less violation, the same
            assert answer(known, (better, violation / 2))
            assert answer(known, (better, 0.0))


@settings(max_examples=60, deadline=None)
@given(rows=records(least=1), data=st.data())
def test_order_and_scale_of_objectives_decide_nothing(
    rows: list[Record], data: st.DataObject
) -> None:
    num_objectives = len(rows[0][0])
    places = data.draw(st.permutations(range(num_objectives)))
    functions = []
    for place in places:  # strictly increasing, given by where each value goes
        values = sorted({v[place] for v, _ in rows if not math.isnan(v[place])})
        images = st.floats(allow_nan=False, allow_subnormal=False)
        drawn = data.draw(st.lists(images, min_size=len(values), max_size=len(values), unique=True))
        functions.append(dict(zip(values, sorted(drawn), strict=True)))

    def changed(vector: list[float]) -> list[float]:
        moved = [vector[place] for place in places]
        return [f.get(v, math.nan) for f, v in zip(functions, moved, strict=True)]

    first, second = rungs_of(num_objectives), rungs_of(num_objectives)
    for number, (vector, violation) in enumerate(rows):
        name = str(number)
        assert first.decide(name, 0.5, vector, violation=violation) == second.decide(
            name, 0.5, changed(vector), violation=violation
        )


@settings(max_examples=80, deadline=None)
@given(rows=records(least=1))
def test_feasible_comes_first_then_less_violation_then_what_is_no_number(
    rows: list[Record],
) -> None:
    *known, new = rows
    sure = [deb_before(record, new) for record in known]
    at_least, at_most = sum(s is True for s in sure), sum(s is not False for s in sure)
    kept, num = answer(known, new), len(rows)
    if at_least / num > 1 / 3:
        assert not kept
    if at_most / num <= 1 / 3:
        assert kept


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(LEVELS), st.integers(-5, 5).map(float)), max_size=25),
    st.sampled_from([1.5, 2.0, 3.0, 4.0]),
)
def test_one_objective_is_asha(values: list[float], reduction_factor: float) -> None:
    """Stopped iff more than one in η of the values, its own among them, are better."""
    rungs = rungs_of(1, reduction_factor=reduction_factor)
    for number, value in enumerate(values):
        better = sum(v < value for v in values[:number])
        expected = better / (number + 1) <= 1 / reduction_factor
        assert rungs.decide(str(number), 0.5, [value]) == expected


def test_one_objective_by_hand() -> None:
    """η = 3. Before 0.5: nobody. 0.7: 1 of 2. 0.6: 1 of 3. 0.9: 3 of 4. 0.4: nobody. 0.5 again:
    1 of 6. 0.55: 3 of 7."""
    rungs = rungs_of(1)
    values = [0.5, 0.7, 0.6, 0.9, 0.4, 0.5, 0.55]
    kept = [rungs.decide(str(n), 0.5, [v]) for n, v in enumerate(values)]
    assert kept == [True, False, True, False, True, True, False]


def test_equal_vectors_share_one_fate() -> None:
    rungs = rungs_of(3)
    kept = [rungs.decide(str(n), 0.5, [1.0, math.inf, -math.inf]) for n in range(20)]
    assert kept == [True] * 20


def test_six_objectives_still_stop_what_is_worst() -> None:
    generator = np.random.default_rng(0)
    rungs = rungs_of(6)
    for number in range(60):
        rungs.decide(str(number), 0.5, generator.random(6))
    assert not rungs.decide("worst", 0.5, [2.0] * 6)
    assert rungs.decide("best", 0.5, [-1.0] * 6)


@settings(max_examples=40, deadline=None)
@given(rows=records(least=2), times=st.lists(st.sampled_from([0.5, 0.6, 0.99]), max_size=4))
def test_deciding_again_gives_one_record_and_one_answer(
    rows: list[Record], times: list[float]
) -> None:
    (vector, violation), *others = rows
    rungs = told(others, len(vector))
    first = rungs.decide("new", 0.5, vector, violation=violation)
    for time in times:  # also with better values: the rung has been judged
        assert rungs.decide("new", time, [-math.inf] * len(vector)) == first
    assert rungs.num_records() == {0.5: len(rows)}


def test_milestones() -> None:
    assert RungSettings(grace=1.0, maximum=27.0).milestones() == (1.0, 3.0, 9.0)
    assert RungSettings().milestones() == pytest.approx((1 / 3,))
    assert RungSettings(grace=1 / 9).milestones() == pytest.approx((1 / 9, 1 / 3))
    assert RungSettings(grace=1.0, maximum=1.0).milestones() == ()
    # Nine thirds of a third are one, whatever the floats say.
    assert len(RungSettings(grace=1 / 3**9).milestones()) == 9


def test_a_jump_over_milestones_counts_at_the_furthest() -> None:
    rungs = ParetoRungs(RungSettings(grace=1.0, maximum=27.0), 1)
    assert rungs.decide("a", 0.5, [1.0])  # before the first
    assert rungs.num_records() == {1.0: 0, 3.0: 0, 9.0: 0}
    rungs.decide("a", 8.0, [1.0])
    assert rungs.num_records() == {1.0: 0, 3.0: 1, 9.0: 0}
    rungs.decide("a", 26.0, [1.0])
    assert rungs.num_records() == {1.0: 0, 3.0: 1, 9.0: 1}
    rungs.decide("a", 27.0, [1.0])  # the end: nothing to decide
    assert rungs.num_records() == {1.0: 0, 3.0: 1, 9.0: 1}


def test_a_milestone_is_reached_although_floats_fall_short() -> None:
    rungs = ParetoRungs(RungSettings(grace=1 / 3), 1)
    rungs.decide("a", sum([1 / 9] * 3) - 1e-12, [1.0])
    assert list(rungs.num_records().values()) == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grace": 0.0}, r"`0 < grace <= maximum` must hold .*grace=0, maximum=1"),
        ({"grace": 2.0}, r"grace=2, maximum=1"),
        ({"grace": math.nan}, r"grace=nan"),
        ({"maximum": math.inf}, r"maximum=inf"),
        ({"reduction_factor": 1.0}, r"`reduction_factor` must be above 1, got 1; 3 lets"),
        ({"reduction_factor": math.nan}, r"`reduction_factor` must be above 1, got nan"),
        ({"reduction_factor": math.inf}, r"`reduction_factor` must be above 1, got inf"),
        ({"reduction_factor": 1.0 + 1e-12}, r"must be at most 1000, got 1\.\d+e\+12"),
        ({"grace": 1e-300, "reduction_factor": 1.5}, r"must be at most 1000, got 1704"),
    ],
)
def test_settings_that_do_not_fit_say_what_would(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RungSettings(**changes)


def test_other_mistakes() -> None:
    with pytest.raises(ValueError, match=r"must hold 2 objectives, got shape \(3,\)"):
        ParetoRungs(RungSettings(), 2).decide("a", 0.5, [1.0, 2.0, 3.0])


def test_settings_survive_json() -> None:
    settings_ = RungSettings(grace=0.2, reduction_factor=2.0)
    assert RungSettings(**json.loads(json.dumps(settings_.to_json()))) == settings_


def test_a_trial_that_was_stopped_does_not_go_on_at_a_later_rung() -> None:
    """Its driver may have died before it ended, and another one resumed it."""
    rungs = ParetoRungs(RungSettings(grace=1 / 9), 1)
    for number in range(3):
        rungs.decide(f"good-{number}", 1 / 9, [0.0])
    assert not rungs.decide("poor", 1 / 9, [1.0])
    assert not rungs.decide("poor", 1 / 3, [0.0])
    assert rungs.num_records() == {1 / 9: 4, 1 / 3: 0}


def test_a_spared_trial_continues_and_only_those_that_would_stop_ask() -> None:
    """Asked once at a milestone; what others see of the rung is the same."""
    rungs, asked = rungs_of(1), []

    def spared() -> bool:
        asked.append(len(asked))
        return True

    for number in range(3):
        assert rungs.decide(str(number), 0.5, [float(-number)], spared=spared)
    assert asked == []
    assert rungs.decide("poor", 0.5, [9.0], spared=spared)
    assert rungs.decide("poor", 0.5, [9.0])
    assert rungs.decide("poor", 0.7, [9.0], spared=lambda: False)
    assert asked == [0]
    assert not rungs.decide("poor too", 0.5, [8.0])
    assert rungs.num_records() == {0.5: 5}

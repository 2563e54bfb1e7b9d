"""Check which member of a front is chosen, by hand and by law, and what a refusal says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics import reasons
from analysis.statistics.choice import (
    choose,
    fresh_means,
    front_members,
    knee_depth,
    mean_metrics,
)
from analysis.statistics.conditions import Condition, parse_condition, parse_conditions
from trainables import report
from trainables.errors import UserError

MIOU, ANGLE, COST = "val/segmentation/miou", "val/normals/mean_error_deg", "cost/density"
DEPTH, LATENCY = "val/depth/absolute_error", "cost/latency_fraction"
ONE, TWO = (MIOU, COST), (MIOU, ANGLE, COST)


@dataclass(frozen=True)
class Given:
    number: int
    metrics: Mapping[str, float]

    @property
    def trial(self) -> str:
        return f"s-{self.number:05d}"


def given_trials(names: Sequence[str], *rows: Sequence[float]) -> list[Given]:
    return [Given(i, dict(zip(names, row, strict=False))) for i, row in enumerate(rows)]


HAND = given_trials(
    (COST, MIOU, ANGLE),
    (1.0, 0.50, 16.0),  # the best quality, the dearest
    (0.5, 0.48, 18.0),
    (0.2, 0.44, 20.0),
    (0.1, 0.30, 26.0),  # the cheapest
    (0.5, 0.47, 19.0),  # dominated by 1
)


def chosen(trials: Sequence[Given], objectives: Sequence[str], *where: str, best=None) -> int:
    conditions = [parse_condition(text, objectives, trials[0].metrics) for text in where]
    return choose(trials, objectives, conditions, best).trial.number


def test_the_knee_by_hand() -> None:
    """c = (1, 4/9, 1/9, 0); of mIoU l = (0, 0.1, 0.3, 1), of both tasks (0, 0.15, 0.35, 1)."""
    one, two = choose(HAND, ONE), choose(HAND, TWO)
    assert one.trial.number == two.trial.number == 2
    assert one.depth == pytest.approx(1 - 1 / 9 - 0.3)
    assert two.depth == pytest.approx(1 - 1 / 9 - 0.35)
    assert [t.number for t in two.front] == [3, 2, 1, 0]
    assert two.leader(MIOU).number == 0
    assert two.leader(COST).number == 3


def test_with_one_task_the_knee_is_farthest_from_the_line_of_das() -> None:
    """The distance to the line through the two extremes, worked with vectors."""
    rng = np.random.default_rng(0)
    costs = np.sort(rng.uniform(0, 1, 20))
    losses = np.sort(rng.uniform(0, 1, 20))[::-1]
    points = np.stack([costs, losses], axis=1)
    points = (points - points.min(0)) / np.ptp(points, axis=0)
    line = (points[-1] - points[0]) / np.linalg.norm(points[-1] - points[0])
    across = np.array([line[1], -line[0]])  # towards the cheap and good corner
    distances = (points - points[0]) @ across
    depths = knee_depth(costs, losses[:, None])
    assert np.allclose(depths / math.sqrt(2), distances)


def test_five_tasks_that_agree_weigh_no_more_than_one() -> None:
    costs = np.array([1.0, 0.5, 0.2, 0.1])
    losses = np.array([0.0, 0.1, 0.3, 1.0])
    one = knee_depth(costs, losses[:, None])
    assert np.allclose(knee_depth(costs, np.tile(losses[:, None], 5)), one)


@pytest.mark.parametrize(
    ("where", "best", "number"),
    [
        ((), None, 2),
        (("segmentation/miou>=0.45",), None, 1),
        (("segmentation/miou>=95%",), None, 1),  # of 0.50: 0.475
        (("segmentation/miou>0.48",), None, 0),
        (("val/segmentation/miou>=0.48",), None, 1),
        (("normals/mean_error_deg<=130%", "cost/density<50%"), None, 2),
        ((), "segmentation/miou", 0),
        ((), "val/normals/mean_error_deg", 0),
        ((), "cost/density", 3),
        (("cost/density<=0.5",), "segmentation/miou", 1),
        (("cost/density<0.5",), "segmentation/miou", 2),
    ],
)
def test_bounds_and_best_by_hand(where: tuple[str, ...], best: str | None, number: int) -> None:
    assert chosen(HAND, TWO, *where, best=best) == number


def test_ties_go_to_the_lowest_number() -> None:
    trials = given_trials((COST, MIOU), (0.3, 0.4), (0.1, 0.2), (0.1, 0.2), (0.3, 0.4))
    assert chosen(trials, ONE) == 0  # no member lies below the line
    assert chosen(trials, ONE, best="cost/density") == 1
    assert chosen(trials[::-1], ONE, best="segmentation/miou") == 0


def test_a_front_of_one_and_one_without_range() -> None:
    assert chosen(given_trials((COST, MIOU), (0.3, 0.4)), ONE) == 0
    same = given_trials((COST, MIOU), (0.3, 0.4), (0.3, 0.4))
    assert chosen(same, ONE) == 0


def test_a_member_without_the_metric_neither_meets_a_bound_on_it_nor_is_best_in_it() -> None:
    names = (COST, MIOU, LATENCY)
    trials = given_trials(names, (0.1, 0.2, 0.9), (0.2, 0.4), (0.5, 0.5, 0.8))
    assert chosen(trials, ONE, "cost/latency_fraction<=0.95") == 0
    assert chosen(trials, ONE, best="cost/latency_fraction") == 2


def test_test_never_decides() -> None:
    moved = [Given(t.number, t.metrics | {"test/segmentation/miou": t.number}) for t in HAND]
    assert chosen(moved, TWO) == 2
    for words in ({"where": "test/segmentation/miou>=0.1"}, {"best": "test/segmentation/miou"}):
        with pytest.raises(UserError, match="on val, got 'test/segmentation/miou'"):
            chosen(moved, TWO, *filter(None, [words.get("where")]), best=words.get("best"))


def test_a_bound_that_no_member_meets_names_the_nearest_and_what_admits_it() -> None:
    with pytest.raises(UserError) as told:
        chosen(HAND, TWO, "cost/density<=0.0999", "segmentation/miou>=0.2")
    assert str(told.value) == (
        "no model of the front meets cost/density<=0.0999. The nearest is s-00003: cost/density is "
        "10 %, must be <= 9.99 % (missed by 0.01 percentage points); --where "
        "'cost/density<=0.1' would admit it"
    )


def test_a_bound_is_written_as_it_was_typed() -> None:
    with pytest.raises(UserError, match=r"is 10 %, must be <= 9\.9904 % \(missed"):
        chosen(HAND, TWO, "cost/density<=0.099904")
    met = reasons.bound(parse_condition("cost/density<=0.10004", ONE), {COST: 0.1})
    assert met == "cost/density is 10 %, <= 10.004 %"


def test_why_one_model_alone_was_chosen() -> None:
    lone = given_trials((COST, MIOU), (0.3, 0.4))
    bounds = [parse_condition("cost/density<=0.1", ONE)]
    assert reasons.why(choose(lone, ONE), "scenes") == "the only model on the front"
    assert reasons.why(choose(HAND, ONE, bounds, MIOU), "scenes") == (
        "the only one of the 4 models on the front that meets the bounds: Segmentation mIoU ↑, 0.3"
    )
    deep = given_trials((COST, DEPTH), (0.3, 0.4), (0.2, 0.5))
    for dataset, unit in (("scenes", "m"), ("cityscapes", "disparity"), ("my:DATA", "data units")):
        why = reasons.why(choose(deep, (DEPTH, COST), best=DEPTH), dataset)
        assert why.endswith(f"the best Depth absolute error ({unit}) ↓, 0.4")


def test_bounds_that_fail_together_only() -> None:
    with pytest.raises(UserError) as told:
        chosen(HAND, TWO, "cost/density<=0.2", "segmentation/miou>=90%")
    assert str(told.value) == (
        "no model of the front meets all bounds together: 2 of 4 models meet cost/density<=0.2, 2 "
        "of 4 models meet segmentation/miou>=90%. The nearest is s-00002: segmentation/miou is "
        "0.44, must be >= 0.45 (missed by 0.01); --where 'segmentation/miou>=88%' would admit it"
    )


def test_a_trial_off_the_front_that_meets_the_bounds_is_named() -> None:
    names = (COST, MIOU, LATENCY)
    trials = given_trials(names, (0.1, 0.4, 0.9), (0.2, 0.3, 0.5))
    with pytest.raises(UserError, match="s-00001 meets all bounds, but is not on the front"):
        chosen(trials, ONE, "cost/latency_fraction<=0.6")


def test_what_no_trial_measured_says_how_to_have_it_measured() -> None:
    for words in ({"where": ["cost/latency_fraction<=0.5"]}, {"best": "cost/latency_ms"}):
        with pytest.raises(UserError, match=r"--set objective.cost=cost/latency_fraction"):
            chosen(HAND, TWO, *words.get("where", []), best=words.get("best"))


def test_nothing_on_the_front() -> None:
    for trials in ([], given_trials((COST, MIOU), (0.1, math.nan))):
        with pytest.raises(UserError, match="complete trials with finite objectives, got none"):
            choose(trials, ONE)


def again(*values: tuple[str, float]) -> list[tuple[str, dict[str, float]]]:
    return [(status, {MIOU: miou, COST: 0.5} if miou else {}) for status, miou in values]


def test_fresh_means_are_of_a_front_that_was_trained_again_whole() -> None:
    front = {"s-00000": again(("complete", 0.5), ("complete", 0.3)), "s-00001": again()}
    fresh = {f"s-0000{n}": again(("complete", 0.4), ("complete", 0.4)) for n in range(4)} | front
    assert fresh_means(HAND, ONE, fresh) == {}  # a member has none
    fresh["s-00001"] = again(("complete", 0.4))
    assert fresh_means(HAND, ONE, fresh) == {}  # one seed may be luck as well
    fresh["s-00001"] = again(("complete", 0.4), ("failed", 0.0))
    found = fresh_means(HAND, ONE, fresh)
    # Half of its trainings failed, so it is left out; the one off the front was not trained again.
    assert found.keys() == {"s-00000", "s-00002", "s-00003"}
    assert found["s-00000"][MIOU] == pytest.approx(0.4)
    # What missed a constraint counts for the mean, and against the trial.
    fresh["s-00001"] = again(("complete", 0.5), ("complete", 0.4), ("infeasible", 0.3))
    assert fresh_means(HAND, ONE, fresh)["s-00001"][MIOU] == pytest.approx(0.4)
    fresh["s-00001"] = again(("complete", 0.5), ("infeasible", 0.3))
    assert "s-00001" not in fresh_means(HAND, ONE, fresh)


def test_means_are_of_what_all_have() -> None:
    pair = given_trials((MIOU, ANGLE), (0.4, 20.0), (0.6, math.nan))
    assert mean_metrics(pair) == {MIOU: 0.5}
    assert mean_metrics([]) == {}


# ------------------------------------------------------------------------------- laws

ROWS = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9
)
NAMES = (COST, MIOU, ANGLE)
BOUNDS = st.lists(
    st.builds(
        Condition,
        metric=st.sampled_from(NAMES),
        operator=st.sampled_from(["<=", ">=", "<", ">"]),
        value=st.integers(0, 9).map(float),
    ),
    max_size=2,
)
BEST = st.sampled_from([None, *NAMES])


@given(rows=ROWS, bounds=BOUNDS, best=BEST)
def test_the_chosen_meets_every_bound_and_none_that_does_is_better(rows, bounds, best) -> None:
    trials = given_trials(NAMES, *rows)
    meeting = [t for t in front_members(trials, TWO) if all(c.is_met(t.metrics) for c in bounds)]
    if not meeting:
        with pytest.raises(UserError, match="no model of the front meets"):
            choose(trials, TWO, bounds, best)
        return
    choice = choose(trials, TWO, bounds, best)
    assert choice.trial in meeting
    assert set(map(id, choice.admitted)) == set(map(id, meeting))
    if best is not None:
        sign = report.describe(best).sign
        values = {t.number: sign * t.metrics[best] for t in meeting}
        assert values[choice.trial.number] == min(values.values())
        assert choice.trial.number == min(
            n for n, value in values.items() if value == min(values.values())
        )


@given(
    rows=ROWS,
    powers=st.tuples(*[st.integers(-8, 8)] * 3),
    shifts=st.tuples(*[st.integers(-5, 5)] * 3),
    order=st.permutations(range(3)),
)
def test_the_knee_depends_on_no_scale_and_no_order(rows, powers, shifts, order) -> None:
    before = choose(given_trials(NAMES, *rows), TWO).trial.number
    scaled = [
        [2.0**p * (v + s) for v, p, s in zip(row, powers, shifts, strict=True)] for row in rows
    ]
    objectives = [(*TWO,)[i] for i in order]
    after = choose(given_trials(NAMES, *scaled)[::-1], objectives).trial.number
    assert after == before


@given(rows=ROWS, bounds=BOUNDS)
def test_a_bound_that_the_chosen_meets_changes_nothing(rows, bounds) -> None:
    trials = given_trials(NAMES, *rows)
    free = choose(trials, TWO).trial
    if all(c.is_met(free.metrics) for c in bounds):
        assert choose(trials, TWO, bounds).trial is free


@given(rows=ROWS, bounds=BOUNDS)
def test_the_named_bounds_admit_the_nearest(rows, bounds) -> None:
    """What the refusal proposes is taken, word for word, and leads to a choice."""
    trials = given_trials(NAMES, *rows)
    try:
        choose(trials, TWO, bounds)
    except UserError as error:
        proposed = [part.split("'")[1] for part in str(error).split("--where ")[1:]]
        assert proposed
        wider = [parse_condition(text, TWO) for text in proposed]
        replaced = {(c.metric, c.operator) for c in wider}
        kept = [c for c in bounds if (c.metric, c.operator) not in replaced]
        nearest = str(error).split("The nearest is ")[1].partition(":")[0]
        admitted = choose(trials, TWO, [*kept, *wider]).admitted
        assert nearest in [t.trial for t in admitted]


def test_what_touches_a_strict_bound_is_not_the_nearest() -> None:
    bounds = parse_conditions(["cost/density<1"], 2, TWO, HAND[0].metrics)
    with pytest.raises(UserError) as told:
        choose(HAND, TWO, bounds)
    said = str(told.value)
    assert "The nearest is s-00001: segmentation/miou is 0.48, must be >= 0.49 (missed by" in said
    assert said.endswith("; --max-loss 12.5 would admit it")
    # Of what is not dense, one that only touches the bound is told without a miss of nothing.
    with pytest.raises(UserError, match=r"is s-00001: .* is 50 %, must be > 50 %; --where"):
        choose(HAND[1:2], TWO, [parse_condition("cost/density>0.5", TWO)])
    with pytest.raises(UserError, match=r"s-00002: segmentation/miou is 0\.44, must be > 0\.48 \("):
        chosen(HAND[1:4], TWO, "segmentation/miou>0.48")


@pytest.mark.parametrize("bound", ["cost/density<=0.99", "cost/density<=99%"])
def test_the_dense_network_is_not_near_to_a_bound_on_its_cost(bound: str) -> None:
    with pytest.raises(UserError, match="nearest is s-00001: segmentation/miou is"):
        chosen(HAND, TWO, bound, "segmentation/miou>=0.5")


def test_only_the_dense_one() -> None:
    def said(max_loss: float) -> str:
        choice = choose(HAND, TWO, parse_conditions([], max_loss, TWO, HAND[0].metrics), COST)
        return reasons.only_dense(choice, lambda trial: trial.number == 0)

    assert "nearest sparse one is s-00001: segmentation/miou is 0.48, must be >= 0.49 (" in said(2)
    assert said(2).endswith("; --max-loss 12.5 would admit it")
    assert said(13) == ""

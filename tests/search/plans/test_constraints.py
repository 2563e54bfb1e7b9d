"""Floors and caps from the command line to the front; see `search.plans.limits.constraints`."""

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.plans.limits.constraints import Constraint, Constraints
from search.plans.plan import Plan
from search.record.outcomes import judge
from tests.search import studies
from trainables.errors import UserError

TASKS = ("segmentation", "normals", "depth")
MIOU = "val/segmentation/miou"


def plan_of(constraints: dict[str, str], trials: int = 8, **overrides: str) -> Plan:
    wanted = {f"constraint.{name}": text for name, text in constraints.items()} | overrides
    return studies.plan_of(trials=trials, overrides=wanted)


def test_a_floor_and_a_cap_by_hand() -> None:
    both = Constraints.parse({"segmentation/miou": " >= 0.4", "cost/density": "<=0.2"}, TASKS)
    met, missed = {MIOU: 0.5, "cost/density": 0.1}, {MIOU: 0.3, "cost/density": 0.3}
    assert both.violations(met) == pytest.approx({MIOU: -0.25, "cost/density": -0.5})
    assert both.violations(missed) == pytest.approx({MIOU: 0.25, "cost/density": 0.5})
    assert both.total_violation(met) == 0.0
    assert both.total_violation(missed) == pytest.approx(0.75)
    assert both.total_violation({**met, MIOU: 0.3}) == pytest.approx(0.25)  # nothing is made up for
    assert both.of({"cost/density"}).total_violation(missed) == pytest.approx(0.5)
    assert both.missed(met) == []
    assert both.missed(missed) == [
        "val/segmentation/miou=0.3 must be >=0.4",
        "cost/density=0.3 must be <=0.2",
    ]
    assert both.bound("cost/density") == 0.2
    assert both.bound("cost/sparsity") is None
    assert bool(both)
    assert not Constraints()


def test_exactly_at_the_bound_holds() -> None:
    one = Constraint.parse("cost/density", "<=0.3", TASKS)
    assert one.violation({"cost/density": 0.3}) == 0.0
    assert one.violation({"cost/density": math.nextafter(0.3, 1)}) > 0


def test_a_bound_of_zero_is_not_divided_by() -> None:
    one = Constraint.parse("depth/absolute_error", "<=0", TASKS)
    assert one.violation({"val/depth/absolute_error": 0.25}) == 0.25


@pytest.mark.parametrize("metrics", [{}, {MIOU: math.nan}, {MIOU: math.inf}, {MIOU: -math.inf}])
def test_what_is_not_known_is_missed(metrics: dict[str, float]) -> None:
    both = Constraints.parse({"segmentation/miou": ">=0.4"}, TASKS)
    assert both.violations(metrics) == {MIOU: math.inf}
    assert len(both.missed(metrics)) == 1


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.0, 1.0, allow_subnormal=False),
    st.sampled_from(["segmentation/miou", "normals/within_30", "cost/density", "cost/sparsity"]),
)
def test_json_and_back(bound: float, name: str) -> None:
    sign = "<=" if name == "cost/density" else ">="
    known = Constraints.parse({name: f"{sign}{bound!r}"}, TASKS)
    assert known.items[0].bound == bound
    assert Constraints.parse(json.loads(json.dumps(known.to_json())), TASKS) == known


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cost/density", "0.2", r"`--set constraint.cost/density` must be >=NUMBER or <=NUMBER"),
        ("cost/density", "<0.2", r"got '<0.2'; e.g. constraint.segmentation/miou='>=0.3'"),
        ("cost/density", "<=", "got '<='"),
        ("cost/density", "", "got ''"),
        ("cost/density", "<=much", "got '<=much'"),
        ("cost/density", "<=nan", "got '<=nan'"),
        ("cost/density", "<=inf", "got '<=inf'"),
        ("cost/density", "<=1e999", "got '<=1e999'"),
        ("cost/density", "<=0.2.1", "got '<=0.2.1'"),
        ("cost/density", "<=1e", "got '<=1e'"),
        ("cost/density", ">=0.2", "cost/density should be low: use <=0.2"),
        ("segmentation/miou", "<=0.3", "segmentation/miou should be high: use >=0.3"),
        ("segmentation/mio", ">=0.3", "Did you mean 'segmentation/miou'"),
        ("keypoints/error", "<=0.3", "unknown metric for a constraint 'keypoints/error'"),
        ("cost/latency_spread", "<=3", "unknown metric for a constraint"),
        ("multitask/delta_percent", ">=0", "unknown metric for a constraint"),
        ("", ">=0", "unknown metric for a constraint"),
        ("cost/density", "<=0", "cap on density must leave some of the sparsities, got 0 where"),
        ("cost/density", "<=-1", "must be a bound 0 or more, got '<=-1'"),
        ("cost/density", "<=0.001", "the highest sparsity is"),
        ("cost/sparsity", ">=1.2", r"must be a bound in \[0, 1\]; 0.3 is 30 %, got '>=1.2'"),
        ("segmentation/miou", ">=30", r"must be a bound in \[0, 1\]"),
    ],
)
def test_mistakes_name_rule_value_and_remedy(name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_of({name: text})


def test_a_grid_takes_none_and_a_pinned_sparsity_must_fit() -> None:
    with pytest.raises(UserError, match=r"got 0.05 where the highest sparsity is 0.9"):
        plan_of({"cost/density": "<=0.05"}, **{"sparsity.target": "0.9"})
    assert plan_of({"cost/density": "<=0.2"}, **{"sparsity.target": "0.9"}).constraints


@settings(max_examples=30, deadline=None)
@given(st.floats(0.02, 2.0))
def test_a_cap_on_density_narrows_what_is_drawn(cap: float) -> None:
    whole, plan = plan_of({}), plan_of({"cost/density": f"<={cap!r}"})
    target, before = plan.space.parameter("sparsity.target"), None
    before = whole.space.parameter("sparsity.target")
    assert target is not None
    assert before is not None
    assert target.high == before.high
    assert target.low == pytest.approx(max(before.low or 0, 1 - cap), abs=1.1e-3 * cap)
    assert 1 - (target.low or 0) < cap or target.low == before.low
    for start in plan.starts():
        drawn = {**start.pins, **start.params}
        if not start.reference:
            assert 1 - drawn["sparsity.target"] <= cap


def metrics_of_quality(plan: Plan, quality: float, density: float) -> dict[str, float]:
    metrics = {name: 1.0 for name in plan.objectives}
    return {**metrics, MIOU: quality, "cost/density": density}


def test_infeasible_trials_are_known_as_such_everywhere(tmp_path: Path) -> None:
    plan = plan_of({"segmentation/miou": ">=0.4"}, trials=9)
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    ledger = studies.ledger_of(plan, storage)
    # The best of all by its values is not feasible, and a feasible one is dominated by it alone.
    qualities = [0.5, 0.39, 0.45, 0.41, 0.1, 0.4, 0.6, 0.3, 0.42]
    densities = [0.5, 0.01, 0.4, 0.2, 0.02, 0.1, 0.9, 0.03, 0.3]
    for quality, density in zip(qualities, densities, strict=True):
        assignment = ledger.next()
        assert assignment is not None
        result: dict[str, Any] = metrics_of_quality(plan, quality, density)
        result |= {"training/fraction": 1.0, "status": "complete"}
        outcome = judge(result, plan.objectives, constraints=plan.constraints)
        assert outcome is not None
        assert outcome.status == ("complete" if quality >= 0.4 else "infeasible")
        if quality < 0.4:
            assert f"{MIOU}={quality:g} must be >=0.4" in outcome.reason
        ledger.finish(assignment.number, outcome)
    feasible = {n for n, quality in enumerate(qualities) if quality >= 0.4}
    assert set(ledger.front()) == feasible
    study = optuna.load_study(study_name="s", storage=storage)
    assert {t.number for t in study.best_trials} == feasible
    for trial, quality in zip(study.get_trials(), qualities, strict=True):
        assert trial.constraints == {MIOU: pytest.approx((0.4 - quality) / 0.4)}
        assert trial.values is not None
    # The sampler of this driver and of the next know it too.
    for driver in (ledger, studies.ledger_of(plan, storage)):
        told = driver._draws._sampler._study.get_trials()
        assert [t.constraints for t in told] == [t.constraints for t in study.get_trials()]

"""Check which trials are on the fronts, and the staircase drawn through them."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.fronts import attainment_line, ineligible_reason, joint_front, task_fronts
from analysis.studies.trials import load_study
from tests.analysis.built_studies import BuiltStudy, realistic_rows, simple_row
from trainables import report

TASKS = ("segmentation", "normals")
Record = Callable[..., BuiltStudy]


def test_joint_front_by_hand(record: Record) -> None:
    """(density ↓, mIoU ↑, degrees ↓)"""
    rows = [
        simple_row(0, "dense", 1.0, 0.50, 17.0),
        simple_row(1, "rigl", 0.1, 0.40, 19.0),
        simple_row(2, "snip", 0.1, 0.39, 19.0),  # dominated by 1
        simple_row(3, "random", 0.1, 0.30, 18.0),  # best normals at its cost
        simple_row(4, "snip", 0.1, 0.40, 19.0),  # equal to 1: both stay
        simple_row(5, "rigl", 0.01, 0.90, 1.0, status="stopped"),  # of another fidelity
        simple_row(6, "rigl", 0.01, 0.90, float("nan")),
        simple_row(7, "rigl", 0.01, float("inf"), 1.0),
        simple_row(8, "rigl", 0.01, 0.90, 1.0, status="failed"),
        simple_row(9, "rigl", 0.01, 0.90, 1.0, status="infeasible"),
    ]
    study = load_study("hand", record("hand", rows, tasks=TASKS).storage)
    assert [t.number for t in joint_front(study)] == [1, 3, 4, 0]
    segmentation, normals = task_fronts(study)
    assert [t.number for t in segmentation.front] == [1, 4, 0]
    assert [t.number for t in normals.front] == [3, 0]
    assert [t.number for t in normals.random_front] == [3]
    assert segmentation.dense_level == 0.5
    assert "is nan" in (ineligible_reason(study.trials[6], study.objectives) or "")
    assert ineligible_reason(study.trials[0], study.objectives) is None


def test_test_metrics_never_decide(record: Record) -> None:
    rows = realistic_rows(30, TASKS)
    before = joint_front(load_study("a", record("a", rows, tasks=TASKS).storage))
    for row in rows:
        row.metrics |= {n: 0.0 for n in row.metrics if n.startswith("test/")}
    after = joint_front(load_study("b", record("b", rows, tasks=TASKS).storage))
    assert [t.number for t in before] == [t.number for t in after]
    assert len(before) > 3


def test_every_member_is_undominated_and_every_other_is_dominated(record: Record) -> None:
    study = load_study("r", record("r", realistic_rows(40, TASKS), tasks=TASKS).storage)
    members = {t.number for t in joint_front(study)}
    complete = [t for t in study.trials if t.status == "complete"]

    def beaten_by(one, other) -> bool:
        pairs = [
            (report.minimised(n, other.metrics[n]), report.minimised(n, one.metrics[n]))
            for n in study.objectives
        ]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    for trial in complete:
        assert any(beaten_by(trial, o) for o in complete) == (trial.number not in members)


def test_staircase_by_hand() -> None:
    xs, ys = attainment_line([1, 2, 4], [10, 7, 6], right_edge=5)
    assert list(zip(xs, ys, strict=True)) == [(1, 10), (2, 10), (2, 7), (4, 7), (4, 6), (5, 6)]
    assert attainment_line([], [], right_edge=5) == ([], [])


@pytest.mark.parametrize("sign", [1.0, -1.0])
@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_staircase_is_the_best_at_or_below_every_cost(sign: float, pairs: list) -> None:
    """Whichever way quality is measured: `sign` +1 for errors, −1 for scores."""
    best: list[tuple[int, int]] = []
    for cost, error in sorted(set(pairs)):
        if not best or error < best[-1][1]:
            best.append((cost, error))
    xs, ys = attainment_line([c for c, _ in best], [sign * e for _, e in best], right_edge=10)
    for cost in range(best[0][0], 11):
        attained = min(e for c, e in pairs if c <= cost)
        level = [y for x, y in zip(xs, ys, strict=True) if x <= cost][-1]
        assert sign * level == attained

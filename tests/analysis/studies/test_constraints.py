"""Check floors and caps: as read from a record, in words, and on the panels."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.plots import parallel
from analysis.plots.fronts import bounds, front, front_page
from analysis.report import figures
from analysis.report.sections import trial_tables
from analysis.statistics.fronts import TaskFront, joint_front, task_fronts
from analysis.studies.constraints import Bound, axis_bound, misses, read_bounds
from analysis.studies.trials import load_study
from search.plans.limits.constraints import Constraints
from tests.analysis.built_studies import BuiltStudy, Row, searched_rows, simple_row
from trainables.errors import UserError

TASKS = ("segmentation", "normals")
Record = Callable[..., BuiltStudy]
CONSTRAINTS = {
    "segmentation/miou": ">=0.3",
    "cost/density": "<=0.2",
    "normals/median_error_deg": "<=30",
}


def fronts_of(record: Record, rows: list[Row], constraints: dict[str, str]) -> tuple:
    facts = {"constraints": constraints}
    built = record("bounded", rows, tasks=TASKS, facts=facts)
    study = load_study("bounded", built.storage)
    return study, task_fronts(study)


def test_bounds_are_read_from_the_record() -> None:
    recorded = read_bounds({"constraints": CONSTRAINTS})
    assert [(b.metric, b.value, b.is_floor) for b in recorded] == [
        ("val/segmentation/miou", 0.3, True),
        ("cost/density", 0.2, False),
        ("val/normals/median_error_deg", 30.0, False),
    ]


@pytest.mark.parametrize("facts", [{}, {"constraints": {}}, {"constraints": ""}])
def test_a_study_without_constraints_has_no_bounds(facts: dict[str, Any]) -> None:
    assert read_bounds(facts) == ()


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ({"segmentation/miou": "0.3"}, "correct the study's study.json"),
        ({"segmentation/miou": ">=many"}, "got 'segmentation/miou>=many'"),
        ({"segmentation/miuo": ">=0.3"}, "unknown metric 'segmentation/miuo'"),
        ("nonsense", "got 'nonsense'"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(recorded: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_bounds({"constraints": recorded})


def test_bounds_in_words() -> None:
    floor, cap, ceiling = read_bounds({"constraints": CONSTRAINTS})
    assert floor.text == "segmentation mIoU at least 0.3"
    assert cap.text == "density at most 20 %"
    assert ceiling.text == "surface normals median angular error at most 30°"
    assert (floor.short, cap.short, ceiling.short) == ("≥ 0.3", "≤ 20 %", "≤ 30°")
    values = {"val/segmentation/miou": 0.21, "cost/density": 0.2}
    assert misses([floor, cap, ceiling], values) == [
        "segmentation mIoU is 0.21, must be at least 0.3"
    ]


@pytest.mark.parametrize(
    ("constraint", "value", "said"),
    [
        (("cost/density", "<=0.2"), 0.2004, "density is 20.04 %, must be at most 20 %"),
        (("cost/density", "<=0.2"), 0.2000001, "density is 20.01 %, must be at most 20 %"),
        (("cost/density", "<=0.2004"), 0.3, "density is 30 %, must be at most 20.04 %"),
        (("cost/density", "<=1e-7"), 1.2, "density is 120 %, must be at most 0.00001 %"),
        (("cost/latency_fraction", "<=0.5"), 12.3456, "latency is 1,235 %, must be at most 50 %"),
        (
            ("segmentation/miou", ">=0.3"),
            0.29999,
            "segmentation mIoU is 0.2999, must be at least 0.3",
        ),
        (
            ("segmentation/miou", ">=0.30004"),
            0.30001,
            "segmentation mIoU is 0.3, must be at least 0.30004",
        ),
        (
            ("normals/median_error_deg", "<=30"),
            30.0001,
            "surface normals median angular error is 30.01°, must be at most 30°",
        ),
    ],
)
def test_a_value_that_misses_its_bound_is_written_beyond_it(
    constraint: tuple[str, str], value: float, said: str
) -> None:
    (bound,) = read_bounds({"constraints": dict([constraint])})
    assert misses([bound], {bound.metric: value}) == [said]


def test_the_table_and_the_hover_say_the_same_value(record: Record) -> None:
    rows = [
        simple_row(0, "rigl", 0.1, 0.4, 19.0),
        simple_row(1, "snip", 0.2004, 0.29999, 19.0, status="infeasible"),
    ]
    study, _ = fronts_of(record, rows, CONSTRAINTS)
    (row,) = trial_tables.missed(figures.find(study)).rows
    assert row.cells[:3] == ("20.04 %", "0.2999", "19°")
    hover = figures.hover_texts(study)["bounded-00001"]
    assert "density: 20.04 %" in hover


@given(parts=st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 40)] * 2))
def test_what_is_missed_is_what_the_search_says(parts: tuple[int, ...]) -> None:
    """Two readings of one record, by the values that a trial reported; ties among them."""
    miou, density, floor, cap = (part / 40 for part in parts)
    texts = {"segmentation/miou": f">={floor!r}", "cost/density": f"<={cap!r}"}
    metrics = {"val/segmentation/miou": miou, "cost/density": density}
    theirs = Constraints.parse(texts, ("segmentation",)).missed(metrics)
    ours = misses(read_bounds({"constraints": texts}), metrics)
    assert len(ours) == len(theirs)


def test_a_floor_on_sparsity_is_a_cap_on_density() -> None:
    sparse = Bound(metric="cost/sparsity", value=0.9)
    assert axis_bound([sparse], "cost/density") == Bound(metric="cost/density", value=0.1)
    both = [sparse, Bound(metric="cost/density", value=0.3)]
    assert axis_bound(both, "cost/density") == Bound(metric="cost/density", value=0.1)
    assert axis_bound(both, "cost/sparsity") == Bound(metric="cost/sparsity", value=0.9)
    assert axis_bound(both, "cost/flops_fraction") is None
    assert axis_bound(both, "val/segmentation/miou") is None


def test_the_search_s_judgement_decides_who_is_a_member(record: Record) -> None:
    """Neither what was stopped nor what missed, even where its values would dominate."""
    rows = [
        simple_row(0, "dense", 1.0, 0.5, 17.0, status="infeasible"),
        simple_row(1, "rigl", 0.1, 0.4, 19.0),
        simple_row(2, "snip", 0.05, 0.9, 1.0, status="infeasible"),
        simple_row(3, "snip", 0.01, 0.9, 1.0, status="stopped", fraction=0.5),
        # Below the floor but complete: the search has decided so.
        simple_row(4, "rigl", 0.02, 0.1, 30.0),
        simple_row(5, "rigl", 0.02, float("nan"), 30.0, status="infeasible"),
    ]
    study, fronts = fronts_of(record, rows, CONSTRAINTS)
    assert [t.number for t in joint_front(study)] == [4, 1]
    for task_front in fronts:
        assert [t.number for t in task_front.trials] == [1, 4]
        assert [t.number for t in task_front.infeasible] == [0, 2]
        assert [t.number for t in task_front.dense] == [0]  # still a level to compare with
    segmentation, normals = fronts
    assert segmentation.dense_level == 0.5
    assert segmentation.quality_bound == Bound(metric="val/segmentation/miou", value=0.3)
    assert normals.quality_bound is None  # the bound is on another of the task's metrics
    assert (
        bounds.outside(normals, bounds.window(normals))[0]
        == "also required: median angular error ≤ 30°"
    )
    assert segmentation.other_bounds == ()
    assert normals.cost_bound == Bound(metric="cost/density", value=0.2)


def panel(record: Record, missed: list[float], floor: float) -> tuple[TaskFront, bounds.Window]:
    """Complete trials at mIoU 0.3 to 0.4, infeasible ones at `missed`."""
    rows = [simple_row(i, "rigl", 0.1 * (i + 1), 0.3 + 0.05 * i, 20.0) for i in range(3)]
    rows += [
        simple_row(3 + i, "snip", 0.02, value, 20.0, status="infeasible")
        for i, value in enumerate(missed)
    ]
    _, fronts = fronts_of(record, rows, {"segmentation/miou": f">={floor}"})
    return fronts[0], bounds.window(fronts[0])


def test_a_miss_by_far_does_not_squeeze_the_panel(record: Record) -> None:
    task_front, shown = panel(record, missed=[0.25, 0.01, -50.0], floor=0.28)
    assert [t.number for t in shown.missed] == [3]
    low, high = shown.quality_limits
    assert 0.2 < low < 0.25
    assert high < 0.45
    assert bounds.outside(task_front, shown) == ["2 misses off the axis"]
    assert shown.cost_limits[0] < 0.02  # as on every other panel of the study


def test_a_bound_far_from_all_trials_is_told_not_drawn(record: Record) -> None:
    task_front, shown = panel(record, missed=[], floor=0.01)
    assert bounds.outside(task_front, shown) == ["mIoU ≥ 0.01, off the axis"]
    assert shown.quality_limits[0] > 0.2
    names = {t.name for t in front_page.interactive(task_front, (), {}).data}
    assert bounds.CONSTRAINT not in names
    assert bounds.page_legend([task_front]) == []


def test_a_bound_is_a_line_with_its_forbidden_side_shaded(record: Record) -> None:
    task_front, shown = panel(record, missed=[0.25], floor=0.28)
    shade, line = (
        t for t in front_page.interactive(task_front, (), {}).data if t.name == bounds.CONSTRAINT
    )
    assert list(line.y) == [0.28, 0.28]
    assert list(line.x) == list(shown.cost_limits)
    assert (min(shade.y), max(shade.y)) == (shown.quality_limits[0], 0.28)
    texts = [a.text for a in front_page.interactive(task_front, (), {}).layout.annotations]
    assert "≥ 0.28" in texts
    picture = front.draw([task_front], (), "title", "subtitle")
    assert "≥ 0.28" in [text.get_text() for text in picture.axes[0].texts]
    named = [text.get_text() for text in picture.legends[0].get_texts()]
    assert named[-2:] == [bounds.MISSED, bounds.CONSTRAINT]


@pytest.mark.parametrize("cost", ["linear", "log"])
def test_a_cap_is_a_vertical_line_on_every_panel(record: Record, cost: str) -> None:
    """Annotations of a logarithmic axis are placed by the logarithm, traces by the value."""
    sparsest = 0.1 if cost == "linear" else 0.001
    rows = [simple_row(i, "rigl", x, 0.3, 20.0) for i, x in enumerate((sparsest, 0.15, 0.3))]
    _, fronts = fronts_of(record, rows, {"cost/density": "<=0.2"})
    for task_front in fronts:
        figure = front_page.interactive(task_front, (), {})
        shade, line = (t for t in figure.data if t.name == bounds.CONSTRAINT)
        assert list(line.x) == [0.2, 0.2]
        assert min(shade.x) == 0.2
        label = next(a for a in figure.layout.annotations if a.text == "≤ 20 %")
        expected = 0.2 if cost == "linear" else -0.69897
        assert label.x == pytest.approx(expected, abs=1e-5)


def test_a_study_that_nothing_is_feasible_of_still_shows_its_trials(record: Record) -> None:
    rows = [
        simple_row(i, "rigl", 0.1 * (i + 1), 0.3 + 0.05 * i, 20.0, status="infeasible")
        for i in range(3)
    ]
    _, fronts = fronts_of(record, rows, {"segmentation/miou": ">=0.45"})
    shown = bounds.window(fronts[0])
    assert len(shown.missed) == 3
    low, high = shown.quality_limits
    assert low < 0.3 < 0.45 < high
    drawn = {t.name for t in front_page.interactive(fronts[0], (), {}).data}
    assert drawn == {bounds.MISSED, bounds.CONSTRAINT}
    assert drawn == {name for name, _ in front_page.legend(fronts)}


@pytest.fixture
def searched(record: Record) -> figures.Findings:
    facts = {"constraints": {"segmentation/miou": ">=0.38", "cost/density": "<=0.4"}}
    built = record("searched", searched_rows(40, TASKS, 0.38), tasks=TASKS, facts=facts)
    return figures.find(load_study("searched", built.storage))


def test_every_trace_of_bounded_panels_is_in_the_legend(searched: figures.Findings) -> None:
    drawn = {
        trace.name
        for task_front in searched.fronts
        for trace in front_page.interactive(task_front, searched.member_names, {}).data
    }
    assert drawn == {name for name, _ in front_page.legend(searched.fronts)}
    assert {bounds.MISSED, bounds.CONSTRAINT} <= drawn


def unfolded(text: str) -> str:
    """Return a hover's text with its folded lines put together again."""
    return re.sub("(</b>)?<br>(<b>)?\u2003", " ", text)


def test_hovering_over_a_miss_says_what_it_missed(searched: figures.Findings) -> None:
    hover = figures.hover_texts(searched.study)
    hover = {name: unfolded(text) for name, text in hover.items()}
    for trial in searched.study.trials:
        assert ("must be at least 0.38" in hover[trial.trial]) == (trial.status == "infeasible")


def test_parallel_coordinates_tell_misses_and_leave_out_what_was_stopped(
    searched: figures.Findings,
) -> None:
    ran = (*searched.ended, *searched.infeasible)
    assert {t.status for t in ran} == {"complete", "infeasible"}
    figure = parallel.interactive(ran, searched.study.objectives)
    axis = next(d for d in figure.data[0].dimensions if d.label == "constraints")
    assert list(axis.values) == [1.0] * len(searched.ended) + [0.0] * len(searched.infeasible)
    picture = parallel.draw(ran, searched.study.objectives, searched.member_names, "t", "s")
    assert bounds.MISSED in [text.get_text() for text in picture.legends[0].get_texts()]
    complete = parallel.interactive(searched.ended, searched.study.objectives)
    assert "constraints" not in {d.label for d in complete.data[0].dimensions}


def test_the_subtitle_counts_what_is_not_drawn(searched: figures.Findings) -> None:
    stopped = len(searched.study.with_status("stopped"))
    assert stopped > 5
    assert figures.front_subtitle(searched).endswith(f"· {stopped} stopped early")

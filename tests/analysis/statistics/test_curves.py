"""A grid's curves are means over seeds with their intervals; dense systems are levels."""

from collections.abc import Callable

import pytest

from analysis.statistics.comparing.comparison import mean_interval
from analysis.statistics.comparing.curves import task_curves
from analysis.studies.systems_by_seed import read_grid
from analysis.studies.trials import load_study
from tests.analysis.built_studies import BuiltStudy
from tests.analysis.grids import grid_rows

NAME = "segmentation/miou"
VALUES = {
    ("dense", 0.0): [{NAME: 0.5}, {NAME: 0.6}],
    ("snip", 0.9): [{NAME: 0.3}, {NAME: 0.4}],
    ("snip", 0.5): [{NAME: 0.45}, {NAME: 0.47}],
    ("rigl", 0.9): [{NAME: 0.42}],
}


def test_curves_are_means_with_intervals(record: Callable[..., BuiltStudy]) -> None:
    built = record("grid", grid_rows(VALUES), tasks=("segmentation",))
    (panel,) = task_curves(read_grid(load_study("grid", built.storage)))
    assert panel.quality == f"test/{NAME}"
    assert panel.sparsities == (0.5, 0.9)
    assert [curve.label for curve in panel.levels] == ["Dense"]
    assert panel.levels[0].points[0].mean == pytest.approx(0.55)
    curves = {curve.method: curve for curve in panel.curves}
    assert [point.sparsity for point in curves["snip"].points] == [0.5, 0.9]
    assert [point.mean for point in curves["snip"].points] == pytest.approx([0.46, 0.35])
    assert curves["snip"].points[1].interval == mean_interval([0.3, 0.4])
    single = curves["rigl"].points[0]
    assert (single.num_seeds, single.interval.high) == (1, float("inf"))

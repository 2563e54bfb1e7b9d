"""A grid's report shows curves and comparisons, and nothing that only a search has."""

import re
from pathlib import Path

import pytest

from analysis.plots.systems import forest
from analysis.report import figures
from analysis.report.report import render
from analysis.statistics.paired import compare_systems
from analysis.studies.systems_by_seed import read_grid
from analysis.studies.trials import load_study
from analysis.tables import comparisons
from tests.analysis.built_studies import write_record
from tests.analysis.report.kinds import TASKS, baseline_rows


def grid(storage: Path, seeds: int) -> figures.Findings:
    facts = {"grid": {"seeds": seeds}}
    rows = baseline_rows(seeds, sparsities=(0.5, 0.9))
    write_record(storage, "grid", rows, tasks=TASKS, facts=facts)
    return figures.find(load_study("grid", storage))


def test_the_page_of_a_grid_has_no_search(tmp_path: Path) -> None:
    found = grid(tmp_path, 3)
    page = render(found, "command")
    sections = re.findall(r'<section id="(\w+)">', page)
    assert sections[:2] == ["curves", "comparisons"]
    assert {"front", "members", "hypervolume", "parallel", "importance"}.isdisjoint(sections)
    assert sorted(re.findall(r'<a href="#(\w+)">', page)) == sorted(sections)
    assert page.count("Plotly.newPlot(") == len(TASKS) + len(TASKS) + 1  # and one of Δ_T
    written = {path.name for path in figures.write_figures(found, tmp_path)}
    assert written == {"curves.png", "compare.png"}


def test_a_grid_of_one_seed_says_why_nothing_is_compared(tmp_path: Path) -> None:
    found = grid(tmp_path, 1)
    page = render(found, "command")
    assert "Nothing is compared: there is nothing to pair" in page
    assert {path.name for path in figures.write_figures(found, tmp_path)} == {"curves.png"}


@pytest.mark.parametrize(("seeds", "is_given"), [(2, False), (4, False), (5, True)])
def test_an_effect_of_few_pairs_is_not_given(tmp_path: Path, seeds: int, is_given: bool) -> None:
    found = grid(tmp_path, seeds)
    read = read_grid(found.study)
    (table, *_) = comparisons.tables(read, compare_systems(read))
    place = table.heads.index("effect g_z")
    effects = {row[place] for row in table.rows}
    assert (effects == {"too few pairs"}) is not is_given
    assert ({row[place + 1] for row in table.rows} == {"–"}) is not is_given


def test_a_forest_has_every_comparison_within_its_axis(tmp_path: Path) -> None:
    rows = compare_systems(read_grid(grid(tmp_path, 2).study))
    for measure in forest.measures(rows):
        mine = [row for row in rows if row.measure == measure]
        figure = forest.interactive(mine)
        low, high = figure.layout.xaxis.range
        assert low < 0 < high
        assert [trace.x[1] for trace in figure.data] == [row.found.mean for row in mine]
        assert all(low <= x <= high for trace in figure.data for x in trace.x)

"""A grid's report shows curves and comparisons, and nothing that only a search has."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.plots.systems import forest
from analysis.report import figures
from analysis.report.report import render
from analysis.statistics.comparing.paired import compare_systems
from analysis.statistics.comparing.system_means import system_means
from analysis.studies.systems_by_seed import read_grid
from analysis.studies.trials import load_study
from analysis.tables import comparisons
from tests.analysis.built_studies import PRIMARY, BuiltStudy, Row, simple_row, write_record
from tests.analysis.report.kinds import TASKS, baseline_rows
from tests.analysis.test_command_line import run

MIOU = PRIMARY["segmentation"]
Record = Callable[..., BuiltStudy]


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


def lucky_rows() -> list[Row]:
    """Return three systems at three seeds; SNIP has the best trial (0.50), RigL the best mean."""
    values = {
        ("dense", 1.0): (0.60, 0.62, 0.61),
        ("snip", 0.1): (0.40, 0.50, 0.42),  # 0.44
        ("rigl", 0.1): (0.47, 0.45, 0.46),  # 0.46
        ("random", 0.1): (0.30, 0.31, 0.32),
    }
    rows: list[Row] = []
    for (method, density), by_seed in values.items():
        for seed, value in enumerate(by_seed):
            row = simple_row(len(rows), method, density, value)
            row.seed = seed
            row.params = {"method": method, "seed": seed, "sparsity.target": 1 - density}
            rows.append(row)
    return rows


@pytest.fixture
def lucky(record: Record) -> BuiltStudy:
    return record("grid", lucky_rows(), tasks=("segmentation",), facts={"grid": {"seeds": 3}})


def test_a_pick_from_a_grid_is_of_means(
    lucky: BuiltStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["pick", "grid", "--storage", lucky.storage, "--where", "cost/density<=0.2"]
    command += ["--best", "segmentation/miou"]
    assert run(monkeypatch, *command) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("grid-00006: RigL\n")
    assert "seeds    3 (0, 1, 2): values are their means; grid-00006 is the model of the" in (
        printed.out
    )
    assert "--trial 6" in printed.out
    assert (
        "note: A grid is compared by systems: 4, each by its mean over 3 seeds, and named by the "
        "trial of its first seed." in printed.err
    )
    assert run(monkeypatch, *command, "--json", "-") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["trial"], answer["seeds"]) == ("grid-00006", [0, 1, 2])
    assert answer["front"] == ["grid-00006", "grid-00000"]
    assert answer["objectives"][MIOU]["value"] == pytest.approx(0.46)
    assert answer["objectives"][MIOU]["dense"] == pytest.approx(0.61)
    assert answer["objectives"][MIOU]["price"] == pytest.approx(0.15)
    assert run(monkeypatch, "pick", "grid", "--storage", lucky.storage) == 0
    assert "one seed" not in capsys.readouterr().out


def test_bounds_of_a_grid_are_on_means(lucky: BuiltStudy, monkeypatch, capsys) -> None:
    command = ["pick", "grid", "--storage", lucky.storage]
    # No mean of a sparse system reaches what one lucky trial does.
    asked = ["--where", "segmentation/miou>=0.49", "--where", "cost/density<=0.2"]
    assert run(monkeypatch, *command, *asked) == 2
    assert "meets" in capsys.readouterr().err


def test_the_files_of_a_grid_are_of_means(lucky: BuiltStudy, monkeypatch, capsys) -> None:
    answer = lucky.directory / "answer.json"
    command = ["report", "grid", "--storage", lucky.storage, "--json", answer]
    assert run(monkeypatch, *command) == 0
    printed = capsys.readouterr()
    assert "2 of 4 systems on the joint front, by means over 3 seeds" in printed.out
    assert "single seed" not in printed.out
    rows = pq.read_table(lucky.directory / "front.parquet").to_pylist()
    assert [(row["trial"], row["mean/seeds"]) for row in rows] == [
        ("grid-00000", 3),
        ("grid-00006", 3),
    ]
    assert [row[f"mean/{MIOU}"] for row in rows] == pytest.approx([0.61, 0.46])
    assert [row[MIOU] for row in rows] == pytest.approx([0.60, 0.47])  # the trials' own
    told = json.loads(answer.read_text())
    assert [(t["trial"], t["seeds"]) for t in told["front"]] == [
        ("grid-00006", [0, 1, 2]),
        ("grid-00000", [0, 1, 2]),
    ]
    assert told["front"][0]["metrics"][MIOU] == pytest.approx(0.46)
    assert told["hypervolume"] is None
    with (lucky.directory / "fronts" / "segmentation.csv").open(newline="") as file:
        systems = list(csv.DictReader(file))
    assert len(systems) == 4
    assert {row["trial"] for row in systems if row["on_front"] in ("True", "true")} == {
        "grid-00000",
        "grid-00006",
    }
    assert {row["num_seeds"] for row in systems} == {"3"}
    page = (lucky.directory / "fronts" / "segmentation.html").read_text()
    assert "means of 3 seeds, named by" in page


def test_seeds_that_did_not_end_are_not_in_a_mean(record: Record) -> None:
    rows = lucky_rows()
    rows[6].status = "failed"
    rows[8].metrics[MIOU] = float("nan")
    built = record("grid", rows, tasks=("segmentation",), facts={"grid": {"seeds": 3}})
    found = system_means(load_study("grid", built.storage))
    assert found.seeds["grid-00007"] == (1,)
    (rigl,) = [t for t in found.study.trials if t.method == "rigl" and t.status == "complete"]
    assert (rigl.trial, rigl.metrics[MIOU]) == ("grid-00007", 0.45)
    assert "each by its mean over 1 to 3 seeds" in found.study.notes[-1]
    assert len(found.study.with_status("failed")) == 1


def test_a_search_is_compared_by_its_trials(record: Record) -> None:
    study = load_study("s", record("s", lucky_rows(), tasks=("segmentation",)).storage)
    assert system_means(study).study is study
    assert system_means(study).seeds == {}
    empty = record("empty", [], tasks=("segmentation",), facts={"grid": {"seeds": 3}})
    without = load_study("empty", empty.storage)
    assert system_means(without).study is without

"""Check which trials form a system, on which split, and what `compare` and `table` give."""

import json
import math
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.statistics.comparing import paired
from analysis.studies.systems_by_seed import Grid, read_grid
from analysis.studies.trials import load_study
from analysis.tables import comparisons, summaries
from tests.analysis.built_studies import BuiltStudy, Row, simple_row
from tests.analysis.grids import grid_rows
from tests.analysis.test_command_line import run
from trainables.errors import UserError

TASKS = ("segmentation", "depth")
Record = Callable[..., BuiltStudy]


def both(miou: float, error: float) -> dict[str, float]:
    return {"segmentation/miou": miou, "depth/absolute_error": error}


# By hand: SNIP at 90 % loses 0.1, 0.2, 0.3 in mIoU and gains 0.1 m of depth error throughout.
VALUES = {
    ("dense", 0.0): [both(0.5, 1.0), both(0.6, 1.0), both(0.7, 1.0)],
    ("snip", 0.3): [both(0.5, 1.0), both(0.6, 1.1), both(0.7, 0.9)],
    ("snip", 0.9): [both(0.4, 1.1), both(0.4, 1.1), both(0.4, 1.1)],
    ("random", 0.9): [both(0.3, 1.5), both(0.2, 1.6), both(0.3, 1.4)],
}


def grid_of(record: Record, rows: list[Row], sparsities=None) -> Grid:
    built = record("grid", rows, tasks=TASKS)
    return read_grid(load_study("grid", built.storage), sparsities)


def test_systems_are_methods_at_sparsities_over_seeds(record: Record) -> None:
    grid = grid_of(record, grid_rows(VALUES))
    assert [(s.method, s.sparsity, s.seeds) for s in grid.systems] == [
        ("dense", 0.0, (0, 1, 2)),
        ("snip", 0.3, (0, 1, 2)),
        ("random", 0.9, (0, 1, 2)),
        ("snip", 0.9, (0, 1, 2)),
    ]
    assert grid.split == "test"
    assert all(not s.settings for s in grid.systems)
    assert grid.systems[1].label == "SNIP 30 %"


def test_variants_of_a_method_are_systems_of_their_own(record: Record) -> None:
    rows = grid_rows({**VALUES, ("rigl", 0.9): VALUES["snip", 0.9]})
    again = grid_rows({("rigl", 0.9): VALUES["random", 0.9]})
    for offset, row in enumerate(again):
        row.number = len(rows) + offset
    for row in rows + again:
        if row.method == "rigl":
            row.params["regrowth.fraction"] = 0.5 if row in again else 0.3
            row.params["regrowth.interval_steps"] = 12  # the same in both: no part of the name
    grid = grid_of(record, rows + again)
    variants = [s for s in grid.systems if s.method == "rigl"]
    assert [s.variant for s in variants] == ["regrowth.fraction=0.3", "regrowth.fraction=0.5"]
    assert [grid.value(s.trials[0], "segmentation/miou") for s in variants] == [0.4, 0.3]


def test_unfinished_and_repeated_trials(record: Record) -> None:
    rows = grid_rows(VALUES)
    rows[0].status = "stopped"
    repeat = grid_rows({("snip", 0.9): [both(0.44, 1.0)]})[0]
    repeat.number = len(rows)
    grid = grid_of(record, [*rows, repeat])
    dense, *_, snip = grid.systems
    assert dense.seeds == (1, 2)
    assert grid.value(snip.trials[0], "segmentation/miou") == 0.44
    assert any("same system and seed: 1." in note for note in grid.notes)


def test_val_is_read_where_test_is_not_complete(record: Record) -> None:
    rows = grid_rows(VALUES)
    del rows[4].metrics["test/depth/absolute_error"]
    grid = grid_of(record, rows)
    assert grid.split == "val"
    assert any("are on val" in note for note in grid.notes)
    assert grid.value(grid.systems[0].trials[0], "segmentation/miou") == 100.5


def test_sparsities_choose_among_the_sparse(record: Record) -> None:
    chosen = grid_of(record, grid_rows(VALUES), [0.3])
    assert [s.label for s in chosen.systems] == ["Dense", "SNIP 30 %"]
    with pytest.raises(UserError, match=r"has 0\.3, 0\.9, got 0\.5"):
        grid_of(record, grid_rows(VALUES), [0.5])


def test_a_comparison_by_hand(record: Record) -> None:
    grid = grid_of(record, grid_rows(VALUES), [0.9])
    rows = paired.compare_systems(grid)
    found = {(r.system.method, r.measure): r for r in rows}
    assert {r.reference.method for r in rows} == {"dense"}
    snip = found["snip", "segmentation/miou"].found
    assert snip.mean == pytest.approx(-0.2)
    assert snip.relative == pytest.approx(-0.2 / 0.6)
    assert snip.interval.high == pytest.approx(-0.2 + 4.302653 * 0.1 / math.sqrt(3))
    assert found["snip", "segmentation/miou"].verdict == "undecided"
    depth = found["snip", "depth/absolute_error"]
    assert depth.found.mean == pytest.approx(-0.1)  # a larger error is worse
    assert depth.verdict == "does not hold"
    joint = found["snip", "multitask/delta_percent"].found
    by_seed = [50 * (-loss / level - 0.1) for loss, level in ((0.1, 0.5), (0.2, 0.6), (0.3, 0.7))]
    assert joint.mean == pytest.approx(np.mean(by_seed))
    # Six rows whose p is 0.25 each: the least is multiplied by six.
    assert [r.found.p_value for r in rows] == [0.25] * 6
    assert [r.holm_p for r in rows] == [1.0] * 6


def test_every_reference_meets_its_own_sparsity_and_the_dense(record: Record) -> None:
    grid = grid_of(record, grid_rows(VALUES))
    rows = paired.compare_systems(grid, "snip")
    pairs = {(r.system.label, r.reference.label) for r in rows}
    assert pairs == {
        ("Dense", "SNIP 30 %"),
        ("Dense", "SNIP 90 %"),
        ("Random 90 %", "SNIP 90 %"),
    }
    dense = next(r for r in rows if (r.system.label, r.reference.label) == ("Dense", "SNIP 90 %"))
    assert dense.found.mean == pytest.approx(0.2)


def test_only_shared_seeds_with_finite_values_are_paired(record: Record) -> None:
    rows = grid_rows(VALUES)
    broken = next(r for r in rows if r.method == "random" and r.seed == 1)
    broken.metrics["test/segmentation/miou"] = math.nan
    found = paired.compare_systems(grid_of(record, rows, [0.9]))
    by_measure = {r.measure: r for r in found if r.system.method == "random"}
    assert by_measure["segmentation/miou"].seeds == (0, 2)
    assert by_measure["segmentation/miou"].found.mean == pytest.approx(-0.3)
    assert by_measure["depth/absolute_error"].seeds == (0, 1, 2)


def test_a_reference_of_zero_is_left_out_at_every_seed_and_named(record: Record) -> None:
    """Random's mIoU is 0 at one seed: what is left is depth's error, 0.1 of 1.0 more each."""
    values = {
        ("dense", 0.0): [both(0.5, 1.0), both(0.0, 1.0), both(0.7, 1.0)],
        ("snip", 0.9): VALUES["snip", 0.9],
    }
    rows = paired.compare_systems(grid_of(record, grid_rows(values)))
    (delta,) = [r for r in rows if r.measure == "multitask/delta_percent"]
    assert delta.seeds == (0, 1, 2)
    assert delta.found.mean == pytest.approx(-10.0)
    assert delta.left_out == ("segmentation/miou",)
    assert "SNIP 90 % to Dense: segmentation/miou." in comparisons.remarks(rows)[-1]


def test_delta_does_not_lose_a_task_at_a_seed(record: Record) -> None:
    rows = grid_rows(VALUES)
    broken = next(r for r in rows if r.method == "random" and r.seed == 1)
    broken.metrics["test/segmentation/miou"] = math.nan
    found = paired.compare_systems(grid_of(record, rows, [0.9]))
    (delta,) = [
        r for r in found if (r.system.method, r.measure) == ("random", "multitask/delta_percent")
    ]
    assert (delta.seeds, delta.left_out) == ((0, 2), ())


@pytest.mark.parametrize("reference", [None, "random"])
def test_a_search_has_nothing_to_pair(record: Record, reference: str | None) -> None:
    """Every trial with settings of its own, all at one seed."""
    rows = [simple_row(i, "random" if i else "dense", 1 - i / 10, 0.4, 20.0) for i in range(5)]
    for row in rows:
        row.seed, row.params = 0, {"method": row.method, "sparsity.target": row.number / 10}
        row.metrics["val/depth/absolute_error"] = 1.0
    grid = grid_of(record, rows)
    with pytest.raises(UserError, match=r"nothing to pair.*search baselines"):
        paired.compare_systems(grid, reference)


def test_references_that_are_not_there(record: Record) -> None:
    grid = grid_of(record, grid_rows(VALUES))
    with pytest.raises(UserError, match=r"Valid: dense, random, snip"):
        paired.compare_systems(grid, "snup")
    only = grid_of(record, grid_rows({k: v for k, v in VALUES.items() if k[0] == "snip"}))
    with pytest.raises(UserError, match="`--reference` must name"):
        paired.compare_systems(only)


def test_a_table_by_hand(record: Record) -> None:
    grid = grid_of(record, grid_rows(VALUES))
    table = summaries.to_table(grid).to_pylist()
    dense = next(row for row in table if row["method"] == "dense")
    assert dense["test/segmentation/miou/mean"] == pytest.approx(0.6)
    assert dense["test/segmentation/miou/std"] == pytest.approx(0.1)
    assert dense["num_seeds"] == 3
    assert dense["test/multitask/delta_percent/mean"] == 0.0
    snip = next(row for row in table if (row["method"], row["sparsity"]) == ("snip", 0.9))
    assert snip["cost/density/mean"] == pytest.approx(0.1)
    by_seed = [50 * (-loss / level - 0.1) for loss, level in ((0.1, 0.5), (0.2, 0.6), (0.3, 0.7))]
    assert snip["test/multitask/delta_percent/mean"] == pytest.approx(np.mean(by_seed))
    assert snip["test/multitask/delta_percent/std"] == pytest.approx(np.std(by_seed, ddof=1))
    segmentation = summaries.tables(grid)[0]
    assert segmentation.rows[0] == ["Dense", "0 %", "3", "0.6000 ± 0.1000"]


def test_a_reported_delta_stands(record: Record) -> None:
    rows = grid_rows(VALUES)
    for row in rows:
        row.metrics["test/multitask/delta_percent"] = float(row.number)
    grid = grid_of(record, rows)
    table = {(r["method"], r["sparsity"]): r for r in summaries.to_json(grid)}
    assert table["snip", 0.3]["test/multitask/delta_percent/mean"] == 4.0  # of 3, 4 and 5


def test_compare_and_table_write_their_files(record: Record, monkeypatch, capsys) -> None:
    built = record("grid", grid_rows(VALUES), tasks=TASKS)
    answer = built.directory / "answer.json"
    options = ("--storage", built.storage, "--json", answer)
    assert run(monkeypatch, "compare", "grid", "--reference", "random", *options) == 0
    printed = capsys.readouterr().out
    assert "cannot fall below 0.25" in printed
    rows = json.loads(answer.read_text())["comparisons"]
    assert pq.read_table(built.directory / "compare.parquet").num_rows == len(rows) == 6
    assert "| Dense | Random 90 % | 3 | +0.3333" in (built.directory / "compare.md").read_text()
    latex = (built.directory / "compare.tex").read_text()
    assert latex.isascii()
    assert latex.count(r"\toprule") == latex.count(r"\end{tabular}") == 3
    assert run(monkeypatch, "table", "grid", "--quiet", *options) == 0
    assert capsys.readouterr().out == ""
    assert len(json.loads(answer.read_text())["systems"]) == 4
    assert "0.6000 $\\pm$ 0.1000" in (built.directory / "table.tex").read_text()


def test_quiet_keeps_its_notes_too(record: Record, monkeypatch, capsys) -> None:
    built = record("grid", grid_rows(VALUES, splits=("val",)), tasks=TASKS)
    for command in ("compare", "table"):
        assert run(monkeypatch, command, "grid", "--storage", built.storage) == 0
        assert "note: Not every complete trial was evaluated on test" in capsys.readouterr().err
        assert run(monkeypatch, command, "grid", "--storage", built.storage, "--quiet") == 0
        assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "grid", "--reference", "snup"], "Did you mean 'snip'"),
        (["compare", "grid", "--sparsity", "90"], "fractions in (0, 1)"),
        (["compare", "grid", "--sparsity", "a,b"], "got 'a'"),
        (["table", "grid", "--sparsity", "0.5"], "has 0.3, 0.9"),
        (["table", "gird"], "Did you mean 'grid'"),
        (["layers", "grid"], "summary.json, got none"),
        (["published", "--dataset", "nyuv2"], "Did you mean 'nyu-v2'"),
        (["published", "--study", "grid"], "must be on one of nyu-v2, cityscapes, taskonomy"),
        (["table", "grid", "--out", "FILE"], "--out"),
    ],
)
def test_mistakes_give_one_message_and_exit_2(
    arguments: list[str], message: str, record: Record, monkeypatch, capsys
) -> None:
    built = record("grid", grid_rows(VALUES), tasks=TASKS)
    obstacle = built.storage.parent / "obstacle"
    obstacle.write_text("a file where a folder is wanted")
    arguments = [a.replace("FILE", str(obstacle)) for a in arguments]
    assert run(monkeypatch, *arguments, "--storage", built.storage) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_help_has_examples(monkeypatch, capsys) -> None:
    for command in ("compare", "table", "published", "layers"):
        assert run(monkeypatch, command, "--help") == 0
        assert f"python -m analysis {command} " in capsys.readouterr().out

"""Check that the papers' numbers parse, map to our metrics, and fit beside a study's own."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from analysis.studies.protocol import protocol
from analysis.studies.systems_by_seed import read_grid
from analysis.studies.trials import load_study
from analysis.tables import beside, papers
from spaces.presets import trial_config
from tests.analysis.built_studies import BuiltStudy
from tests.analysis.grids import change_facts, grid_rows, write_summaries
from tests.analysis.test_command_line import run
from trainables import report
from trainables.errors import UserError

FOLDER = Path(papers.__file__).parent / "published"
TASKS = ("segmentation", "normals")
Record = Callable[..., BuiltStudy]


def values(miou: float, angle: float) -> dict[str, float]:
    return {"segmentation/miou": miou, "normals/mean_error_deg": angle}


VALUES = {
    ("dense", 0.0): [values(0.28, 17.0), values(0.30, 17.5)],
    ("disparse-static", 0.9): [values(0.25, 18.0), values(0.27, 18.4)],
    ("set", 0.9): [values(0.2, 19.0), values(0.2, 19.0)],
}


@pytest.mark.parametrize("dataset", papers.DATASETS)
def test_every_cell_is_read_in_our_units(dataset: str) -> None:
    """Against the file itself: no column and no row is lost, and every system is a METHOD."""
    table = papers.published_table(dataset)
    with (FOLDER / f"{dataset.replace('-', '_')}.csv").open() as file:
        lines = list(csv.DictReader(file))
    words = {"source", "system", "setting", "pretrained", "sparsity_percent"}
    assert len(table.rows) == len(lines) > 5
    for row, line in zip(table.rows, lines, strict=True):
        assert row.method in report_methods()
        assert row.sparsity == pytest.approx(float(line["sparsity_percent"]) / 100)
        assert len(row.metrics) == len(line) - len(words)
        for column, text in line.items():
            if column not in words:
                name, unit = papers.COLUMNS[column]
                assert row.metrics[name] == pytest.approx(float(text) * unit)
                assert row.printed[name] == text


def report_methods() -> set[str]:
    from trainables.registry.methods import METHODS

    return set(METHODS)


def test_units_fit_the_metrics() -> None:
    """Percent becomes a fraction, and only where our metric is a share; nothing lies outside."""
    for name, unit in papers.COLUMNS.values():
        share = report.describe(name).unit == "fraction" and name != "depth/relative_error"
        assert unit == (0.01 if share else 1.0), name
    for dataset in papers.DATASETS:
        for row in papers.published_table(dataset).rows:
            for name, value in row.metrics.items():
                if papers_unit(name) == 0.01:
                    assert 0.2 < value < 1.0, (name, value)
                if name.endswith("_deg"):
                    assert 10 < value < 50, (name, value)


def papers_unit(name: str) -> float:
    return next(unit for metric, unit in papers.COLUMNS.values() if metric == name)


def test_a_printed_number() -> None:
    """Main table 1 of the paper: DiSparse static at 90 %, 26.48 mIoU and 16.44 degrees."""
    row = next(
        r
        for r in papers.published_table("nyu-v2").rows
        if (r.source, r.method, r.sparsity) == ("main table 1", "disparse-static", 0.9)
    )
    assert row.metrics["segmentation/miou"] == pytest.approx(0.2648)
    assert row.metrics["normals/mean_error_deg"] == 16.44


@pytest.mark.parametrize("dataset", papers.DATASETS)
def test_curves_are_complete_and_bear_our_layers_names(dataset: str) -> None:
    """The 36 shared convolutions of the published network: stem, 2 × 16 in blocks, 3 shortcuts."""
    curve = papers.published_agreement(dataset)
    blocks = [
        f"blocks.{stage}.{block}.conv{i}"
        for stage, count in enumerate((3, 4, 6, 3))
        for block in range(count)
        for i in (1, 2)
    ]
    assert list(curve) == ["conv1", *blocks, "ds.1.0", "ds.2.0", "ds.3.0"]
    assert all(0 <= value <= 1 for value in curve.values())
    assert papers.published_layer("backbone.ds.2.0.weight") == "ds.2.0"
    assert papers.published_layer("backbone.blocks.3.2.conv2.weight") in curve


def test_the_data_is_declared_for_installation(repository: Path) -> None:
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text())
    data = project["tool"]["setuptools"]["package-data"]
    assert "*.csv" in data["analysis.tables.published"]
    page = {path.name for path in (repository / "analysis" / "report").iterdir() if path.is_file()}
    assert {name for name in page if not name.endswith(".py")} == set(data["analysis.report"])


def test_published_cells_stand_as_printed() -> None:
    """Most of this column has two decimals; a number with one decimal gets no second."""
    table = beside.results_table("cityscapes", [])
    column = next(i for i, head in enumerate(table.heads) if "1.25²" in head)
    cells = {row[column] for row in table.rows}
    assert {"88.9", "87.39"} <= cells
    assert "88.90" not in cells


def study_on_nyu(record: Record, **facts) -> BuiltStudy:
    built = record("ours", grid_rows(VALUES, seeds=(0, 1)), tasks=TASKS)
    change_facts(built, dataset="nyu-v2", preset="small", **facts)
    return built


def test_ours_stand_under_the_published_rows_in_their_units(record: Record) -> None:
    built = study_on_nyu(record)
    grid = read_grid(load_study("ours", built.storage))
    table = beside.results_table("nyu-v2", [grid])
    miou = table.heads.index("mIoU (%) ↑")
    rows = [(row[0], row[1], row[2], row[miou]) for row in table.rows]
    dense = rows.index(("Dense", "0 %", "ours, test, n = 2", "29.00 ± 1.41"))
    assert rows[dense - 1] == ("Dense", "0 %", "published, main table 1", "27.69")
    static = rows.index(("DiSparse static", "90 %", "ours, test, n = 2", "26.00 ± 1.41"))
    assert rows[static - 1][:3] == ("DiSparse static", "90 %", "published, main table 1")
    assert ("SET", "90 %", "ours, test, n = 2", "20.00 ± 0.00") in rows  # no paper has it
    assert len(rows) == 25 + 3
    assert all(len(row) == len(table.heads) for row in table.rows)
    assert {table.rows[i][1] for i in table.rules} == {"30 %", "90 %"}
    pixel = table.heads.index("segmentation pixel accuracy (%) ↑")
    assert table.rows[dense][pixel] == "–"  # not reported


def test_the_protocol_is_read_from_the_record(record: Record) -> None:
    rows = grid_rows(VALUES, seeds=(0, 1))
    for row in rows[:2]:
        row.params["training.pretrain_steps"] = 0
    built = record("ours", rows, tasks=TASKS)
    change_facts(built, dataset="nyu-v2")
    write_summaries(built, lambda row, layer: 0.5)
    grid = read_grid(load_study("ours", built.storage))
    found = protocol(grid)
    assert found["image size"] == "120×160"
    assert found["training frames"] == "100, 15 % of them for validation"
    assert found["test frames"] == "50"
    assert found["training steps"] == "600"
    assert found["pre-training steps"] == "0 / 300"  # the record's, then the configuration's
    assert found["optimiser"] == "adam, learning rate 0.002, cosine"
    assert found["network"] == "deeplab-resnet, width 24, blocks 2-2, head width 96"
    assert found["metric definition"] == "corrected"
    table = beside.protocol_table("nyu-v2", [grid])
    same = {row[0]: row[-1] for row in table.rows}
    assert (same["data"], same["tasks"], same["image size"]) == ("yes", "yes", "no")
    remarks = " ".join(beside.remarks("nyu-v2", [grid]))
    assert (
        "ours trained every system for 600 steps, where the papers state 20000, and measures by "
        "the corrected definitions."
    ) in remarks
    assert "The published definitions, by which it does not measure, drop classes" in remarks
    assert "differs from the papers in training frames, test frames, image size" in remarks
    assert "seeds: compare" not in remarks  # how many the papers have is not stated


@pytest.mark.parametrize("dataset", papers.DATASETS)
def test_the_released_optimiser_reads_as_the_papers_state_it(record: Record, dataset: str) -> None:
    """`halving` is by a half; another factor is named with its steps."""
    pins = trial_config("dense", dataset, "paper").flat()
    rows = grid_rows(VALUES, seeds=(0, 1))
    for row in rows:
        row.params["training.steps"] = pins["training.steps"]
        row.params["training.pretrain_steps"] = 0
    built = record("ours", rows, tasks=TASKS)
    change_facts(built, dataset="nyu-v2", settings=pins)
    found = protocol(read_grid(load_study("ours", built.storage)))
    assert found["optimiser"] == papers.PROTOCOLS[dataset]["optimiser"]
    assert found["training steps"] == papers.PROTOCOLS[dataset]["training steps"]


def test_what_the_record_lacks_is_said(record: Record, tmp_path: Path) -> None:
    """Without summaries: parameters and study.json; frames from the store that it names."""
    schema = pa.schema([("image", pa.int8())])
    for split, count in (("train", 7), ("test", 3)):
        path = tmp_path / f"{split}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch([[0] * count], schema=schema))
    built = study_on_nyu(record, data_root=str(tmp_path), settings={"metrics": "published"})
    found = protocol(read_grid(load_study("ours", built.storage)))
    assert found["network"] == found["image size"] == "not recorded"
    assert (found["training frames"], found["test frames"]) == ("7", "3")
    assert (found["training steps"], found["metric definition"]) == ("600", "published")


def test_differing_settings_are_all_named(record: Record) -> None:
    rows = grid_rows(VALUES, seeds=(0, 1))
    rows[-1].params["training.steps"] = 300
    built = record("ours", rows, tasks=TASKS)
    grid = read_grid(load_study("ours", built.storage))
    assert protocol(grid)["training steps"] == "600 / 300"


@pytest.mark.parametrize("dataset", papers.DATASETS)
def test_published_alone(dataset: str, tmp_path: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, "published", "--dataset", dataset, "--out", tmp_path) == 0
    shown = capsys.readouterr().out
    assert shown.count("published, main table") >= 10
    assert "ours" not in (tmp_path / f"published-{dataset}.md").read_text().lower()
    latex = (tmp_path / f"published-{dataset}.tex").read_text()
    assert latex.isascii()
    columns = latex.split(r"\begin{tabular}{")[1].partition("}")[0]
    first_row = latex.split(r"\midrule")[1].strip().splitlines()[0]
    assert first_row.replace(r"\&", "").count("&") == len(columns) - 1


def test_published_beside_a_study(record: Record, monkeypatch, capsys) -> None:
    built = study_on_nyu(record)
    answer = built.directory / "answer.json"
    options = ("--study", "ours", "--storage", built.storage, "--json", answer, "--quiet")
    assert run(monkeypatch, "published", *options) == 0
    assert capsys.readouterr().out == ""
    (found,) = json.loads(answer.read_text())["tables"]
    dense = next(row for row in found["ours"] if row["method"] == "dense")
    assert dense["segmentation/miou"] == {"mean": pytest.approx(0.29), "values": [0.28, 0.3]}
    assert "slightly different protocol" in (built.directory / "published-nyu-v2.md").read_text()


def test_a_study_stands_at_the_papers_sparsities_with_steps_and_metrics_stated(
    record: Record, monkeypatch, capsys
) -> None:
    by_sparsity = {
        (method, sparsity): [values(0.2, 18.0), values(0.22, 18.2)]
        for method in ("snip", "disparse-static")
        for sparsity in (0.3, 0.5, 0.9)
    }
    rows = grid_rows({**VALUES, **by_sparsity}, seeds=(0, 1))
    built = record("ours", rows, tasks=TASKS)
    settings = {"metrics": "published", "training.steps": 1200}
    change_facts(built, dataset="nyu-v2", settings=settings, grid={"seeds": [0, 1]})
    options = ("published", "--study", "ours", "--storage", built.storage)
    assert run(monkeypatch, *options) == 0
    shown = capsys.readouterr().out
    ours = [line.split() for line in shown.splitlines() if "ours, test, n = 2" in line]
    assert {line[line.index("%") - 1] for line in ours} == {"0", "30", "90"}
    assert len(ours) == 1 + 2 + 3  # dense; two at 30 %; two and SET at 90 %
    assert "main table 1" in shown
    assert (
        "ours trained every system for 1200 steps, pre-training included, where the papers state "
        "20000, and measures by the published definitions."
    ) in " ".join(shown.split())
    assert "by which it does not measure" not in shown
    assert run(monkeypatch, *options, "--sparsity", "0.5") == 0
    shown = capsys.readouterr().out
    ours = [line.split() for line in shown.splitlines() if "ours, test, n = 2" in line]
    assert {line[line.index("%") - 1] for line in ours} == {"0", "50"}


def test_a_study_on_other_data_needs_the_dataset_named(record: Record, monkeypatch) -> None:
    built = record("ours", grid_rows(VALUES, seeds=(0, 1)), tasks=TASKS)
    grid = read_grid(load_study("ours", built.storage))
    with pytest.raises(UserError, match="got scenes; choose the papers' table"):
        beside.dataset_of([grid])
    named = ("--study", "ours", "--dataset", "nyu-v2", "--quiet")
    assert run(monkeypatch, "published", *named, "--storage", built.storage) == 0
    assert (
        "| data | nyu-v2 | scenes | no |" in (built.directory / "published-nyu-v2.md").read_text()
    )

"""Check the files of each task's front, and fronts against another cost."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.report import figures, task_files
from analysis.report.report import render
from analysis.studies.trials import load_study
from tests.analysis.built_studies import BuiltStudy, Row, realistic_rows, simple_row
from tests.analysis.test_command_line import is_picture, run

TASKS = ("segmentation", "normals")
FRACTION, MILLISECONDS, BYTES = "cost/latency_fraction", "cost/latency_ms", "cost/model_bytes"
Record = Callable[..., BuiltStudy]


def measured_rows() -> list[Row]:
    """Return five trials; the smaller of two sparse ones is the slower."""
    values = [
        ("dense", 1.0, 0.50, 16.0),
        ("snip", 0.4, 0.48, 18.0),
        ("rigl", 0.1, 0.44, 20.0),
        ("random", 0.4, 0.30, 26.0),
        ("rigl", 0.2, 0.46, 19.0),
    ]
    rows = [simple_row(i, *value) for i, value in enumerate(values)]
    for row, latency in zip(rows, (1.0, 0.5, 0.9, 0.5, None), strict=True):
        if latency is not None:
            row.metrics |= {FRACTION: latency, MILLISECONDS: 8 * latency}
        row.metrics |= {BYTES: round(4e6 * row.metrics["cost/density"])}
        row.metrics |= {"test/segmentation/miou": 0.4}
    rows.append(simple_row(5, "snip", 0.05, 0.2, 30.0, status="infeasible"))
    return rows


@pytest.fixture
def built(record: Record) -> BuiltStudy:
    facts = {"constraints": {"segmentation/miou": ">=0.25", "cost/density": "<=1"}}
    return record("demo", measured_rows(), tasks=TASKS, facts=facts)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("command", ["front", "report"])
def test_each_task_has_a_picture_a_page_and_a_table(
    command: str, built: BuiltStudy, monkeypatch, capsys
) -> None:
    assert run(monkeypatch, command, "demo", "--storage", built.storage) == 0
    folder = built.directory / "fronts"
    names = {f"{task}.{kind}" for task in TASKS for kind in ("png", "html", "csv")}
    assert {path.name for path in folder.iterdir()} == names
    assert f"  {folder}/{{segmentation,normals}}.{{png,html,csv}}\n" in capsys.readouterr().out
    for task in TASKS:
        assert is_picture(folder / f"{task}.png")
        page = (folder / f"{task}.html").read_text()
        assert page.count("Plotly.newPlot(") == 1
        assert not re.search(r"<script[^>]+\bsrc=", page)
        assert '"showSendToCloud": false' in page


def test_the_table_has_what_the_picture_shows(built: BuiltStudy) -> None:
    found = figures.find(load_study("demo", built.storage), with_masks=False)
    paths = task_files.write(found, built.directory)
    rows = read(built.directory / "fronts" / "segmentation.csv")
    assert built.directory / "fronts" / "segmentation.csv" in paths
    assert [int(row["trial"][-1]) for row in rows] == [5, 2, 4, 1, 3, 0]  # by density
    assert [row["on_front"] for row in rows] == ["false", *["true"] * 3, "false", "true"]
    assert [row["status"] for row in rows] == ["infeasible", *["complete"] * 5]
    assert rows[2][FRACTION] == ""
    assert rows[2][BYTES] == "800000"
    assert rows[2]["val/segmentation/miou"] == "0.46"
    assert rows[2]["test/segmentation/miou"] == "0.4"
    assert "val/normals/mean_error_deg" not in rows[0]


def test_the_page_names_each_trace_once(built: BuiltStudy) -> None:
    found = figures.find(load_study("demo", built.storage), with_masks=False)
    task_files.write(found, built.directory)
    page = (built.directory / "fronts" / "normals.html").read_text()
    data = page[page.rindex("Plotly.newPlot(") :]
    named = re.findall(r'"name":"([^"]+)"', data)
    shown = re.findall(r'"showlegend":(true|false)', data)
    assert shown[: len(named)].count("true") == len(set(named))
    assert "demo: surface normals against density" in data


def test_before_a_trial_ran_to_its_end_there_are_no_files(record: Record) -> None:
    built = record("early", [Row(number=0, method="snip", status="failed")], tasks=TASKS)
    found = figures.find(load_study("early", built.storage), with_masks=False)
    assert task_files.write(found, built.directory) == []
    assert not (built.directory / "fronts").exists()


def test_fronts_against_another_cost(built: BuiltStudy, monkeypatch, capsys) -> None:
    """Trial 2 is small but slow: 1 is as fast as 3 and better, so both fall behind it."""
    answer = built.storage / "answer.json"
    options = ("--storage", built.storage, "--cost", FRACTION, "--json", answer)
    assert run(monkeypatch, "front", "demo", *options) == 0
    printed = capsys.readouterr()
    assert "note: 1 of 5 complete trials did not measure cost/latency_fraction" in printed.err
    result = json.loads(answer.read_text())
    assert result["objectives"][-1] == FRACTION
    assert [member["trial"][-1] for member in result["front"]] == ["1", "0"]
    written = {str(p.relative_to(built.directory)) for p in built.directory.rglob("*latency*")}
    kinds = [
        f"fronts/{task}-latency_fraction.{k}" for task in TASKS for k in ("png", "html", "csv")
    ]
    assert written == {"front-latency_fraction.png", "front-latency_fraction.parquet", *kinds}
    assert not (built.directory / "front.png").exists()  # the study's own front is another
    members = pq.read_table(built.directory / "front-latency_fraction.parquet")
    assert members.schema == pq.read_schema(built.directory / "trials.parquet")
    assert "latency (% of dense)" in (
        built.directory / "fronts" / "segmentation-latency_fraction.html"
    ).read_text().replace("\\u0025", "%")


def test_the_studys_own_cost_needs_no_other_name(built: BuiltStudy, monkeypatch) -> None:
    options = ("--storage", built.storage, "--cost", "cost/density", "-q")
    assert run(monkeypatch, "front", "demo", *options) == 0
    assert (built.directory / "front.parquet").exists()


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (
            "cost/flops_fraction",
            "no complete trial reports it; the trials of a study whose cost is",
        ),
        (
            "cost/latencyms",
            "unknown cost metric 'cost/latencyms'. Did you mean 'cost/latency_ms'?",
        ),
        (
            "cost/sparsity",
            "unknown cost metric 'cost/sparsity'. Did you mean 'cost/density'?",
        ),
        ("depth/absolute_error", "unknown cost metric"),
    ],
)
def test_costs_that_cannot_be_drawn(
    cost: str, message: str, built: BuiltStudy, monkeypatch, capsys
) -> None:
    assert run(monkeypatch, "front", "demo", "--storage", built.storage, "--cost", cost) == 2
    assert message in capsys.readouterr().err


def test_a_study_whose_cost_is_latency_is_drawn_against_it(record: Record) -> None:
    objectives = ["val/segmentation/miou", "val/normals/mean_error_deg", FRACTION]
    built = record("fast", measured_rows(), tasks=TASKS, facts={"objectives": objectives})
    found = figures.find(load_study("fast", built.storage))
    assert {front.cost for front in found.fronts} == {FRACTION}
    assert figures.front_title(found) == "fast: quality against latency"
    page = render(found, "command")
    assert "latency (% of dense)" in page.replace("\\u0025", "%")


def test_the_report_shows_every_measured_cost_and_metric(built: BuiltStudy) -> None:
    found = figures.find(load_study("demo", built.storage))
    page = render(found, "command")
    section = page.split('<section id="members">')[1].split("</section>")[0]
    short, whole = section.split("<details>")
    for head in ("density", "latency", "latency per<br>image", "weights<br>file"):
        assert f">{head}\u00a0↓</th>" in short
    for cell in ("50 %", "4 ms", "1.6 MB"):  # of trial 1
        assert f">{cell}</td>" in short
    heads = re.findall(r"<th[^>]*>([^<]+)</th>", whole)
    assert heads[2:] == [
        *("val/segmentation/miou", "val/normals/mean_error_deg", "cost/density"),
        *(MILLISECONDS, FRACTION, BYTES, "test/segmentation/miou"),
    ]
    hover = figures.hover_texts(found.study)[built.trial(1)]
    assert "latency: 50 %<br>latency per image: 4 ms<br>weights file: 1.6 MB" in hover


def test_a_study_without_measured_latency_has_no_columns_of_it(record: Record) -> None:
    built = record("plain", realistic_rows(12, TASKS), tasks=TASKS)
    page = render(figures.find(load_study("plain", built.storage)), "command")
    assert "latency" not in page.split('<section id="members">')[1].split("</section>")[0]

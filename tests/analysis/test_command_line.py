"""Run `python -m analysis`: files, artifacts, exit codes, and studies of every shape."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from analysis import front_files
from analysis.__main__ import main
from tests.analysis.built_studies import (
    PRIMARY,
    BuiltStudy,
    Row,
    realistic_rows,
    searched_rows,
    simple_row,
)
from trainables.terminal.as_typed import python

TASKS = ("segmentation", "normals")
Record = Callable[..., BuiltStudy]
NAN = float("nan")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Return the exit code of `python -m analysis ARGUMENTS`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["analysis", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        main()
    code = exit_info.value.code
    return 0 if code is None else int(code)


def is_picture(path: Path) -> bool:
    """Tell whether the file is a PNG of several colours, so that something was drawn."""
    with Image.open(path) as image:
        return image.width > 800 and len(image.convert("RGB").getcolors(1 << 24) or ()) > 20


def test_report_of_a_realistic_study(record: Record, monkeypatch, capsys) -> None:
    built = record("demo", realistic_rows(30, TASKS), tasks=TASKS, summaries=True)
    out = built.storage.parent / "out"
    answer = out / "answer.json"
    options = ("--storage", built.storage, "--out", out, "--json", answer)
    assert run(monkeypatch, "report", "demo", *options) == 0
    printed = capsys.readouterr()
    assert "30 trials" in printed.out
    assert printed.err == ""
    for name in ("front", "hypervolume", "parallel", "agreement", "layers"):
        assert is_picture(out / f"{name}.png"), name

    result = json.loads(answer.read_text())
    front = pq.read_table(out / "front.parquet")
    assert front.schema == pq.read_schema(built.directory / "trials.parquet")
    assert set(front["trial"].to_pylist()) == {m["trial"] for m in result["front"]}
    assert set(front["status"].to_pylist()) == {"complete"}
    assert 0 < result["hypervolume"] < 1
    assert result["objectives"] == [*(PRIMARY[t] for t in TASKS), "cost/density"]

    page = (out / "report.html").read_text()
    for member in result["front"]:
        assert f">{member['trial']}</td>" in page
    assert "loss became NaN at step 212" in page  # of the failed trial
    assert page.count("Plotly.newPlot(") >= 5
    assert page.count("plotly.js v") == 1


def test_report_of_a_search_that_stops_and_constrains(record: Record, monkeypatch, capsys) -> None:
    facts = {
        "constraints": {"segmentation/miou": ">=0.38", "cost/density": "<=0.9"},
        "budget": {"trials": 40},
        "scheduler": {"grace": 0.25, "maximum": 1.0, "reduction_factor": 2.0},
    }
    rows = searched_rows(40, TASKS, 0.38)
    built = record("searched", rows, tasks=TASKS, facts=facts)
    answer = built.directory / "answer.json"
    options = ("--storage", built.storage, "--json", answer)
    assert run(monkeypatch, "report", "searched", *options) == 0
    counts = Counter(row.status for row in rows)
    assert min(counts[status] for status in ("complete", "stopped", "infeasible", "failed")) >= 2

    result = json.loads(answer.read_text())
    assert {s: result[s] for s in ("complete", "stopped", "infeasible")} == {
        s: counts[s] for s in ("complete", "stopped", "infeasible")
    }
    assert (
        f"40 trials, {counts['complete']} complete, {counts['stopped']} stopped early, "
        f"{counts['infeasible']} infeasible, {counts['failed']} failed; "
    ) in capsys.readouterr().out
    members = pq.read_table(built.directory / "front.parquet")
    assert set(members["status"].to_pylist()) == {"complete"}
    assert is_picture(built.directory / "front.png")
    assert is_picture(built.directory / "hypervolume.png")

    page = (built.directory / "report.html").read_text()
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', page, flags=re.DOTALL))
    listed = {
        name: set(re.findall(r">(searched-\d{5})</td>", sections[name]))
        for name in ("missed", "failures")
    }
    named = {
        status: {built.trial(row.number) for row in rows if row.status == status}
        for status in counts
    }
    assert listed == {"missed": named["infeasible"], "failures": named["failed"]}
    assert "must be at least 0.38" in sections["missed"]
    assert "The study asks for segmentation mIoU at least 0.38; density at most 90 %." in page
    saved = sum(  # what remained of 400 steps, in epochs of 16 steps
        (1 - row.fraction) * 400 / 16 for row in rows if row.status == "stopped"
    )
    assert f"<b>{saved:.4g}</b><span>epochs saved by stopping early</span>" in page
    assert f"to their ends would have taken {saved:.4g} more." in sections["hypervolume"]
    assert "trials are compared at 25 % and 50 % of training and about one in 2" in sections["made"]


def test_a_study_without_constraints_has_no_section_of_misses(record: Record, monkeypatch) -> None:
    built = record("plain", realistic_rows(20, TASKS), tasks=TASKS)
    assert run(monkeypatch, "report", "plain", "--storage", built.storage, "-q") == 0
    page = (built.directory / "report.html").read_text()
    assert 'id="missed"' not in page
    assert "epochs saved" not in page
    assert "forbidden" not in page[page.index("<body>") :]


def test_the_page_fetches_nothing(record: Record, monkeypatch) -> None:
    built = record("page", realistic_rows(12, TASKS), tasks=TASKS, summaries=True)
    assert run(monkeypatch, "report", "page", "--storage", built.storage, "--quiet") == 0
    page = (built.directory / "report.html").read_text()
    without_scripts = re.sub(r"<script\b[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"<script[^>]+\bsrc=", page)
    assert re.findall(r'\b(?:src|href)="(?!#|data:,")[^"]*"', without_scripts) == []
    assert "@import" not in without_scripts
    assert "url(" not in without_scripts
    # Plotly's own default is a button that sends the figure to its makers.
    assert page.count('"showSendToCloud": false') == page.count("Plotly.newPlot(") > 4


def test_panels_are_as_wide_before_their_neighbours_come(record: Record, monkeypatch) -> None:
    tasks = ("segmentation", "normals", "depth")
    built = record("three", realistic_rows(12, tasks), tasks=tasks)
    assert run(monkeypatch, "report", "three", "--storage", built.storage, "--quiet") == 0
    section = (built.directory / "report.html").read_text().split('<section id="front">')[1]
    panels = re.search(r'<div class="panels" style="([^"]+)">', section)
    assert panels is not None
    assert "auto-fill" in panels[1]
    assert "(100% - 20px)/3" in panels[1]


def test_a_name_with_markup_stays_text(record: Record, monkeypatch) -> None:
    rows = [simple_row(0, "<img src=x onerror=alert(1)>", 0.1, 0.4, 20.0)]
    rows += [Row(number=1, method="snip", status="failed", reason="<script>alert(2)</script>")]
    built = record("markup", rows, tasks=TASKS)
    assert run(monkeypatch, "report", "markup", "--storage", built.storage, "-q") == 0
    page = (built.directory / "report.html").read_text()
    body = page[page.index("<body>") :]
    assert "<img src=x" not in body
    assert "<script>alert" not in body
    assert "&lt;script&gt;alert(2)" in body


SHAPES: dict[str, tuple[list[Row], tuple[str, ...], int]] = {
    "no-trials": ([], TASKS, 0),
    "single": ([simple_row(0, "snip", 0.1, 0.3, 20.0)], TASKS, 1),
    "all-failed": ([Row(number=i, method="snip", status="failed") for i in range(3)], TASKS, 0),
    "all-stopped": ([simple_row(0, "snip", 0.1, 0.3, 20.0, status="stopped")], TASKS, 0),
    "all-infeasible": (
        [simple_row(i, "rigl", 0.1, 0.3, 20.0, status="infeasible") for i in range(2)],
        TASKS,
        0,
    ),
    "still-running": ([simple_row(0, "snip", 0.1, 0.3, 20.0, status=None)], TASKS, 0),
    "one-task": (realistic_rows(9, ("segmentation",)), ("segmentation",), 2),
    "constant": ([simple_row(i, "random", 0.1, 0.3, 20.0) for i in range(4)], TASKS, 4),
    "zero-density": ([simple_row(i, "random", 0.5 * i, 0.3 * i, 20.0) for i in range(3)], TASKS, 3),
    "nan": ([simple_row(0, "rigl", 0.1, NAN, 9.0), simple_row(1, "rigl", 0.1, 0.2, 9.0)], TASKS, 1),
    "all-nan": ([simple_row(0, "rigl", 0.1, NAN, 20.0)], TASKS, 0),
    "metric-missing": ([simple_row(0, "rigl", 0.1, 0.3)], TASKS, 0),
    "unknown-method": ([simple_row(0, "my own", 0.1, 0.3, 20.0)], TASKS, 1),
    "five-tasks": (realistic_rows(14, tuple(PRIMARY), seed=5), tuple(PRIMARY), 3),
}


@pytest.mark.parametrize("name", SHAPES)
def test_studies_of_every_shape(name: str, record: Record, monkeypatch, capsys) -> None:
    rows, tasks, at_least = SHAPES[name]
    built = record(name, rows, tasks=tasks)
    answer = built.directory / "answer.json"
    assert run(monkeypatch, "report", name, "--storage", built.storage, "--json", answer) == 0
    result = json.loads(answer.read_text(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    members = pq.read_table(built.directory / "front.parquet")
    assert members.num_rows == len(result["front"]) >= at_least
    if at_least in (0, 4):
        assert members.num_rows == at_least
    assert (built.directory / "front.png").stat().st_size > 5000
    page = (built.directory / "report.html").read_text()
    assert "How it was made" in page
    assert "Traceback" not in capsys.readouterr().err
    if not any(t.method.startswith("disparse") for t in rows) and at_least:
        assert "left a record of votes" in page
        assert not (built.directory / "agreement.png").exists()


@pytest.mark.parametrize("with_folder", [True, False])
def test_the_report_reaches_mlflow(
    with_folder: bool, database, tmp_path, monkeypatch, capsys
) -> None:
    from mlflow.tracking import MlflowClient

    copy = tmp_path / "mlflow.db"  # where analysis looks without being told
    shutil.copy(database, copy)
    if with_folder:
        shutil.copytree(database.parent / "runs" / "tracked", tmp_path / "tracked")
    assert run(monkeypatch, "report", "tracked", "--storage", tmp_path) == 0
    assert "note:" not in capsys.readouterr().err
    client = MlflowClient(tracking_uri=f"sqlite:///{copy}")
    (parent,) = client.search_runs([client.get_experiment_by_name("disparse").experiment_id])
    written = {path.name for path in (tmp_path / "tracked").iterdir()}
    assert {"front.png", "front.parquet", "report.html", "hypervolume.png"} <= written
    logged = {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert logged == written - {"study.json", "trials.parquet", "trials"} | {"record"}
    of_tasks = {a.path for a in client.list_artifacts(parent.info.run_id, "fronts")}
    assert of_tasks == {f"fronts/{p.name}" for p in (tmp_path / "tracked" / "fronts").iterdir()}


@pytest.mark.parametrize("server", ["http://127.0.0.1:9", "sqlite:////nowhere.db"])
def test_a_server_that_is_away_stops_no_report(server, record, monkeypatch, capsys) -> None:
    built = record("alone", [simple_row(0, "snip", 0.1, 0.3, 20.0)], tasks=TASKS)
    answer = built.directory / "answer.json"
    options = ("--storage", built.storage, "--tracking-uri", server, "--json", answer)
    assert run(monkeypatch, "report", "alone", *options) == 0
    (note,) = json.loads(answer.read_text())["notes"]
    assert note.startswith(f"Nothing was logged to MLflow, which does not answer ({server}: ")
    assert f"note: {note}" in capsys.readouterr().err
    assert (built.directory / "report.html").exists()


def test_a_server_that_does_not_know_the_study_is_said(
    record, database, monkeypatch, capsys
) -> None:
    built = record("alone", [simple_row(0, "snip", 0.1, 0.3, 20.0)], tasks=TASKS)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    assert run(monkeypatch, "front", "alone", "--storage", built.storage) == 0
    assert f"sqlite:///{database} does not know this study" in capsys.readouterr().err


def test_no_password_reaches_the_page(record: Record, monkeypatch, capsys) -> None:
    built = record("safe", [simple_row(0, "snip", 0.1, 0.3, 20.0)], tasks=TASKS)
    options = ["--storage", built.storage, "--tracking-uri", "http://user:secret@127.0.0.1:9"]
    assert run(monkeypatch, "report", "safe", *options) == 0
    page = (built.directory / "report.html").read_text()
    assert "http://user:***@127.0.0.1:9" in page
    printed = capsys.readouterr()
    assert "secret" not in page[page.index("<body>") :] + printed.out + printed.err


def test_quiet_prints_nothing(record: Record, monkeypatch, capsys) -> None:
    built = record("hush", [simple_row(0, "snip", 0.1, 0.3, 20.0)], tasks=TASKS)
    assert run(monkeypatch, "front", "hush", "--storage", built.storage, "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert not (built.directory / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["front", "nothing"], "unknown study 'nothing'; valid: there"),
        (["front", "../there"], "name is that of one folder"),
        (["report", "ther"], "Did you mean 'there'"),
        (["front"], "Missing argument 'NAME'"),
        (["fornt", "there"], "No such command"),
        (["front", "there", "--outt", "x"], "No such option"),
        (["front", "there", "--out", "FILE"], "--out"),
        (["front", "there", "--json", "FILE/x.json"], "name a writable file"),
    ],
)
def test_mistakes_give_one_message_and_exit_2(
    arguments: list[str], message: str, record: Record, monkeypatch, capsys
) -> None:
    built = record("there", [simple_row(0, "snip", 0.1, 0.3, 20.0)], tasks=TASKS)
    obstacle = built.storage.parent / "obstacle"
    obstacle.write_text("a file where a folder is wanted")
    arguments = [a.replace("FILE", str(obstacle)) for a in arguments]
    storage = ["--storage", str(built.storage)] if len(arguments) > 1 else []
    assert run(monkeypatch, *arguments, *storage) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_our_own_failure_is_exit_1_and_no_user_error(record: Record, repository: Path) -> None:
    """A bug says that it is one, shows its traceback with --debug, and is not the user's."""
    code = (
        "import analysis.studies.trials, analysis.__main__ as m\n"
        "def broken(*a): raise RuntimeError('a bug')\n"
        "analysis.studies.trials.load_study = broken\n"
        "m.main()"
    )
    for options, traceback in ([], False), (["--debug"], True):
        done = subprocess.run(
            [sys.executable, "-c", code, "front", "x", *options],
            cwd=repository,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "this is a bug of disparse-search: RuntimeError: a bug" in done.stderr
        assert ("Traceback" in done.stderr) == traceback


def test_help_has_examples(monkeypatch, capsys) -> None:
    for command in ("front", "report"):
        assert run(monkeypatch, command, "--help") == 0
        assert f"python -m analysis {command} demo" in capsys.readouterr().out


def test_module_runs(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "--help"], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "front" in done.stdout


def test_the_reports_own_command_is_as_typed(tmp_path: Path) -> None:
    said = front_files._as_typed("demo", tmp_path / "my runs", None)
    assert said == f"{python()} -m analysis report demo --storage '{tmp_path}/my runs'"

"""What a study's commands print: what there is, what comes next, and how much is left."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from search.execution.launch_options import Launch
from search.execution.storage_failures import failures_of_storage
from search.execution.study import run_study
from search.execution.study_end import StudyEnd
from search.messages import end_lines, problem_lines, status_lines
from search.plans.description import describe_study
from search.plans.plan import Plan
from search.record.files.driver_lock import StudyLock
from search.record.files.study_file import Addresses
from search.record.files.study_folder import StudyFiles, write_json
from search.record.study_status import all_studies, study_status
from tests.search import studies
from tests.search.record.test_confirmations import plan_of, run_all
from tests.search.studies import ledger_of
from trainables.errors import Failure, UserError
from trainables.terminal.as_typed import python


def end_of(folder: Path, **changed: Any) -> StudyEnd:
    end = StudyEnd(
        directory=folder / "demo",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        finished=6,
        complete=6,
        failed=0,
        remaining=0,
        front=5,
        idle="",
        reason="",
        unwritten="",
        report_problem="",
        unconfirmed=True,
    )
    return dataclasses.replace(end, **changed)


@pytest.fixture
def plan() -> Plan:
    return studies.plan_of(study="demo", trials=6)


def test_the_end_says_what_to_do_next(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    (runs / "demo").mkdir(parents=True)
    (runs / "demo" / "report.html").touch()
    run = python()
    lines = list(end_lines(plan, end_of(runs)))
    assert lines == [
        "study demo: 6 trials, 5 on the joint front",
        "report   runs/demo/report.html",
        f"choose   {run} -m analysis pick demo",
        f"be sure  train the front at fresh seeds: {run} -m search confirm demo",
        f"MLflow   {run} -m mlflow ui --backend-store-uri sqlite:///{runs}/mlflow.db",
        "         switch its page to “Model training”, at the top left, to see the runs",
    ]
    confirmed = list(end_lines(plan, end_of(runs, confirmed="12 complete", unconfirmed=False)))
    assert [line for line in confirmed if "confirm demo" in line] == []
    assert f"choose   {run} -m analysis pick demo" in confirmed
    taken = end_of(runs, confirmed="12 complete", choices=("Density at most 10 %: demo-00003.",))
    assert list(end_lines(plan, taken))[1:3] == [
        "confirmed at fresh seeds: 12 complete",
        "take     Density at most 10 %: demo-00003.",
    ]
    extended = list(end_lines(plan, end_of(runs, confirmed="12 complete")))
    assert [line for line in extended if line.startswith("be sure")] == [lines[3]]
    for nothing_yet in ({"remaining": 3}, {"front": 0}):
        said = "\n".join(end_lines(plan, end_of(runs, **nothing_yet)))
        assert "analysis pick" not in said
        assert "confirm demo" not in said


def test_an_interruption_says_what_is_left(plan: Plan, tmp_path: Path) -> None:
    def said(plan: Plan, **changed: Any) -> str:
        (line,) = problem_lines(plan, end_of(tmp_path, **{"remaining": 4, **changed}))
        return line.partition(". To resume: ")[0]

    epochs = studies.plan_of(study="demo", epochs=8)
    assert said(plan) == "Interrupted with 4 trials to go"
    assert said(epochs) == "Interrupted with less than 8 epochs used"
    for each in (plan, epochs):
        assert said(each, confirming=True) == "Interrupted with 4 trainings to go"
    assert said(plan, remaining=1) == "Interrupted with 1 trial to go"
    assert said(plan, remaining=1, confirming=True) == "Interrupted with 1 training to go"


def test_what_no_study_records_is_in_the_commands_that_follow(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pasted without its address, the command that resumes would start a Ray of its own."""
    monkeypatch.chdir(tmp_path)
    assert Launch(storage="runs").resume("demo") == f"{python()} -m search resume demo"
    launch = Launch(
        storage=str(tmp_path / "mine"),
        ray_address="auto",
        concurrency=3,
        gpus_per_trial=0.25,
        trial_time_limit=60.0,
    )
    options = (
        "--ray-address auto --concurrency 3 --gpus-per-trial 0.25 --trial-time-limit 60.0 "
        "--storage mine"
    )
    resume = f"{python()} -m search resume demo {options}"
    assert launch.resume("demo") == resume
    end = end_of(tmp_path / "mine")
    said = "\n".join(end_lines(plan, end, launch.unrecorded))
    assert f"{python()} -m search confirm demo {options}\n" in said
    (line,) = problem_lines(plan, dataclasses.replace(end, remaining=4), launch.unrecorded)
    assert line.endswith(f"To resume: {resume}")
    addresses = Addresses(tracking_uri="", study_storage="")
    files = StudyFiles(storage=tmp_path / "mine", study="demo")
    with (
        pytest.raises(Failure, match=r"then resume by: it$"),
        failures_of_storage(files, addresses, "it"),
    ):
        raise OSError("no space")


def test_how_many_confirmations_are_to_go_may_be_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, files = plan_of(), StudyFiles(storage=tmp_path, study="s")
    files.directory.mkdir()
    described = describe_study(plan, {}) | {"tracking_uri": None, "study_storage": None}
    write_json(files.description, described | {"finished": False, "confirm": 3})
    ledger = ledger_of(plan, files.default_study_storage)
    run_all(ledger)
    ledger.confirm(3)
    run_all(ledger, limit=1)

    def not_here(_: object) -> Plan:
        raise UserError("no module named 'mine'")

    monkeypatch.setattr("search.record.study_status.plan_from_description", not_here)
    found = study_status(str(tmp_path), "s")
    assert found["confirmations_due"] is None
    told = "confirmed at fresh seeds: 1 complete; how many are to go is unknown"
    assert told in list(status_lines(found, str(tmp_path)))
    said = all_studies(str(tmp_path))["s"]
    assert "; an unknown number of confirmations to go" in said


def test_a_study_that_is_being_confirmed_says_how_far_it_is(tmp_path: Path) -> None:
    plan, files = plan_of(), StudyFiles(storage=tmp_path, study="s")
    files.directory.mkdir()
    described = describe_study(plan, {}) | {"tracking_uri": None, "study_storage": None}

    def status(**noted: Any) -> list[str]:
        write_json(files.description, described | noted)
        found = study_status(str(tmp_path), "s")
        assert found["confirmations_due"] == (ledger.num_remaining if noted.get("confirm") else 0)
        return list(status_lines(found, str(tmp_path)))

    ledger = ledger_of(plan, files.default_study_storage)
    resume = f"to continue: {python()} -m search resume s --storage {tmp_path}"
    run_all(ledger)
    assert resume in status(finished=False)  # it has no report yet
    assert resume not in status(finished=True, confirm=None)
    ledger.confirm(3)
    total = ledger.num_remaining
    confirming = {"finished": False, "confirm": 3}
    told = f"confirmed at fresh seeds: none yet; {total} of {total} to go"
    assert {told, resume} <= set(status(**confirming))
    run_all(ledger, limit=2)
    assert ledger.next() is not None
    told = f"confirmed at fresh seeds: 2 complete, 1 interrupted; {total - 2} of {total} to go"
    assert {told, resume} <= set(status(**confirming))
    assert f"; {total - 2} confirmations to go" in all_studies(str(tmp_path))["s"]


def test_another_study_of_the_name_is_said_also_while_a_driver_is_at_work(tmp_path: Path) -> None:
    """Then it helps to give it another name, and not to wait."""
    plan, files = plan_of(), StudyFiles(storage=tmp_path, study="s")
    files.directory.mkdir()
    write_json(files.description, describe_study(plan, {}))
    launch = Launch(storage=str(tmp_path), quiet=True)
    with StudyLock(files.directory, "s"):
        with pytest.raises(UserError, match=r"exists and is another one: .* another --name"):
            run_study(studies.plan_of(trials=8), launch)
        with pytest.raises(UserError, match=f"is driven by process {os.getpid()} ") as caught:
            run_study(plan, launch)
    assert "--name" not in str(caught.value)
    assert f"`{python()} -m search status s --storage {tmp_path}`" in str(caught.value)

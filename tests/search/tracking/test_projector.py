"""The projector as a study sees it: a process that writes, for real, to a file and to a server."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from search.tracking.projector import Projector
from tests.search.tracking.mlflow_files import Recorded, points, runs_of, wait_for
from tests.search.tracking.server import Server
from trainables.errors import UserError
from trainables.terminal.as_typed import python

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def study(tmp_path: Path, uri: str) -> Recorded:
    return Recorded(tmp_path)


def start(study: Recorded, uri: str | None = None) -> Projector:
    files = study.files
    return Projector(uri or files.default_tracking_uri, files.default_study_storage, files)


def opened(study: Recorded, uri: str | None = None) -> Projector:
    projector = start(study, uri)
    projector.wait_open()
    return projector


def is_gone(process: int) -> bool:
    """Whether it has ended; a zombie has."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True


def test_a_study_and_its_trials(study: Recorded, uri: str) -> None:
    projector = opened(study)
    assert set(runs_of(uri)) == {"parent"}
    study.whole("snip")
    number = study.begin("rigl")
    study.report(number, [1])
    wait_for(lambda: len(runs_of(uri)) == 3)
    assert runs_of(uri)["s-00001"].info.status == "RUNNING"
    study.whole("set", "failed", reason="loss is nan")
    process = process_of(projector)
    os.kill(process, signal.SIGSTOP)  # as one that a busy machine gives no time
    threading.Timer(1.5, os.kill, (process, signal.SIGCONT)).start()
    assert projector.close(finished=False, timeout_seconds=1.0) == ""
    assert is_gone(process)
    runs = runs_of(uri)
    assert runs["parent"].info.run_id == projector.parent_run_id
    assert {name: run.info.status for name, run in runs.items()} == {
        "parent": "KILLED",
        "s-00000": "FINISHED",
        "s-00001": "KILLED",
        "s-00002": "FAILED",
    }
    again = opened(study)
    assert again.parent_run_id == projector.parent_run_id
    study.report(number, [2, 3])
    study.end(number)
    assert again.close(finished=True) == ""
    runs = runs_of(uri)
    assert len(runs) == 4
    assert runs["parent"].info.status == runs["s-00001"].info.status == "FINISHED"
    assert len(points(uri, runs["s-00001"])) == 3


def test_a_process_that_died_is_said_and_the_next_launch_writes_the_rest(
    study: Recorded, uri: str
) -> None:
    projector = opened(study)
    os.kill(process_of(projector), signal.SIGKILL)
    study.whole("snip")
    said = projector.close(finished=True)
    assert said == "MLflow lacks a part of the study (its process ended with -9)"
    assert set(runs_of(uri)) == {"parent"}
    after = opened(study)
    assert after.close(finished=True) == ""
    assert {run.info.status for run in runs_of(uri).values()} == {"FINISHED"}
    assert len(points(uri, runs_of(uri)["s-00000"])) == 3


def process_of(projector: Projector) -> int:
    return projector._process.pid


_DRIVER = """
import sys, time
from pathlib import Path
from tests.search.tracking.mlflow_files import Recorded
from tests.search.tracking.test_projector import opened
study = Recorded(Path(sys.argv[1]))
projector = opened(study)
study.whole()
study.report(study.begin(), [1])
print(projector._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_leaves_no_run_open_and_no_process(
    tmp_path: Path, uri: str, end: signal.Signals
) -> None:
    """Of SIGINT, the whole group of the driver has a part, as with Ctrl-C on a terminal."""
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert driver.stdout is not None
    projector = int(driver.stdout.readline())
    os.killpg(driver.pid, end)
    driver.wait(10)
    driver.stdout.close()
    wait_for(lambda: is_gone(projector))
    runs = runs_of(uri)
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == {"parent": "KILLED", "s-00000": "FINISHED", "s-00001": "KILLED"}
    assert len(points(uri, runs["s-00000"])) == 3
    assert len(points(uri, runs["s-00001"])) == 1


def test_what_does_not_answer_is_a_users_mistake(study: Recorded) -> None:
    foreign = study.files.directory / "foreign.db"
    foreign.write_text("not a database")
    for uri in ("http://127.0.0.1:9", f"sqlite:///{foreign}"):
        projector = start(study, uri)
        with pytest.raises(UserError, match="`--tracking-uri` must be an MLflow server"):
            projector.wait_open()
        assert projector.close(finished=False) == ""
        wait_for(lambda projector=projector: is_gone(process_of(projector)))


def test_a_password_is_in_no_message_and_no_command_line(study: Recorded) -> None:
    projector = start(study, "http://me:hunter2@127.0.0.1:9")
    command = Path(f"/proc/{process_of(projector)}/cmdline").read_text()
    assert "hunter2" not in command
    with pytest.raises(UserError) as caught:
        projector.wait_open()
    assert "hunter2" not in str(caught.value)
    projector.close(finished=False)


def test_a_projector_that_was_never_open_is_not_waited_for(study: Recorded) -> None:
    """As after Ctrl-C while Ray starts, with a server that takes a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        projector = start(study, f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert projector.close(finished=False) == ""
        assert time.monotonic() - began < 5.0


def test_ctrl_c_ends_a_wait_for_what_does_not_answer(
    study: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    projector = opened(study)
    os.kill(process_of(projector), signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        projector.close(finished=False)
    assert time.monotonic() - began < 5.0
    wait_for(lambda: is_gone(process_of(projector)), 5.0)  # for which Python would wait at its exit
    sync = f"`{python()} -m search sync s --storage {study.files.storage}` writes what is missing"
    assert caplog.messages == [f"tracking: interrupted; {sync}"]


_GIVEN_UP = """
import sys
from pathlib import Path
from search.record.files.study_folder import StudyFiles
from search.tracking.projector import Projector
files = StudyFiles(storage=Path(sys.argv[1]), study="s")
projector = Projector(sys.argv[2], files.default_study_storage, files)
sys.stdin.readline()
projector.close(finished=False)
print(projector._process.pid, flush=True)
"""


def test_ctrl_c_ends_the_exit_of_a_driver_whose_mlflow_does_not_answer(study: Recorded) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        driver = subprocess.Popen(
            [sys.executable, "-c", _GIVEN_UP, str(study.files.storage), uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        connection, _ = silent.accept()  # the projector waits for an answer
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write("\n")
        driver.stdin.flush()
        projector = int(driver.stdout.readline())
        time.sleep(1)
        assert driver.poll() is None
        driver.send_signal(signal.SIGINT)
        _, said = driver.communicate(timeout=5)
        assert (driver.returncode, said) == (0, "")
        wait_for(lambda: is_gone(projector), 5.0)
        connection.close()


def test_a_study_given_up_while_mlflow_is_loaded_leaves_no_run(study: Recorded, uri: str) -> None:
    projector = start(study)
    projector.close(finished=False)
    wait_for(lambda: is_gone(process_of(projector)))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("disparse")
    if experiment is not None:  # it had come so far
        made = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
        assert {run.info.lifecycle_stage for run in made} <= {"deleted"}


def test_two_projectors_of_one_study_do_not_meet(study: Recorded, uri: str) -> None:
    """That of a driver that was killed may still be writing when the next one begins."""
    study.whole("snip")
    with study.files.projecting():
        projector = start(study)
        time.sleep(3)
        assert MlflowClient(uri).get_experiment_by_name("disparse") is None  # it waits
    projector.wait_open()
    assert projector.close(finished=True) == ""
    assert set(runs_of(uri)) == {"parent", "s-00000"}


_CREATOR = """
import sys
from pathlib import Path
from tests.search.tracking.mlflow_files import Recorded
from tests.search.tracking.test_projector import opened
sys.exit(bool(opened(Recorded(Path(sys.argv[1]), sys.argv[2])).close(finished=True)))
"""


@pytest.mark.timeout(120)
def test_two_drivers_create_one_database(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _CREATOR, str(tmp_path), study],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        for study in ("one", "two")
    ]
    assert [process.wait(100) for process in processes] == [0, 0]
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert {run.info.run_name for run in runs} == {"one", "two"}


# ---------------------------------------------------------------------------- a server


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[Server]:
    database = tmp_path / "server.db"
    database.write_bytes(empty_database.read_bytes())
    server = Server(database, tmp_path / "server.log")
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(300)
def test_a_server_that_is_away_loses_nothing(server: Server, tmp_path: Path) -> None:
    study = Recorded(tmp_path / "runs")
    projector = opened(study, server.uri)
    study.whole("snip")
    number = study.begin("rigl", {"b": 2})
    wait_for(lambda: "s-00001" in runs_of(server.uri))
    server.stop()
    study.report(number, range(1, 21))
    study.end(number)
    for _ in range(4):
        study.whole("set")
    time.sleep(2)  # long enough for the process to notice
    server.start()
    assert projector.close(finished=True) == ""
    runs = runs_of(server.uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert sorted(runs) == ["parent", *(study.name(n) for n in range(6))]
    history = points(server.uri, runs["s-00001"])
    assert history == [(step, step / 20) for step in range(1, 21)]
    for number in (0, 2, 3, 4, 5):
        assert len(points(server.uri, runs[study.name(number)])) == 3
    # Away at the end, it costs the limit, and what is missing is said.
    projector = opened(study, server.uri)
    server.stop()
    study.whole("gmp")
    began = time.monotonic()
    said = projector.close(finished=True, timeout_seconds=1.5)
    assert time.monotonic() - began < 10
    assert said.startswith("MLflow lacks a part of the study (")
    assert is_gone(process_of(projector))


@pytest.mark.timeout(180)
def test_a_database_that_answers_and_takes_nothing_is_given_up(study: Recorded, uri: str) -> None:
    """As on a full disk: every question is answered, and no write is."""
    projector = opened(study)
    number = study.begin()
    wait_for(lambda: "s-00000" in runs_of(uri))
    resource.prlimit(process_of(projector), resource.RLIMIT_FSIZE, (0, 0))
    study.report(number)
    study.end(number)
    began = time.monotonic()
    said = projector.close(finished=True, timeout_seconds=5)
    assert time.monotonic() - began < 60
    assert said.startswith("MLflow lacks a part of the study (")
    assert "disk" in said  # SQLite's own words
    assert is_gone(process_of(projector))
    assert opened(study).close(finished=True) == ""
    runs = runs_of(uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(points(uri, runs["s-00000"])) == 3


def test_files_of_tracking_lie_in_the_studys_folder(study: Recorded) -> None:
    projector = opened(study)
    study.whole()
    assert projector.close(finished=True) == ""
    assert {path.name for path in study.files.directory.iterdir()} == {
        "optuna.journal",
        "study.json",
        "tracking.lock",
        "trials",
    }

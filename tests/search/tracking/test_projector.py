"""Tracking as a study sees it: a process that writes, for real, to a file and to a server."""

import contextlib
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from search.record.study_folder import StudyFiles
from search.tracking.events import StudyFacts
from search.tracking.tracker import Tracker, connect
from tests.search.tracking.mlflow_files import FACTS, files_in, metrics, points, runs_of
from trainables.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One MLflow file for all: its tables take seconds, and studies do not meet."""
    folder = tmp_path_factory.mktemp("runs")
    MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder


@pytest.fixture
def files(storage: Path, request: pytest.FixtureRequest) -> StudyFiles:
    return files_in(storage, f"study-{abs(hash(request.node.name)) % 10**8}")


def open_tracker(files: StudyFiles, uri: str | None = None) -> Tracker:
    facts = type(FACTS)(study=files.study, study_id=files.study, params=FACTS.params)
    return connect(uri or files.default_tracking_uri, facts, files)


def write_trial(tracker: Tracker, name: str, steps: range = range(1, 4)) -> None:
    tracker.trial_started(name, method="snip", params={"a": 1}, started=1.0)
    for step in steps:
        tracker.report(name, step=step, metrics=metrics(step / 3), at=2.0)
    tracker.trial_ended(name, status="complete", reason="", at=4.0)


def runs_of_study(files: StudyFiles, uri: str | None = None) -> dict[str, Run]:
    """By trial name, the parent under `parent`."""
    return runs_of(uri or files.default_tracking_uri, files.study)


def wait_for(what: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def is_gone(process: int) -> bool:
    """Whether it has ended; a zombie has."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True


def test_a_study_and_its_trials(files: StudyFiles) -> None:
    tracker = open_tracker(files)
    write_trial(tracker, "s-00000")
    tracker.report("s-00000", step=3, metrics={"training/fraction": 0.0}, at=7.0)  # again
    tracker.trial_started("s-00001", method="rigl", params={}, started=5.0)
    tracker.report("s-00001", step=10, metrics={"training/fraction": 1.0, "x": math.nan}, at=6.0)
    tracker.trial_ended("s-00001", status="failed", reason="loss is nan", at=8.0)
    tracker.trial_started("s-00002", method="set", params={}, started=5.0)
    tracker.tag_front({"s-00000": True, "s-00001": False})
    writer = tracker.writer_process
    assert tracker.close(finished=True) == ""
    assert is_gone(writer)
    assert not files.spool.exists()
    runs = runs_of_study(files)
    assert set(runs) == {"parent", "s-00000", "s-00001", "s-00002"}
    parent, good, bad = runs["parent"], runs["s-00000"], runs["s-00001"]
    assert parent.info.run_id == tracker.parent_run_id
    assert parent.info.status == "FINISHED"
    assert parent.data.params == dict(FACTS.params)
    assert parent.data.tags["disparse.study"] == files.study
    assert parent.info.artifact_uri.startswith(files.artifacts.as_uri())
    assert good.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert good.data.tags["disparse.method"] == "snip"
    assert good.data.tags["disparse.front"] == "true"
    assert good.data.params == {"a": "1"}
    assert points(files.default_tracking_uri, good) == [(1, 1 / 3), (2, 2 / 3), (3, 1.0)]
    assert (good.info.start_time, good.info.end_time) == (1000, 4000)
    assert bad.info.status == "FAILED"
    assert bad.data.tags["disparse.reason"] == "loss is nan"
    assert bad.data.tags["disparse.front"] == "false"
    assert "x" not in bad.data.metrics
    assert runs["s-00002"].info.status == "KILLED"  # unfinished
    again = open_tracker(files)
    assert again.ended == {"s-00000", "s-00001"}
    assert again.parent_run_id == tracker.parent_run_id
    assert again.close(finished=True) == ""
    assert len(runs_of_study(files)) == 4


def test_a_writer_that_dies_is_replaced(files: StudyFiles) -> None:
    tracker = open_tracker(files)
    write_trial(tracker, "s-00000")
    wait_for(lambda: "s-00000" in runs_of_study(files))
    os.kill(tracker.writer_process, signal.SIGKILL)
    write_trial(tracker, "s-00001")
    assert tracker.close(finished=True) == ""
    runs = runs_of_study(files)
    assert [runs[f"s-0000{n}"].info.status for n in (0, 1)] == ["FINISHED"] * 2
    for n in (0, 1):
        assert len(points(files.default_tracking_uri, runs[f"s-0000{n}"])) == 3


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_leaves_no_run_open_and_no_process(
    files: StudyFiles, end: signal.Signals
) -> None:
    """Of SIGINT, the whole group of the driver has a part, as with Ctrl-C on a terminal."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); "
        "from pathlib import Path; from search.record.study_folder import StudyFiles; "
        "from tests.search.tracking.test_tracker import open_tracker, write_trial; "
        "files = StudyFiles(storage=Path(sys.argv[2]), study=sys.argv[3]); "
        "tracker = open_tracker(files); write_trial(tracker, 's-00000'); "
        "tracker.trial_started('s-00001', method='snip', params={}, started=5.0); "
        "print(tracker.writer_process, flush=True); time.sleep(60)"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(REPOSITORY), str(files.storage), files.study],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert driver.stdout is not None
    writer = int(driver.stdout.readline())
    os.killpg(driver.pid, end)
    driver.wait(10)
    driver.stdout.close()
    wait_for(lambda: is_gone(writer))
    runs = runs_of_study(files)
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == {"parent": "KILLED", "s-00000": "FINISHED", "s-00001": "KILLED"}
    assert len(points(files.default_tracking_uri, runs["s-00000"])) == 3


def test_a_full_disk_is_said_and_stops_nothing(files: StudyFiles) -> None:
    """No file may grow beyond what the first trial needs; the second fits in part."""
    tracker = open_tracker(files)
    write_trial(tracker, "s-00000")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (files.spool.stat().st_size + 200, hard))
    try:
        write_trial(tracker, "s-00001")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = tracker.close(finished=True)
    assert "writes to MLflow were not made" in said
    assert 1 <= int(said.split()[0]) <= 5
    assert runs_of_study(files)["s-00000"].info.status == "FINISHED"
    again = open_tracker(files)
    write_trial(again, "s-00001")
    assert again.close(finished=True) == ""
    assert len(points(files.default_tracking_uri, runs_of_study(files)["s-00001"])) == 3


def test_what_does_not_answer_is_a_users_mistake(files: StudyFiles) -> None:
    foreign = files.directory / "foreign.db"
    foreign.write_text("not a database")
    for uri in ("http://127.0.0.1:9", f"sqlite:///{foreign}"):
        with pytest.raises(UserError, match="`--tracking-uri` must be an MLflow server"):
            open_tracker(files, uri)


def test_a_tracker_that_was_never_open_is_closed_at_once(files: StudyFiles) -> None:
    """As after Ctrl-C while Ray starts, with a server that takes a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracker = Tracker(f"http://127.0.0.1:{silent.getsockname()[1]}", FACTS, files)
        began = time.monotonic()
        assert tracker.close(finished=False) == ""
        assert time.monotonic() - began < 5.0
        assert not files.spool.exists()
    wait_for(lambda: is_gone(tracker.writer_process))


def test_a_study_given_up_while_mlflow_is_loaded_leaves_no_run(files: StudyFiles) -> None:
    open_tracker(files).close(finished=False)  # so that there is an experiment
    client = MlflowClient(files.default_tracking_uri)
    facts = StudyFacts(study=files.study, study_id="given-up", params={"a": "b"})
    tracker = Tracker(files.default_tracking_uri, facts, files)
    tracker.close(finished=False)
    wait_for(lambda: is_gone(tracker.writer_process))
    experiment = client.get_experiment_by_name("disparse")
    where = "tags.`disparse.study_id` = 'given-up'"
    assert client.search_runs([experiment.experiment_id], where) == []
    made = client.search_runs([experiment.experiment_id], where, run_view_type=ViewType.ALL)
    assert len(made) == 1  # it had been


def test_two_drivers_create_one_database(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "
        "from tests.search.tracking.test_tracker import open_tracker; "
        "from tests.search.tracking.mlflow_files import files_in; "
        "tracker = open_tracker(files_in(Path(sys.argv[2]), sys.argv[3])); "
        "sys.exit(bool(tracker.close(finished=True)))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(REPOSITORY), str(tmp_path), study])
        for study in ("one", "two")
    ]
    assert [process.wait(50) for process in processes] == [0, 0]
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert {run.info.run_name for run in runs} == {"one", "two"}


# ---------------------------------------------------------------------------- a server


class Server:
    """`mlflow server` over a file, that can be stopped and started."""

    def __init__(self, database: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self._database = database
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self._database}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                start_new_session=True,
                # Its queue of jobs has processes of its own, which take seconds to start.
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        wait_for(self.answers, 120)

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """At once: what it was doing has no answer."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path, storage: Path) -> Iterator[Server]:
    database = tmp_path / "server.db"
    database.write_bytes((storage / "mlflow.db").read_bytes())
    server = Server(database, tmp_path / "server.log")
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(300)
def test_a_server_that_is_away_loses_nothing(server: Server, files: StudyFiles) -> None:
    tracker = open_tracker(files, server.uri)
    write_trial(tracker, "s-00000")
    tracker.trial_started("s-00001", method="rigl", params={"b": 2}, started=5.0)
    wait_for(lambda: "s-00001" in runs_of_study(files, server.uri))
    server.stop()
    began = time.monotonic()
    for step in range(1, 21):
        tracker.report("s-00001", step=step, metrics=metrics(step / 20), at=6.0 + step)
    tracker.trial_ended("s-00001", status="complete", reason="", at=30.0)
    for number in range(2, 6):
        write_trial(tracker, f"s-{number:05d}")
    assert time.monotonic() - began < 0.5  # the study does not wait
    time.sleep(2)  # long enough for the writer to notice
    server.start()
    assert tracker.close(finished=True) == ""
    runs = runs_of_study(files, server.uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert sorted(runs) == ["parent", *(f"s-{n:05d}" for n in range(6))]
    history = points(server.uri, runs["s-00001"])
    assert history == [(step, step / 20) for step in range(1, 21)]
    for number in (0, 2, 3, 4, 5):
        assert len(points(server.uri, runs[f"s-{number:05d}"])) == 3
    # Away at the end, it costs the limit, and what is missing is said.
    tracker = open_tracker(files, server.uri)
    server.stop()
    write_trial(tracker, "s-00006")
    began = time.monotonic()
    said = tracker.close(finished=True, timeout_seconds=1.5)
    assert time.monotonic() - began < 10
    assert said.startswith("5 writes to MLflow were not made")

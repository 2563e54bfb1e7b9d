"""Whatever becomes of Ray, a launch ends soon, with one message, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.execution.cluster import ray_watch
from search.execution.cluster.ray_watch import RayWatch

PROGRAM = Path(__file__).with_name("watched.py")
RESUME = "Resume by: python -m search resume it"
HEARD = (
    "Interrupted. Shutting down cleanly, which takes some seconds; press Ctrl-C again to leave at "
    "once."
)


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


class Driver:
    """The program at work, and the processes that it has."""

    def __init__(self, kind: str, scratch: Path, repository: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), kind, str(scratch)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(repository)},
        )
        assert self.process.stdout is not None
        pids = self.process.stdout.readline().split()
        self.family = {p.name(): p for p in (psutil.Process(int(pid)) for pid in pids)}
        assert set(self.family) == {"gcs_server", "raylet"}

    def end(self) -> tuple[int, str]:
        """The exit code and what was said, when everything is gone."""
        _, said = self.process.communicate(timeout=60)
        for process in self.family.values():
            assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        return self.process.returncode, said


@pytest.mark.parametrize(
    ("name", "words"), [("raylet", "Ray's node"), ("gcs_server", "Ray's controller")]
)
def test_a_killed_process_of_ray_ends_the_launch(
    name: str, words: str, scratch: Path, repository: Path
) -> None:
    driver = Driver("wait", scratch, repository)
    driver.family[name].kill()
    code, said = driver.end()
    assert code == 1
    assert said.splitlines() == [
        f"failed: {words} died (killed, perhaps, for want of memory); no report is lost. {RESUME}"
    ]
    assert not scratch.exists()


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_stopped_process_of_ray_is_waited_for(name: str, scratch: Path, repository: Path) -> None:
    driver = Driver("wait", scratch, repository)
    driver.family[name].suspend()
    time.sleep(1)
    driver.family[name].resume()
    time.sleep(4)
    assert driver.process.poll() is None  # it healed
    driver.family[name].suspend()
    code, said = driver.end()
    assert code == 1
    assert "was stopped, and did not continue" in said
    assert said.count("\n") == 1
    assert RESUME in said


@pytest.mark.parametrize(
    ("kind", "number", "code", "said"),
    [
        ("deaf", signal.SIGINT, 130, f"{HEARD}\nInterrupted. {RESUME}"),
        ("deaf", signal.SIGTERM, 143, f"Ended by SIGTERM. {RESUME}"),
        ("shut", None, 1, f"failed: Ray does not end. {RESUME}"),
    ],
)
def test_an_end_that_does_not_come_is_made(
    kind: str, number: int | None, code: int, said: str, scratch: Path, repository: Path
) -> None:
    driver = Driver(kind, scratch, repository)
    if number is not None:
        driver.process.send_signal(number)
    assert driver.end() == (code, said + "\n")


def test_an_orderly_end_leaves_nothing(scratch: Path, repository: Path) -> None:
    driver = Driver("wait", scratch, repository)
    driver.process.send_signal(signal.SIGINT)  # which its main thread hears
    code, said = driver.end()
    assert code not in (0, 130)
    assert said.splitlines()[0] == HEARD
    assert said.splitlines()[-1] == "KeyboardInterrupt"


def test_a_second_interrupt_ends_at_once(scratch: Path, repository: Path) -> None:
    driver = Driver("patient", scratch, repository)
    driver.process.send_signal(signal.SIGINT)
    assert driver.process.stderr is not None
    assert driver.process.stderr.readline() == f"{HEARD}\n"
    began = time.monotonic()
    driver.process.send_signal(signal.SIGINT)
    assert driver.end() == (130, f"Interrupted. {RESUME}\n")
    assert time.monotonic() - began < 10


def test_a_second_interrupt_ends_at_once_also_where_nobody_reads_what_is_said(
    scratch: Path, repository: Path
) -> None:
    """As in `search run demo 2>&1 | tee log`, where the first Ctrl-C ends `tee`."""
    driver = Driver("patient", scratch, repository)
    assert driver.process.stderr is not None
    driver.process.stderr.close()
    for _ in range(2):
        driver.process.send_signal(signal.SIGINT)
        time.sleep(1)
    assert driver.process.wait(8) == 130
    for process in driver.family.values():
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_an_interrupt_keeps_the_reason_why_a_launch_ends(scratch: Path, repository: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "alone", str(scratch)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "told to end\n"
    time.sleep(0.5)  # until the watch has heard itself
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=8)
    assert (process.returncode, said) == (
        1,
        f"failed: no node of the cluster that has CPUs is alive. {RESUME}\n",
    )


def test_a_cluster_that_heals_is_waited_for_and_one_that_does_not_is_left(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    # What hears SIGINT here may be nobody: a shell's background, or a test before.
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, rounds in {"_SOON": 1, "HEALING_ROUNDS": 6}.items():
        monkeypatch.setattr(ray_watch, name, rounds)
    alive: list[dict[str, Any]] = [{"CPU": 0.0}, {"CPU": 2.0}]
    with RayWatch(None, "it") as watch:
        watch.started(lambda: list(alive))
        lost = alive.pop()
        _until(lambda: "no node of the cluster that has CPUs is alive" in caplog.text)
        alive.append(lost)
        time.sleep(12)  # more than there was to wait, had it not come back
        assert watch.problem == ""
        alive.pop()
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(60)
        assert watch.problem == "no node of the cluster that has CPUs is alive"
        watch.ending()


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)

"""Ray goes in mid-study: its node, its controller, its workers; or a user presses Ctrl-C."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.record.files.study_folder import StudyFiles, study_files
from tests.integration.records import REPOSITORY, check_everything, environment
from tests.integration.test_search_study import STEPS, command, end_of, num_reports, run
from trainables.terminal.as_typed import python

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

_NOTICED_SECONDS = 60


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


class Driver:
    """A study of four trials at work, and what it started."""

    def __init__(self, folder: Path, seconds: float = 1) -> None:
        self.files: StudyFiles = study_files(str(folder), "cheap")
        self.process = psutil.Popen(
            command(folder, 4, seconds),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=REPOSITORY,
        )
        self.seen: set[psutil.Process] = set()

    def family(self, *names: str) -> list[psutil.Process]:
        """Its processes of these names, as the kernel or Ray calls them."""
        self.seen |= set(self.process.children(recursive=True))
        named = []
        for process in self.process.children(recursive=True):
            title = process.cmdline()[:1]
            if process.name() in names or (title and title[0].startswith(names)):
                named.append(process)
        return named

    def reach(self, reports: int) -> None:
        deadline = time.monotonic() + 300
        while num_reports(self.files) < reports:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self.family()

    def end(self) -> tuple[int, str]:
        """The exit code and what was said on stderr; nothing that it started is left."""
        began = time.monotonic()
        _, said = self.process.communicate(timeout=180)
        assert time.monotonic() - began < _NOTICED_SECONDS
        _, left = psutil.wait_procs(self.seen, timeout=30)
        assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
        return self.process.returncode, said


def check_resumes(folder: Path) -> None:
    done = run(folder, 4, 0)
    assert done.returncode == 0, done.stderr
    assert end_of(done.stdout) == {"finished": 4, "failed": 0, "left": 0}
    check_everything(folder, "cheap", 4, STEPS)


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("raylet", signal.SIGKILL, "failed: Ray's node died"),
        slow("gcs_server", signal.SIGKILL, "failed: Ray's controller died"),
        slow("raylet", signal.SIGSTOP, "failed: Ray's node was stopped, and did not continue"),
    ],
)
def test_a_ray_that_is_gone_ends_the_launch_which_resumes(
    name: str, number: int, words: str, tmp_path: Path
) -> None:
    # Its workers outlive a node for a while, and would finish a short study.
    driver = Driver(tmp_path, 1 if number == signal.SIGKILL else 10)
    driver.reach(2)
    for process in driver.family(name):
        process.send_signal(number)
    code, said = driver.end()
    assert code == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(words), said
    options = f"--concurrency 2 --storage {tmp_path}"
    assert f"Resume by: {python()} -m search resume cheap {options}" in said
    check_resumes(tmp_path)


@pytest.mark.slow
def test_workers_that_all_die_once_cost_no_trial(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.reach(2)
    workers = driver.family("ray::")
    workers = [w for w in workers if "Agent" not in w.cmdline()[0]]
    assert workers
    for process in workers:
        process.kill()
    output, said = driver.process.communicate(timeout=400)
    assert driver.process.returncode == 0, said
    assert end_of(output) == {"finished": 4, "failed": 0, "left": 0}
    check_everything(tmp_path, "cheap", 4, STEPS)


@pytest.mark.slow
def test_a_node_that_is_stopped_at_the_end_costs_nothing(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.reach(14)
    for process in driver.family("raylet"):
        process.suspend()
    output, said = driver.process.communicate(timeout=600)
    assert driver.process.returncode == 0, said
    assert end_of(output) == {"finished": 4, "failed": 0, "left": 0}
    check_everything(tmp_path, "cheap", 4, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["starts", "runs", "ends"])
def test_an_interrupt_ends_the_launch_soon(moment: str, tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    if moment == "starts":
        deadline = time.monotonic() + 200
        while not driver.family("gcs_server"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    else:
        driver.reach(3 if moment == "runs" else 15)
    os.kill(driver.process.pid, signal.SIGINT)
    code, said = driver.end()
    assert code in (0, 130), said
    assert "Traceback" not in said
    check_resumes(tmp_path)

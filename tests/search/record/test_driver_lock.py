"""One driver per study, whatever became of the one before."""

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from search.record.files.driver_lock import StudyLock, is_driven
from trainables.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[3]

_DRIVER = """
import sys, time
from pathlib import Path
from search.record.files.driver_lock import StudyLock
with StudyLock(Path(sys.argv[1]), "s"):
    print("drives", flush=True)
    time.sleep(60)
"""


def start_driver(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "drives\n"
    driver.stdout.close()
    return driver


def test_the_lock_is_exclusive_and_opens_when_released(tmp_path: Path) -> None:
    assert not is_driven(tmp_path)
    with StudyLock(tmp_path, "s"):
        assert is_driven(tmp_path)
        with (
            pytest.raises(
                UserError,
                match=rf"'s' is driven by process {os.getpid()} on {platform.node()}; .* Wait",
            ),
            StudyLock(tmp_path, "s"),
        ):
            pass
        assert is_driven(tmp_path)  # who came second took nothing away
    assert not is_driven(tmp_path)
    with StudyLock(tmp_path, "s"):
        pass


def test_an_error_opens_it_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), StudyLock(tmp_path, "s"):
        raise ZeroDivisionError
    assert not is_driven(tmp_path)


def test_a_killed_drivers_lock_opens_by_itself(tmp_path: Path) -> None:
    driver = start_driver(tmp_path)
    try:
        assert is_driven(tmp_path)
        began = time.monotonic()
        with (
            pytest.raises(UserError, match=rf"driven by .*{driver.pid}.*{platform.node()}"),
            StudyLock(tmp_path, "s"),
        ):
            pass
        assert time.monotonic() - began < 5
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert (tmp_path / "driver.json").exists()  # it could not take it away
    assert not is_driven(tmp_path)
    with StudyLock(tmp_path, "s"):
        assert json.loads((tmp_path / "driver.json").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("holder", ['{"pid": 1, "host": "elsewhere"}', "{", ""])
def test_what_is_written_of_a_driver_decides_nothing(tmp_path: Path, holder: str) -> None:
    """Of a host that died, or cut short: the kernel alone knows who drives."""
    (tmp_path / "driver.json").write_text(holder)
    (tmp_path / "driver.lock").write_text(holder)
    assert not is_driven(tmp_path)
    with StudyLock(tmp_path, "s"):
        assert is_driven(tmp_path)


@pytest.mark.parametrize(
    ("holder", "named"),
    [
        ('{"pid": 1, "host": "elsewhere"}', "1.*elsewhere"),
        ("{", "another process"),
        (None, "another process"),
    ],
)
def test_a_held_kernel_lock_is_a_driver_whoever_is_written_down(
    tmp_path: Path, holder: str | None, named: str
) -> None:
    if holder is not None:
        (tmp_path / "driver.json").write_text(holder)
    with (tmp_path / "driver.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=f"one driver at a time.*{named}"):
            StudyLock(tmp_path, "s").__enter__()


def test_asking_keeps_no_driver_out(tmp_path: Path) -> None:
    """`search status` holds the lock for a moment to see whether it is held."""
    (tmp_path / "driver.json").write_text('{"pid": 1, "host": "elsewhere"}')
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            is_driven(tmp_path)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(20):
            with StudyLock(tmp_path, "s"):
                pass
    finally:
        done.set()
        for asker in askers:
            asker.join()


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(UserError, match=r"`--storage` must be a writable folder with file locks"):
        StudyLock(tmp_path, "s").__enter__()


def test_a_folder_that_can_no_longer_be_written_hides_no_reason(tmp_path: Path) -> None:
    """As when its disk became read-only: what the study itself said of that is what is shown."""
    with pytest.raises(OSError, match="Read-only"), StudyLock(tmp_path, "s"):  # noqa: PT012
        (tmp_path / "driver.json").unlink()
        (tmp_path / "driver.json").mkdir()  # cannot be unlinked
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    (tmp_path / "driver.json").rmdir()
    with StudyLock(tmp_path, "s"):
        pass


def test_whoever_may_only_read_is_told_of_a_driver(tmp_path: Path) -> None:
    (tmp_path / "driver.json").write_text("{}")  # of a driver that was killed
    assert not is_driven(tmp_path)
    assert not (tmp_path / "driver.lock").exists()  # looking makes nothing

"""The lease: one holder, under one kernel or several, and a dead one gives way."""

import json
import time
from pathlib import Path

import pytest

from trainables.training.dense_runs import lease as module
from trainables.training.dense_runs.lease import Lease, read_holder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(module, "STALE_SECONDS", 0.2)


def until(held: Lease, seconds: float) -> bool:
    """Whether `held` can be acquired within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if held.acquire():
            return True
        time.sleep(0.02)
    return False


def test_one_holds_it_and_says_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    one, other = Lease(path), Lease(path)
    assert one.acquire()
    assert not until(other, 0.4)  # a held kernel lock never goes stale
    one.say(done=7)
    deadline = time.monotonic() + 10
    while read_holder(path).get("done") != 7 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert read_holder(path)["done"] == 7
    one.release()
    assert read_holder(path) == {}
    assert other.acquire()
    other.release()
    one.release()  # of what is not held: nothing
    assert one.acquire()
    one.release()


def left_behind(path: Path, **changes: object) -> None:
    """As by a process under another kernel, which our lock does not reach."""
    path.write_text(json.dumps({"token": "theirs", "kernel": "another", **changes}))


def test_a_silent_holder_elsewhere_gives_way_whatever_its_clock_says(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    for heartbeat in (0.0, time.time() + 1e6):
        left_behind(path, heartbeat=heartbeat)
        lease = Lease(path)
        assert not lease.acquire()
        assert until(lease, 5)
        lease.release()


def test_a_living_holder_elsewhere_does_not(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    lease = Lease(path)
    for beat in range(25):
        left_behind(path, heartbeat=beat)
        assert not lease.acquire()
        time.sleep(0.02)


def test_a_dead_holder_under_this_kernel_gives_way_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    left_behind(path, kernel=module._kernel(), heartbeat=time.time())
    lease = Lease(path)
    assert lease.acquire()
    lease.release()


def test_without_kernel_locks_the_heartbeat_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    one, other = Lease(tmp_path / "lease"), Lease(tmp_path / "lease")
    assert one.acquire()
    assert not until(other, 0.5)
    one.release()
    assert other.acquire()
    other.release()


def test_who_was_taken_for_dead_leaves_the_new_holder_alone(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    slept = Lease(path)
    assert slept.acquire()
    left_behind(path, heartbeat=1.0)
    time.sleep(0.1)
    assert read_holder(path)["token"] == "theirs"
    slept.release()
    assert read_holder(path)["token"] == "theirs"


def test_a_folder_that_is_not_there_is_an_error_to_hear_of(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Lease(tmp_path / "absent" / "lease").acquire()

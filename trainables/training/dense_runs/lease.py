"""One builder at a time, among processes on one or several hosts, and a dead one gives way."""

import contextlib
import errno
import fcntl
import json
import os
import platform
import threading
import time
import uuid
from pathlib import Path
from typing import Any

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Lease:
    """A file that one process holds at a time; the same object asks again and again.

    Under one kernel the file lock decides, which a killed process cannot leave behind. A holder
    under another kernel, where a network file system may not carry that lock, is recognised by
    its heartbeat in the file. Clocks of two hosts may differ, so it counts as dead only when the
    heartbeat has not changed while we watched for `STALE_SECONDS`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._me = {
            "pid": os.getpid(),
            "host": platform.node(),
            "kernel": _kernel(),
            "token": uuid.uuid4().hex,
        }
        self._said: dict[str, Any] = {}
        self._watched: tuple[object, float] | None = None  # a heartbeat, and since when

    def acquire(self) -> bool:
        """Whether the lease is ours now; never waits. Raises `OSError` where it cannot write."""
        assert self._descriptor is None, "held already"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        held = False
        try:
            carries_locks = _lock(descriptor)
            if carries_locks is None:
                return False
            holder = read_holder(self.path)
            gone = carries_locks and holder.get("kernel") == self._me["kernel"]
            if holder and not gone and not self._is_stale(holder):
                return False
            self._descriptor = descriptor
            self._write()
            held = True
        finally:
            if not held:
                self._descriptor = None
                os.close(descriptor)
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return True

    def say(self, **progress: Any) -> None:
        """What those who wait may read with the next heartbeat."""
        self._said = progress

    def release(self) -> None:
        if self._descriptor is None:
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._is_ours():
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor, self._thread, self._watched = None, None, None

    def _is_stale(self, holder: dict[str, Any]) -> bool:
        beat = (holder.get("token"), holder.get("heartbeat"))
        if self._watched is None or self._watched[0] != beat:
            self._watched = (beat, time.monotonic())
        return time.monotonic() - self._watched[1] >= STALE_SECONDS

    def _is_ours(self) -> bool:
        mine = self._me["token"]
        return bool(read_holder(self.path).get("token", mine) == mine)

    def _beat(self) -> None:
        """Until released, or until another host took us for dead (a machine that slept)."""
        while not self._stop.wait(HEARTBEAT_SECONDS) and self._is_ours():
            with contextlib.suppress(OSError):
                self._write()

    def _write(self) -> None:
        assert self._descriptor is not None
        said = {**self._me, **self._said, "heartbeat": time.time()}
        os.pwrite(self._descriptor, json.dumps(said).ljust(320).encode(), 0)


def read_holder(path: Path) -> dict[str, Any]:
    """Who wrote the file last, and what it said; empty for nobody."""
    try:
        return dict(json.loads(path.read_text() or "{}"))
    except (OSError, ValueError):
        return {}


def _lock(descriptor: int) -> bool | None:
    """True: locked; None: somebody else has it; False: this file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _kernel() -> str:
    """What shares a kernel shares its file locks, whatever the hosts (containers) are called."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()

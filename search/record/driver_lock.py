"""One driver per study and one writer of its runs; a dead one's lock opens by itself."""

import contextlib
import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trainables.errors import UserError

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
_POLL_SECONDS = 0.5
_WRITER_SECONDS = 60.0


class StudyLock:
    """A context that holds `driver.lock` of a study's folder.

    On one host the kernel's file lock decides, which a killed process cannot leave behind. A
    driver on another host, where a network file system may not carry that lock, is recognised
    by its heartbeat in the file and given `STALE_SECONDS` to renew it: a host that was replaced
    costs that wait, of which `say` tells.

    Raises `UserError` on entry while another driver is at work.
    """

    def __init__(
        self, directory: Path, study: str, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._say = say
        self.path = directory / "driver.lock"
        self._study = study
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = read_holder(self.path)
            os.close(descriptor)
            raise self._busy(holder) from None
        except OSError:
            pass  # a file system without locks: the heartbeat decides alone
        holder = read_holder(self.path)
        removed = os.fstat(descriptor).st_nlink == 0  # by a driver that gave its new study up
        if removed or self._lives_elsewhere(holder):
            os.close(descriptor)
            raise self._busy(holder)
        self._descriptor = descriptor
        self._write()
        self._thread = threading.Thread(target=self._beat, name="study-lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _lives_elsewhere(self, holder: dict[str, Any]) -> bool:
        """Whether the holder is on another host and gives a sign of life while we watch."""
        if not holder or holder.get("host") == platform.node():
            return False
        deadline = time.monotonic() + STALE_SECONDS
        if is_fresh(holder):
            self._say(
                f"{self._study!r} was driven from {holder.get('host')} a moment ago: waiting up "
                f"to {STALE_SECONDS:.0f} s for a sign of life"
            )
        while is_fresh(holder) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            if read_holder(self.path).get("heartbeat") != holder.get("heartbeat"):
                return True
        return False

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        assert self._descriptor is not None
        text = json.dumps(
            {"pid": os.getpid(), "host": platform.node(), "heartbeat": time.time()}
        ).ljust(160)
        os.pwrite(self._descriptor, text.encode(), 0)

    def _busy(self, holder: dict[str, Any]) -> UserError:
        who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        return UserError(
            f"a study can have one driver at a time, and {self._study!r} is driven by {who}; "
            "wait for it, stop it, or give this study another --name"
        )


def read_holder(path: Path) -> dict[str, Any]:
    """Who wrote the lock file last; empty for nobody."""
    try:
        return dict(json.loads(path.read_text() or "{}"))
    except (OSError, ValueError):
        return {}


def is_fresh(holder: dict[str, Any]) -> bool:
    """Whether the holder gave a sign of life lately."""
    return bool(time.time() - float(holder.get("heartbeat", 0.0)) < STALE_SECONDS)


def is_driven(path: Path) -> bool:
    """Whether a live driver holds the lock; for `status`, which takes no lock itself."""
    holder = read_holder(path)
    if not holder:
        return False
    if holder.get("host") == platform.node():
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return is_fresh(holder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False
    return is_fresh(holder)


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Waits for the writer of a driver that was killed to end: two would double runs. Raises
    `TimeoutError` where it does not."""
    with path.open("a") as lock:
        deadline = time.monotonic() + _WRITER_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError("the writer of an earlier driver does not end") from None
                time.sleep(0.1)
            except OSError:  # a file system without locks
                break
        yield

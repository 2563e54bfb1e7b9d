"""Folders for local Rays: each goes with its driver, or with the next one where that was killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

_PREFIX = "disparse-"
_LOCK = "driver.lock"
_YOUNG_SECONDS = 60.0  # a folder without a lock may be about to get one


class Scratch:
    """A folder that nobody else takes for abandoned while this process lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR)  # Ray's processes close it
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @classmethod
    def make(cls, max_characters: int) -> Self | None:
        """In the system's temporary folder; None where its path would be longer than that."""
        remove_abandoned()
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if len(str(path)) <= max_characters:
            return cls(path)
        path.rmdir()
        return None

    def remove(self) -> None:
        """Ray leaves its logs and sockets behind, megabytes for every launch."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_abandoned() -> None:
    """What drivers have left that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone just now
            if _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(path: Path) -> bool:
    """Raises `OSError` where it cannot be told."""
    try:
        lock = os.open(path / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        young = time.time() - path.stat().st_mtime < _YOUNG_SECONDS
        return not young and not any(path.iterdir())
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True

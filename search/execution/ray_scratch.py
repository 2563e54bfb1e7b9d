"""Folders for local Rays: each goes with its driver, or with the next one where that was killed."""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

import filelock

_PREFIX = "disparse-"
_LOCK = "driver.lock"
_YOUNG_SECONDS = 60.0  # a folder without a lock may be about to get one


class Scratch:
    """A folder that nobody else takes for abandoned while this process lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = filelock.FileLock(path / _LOCK, timeout=0, fallback_to_soft=False)
        with contextlib.suppress(OSError, NotImplementedError):  # a file system without locks
            self._lock.acquire()

    @classmethod
    def make(cls, max_characters: int) -> Self | None:
        """Make one in the temporary folder; None where its path would be longer than that."""
        remove_abandoned()
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if len(str(path)) <= max_characters:
            return cls(path)
        path.rmdir()
        return None

    def remove(self) -> None:
        """Remove the folder: Ray leaves megabytes of logs and sockets for every launch."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove what drivers have left that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Somebody else's, in use, or gone just now.
        with contextlib.suppress(OSError, NotImplementedError):
            if (path / _LOCK).exists():
                with filelock.FileLock(path / _LOCK, timeout=0, fallback_to_soft=False):
                    shutil.rmtree(path, ignore_errors=True)
            elif time.time() - path.stat().st_mtime > _YOUNG_SECONDS:
                path.rmdir()  # refused unless it is empty

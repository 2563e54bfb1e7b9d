"""One driver per study: a lock that the kernel opens when its holder dies."""

import json
import os
import platform
from pathlib import Path
from typing import Any, Self

import filelock

from trainables.errors import UserError, is_full_disk

_PATIENCE_SECONDS = 1.0  # `is_driven` holds the lock for a moment


class StudyLock:
    """A context that holds `driver.lock` of a study's folder.

    The kernel's file lock decides, over network file systems that carry such locks too; a killed
    process or host leaves none behind. Who holds it is written beside it, in `driver.json`, for
    messages alone.

    Raises `UserError` on entry while another driver is at work, and where the file system has
    no locks.
    """

    def __init__(self, directory: Path, study: str) -> None:
        self._study = study
        self._holder = directory / "driver.json"
        self._lock = filelock.FileLock(directory / "driver.lock", fallback_to_soft=False)

    def __enter__(self) -> Self:
        try:
            self._lock.acquire(timeout=_PATIENCE_SECONDS, poll_interval=0.05)
        except filelock.Timeout:
            holder = _read_holder(self._holder)
            raise UserError(
                f"a study can have one driver at a time, and {self._study!r} is driven by process "
                f"{holder.get('pid', '?')} on {holder.get('host', '?')}; wait for it, stop it, or "
                "give this study another --name"
            ) from None
        except (NotImplementedError, OSError) as error:
            raise UserError(
                f"`--storage` must be on a file system with file locks, got "
                f"{str(self._holder.parent)!r} ({error}); choose another folder"
            ) from None
        try:
            self._holder.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        except OSError as error:
            self._lock.release()
            if is_full_disk(error):
                raise
            raise UserError(
                f"`--storage` must be writable, got {str(self._holder.parent)!r} "
                f"({error.strerror}); choose another folder"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.unlink(missing_ok=True)
        self._lock.release()


def is_driven(directory: Path) -> bool:
    """Return whether a live driver holds the lock of a study's folder."""
    if not _read_holder(directory / "driver.json"):
        return False
    try:
        with filelock.FileLock(directory / "driver.lock", timeout=0, fallback_to_soft=False):
            return False
    except (filelock.Timeout, NotImplementedError, OSError):
        return True


def _read_holder(path: Path) -> dict[str, Any]:
    """Return who wrote `driver.json` last; empty for nobody."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}

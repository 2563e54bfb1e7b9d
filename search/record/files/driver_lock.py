"""One driver per study: a lock that the kernel opens when its holder dies."""

import contextlib
import fcntl
import json
import os
import platform
from pathlib import Path
from typing import Self

import filelock

from search.record.files.study_folder import again
from trainables.errors import UserError, is_full_disk

_PATIENCE_SECONDS = 1.0  # `is_driven` holds the lock for a moment


class StudyLock:
    """A context that holds `driver.lock` of a study's folder.

    The kernel's file lock decides, over network file systems that carry such locks too; a killed
    process or host leaves none behind. Who holds it is written to `driver.json`, for messages.

    Raises `UserError` on entry while another driver is at work, and where no lock can be had.
    """

    def __init__(self, directory: Path, study: str) -> None:
        self._study = study
        self._holder = directory / "driver.json"
        self._lock = filelock.FileLock(directory / "driver.lock", fallback_to_soft=False)

    def __enter__(self) -> Self:
        try:
            self._lock.acquire(timeout=_PATIENCE_SECONDS, poll_interval=0.05)
            self._holder.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        except filelock.Timeout:
            status = again("status", self._study, self._holder.parent.parent)
            raise UserError(
                f"a study can have one driver at a time, and {self._study!r} is driven by "
                f"{_holder_in_words(self._holder)}; `{status}` says how far it is. Wait until it "
                "ends, or end it there by Ctrl-C, which loses nothing; then run the same command "
                "again"
            ) from None
        except (NotImplementedError, OSError) as error:
            self._lock.release()
            if is_full_disk(error):
                raise
            raise UserError(
                f"`--storage` must be a writable folder with file locks, got "
                f"{str(self._holder.parent)!r} ({error}); choose another one"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a disk that went away or became read-only
            self._holder.unlink(missing_ok=True)
        self._lock.release()


def _holder_in_words(path: Path) -> str:
    try:
        known = json.loads(path.read_text())
        return f"process {known['pid']} on {known['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def is_driven(directory: Path) -> bool:
    """Return whether a live driver holds the lock of a study's folder."""
    if not (directory / "driver.json").is_file():
        return False
    try:
        # To read alone: whoever looks at a study may be another user, who cannot write there.
        with (directory / "driver.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True

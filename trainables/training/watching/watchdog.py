"""Ends a process that hangs, which would otherwise hold its share of the machine for ever."""

import contextlib
import faulthandler
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trainables.errors import UserError

_FILE = "silence.txt"
_FIRED = "Timeout ("  # how `faulthandler` begins its dump
_FRAME = re.compile(r'File "(?:.*/)?([^"/]+)", line (\d+) in (\S+)')
_OUR_THREAD = "in train"  # Tune's `Trainable.train` calls `step` in the thread that matters


def check_time_limit(seconds: float | None) -> None:
    """Raise `UserError` for a `--trial-time-limit` that is no time."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise UserError(
            f"`--trial-time-limit` must be above 0, got {seconds:g}; it is in seconds, and 600 "
            "gives a trial ten minutes for every report"
        )


class Watchdog:
    """Limits how long one call may last, after which the process ends at once.

    The timer is a thread in C (`faulthandler`), so that it fires even if a library holds the
    interpreter's lock. It leaves a traceback of all threads in the trial's folder, from which
    `silence_of` tells what happened. There is one timer per process, which runs only one trial.

    directory: the trial's own folder. seconds: None for no limit.
    """

    def __init__(self, directory: Path, seconds: float | None) -> None:
        self._path = directory / _FILE
        self._seconds = seconds
        self._file: IO[str] | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Return a context that ends the process if it lasts longer than the limit."""
        if self._seconds is None:
            yield
            return
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._open())
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def close(self) -> None:
        """Remove the file, because the trial is over or the process takes another one."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _open(self) -> IO[str]:
        """Open the file in advance, because Python cannot run at the limit."""
        if self._file is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                file = self._path.open("w")
                file.write(f"no report within {self._seconds:g} s\n")
                file.flush()
            except OSError:
                return sys.stderr  # with a full disk the limit still works, without an explanation
            self._file = file
        return self._file


def silence_of(directory: Path) -> str:
    """Return why the watchdog ended the trial of this folder; '' if it did not.

    For example 'no report within 60 s (in step, trial.py line 9); see silence.txt in the trial's
    folder'. It is also '' if the watchdog could not write its file.
    """
    try:
        text = (directory / _FILE).read_text(errors="replace")
    except OSError:
        return ""
    if _FIRED not in text:
        return ""
    said = text.splitlines()[0]
    threads = text.partition(_FIRED)[2].split("Thread ")
    ours = [thread for thread in threads if _OUR_THREAD in thread] or threads[-1:]
    frame = _FRAME.search(ours[0])
    place = f" (in {frame[3]}, {frame[1]} line {frame[2]})" if frame else ""
    return f"{said}{place}; see {_FILE} in the trial's folder"

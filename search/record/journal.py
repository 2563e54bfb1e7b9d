"""Optuna's journal in a file: what a killed driver or a full disk leaves of it can be read."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from typing import IO, Any

from optuna.storages.journal import JournalFileBackend


class Journal(JournalFileBackend):
    """Optuna's journal in a file, with whole lines alone. While a driver is at work, other tools
    may read it.

    Deviations from Optuna's (5.0). A line that a full disk or a killed process left unfinished is
    removed before the next one, where Optuna would write on behind it and never read the file
    again. The lock ends with the process that holds it, instead of after thirty seconds. And
    nobody waits for the disk, `flush` aside: what is written outlives its process, and a host that
    loses its power loses the lines since then, whose trials run once more.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Raises OSError where the disk does not take them all; none is there then."""
        data = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        # Appended by the kernel: never over what somebody else wrote meanwhile.
        with open(self._path, "a+b", buffering=0) as file, _locked(file):
            end = _end_of_lines(file)
            written = file.write(data)
            if written != len(data):
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise OSError(f"no space left for {self._path!r}")

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        with open(self._path, "rb") as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)
    yield  # closing the file ends it


def _end_of_lines(file: IO[bytes]) -> int:
    """Cuts off what follows the last whole line, and returns where that ends."""
    while True:
        end = file.seek(0, os.SEEK_END)
        start = _start_of_last_line(file, end)
        file.seek(start)
        if start == end or _is_whole(file.read(end - start)):
            return end
        file.truncate(start)


def _start_of_last_line(file: IO[bytes], end: int) -> int:
    """Which may lack its newline; `end` is the size of the file."""
    place = end - 1  # its own newline does not count
    while place > 0:
        step = min(place, 4096)
        file.seek(place - step)
        found = file.read(step).rfind(b"\n")
        if found >= 0:
            return place - step + found + 1
        place -= step
    return 0


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")

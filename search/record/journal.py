"""Optuna's journal in a file: what a killed driver or a full disk leaves of it can be read."""

import contextlib
import fcntl
import json
import mmap
import os
from typing import IO, Any

from optuna.storages.journal import JournalFileBackend


class Journal(JournalFileBackend):
    """Optuna's journal in a file, with whole lines alone; other tools may read it at any time.

    Deviations from Optuna's (5.0). A line that a full disk or a killed process left unfinished is
    removed before the next one, where Optuna would never read the file again. The lock ends with
    the process that holds it. And nobody waits for the disk, `flush` aside: a host that loses its
    power loses the lines since then, whose trials run once more.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines: all of them or none. Raises OSError where the disk is full."""
        data = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        # Appended by the kernel: never over what somebody else wrote meanwhile.
        with open(self._path, "a+b", buffering=0) as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            end = _end_of_lines(file)
            if file.write(data) != len(data):
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise OSError(f"no space left for {self._path!r}")

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        with open(self._path, "rb") as file:
            os.fsync(file.fileno())


def _end_of_lines(file: IO[bytes]) -> int:
    """Cut off what follows the last whole line, and return where that ends."""
    size = end = file.seek(0, os.SEEK_END)
    if size:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.rfind(b"\n", 0, end - 1) + 1
            while end and not _is_whole(content[start:end]):
                end, start = start, content.rfind(b"\n", 0, max(0, start - 1)) + 1
    if end != size:
        file.truncate(end)
    return end


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")

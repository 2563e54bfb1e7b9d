"""Files of lines: what a killed driver or a full disk leaves can be read, and damage is named."""

import contextlib
import fcntl
import functools
import logging
import os
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import BaseJournalBackend

from trainables.errors import UserError
from trainables.integrity.checksums import is_unfinished, read_line, sealed_line

_TAIL_BYTES = 1 << 16

logger = logging.getLogger(__name__)


class Journal(BaseJournalBackend):
    """Optuna's journal in a file; other tools may read it, and append to it, at any time.

    Deviations from Optuna's own (5.0). Every line has a checksum. A line that a full disk or a
    killed process left unfinished is removed before the next one, where Optuna would never read
    the file again. The lock ends with the process that holds it. And nobody waits for the disk,
    `flush` aside: a host that loses its power loses the lines since then, whose trials run once
    more. A damaged line raises `UserError`: what follows it counts on it.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        if not self._path.exists():  # one that others keep may be theirs to write alone
            self._path.open("ab").close()
        self._read = (0, 0)  # lines, and where they end

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the lines from that number on. Raises `UserError` for a damaged one."""
        number, start = self._read if self._read[0] <= log_number_from else (0, 0)
        for values, end in lines_of(self._path, start):
            number += 1
            if isinstance(values, ValueError):
                later = ", and later ones build on it" if end < self._path.stat().st_size else ""
                raise UserError(
                    f"line {number} of {str(self._path)!r} is damaged ({values}){later}; restore "
                    "the file from a copy. What `trials.parquet` beside it holds stays usable: by "
                    "`analysis`, and for a new study by --warm-start"
                )
            self._read = (number, end)
            if number > log_number_from:
                yield values

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines: all of them or none. Raises OSError where the disk is full."""
        append_lines(self._path, logs)

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())


def lines_of(
    path: Path, start: int = 0
) -> Generator[tuple[dict[str, Any] | ValueError, int], None, None]:
    """Yield each line after `start` bytes, or what is wrong with it, and where it ends.

    A last line that is still being written is none, nor one that was cut short, with a word.
    """
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            start += len(line)
            found: dict[str, Any] | ValueError
            try:
                if not line.endswith(b"\n"):
                    if is_unfinished(line):
                        _say_cut(path, start - len(line), start)
                        return
                    raise ValueError("its newline is gone")
                found = read_line(line)
            except ValueError as error:
                found = error
            yield found, start


def _say_cut(path: Path, begin: int, end: int) -> None:
    """Warn of a last line that was cut short, unless somebody is writing it."""
    with contextlib.suppress(OSError), path.open("rb") as file:  # no locks, or it is written to
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if file.seek(0, os.SEEK_END) == end:
            _warn_of_cut(path, end - begin)


@functools.cache  # once in a process
def _warn_of_cut(path: Path, num_bytes: int) -> None:
    logger.warning(
        "%s: its last line was cut short, as by a full disk or a killed driver; its %d bytes are "
        "left out, the rest is used",
        path,
        num_bytes,
    )


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append lines with their checksums, all or none. Raises OSError where the disk is full."""
    data = b"".join(map(sealed_line, lines))
    # Appended by the kernel: never over what somebody else wrote meanwhile.
    with open(path, "a+b", buffering=0) as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        end = _end_of_lines(file)
        if file.write(data) != len(data):
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise OSError(f"no space left for {str(path)!r}")


def _end_of_lines(file: IO[bytes]) -> int:
    """Cut off what follows the last newline, unless that is damaged, and return where it ends."""
    size = start = file.seek(0, os.SEEK_END)
    rest = b""
    while start and b"\n" not in rest:
        start = max(0, start - _TAIL_BYTES)
        file.seek(start)
        rest = file.read(size - start)
    rest = rest[rest.rfind(b"\n") + 1 :]
    if rest and not is_unfinished(rest):
        file.write(b"\n")  # the damaged line ends, and is found when it is read
        return size + 1
    if rest:
        file.truncate(size - len(rest))
    return size - len(rest)

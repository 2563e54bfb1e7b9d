"""Optuna's storage: a journal that a killed driver cannot hurt, or a database that may be restarted
while a study runs."""

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from typing import IO, Any

import optuna
from optuna.storages.journal import JournalFileBackend

from search.addresses import damaged_journal, journal_file

PATIENCE_SECONDS = 120.0
_RETRY_SECONDS = 1.0
_CONNECT_SECONDS = 10
_WITH_TIMEOUT = ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")

logger = logging.getLogger(__name__)


def open_storage(address: str) -> optuna.storages.BaseStorage:
    """For `optuna.create_study` and `optuna.load_study`.

    A journal is a file of lines, one for every change: written in a fraction of the time of a
    transaction of SQLite, and safe on a network file system, which SQLite is not.

    A server's connections are tried before they are used. Where one broke, a new one is made,
    for which a server that is away is waited for, `PATIENCE_SECONDS` long: trials go on
    meanwhile, and only a transaction that was under way at that very moment fails.

    Raises what SQLAlchemy raises where the server does not answer at once, this first time;
    OSError for a journal that cannot be made, and `UserError` for a damaged one.
    """
    path = journal_file(address)
    if path is not None:
        try:
            return optuna.storages.JournalStorage(Journal(str(path)))
        except (ValueError, KeyError) as error:  # of JSON, and of what a line lacks
            raise damaged_journal(path) from error
    if address.startswith("sqlite"):
        return optuna.storages.get_storage(address)  # a file, which nobody restarts
    from sqlalchemy import event

    engine: dict[str, Any] = {"pool_pre_ping": True}
    if address.partition("://")[0] in _WITH_TIMEOUT and "connect_timeout" not in address:
        # Else a server that takes a connection and says nothing is waited for without end.
        engine["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    storage = optuna.storages.RDBStorage(address, engine_kwargs=engine)
    event.listen(storage.engine, "do_connect", _connect)
    return storage


class Journal(JournalFileBackend):
    """Optuna's journal in a file, with whole lines alone. While a driver is at work, other tools
    may read it.

    Deviations from Optuna's (5.0). A line that a full disk or a killed process left unfinished is
    removed before the next one, where Optuna would write on behind it and never read the file
    again. The lock ends with the process that holds it, instead of after thirty seconds. And
    nobody waits for the disk, `flush` aside: what is written outlives its process, and a host that
    loses its power loses the lines since then, whose trials run once more.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Raises OSError where the disk does not take them all; none is there then."""
        data = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        # Appended by the kernel: never over what somebody else wrote meanwhile.
        with open(self._file_path, "a+b", buffering=0) as file, _locked(file):
            end = _end_of_lines(file)
            written = file.write(data)
            if written != len(data):
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise OSError(f"no space left for {self._file_path!r}")

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        with open(self._file_path, "rb") as file:
            os.fsync(file.fileno())


def flush(storage: optuna.storages.BaseStorage) -> None:
    """Have the record on the disk; a database has it there already."""
    if isinstance(storage, optuna.storages.JournalStorage):
        backend = storage._backend
        if isinstance(backend, Journal):
            backend.flush()


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


def _connect(dialect: Any, record: Any, arguments: Any, settings: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    said = False
    while True:
        try:
            return dialect.connect(*arguments, **settings)
        except dialect.loaded_dbapi.OperationalError as error:
            if time.monotonic() >= deadline:
                raise
            if not said:
                said = True
                line = str(error).strip().splitlines()[0]
                logger.warning(
                    "the study storage is away (%s): waiting up to %.0f s", line, PATIENCE_SECONDS
                )
            time.sleep(_RETRY_SECONDS)

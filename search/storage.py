"""Optuna's storage: a journal that a killed driver cannot hurt, or a database that may be restarted
while a study runs."""

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

import optuna
from optuna.storages.journal import JournalFileBackend

from search.addresses import journal_file

PATIENCE_SECONDS = 120.0
_RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


def open_storage(address: str) -> optuna.storages.BaseStorage:
    """For `optuna.create_study` and `optuna.load_study`.

    A journal is a file of lines, one for every change: written in a fraction of the time of a
    transaction of SQLite, and safe on a network file system, which SQLite is not.

    A server's connections are tried before they are used. Where one broke, a new one is made,
    for which a server that is away is waited for, `PATIENCE_SECONDS` long: trials go on
    meanwhile, and only a transaction that was under way at that very moment fails.

    Raises what SQLAlchemy raises where the server does not answer at once, this first time, and
    OSError for a journal that cannot be made.
    """
    path = journal_file(address)
    if path is not None:
        return optuna.storages.JournalStorage(Journal(str(path)))
    if address.startswith("sqlite"):
        return optuna.storages.get_storage(address)  # a file, which nobody restarts
    from sqlalchemy import event

    storage = optuna.storages.RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
    event.listen(storage.engine, "do_connect", _connect)
    return storage


class Journal(JournalFileBackend):
    """Optuna's journal in a file, with whole lines alone.

    Deviations from Optuna's (5.0). A line that a full disk or a killed process left unfinished is
    removed before the next one, where Optuna would write on behind it and never read the file
    again. The lock ends with the process that holds it, instead of after thirty seconds. And
    nobody waits for the disk: what is written outlives its process, and a host that loses its
    power loses lines of the last milliseconds, whose trials then run once more.

    Raises OSError where the disk did not take a line, this one or one before.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._syncing: _Syncing | None = None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._syncing is None:
            self._syncing = _Syncing(self._file_path)
        data = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with open(self._file_path, "r+b", buffering=0) as file, _locked(file):
            end = _end_of_lines(file)
            try:
                if file.write(data) != len(data):
                    raise OSError(f"no space left for {self._file_path!r}")
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
        self._syncing.wanted()


class _Syncing:
    """Has what was written to a file put on the disk, by a thread of its own: many lines at once
    where the disk is slow."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._dirty = threading.Event()
        self._problem: OSError | None = None
        threading.Thread(target=self._run, name="journal", daemon=True).start()

    def wanted(self) -> None:
        """Raises what went wrong before."""
        self._dirty.set()
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def _run(self) -> None:
        while self._dirty.wait():
            self._dirty.clear()
            try:
                with open(self._path, "rb") as file:
                    os.fsync(file.fileno())
            except OSError as error:
                self._problem = error


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)
    yield  # closing the file ends it


def _end_of_lines(file: IO[bytes]) -> int:
    """Positions `file` after its last whole line, cuts off what follows, and returns where."""
    end = file.seek(0, os.SEEK_END)
    place = end
    while place:
        step = min(place, 4096)
        file.seek(place - step)
        found = file.read(step).rfind(b"\n")
        if found >= 0:
            place += found + 1 - step
            break
        place -= step
    if place < end:
        file.truncate(place)
    return file.seek(place)


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

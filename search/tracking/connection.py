"""Opens MLflow for a study: one creator of its tables at a time, an answer within a minute."""

import contextlib
import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from search.record.addresses import sqlite_file

EXPERIMENT = "disparse"

_CONNECT_SECONDS = 60.0  # a new SQLite file takes seconds for its tables, more on a busy disk
_ATTEMPTS = 3

T = TypeVar("T")


def open_client(uri: str, artifacts: Path) -> tuple[MlflowClient, str]:
    """The client and the experiment of all studies; `artifacts` is where files go when `uri` is a
    database. Raises what MLflow raises, or `TimeoutError`."""
    # MLflow's own retries last minutes; ours, in `StudyRuns`, know when to stop.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

    def attempt() -> tuple[MlflowClient, str]:
        _check_login(uri)
        with _sole_creator(uri):
            client = MlflowClient(tracking_uri=uri)
            return client, _experiment(client, uri, artifacts)

    return _within(_CONNECT_SECONDS, attempt)


def _check_login(uri: str) -> None:
    """A wrong password is refused at once here; MLflow would ask again for minutes."""
    if uri.startswith(("http:", "https:", "sqlite:")):
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect():
            pass
    finally:
        engine.dispose()


@contextlib.contextmanager
def _sole_creator(uri: str) -> Iterator[None]:
    """Of two processes that create the tables of one SQLite file, one would fail."""
    path = sqlite_file(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks: `_experiment` retries
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _experiment(client: MlflowClient, uri: str, artifacts: Path) -> str:
    # A server keeps artifacts in its own place; beside a database there is nobody to do so.
    location = None if uri.startswith("http") else artifacts.as_uri()
    for attempt in range(_ATTEMPTS):
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException:  # another study was first
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.5)
    raise AssertionError("unreachable")


def _within(seconds: float, attempt: Callable[[], T]) -> T:
    """The attempt's result; MLflow retries a dead database for minutes, so it runs apart."""
    outcome: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            outcome.put((attempt(), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=run, name="tracking-connect", daemon=True).start()
    try:
        result, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return cast(T, result)

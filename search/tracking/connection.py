"""Opens MLflow for a study: one creator of its tables at a time, an answer within a minute."""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import filelock
import tenacity
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from search.record.addresses import sqlite_file
from trainables.command_line import masked
from trainables.errors import UserError
from trainables.report import TAG_STUDY

EXPERIMENT = "disparse"
_CONNECT_SECONDS = 60.0  # a new SQLite file takes seconds for its tables, more on a busy disk

T = TypeVar("T")


def open_client(uri: str, artifacts: Path) -> tuple[MlflowClient, str]:
    """Return the client and the experiment of all studies.

    artifacts: where files go when `uri` is a database; a server keeps them in its own place.
    Raises what MLflow raises, or `TimeoutError`.
    """
    # MLflow's own retries last minutes; a projection calls again by itself.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

    def attempt() -> tuple[MlflowClient, str]:
        _check_login(uri)
        with _sole_creator(uri):
            client = MlflowClient(tracking_uri=uri)
            return client, _experiment(client, uri, artifacts)

    return _within(_CONNECT_SECONDS, attempt)


def fetch_record(uri: str, study: str, folder: Path) -> Path:
    """Download the record that MLflow keeps of a study; return the folder that holds it.

    Raises `UserError` where MLflow does not answer or keeps no record of such a study.
    """
    path = sqlite_file(uri)
    try:
        if path is not None and not path.is_file():  # MLflow would make one
            raise FileNotFoundError("no such file")
        client = MlflowClient(tracking_uri=uri)
        found = client.search_runs(
            [e.experiment_id for e in client.search_experiments()],
            f"tags.`{TAG_STUDY}` = '{study}' and tags.`disparse.kind` = 'study'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not found:
            raise FileNotFoundError(f"it knows no study {study!r}")
        return Path(client.download_artifacts(found[0].info.run_id, "record", str(folder)))
    except (MlflowException, OSError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(
            f"the record of {study!r} must be found in MLflow, got {masked(uri)!r} "
            f"({masked(said)}); check the name and --tracking-uri"
        ) from None


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
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        yield


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(MlflowException),  # another study was first
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_fixed(0.5),
    reraise=True,
)
def _experiment(client: MlflowClient, uri: str, artifacts: Path) -> str:
    location = None if uri.startswith("http") else artifacts.as_uri()
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(EXPERIMENT, artifact_location=location))


def _within(seconds: float, attempt: Callable[[], T]) -> T:
    """The attempt's result; MLflow retries a dead database for minutes, so it runs apart."""
    outcome: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            outcome.put((attempt(), None))
        except Exception as error:
            outcome.put((None, error))

    # A daemon: the interpreter does not wait for it at its end, as it does for an executor's.
    threading.Thread(target=run, name="tracking-connect", daemon=True).start()
    try:
        result, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return cast(T, result)

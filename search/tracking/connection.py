"""Opens MLflow for a study: one creator of its tables at a time, a server's answer in a minute.

And says of what MLflow raises later whether to ask again.
"""

import contextlib
import os
import threading
from concurrent.futures import Future
from pathlib import Path

import filelock
import requests
import tenacity
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from search.record.storage import check_server, is_broken_connection
from trainables.addresses import ARTIFACTS, first_line, left_behind, local_file
from trainables.errors import is_full_disk

EXPERIMENT = "disparse"
_CONNECT_SECONDS = 60.0
_FILE_FACTOR = 5  # a new SQLite file takes seconds for its tables, minutes on a busy machine


def open_client(uri: str, artifacts: Path) -> tuple[MlflowClient, str]:
    """Return the client and the experiment of all studies.

    artifacts: where files go when `uri` is a database on a server; those of a SQLite file go
    beside it. Raises as MLflow does, `UserError` for a database of another program, and
    `TimeoutError`.
    """
    # MLflow's own retries last minutes; a projection calls again by itself.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    opened: Future[tuple[MlflowClient, str]] = Future()

    def attempt() -> None:
        try:
            if not uri.startswith(("http:", "https:", "sqlite:")):
                # A wrong password is refused at once here; MLflow would ask again for minutes.
                check_server("--tracking-uri", uri)
            with contextlib.ExitStack() as stack:
                path = local_file(uri, "sqlite")
                if path is not None:  # of two that create the tables of a file, one would fail
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.open("ab").close()  # of a file that cannot be, MLflow asks for minutes
                    stack.enter_context(filelock.FileLock(path.with_name(f".{path.name}.lock")))
                client = MlflowClient(tracking_uri=uri)
                opened.set_result((client, _experiment(client, uri, artifacts)))
        except Exception as error:
            opened.set_exception(error)

    # A daemon: MLflow asks a dead database for minutes, and the interpreter's end waits for an
    # executor's threads.
    threading.Thread(target=attempt, name="tracking-connect", daemon=True).start()
    seconds = _CONNECT_SECONDS * (1 if local_file(uri, "sqlite") is None else _FILE_FACTOR)
    try:
        return opened.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {seconds:.0f} s") from None


# MLflow's UI opens an experiment of this kind on its runs. Since 3.17 it goes by the user's switch
# instead, which is at language models until it is set to model training.
TAG_EXPERIMENT_KIND = "mlflow.experimentKind"
_KIND = "custom_model_development"


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(MlflowException),  # another study was first
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_fixed(0.5),
    reraise=True,
)
def _experiment(client: MlflowClient, uri: str, artifacts: Path) -> str:
    path = local_file(uri, "sqlite")
    artifacts = artifacts if path is None else path.parent / ARTIFACTS
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None and found.lifecycle_stage != LifecycleStage.ACTIVE:
        client.restore_experiment(found.experiment_id)  # somebody deleted it, with all its runs
    left = None if found is None else left_behind(uri, str(found.artifact_location))
    if found is not None and left is not None:
        # The file was moved or copied: the experiment's place for files is not its own any more.
        # It is put aside, and the record projected anew; one that was put aside here comes back.
        client.rename_experiment(found.experiment_id, f"{EXPERIMENT} at {left}")
        found = client.get_experiment_by_name(f"{EXPERIMENT} at {artifacts.parent}")
        if found is not None:
            client.rename_experiment(found.experiment_id, EXPERIMENT)
    if found is None:
        location = None if uri.startswith("http") else artifacts.as_uri()
        tags = {TAG_EXPERIMENT_KIND: _KIND}
        return str(client.create_experiment(EXPERIMENT, artifact_location=location, tags=tags))
    if TAG_EXPERIMENT_KIND not in found.tags:  # what somebody chose in the UI stays
        client.set_experiment_tag(found.experiment_id, TAG_EXPERIMENT_KIND, _KIND)
    return str(found.experiment_id)


def is_passing(error: BaseException) -> bool:
    """Whether waiting may help: a refused value will be refused again."""
    if isinstance(error, MlflowException):
        # MLflow calls a connection that broke in the database's driver a bad request. Only the
        # first line of a server's answer says so: values, which are anything, follow.
        if error.error_code == "BAD_REQUEST":
            cause = error.__cause__
            if isinstance(cause, SQLAlchemyError):
                return is_broken_connection(cause)
            return "connect" in first_line(error).lower()
        return error.error_code not in (
            "INVALID_PARAMETER_VALUE",
            "RESOURCE_DOES_NOT_EXIST",
            "RESOURCE_ALREADY_EXISTS",
        )
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code == 429 or error.response.status_code >= 500
    passing = (requests.RequestException, ConnectionError, TimeoutError)
    return isinstance(error, passing) or is_full_disk(error) or is_broken_connection(error)

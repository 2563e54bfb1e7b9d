"""Opening MLflow, and what it keeps of a study's record."""

import shutil
import socket
import sqlite3
import time
from pathlib import Path

import pytest
from alembic.util import CommandError
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from search.record.files.study_folder import read_json
from search.record.files.trials_table import num_recorded, write_trials
from search.tracking import connection
from search.tracking.connection import _experiment, open_client
from tests.search.tracking.mlflow_files import LENGTHS, Recorded, project
from trainables.addresses import file_address, refused


def test_where_databases_keep_artifacts_and_that_servers_see_to_it(tmp_path: Path) -> None:
    created = []

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(
            self, name: str, artifact_location: str | None, tags: dict[str, str]
        ) -> str:
            # The UI opens an experiment of this kind on its runs.
            assert tags == {"mlflow.experimentKind": "custom_model_development"}
            created.append(artifact_location)
            return "1"

    for address in ("sqlite:////a%20b/x.db", "postgresql://h/x", "http://h:5000"):
        _experiment(Client(), address, tmp_path)  # type: ignore[arg-type]
    assert created == ["file:///a%20b/mlartifacts", tmp_path.as_uri(), None]


@pytest.mark.parametrize("kind", [None, "genai_development"])
def test_an_experiment_without_a_kind_gets_one_and_one_of_another_keeps_it(
    kind: str | None, tmp_path: Path
) -> None:
    address = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(tracking_uri=address)
    tags = {} if kind is None else {"mlflow.experimentKind": kind}
    place = (tmp_path / "mlartifacts").as_uri()
    made = client.create_experiment(connection.EXPERIMENT, artifact_location=place, tags=tags)
    assert _experiment(client, address, tmp_path) == made
    found = client.get_experiment(made).tags["mlflow.experimentKind"]
    assert found == (kind or "custom_model_development")


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="no answer within 1 s"):
            open_client(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
        assert time.monotonic() - began < 5.0


def test_the_record_is_kept_with_the_study(tmp_path: Path, uri: str) -> None:
    study = Recorded(tmp_path / "theirs", name="old")
    for method in ("snip", "rigl"):
        study.whole(method, params=LENGTHS)
    projection = project(study, uri)
    projection.update()
    write_trials(study.files.trials, "old", study.record.trials())
    projection.send_files()
    changes = projection.num_changes
    projection.send_files()
    assert projection.num_changes == changes  # it is there

    def kept() -> Path:
        folder = MlflowClient(uri).download_artifacts(projection.parent_run_id, "record")
        return Path(folder)

    assert read_json(kept() / "study.json") == read_json(study.files.description)
    assert num_recorded(kept() / "trials.parquet", "old") == 2
    # As it stands: what has changed since is sent anew.
    study.whole("set", params=LENGTHS)
    write_trials(study.files.trials, "old", study.record.trials())
    projection.close(finished=True)
    assert num_recorded(kept() / "trials.parquet", "old") == 3


def test_the_experiment_is_one_for_all_studies(tmp_path: Path, uri: str) -> None:
    first = open_client(uri, tmp_path / "a")
    second = open_client(uri, tmp_path / "b")
    assert first[1] == second[1]
    found = MlflowClient(uri).get_experiment(first[1])
    assert (found.name, found.artifact_location) == (
        "disparse",
        (tmp_path / "mlartifacts").as_uri(),
    )


def test_a_deleted_experiment_is_restored(tmp_path: Path, uri: str) -> None:
    _, experiment = open_client(uri, tmp_path)
    MlflowClient(uri).delete_experiment(experiment)
    assert open_client(uri, tmp_path)[1] == experiment
    assert MlflowClient(uri).get_experiment(experiment).lifecycle_stage == "active"


def test_an_experiment_of_a_users_own_place_is_used(tmp_path: Path, uri: str) -> None:
    made = MlflowClient(uri).create_experiment("disparse", artifact_location="s3://bucket/x")
    assert open_client(uri, tmp_path)[1] == made


def test_a_database_of_another_release_is_told_how_to_mend(tmp_path: Path, uri: str) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises((MlflowException, CommandError)) as caught:
        open_client(uri, tmp_path)
    said = str(refused("--tracking-uri", uri, caught.value))
    assert "another release of MLflow or Optuna made it" in said
    assert "mlflow db upgrade" in said


def test_a_moved_database_gets_an_experiment_of_its_place_and_back(
    tmp_path: Path, uri: str
) -> None:
    kept = MlflowClient(uri)
    _, first = open_client(uri, tmp_path)
    (tmp_path / "new%").mkdir()
    moved = file_address(
        "sqlite", shutil.copyfile(tmp_path / "mlflow.db", tmp_path / "new%" / "mlflow.db")
    )
    client, second = open_client(moved, tmp_path)
    assert open_client(moved, tmp_path)[1] == second != first
    places = {e.name: e.artifact_location for e in client.search_experiments()}
    assert places["disparse"] == (tmp_path / "new%" / "mlartifacts").as_uri()
    assert places[f"disparse at {tmp_path}"] == (tmp_path / "mlartifacts").as_uri()
    assert [e.name for e in kept.search_experiments()] == ["disparse", "Default"]
    # Another link to the file stands for the way back.
    (tmp_path / "back.db").hardlink_to(tmp_path / "new%" / "mlflow.db")
    back = open_client(f"sqlite:///{tmp_path}/back.db", tmp_path)
    assert back[1] == first

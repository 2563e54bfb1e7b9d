"""Opening MLflow, and what it keeps of a study's record."""

import socket
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from search.record.study_folder import read_json
from search.record.trials_table import num_recorded, write_trials
from search.tracking import connection
from search.tracking.connection import _experiment, fetch_record, open_client
from tests.search.tracking.mlflow_files import Recorded, project
from trainables.errors import UserError

LENGTHS = {"training": {"steps": 300, "pretrain_steps": 0}}


def test_databases_keep_artifacts_beside_the_studies_and_servers_do_not(tmp_path: Path) -> None:
    created = []

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str, artifact_location: str | None) -> str:
            created.append(artifact_location)
            return "1"

    for address in ("sqlite:///x.db", "postgresql://h/x", "http://h:5000"):
        _experiment(Client(), address, tmp_path)  # type: ignore[arg-type]
    assert created == [tmp_path.as_uri(), tmp_path.as_uri(), None]


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="no answer within 1 s"):
            open_client(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
        assert time.monotonic() - began < 5.0


def test_the_record_is_kept_with_the_study_and_can_be_fetched(tmp_path: Path, uri: str) -> None:
    study = Recorded(tmp_path / "theirs", name="old")
    for method in ("snip", "rigl"):
        study.whole(method, params=LENGTHS)
    projection = project(study, uri)
    projection.update()
    with pytest.raises(UserError, match="the record of 'old' must be found in MLflow"):
        fetch_record(uri, "old", tmp_path)  # nothing was sent yet
    write_trials(study.files.trials, "old", study.record.trials())
    projection.send_record()
    changes = projection.num_changes
    projection.send_record()
    assert projection.num_changes == changes  # it is there
    (tmp_path / "ours").mkdir()
    fetched = fetch_record(uri, "old", tmp_path / "ours")
    assert fetched.is_relative_to(tmp_path / "ours")
    assert read_json(fetched / "study.json") == read_json(study.files.description)
    assert num_recorded(fetched / "trials.parquet") == 2
    # As it stands: what has changed since is sent anew.
    study.whole("set", params=LENGTHS)
    write_trials(study.files.trials, "old", study.record.trials())
    projection.close(finished=True)
    again = fetch_record(uri, "old", tmp_path / "ours")
    assert num_recorded(again / "trials.parquet") == 3


def test_of_two_studies_of_a_name_the_newer_is_fetched(tmp_path: Path, uri: str) -> None:
    for study_id in ("1f", "2f"):
        study = Recorded(tmp_path / study_id, study_id=study_id)
        study.whole(params=LENGTHS)
        write_trials(study.files.trials, "s", study.record.trials())
        project(study, uri).close(finished=True)
        time.sleep(0.01)  # they begin at different milliseconds
    fetched = fetch_record(uri, "s", tmp_path)
    assert read_json(fetched / "study.json")["study_id"] == "2f"


def test_what_mlflow_does_not_know_is_a_users_mistake(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"it knows no study 'nobody'\); check the name and --tr"):
        fetch_record(uri, "nobody", tmp_path)
    missing = tmp_path / "absent" / "mlflow.db"
    with pytest.raises(UserError, match=r"\(no such file\); check the name and --tracking-uri"):
        fetch_record(f"sqlite:///{missing}", "old", tmp_path)
    assert not missing.parent.exists()  # it is not made


def test_the_experiment_is_one_for_all_studies(tmp_path: Path, uri: str) -> None:
    first = open_client(uri, tmp_path / "a")
    second = open_client(uri, tmp_path / "b")
    assert first[1] == second[1]
    found = MlflowClient(uri).get_experiment(first[1])
    assert (found.name, found.artifact_location) == ("disparse", (tmp_path / "a").as_uri())

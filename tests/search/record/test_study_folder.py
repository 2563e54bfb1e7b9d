"""Files that are complete or absent, in folders that can be written."""

from pathlib import Path

import pytest

from search.record.files.study_folder import (
    again,
    append_json_line,
    read_json,
    read_json_lines,
    study_files,
    write_json,
)
from tests.trainables.test_checksums import flipped, some_bits
from trainables.errors import UserError
from trainables.terminal.answers import require_writable
from trainables.terminal.as_typed import python


def test_storage_must_be_a_folder_that_can_be_written(tmp_path: Path) -> None:
    for address in ("s3://b", f"file://{tmp_path}"):
        with pytest.raises(UserError, match="must be the path of a folder, not an address, got"):
            study_files(address, "s")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="`--storage` must be writable"):
        require_writable(study_files(str(blocked), "s").directory, "--storage")
    require_writable(study_files(str(tmp_path / "new"), "s").directory, "--storage")
    assert list((tmp_path / "new" / "s").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["mlflow.db", "mlflow.db-wal", "mlartifacts", "data", ".dense", "../x", ""]
)
def test_a_study_is_a_folder_of_its_own_in_the_storage(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="a study's name must"):
        study_files(str(tmp_path), name)


def test_the_recommended_command_names_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert again("resume", "s", "runs") == f"{python()} -m search resume s"
    assert again("resume", "s", tmp_path / "my") == f"{python()} -m search resume s --storage my"
    assert again("resume", "s", "/mnt") == f"{python()} -m search resume s --storage /mnt"


def test_json_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 2]})
    assert read_json(path) == {"a": [1, 2]}
    assert list(tmp_path.iterdir()) == [path]
    path.write_text("{")
    with pytest.raises(UserError, match="must hold one JSON object"):
        read_json(path)
    with pytest.raises(UserError, match="No such file"):
        read_json(tmp_path / "y.json")


def test_a_report_cut_short_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "trials" / "reports.jsonl"
    assert read_json_lines(path) == []
    append_json_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "met')  # killed here
    append_json_line(path, {"step": 3})
    assert read_json_lines(path) == [{"step": 1}, {"step": 3}]


def test_a_damaged_report_costs_only_itself_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in range(5):
        append_json_line(tmp_path / "good", {"step": step, "metrics": {"val/x": step / 7}})
    data, rows = (tmp_path / "good").read_bytes(), read_json_lines(tmp_path / "good")
    for number, changed in enumerate(flipped(data, some_bits(data, 200))):
        path = tmp_path / str(number)
        path.write_bytes(changed)
        caplog.clear()
        found = [{k: row.get(k) for k in ("step", "metrics")} for row in read_json_lines(path)]
        assert all(row in rows for row in found)
        assert len(found) >= 3  # a newline in the midst takes two with it
        lost = [record.getMessage() for record in caplog.records]
        assert bool(lost) == (found != rows)
        assert all(f"{path}: left out, since damaged: line" in said for said in lost)

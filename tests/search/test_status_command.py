"""Check `python -m search status`: one study, or all of a storage folder."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from search.__main__ import app
from search.record import study_status
from search.record.study_status import all_studies
from trainables.errors import UserError


def invoke(*arguments: str) -> tuple[int, str]:
    shown = CliRunner().invoke(app, ["status", *arguments])
    return shown.exit_code, shown.stdout


def test_a_storage_without_studies_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs"
    monkeypatch.chdir(tmp_path)
    assert invoke() == (0, "no study in 'runs'\n")  # nothing has been run here
    with pytest.raises(UserError, match="must be a folder that exists, got"):
        all_studies(str(folder))
    assert not folder.exists()  # asking makes nothing
    (folder / "data").mkdir(parents=True)  # a folder of frames is no study
    assert invoke("--storage", str(folder)) == (0, f"no study in {str(folder)!r}\n")


def test_a_damaged_study_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "study.json").write_text("{")
    code, said = invoke("--storage", str(tmp_path), "--json")
    assert code == 0
    assert "study.json" in json.loads(said)["studies"]["torn"]
    code, said = invoke("--storage", str(tmp_path))
    assert said.startswith("torn: ")
    assert len(said.splitlines()) == 1


def test_a_study_that_may_not_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(storage: str, name: str) -> None:
        raise PermissionError(13, "Permission denied", f"{name}/study.json")

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").touch()
    monkeypatch.setattr(study_status, "study_status", denied)
    code, said = invoke("--storage", str(tmp_path))
    assert code == 0
    assert [line[:25] for line in said.splitlines()] == [
        "a: [Errno 13] Permission ",
        "b: [Errno 13] Permission ",
    ]


@pytest.mark.parametrize("form", [["--json"], ["--json", "-"], ["--json", "-q"]])
def test_json_alone_prints(form: list[str], tmp_path: Path) -> None:
    assert json.loads(invoke("--storage", str(tmp_path), *form)[1]) == {"studies": {}}


def test_json_into_a_file(tmp_path: Path) -> None:
    code, said = invoke("--storage", str(tmp_path), "--json", str(tmp_path / "found.json"))
    assert (code, said) == (0, f"no study in {str(tmp_path)!r}\n")
    assert json.loads((tmp_path / "found.json").read_text()) == {"studies": {}}

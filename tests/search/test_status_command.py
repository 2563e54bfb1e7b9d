"""Check `python -m search status`: one study, or all of a storage folder."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from search.__main__ import app


def invoke(*arguments: str) -> tuple[int, str]:
    shown = CliRunner().invoke(app, ["status", *arguments])
    return shown.exit_code, shown.stdout


@pytest.mark.parametrize("there", [True, False])
def test_a_storage_without_studies_says_so(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    if there:
        (folder / "data").mkdir(parents=True)  # a folder of frames is no study
    assert invoke("--storage", str(folder)) == (0, f"no study in {str(folder)!r}\n")
    assert folder.exists() == there  # asking makes nothing


def test_a_damaged_study_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "study.json").write_text("{")
    code, said = invoke("--storage", str(tmp_path), "--json")
    assert code == 0
    assert "study.json" in json.loads(said)["studies"]["torn"]
    code, said = invoke("--storage", str(tmp_path))
    assert said.startswith("torn: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("form", [["--json"], ["--json", "-"], ["--json", "-q"]])
def test_json_alone_prints(form: list[str], tmp_path: Path) -> None:
    assert json.loads(invoke("--storage", str(tmp_path), *form)[1]) == {"studies": {}}


def test_json_into_a_file(tmp_path: Path) -> None:
    code, said = invoke("--storage", str(tmp_path), "--json", str(tmp_path / "found.json"))
    assert (code, said) == (0, f"no study in {str(tmp_path)!r}\n")
    assert json.loads((tmp_path / "found.json").read_text()) == {"studies": {}}

"""What all command lines share: exit codes, settings and JSON."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.errors import Failure, UserError
from trainables.terminal.answers import write_json
from trainables.terminal.command_line import parse_settings, run_command_line


def test_exit_codes_of_the_three_kinds_of_end(capsys: pytest.CaptureFixture[str]) -> None:
    def raises(error: BaseException) -> int:
        def main() -> None:
            raise error

        with pytest.raises(SystemExit) as stop:
            run_command_line(main)
        return int(stop.value.code or 0)

    assert raises(UserError("rule, value, remedy")) == 2
    assert raises(Failure("diverged")) == 1
    assert raises(OSError(28, "No space left on device")) == 1
    assert raises(KeyboardInterrupt()) == 130
    assert "no space left on the disk" in capsys.readouterr().err
    assert raises(PermissionError(13, "Permission denied", "/a/file")) == 2
    assert "'/a/file' cannot be used (Permission denied)" in capsys.readouterr().err
    assert raises(MemoryError()) == 1
    assert "out of memory" in capsys.readouterr().err
    assert raises(ZeroDivisionError("a bug")) == 1
    said = capsys.readouterr().err
    assert "this is a bug of disparse-search: ZeroDivisionError: a bug" in said
    assert "run again with --debug and report" in said
    assert "Traceback" not in said


def test_an_interrupted_command_says_so_and_does_not_hear_a_second_time() -> None:
    code = """
import os, signal, typer
from trainables.terminal.command_line import run_command_line
app = typer.Typer()
@app.command()
def main() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    import time; time.sleep(30)
try:
    run_command_line(app)
finally:
    os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_settings_are_pairs() -> None:
    assert parse_settings(["a.b=1", "c = x=y"]) == {"a.b": "1", "c": "x=y"}
    with pytest.raises(UserError, match="key=value, got '=1'"):
        parse_settings(["=1"])


def test_of_two_values_for_a_setting_the_last_holds_and_is_said(capsys) -> None:
    assert parse_settings(["a.b=1", "c=2", "a.b = 3", "c=2"]) == {"a.b": "3", "c": "2"}
    said = "note: --set a.b is given more than once; 3 comes after 1 and holds\n"
    assert capsys.readouterr().err == said


def test_json_is_written_whole_or_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"a": 1})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"a": 1}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.json"]
    with pytest.raises(UserError, match="name a writable file"):
        write_json(tmp_path / "new" / "a.json" / "b.json", {})
    with pytest.raises(UserError, match="name a writable file"):
        write_json(tmp_path / "new", {})  # a folder
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_json_holds_no_numbers_that_json_lacks(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [math.nan, (1.5, math.inf)], "b": {"c": -math.inf, "d": 3}})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(path.read_text(), parse_constant=refuse)
    assert found == {"a": [None, [1.5, None]], "b": {"c": None, "d": 3}}

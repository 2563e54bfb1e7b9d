"""A command goes on and ends as it would when whoever reads its output leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "list": "-m trainables list metrics",
    "help": "-m search run --help",
    "recipe": "-m search recipe demo",
    "published": "-m analysis published",
    "show": "-m spaces show full --json",
}
LOSSES = ["| true", "| head -c 1", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"]


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["list", "show"])
def test_commands_that_only_print_end_quietly(name: str, loss: str) -> None:
    done = shell(f"{sys.executable} {COMMANDS[name]} {loss}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", COMMANDS)
def test_all_commands_that_only_print_end_quietly(name: str, loss: str) -> None:
    done = shell(f"{sys.executable} {COMMANDS[name]} {loss}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("loss", [" | true", " 2> >(true)", " >&- 2>&-"])
def test_training_goes_on(loss: str, tmp_path: Path) -> None:
    small = "--tasks depth --steps 4 --set training.num_reports=4 --set data.num_train=24"
    small += " --set data.num_test=8 --set data.size=32x32 --set data.crop=32x32"
    command = f"{sys.executable} -m trainables train random {small} --out {tmp_path / 'out'}"
    done = shell(f"{command} --data-root {tmp_path / 'scenes'}{loss}")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]
    assert (tmp_path / "out" / "model.pt").exists()


def test_a_mistake_is_said_where_it_can_be_read() -> None:
    """With standard error closed, its message does not end up in the output."""
    done = shell(f"{sys.executable} -m trainables list nothing 2>&-")
    assert (done.returncode, done.stdout) == (2, "")


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    code = (
        "import os\n"
        "from trainables.terminal.standard_streams import outlast_readers\n"
        "outlast_readers()\n"
        "print('said')\n"
        "number = os.open(os.devnull, os.O_RDONLY)\n"
        "raise SystemExit(number if number > 2 else 99)"
    )
    done = shell(f'{sys.executable} -c "{code}" <&- >&- 2>&-')
    assert 2 < done.returncode < 99


def test_a_full_disk_is_still_said() -> None:
    done = shell(f"{sys.executable} -m trainables list methods > /dev/full")
    assert done.returncode == 1
    assert "no space left on the disk" in done.stderr

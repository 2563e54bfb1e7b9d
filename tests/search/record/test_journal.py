"""Optuna's journal: whole lines alone, whoever was killed, and whatever the disk took."""

import fcntl
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from search.record.files import journal
from search.record.files.journal import Journal
from search.record.storage import open_storage
from tests.trainables.test_checksums import flipped, some_bits
from trainables.errors import UserError


def new_study(path: Path) -> optuna.Study:
    address = f"journal:///{path}"
    return optuna.create_study(study_name="s", storage=open_storage(address), load_if_exists=True)


def ask(study: optuna.Study, number: int) -> None:
    trial = study.ask()
    trial.set_user_attr("number", number)
    study.tell(trial, float(number))


def numbers(path: Path) -> list[int]:
    return [t.user_attrs["number"] for t in new_study(path).get_trials()]


def test_what_is_written_is_read_by_optuna_itself(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    study = new_study(path)
    for number in range(3):
        ask(study, number)
    own = optuna.storages.journal.JournalFileBackend(str(path))
    loaded = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(own))
    assert [t.value for t in loaded.trials] == [0.0, 1.0, 2.0]
    assert {t.state for t in loaded.trials} == {TrialState.COMPLETE}


@given(rest=st.binary(min_size=1, max_size=9000).filter(lambda data: b"\n" not in data))
def test_a_line_that_was_cut_short_goes(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("cut") / "optuna.journal"
    ask(new_study(path), 0)
    with path.open("ab") as file:
        file.write(rest)
    assert numbers(path) == [0]
    ask(new_study(path), 1)
    assert numbers(path) == [0, 1]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_journal_that_holds_nothing_but_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    path.write_bytes(b'{"op_code": 0, "stu')
    ask(new_study(path), 0)
    assert numbers(path) == [0]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "optuna.journal"
    study = new_study(path)
    ask(study, 0)
    before = path.read_bytes()

    class Full(io.FileIO):
        """Takes half of what it is given."""

        def write(self, data: Any) -> int:
            return super().write(data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(journal, "open", lambda path, mode, **_: Full(path, "a+"), raising=False)
        with pytest.raises(OSError, match="no space left for"):
            Journal(str(path)).append_logs([{"op_code": 4}])
    assert path.read_bytes() == before
    ask(study, 1)
    assert numbers(path) == [0, 1]


def test_a_line_that_was_cut_short_is_said_once_and_one_that_is_written_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "optuna.journal"
    ask(new_study(path), 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    rest = len(whole) - 20 - whole.rindex(b"\n", 0, -1) - 1
    with path.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)  # as `append_lines` does
        caplog.clear()
        list(Journal(str(path)).read_logs(0))
        assert caplog.records == []
    for _ in range(2):
        list(Journal(str(path)).read_logs(0))
    (record,) = caplog.records
    assert f"{path}: its last line was cut short" in record.getMessage()
    assert f"its {rest} bytes" in record.getMessage()


@pytest.mark.parametrize("at", [2, -1, 99])
def test_damage_is_said_with_its_line(tmp_path: Path, at: int) -> None:
    path = tmp_path / "optuna.journal"
    ask(new_study(path), 0)
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(at, b"rubbish\n")
    path.write_bytes(b"".join(lines))
    number = lines.index(b"rubbish\n") + 1
    with pytest.raises(UserError, match=f"line {number} of .* is damaged") as error:
        open_storage(f"journal:///{path}")
    assert str(path) in str(error.value)
    assert ("later ones build on it" in str(error.value)) == (at != 99)


def test_a_line_of_another_program_that_optuna_cannot_apply_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    ask(new_study(path), 0)
    with path.open("ab") as file:
        file.write(b'{"op_code":77}\n')
    with pytest.raises(UserError, match="must be a journal of Optuna, got a damaged"):
        open_storage(f"journal:///{path}")


def test_a_line_of_somebody_else_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna's own writer does not heed our lock."""
    path = tmp_path / "optuna.journal"
    study = new_study(path)
    theirs = optuna.storages.journal.JournalFileBackend(str(path))
    really = journal._end_of_lines

    def meanwhile(file: Any) -> int:
        end = really(file)
        theirs.append_logs([{"op_code": 2, "worker_id": "x", "study_id": 0, "user_attr": {"a": 1}}])
        return end

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_end_of_lines", meanwhile)
        study.set_user_attr("b", 2)
    assert new_study(path).user_attrs == {"a": 1, "b": 2}


_HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    study = new_study(path)
    command = [sys.executable, "-c", _HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        began = time.monotonic()
        ask(study, 0)
    assert time.monotonic() - began < 5.0
    assert numbers(path) == [0]


_WRITER = """
import sys
from pathlib import Path
from tests.search.record.test_journal import ask, new_study
study = new_study(Path(sys.argv[1]))
for number in range(20):
    ask(study, number)
"""


def test_writers_at_once_mix_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    new_study(path)
    root = Path(__file__).parents[3]
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], cwd=root) for _ in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert sorted(numbers(path)) == sorted([*range(20)] * 3)


def test_a_flipped_bit_is_named_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    for number in range(3):
        ask(new_study(path), number)
    data, wanted = path.read_bytes(), new_study(path).get_trials()
    named = 0
    for changed in flipped(data, some_bits(data, 200)):
        path.write_bytes(changed)
        try:
            storage = open_storage(f"journal:///{path}")
        except UserError as error:
            named += str(path) in str(error)
        else:
            assert optuna.load_study(study_name="s", storage=storage).get_trials() == wanted
    assert named > 150


def test_a_flipped_newline_at_the_end_is_no_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    study = new_study(path)
    ask(study, 0)
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    Journal(str(path)).append_logs([{"op_code": 2, "worker_id": "x", "study_id": 0}])
    with pytest.raises(UserError, match=r"line \d+ of .* is damaged"):
        open_storage(f"journal:///{path}")


def test_a_journal_that_may_only_be_read_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Path.open

    def only_reading(path: Path, mode: str = "r") -> Any:
        if mode != "rb":
            raise PermissionError(13, "Permission denied", str(path))
        return opening(path, mode)

    path = tmp_path / "j"
    ask(new_study(path), 3)
    with monkeypatch.context() as patched:  # root may write whatever the mode
        patched.setattr(Path, "open", only_reading)
        study = optuna.load_study(study_name="s", storage=open_storage(f"journal:///{path}"))
        assert [trial.user_attrs["number"] for trial in study.trials] == [3]

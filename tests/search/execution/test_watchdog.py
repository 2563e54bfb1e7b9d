"""The watchdog: a process that falls silent ends, and says where."""

from pathlib import Path

from tests.search.execution.hanging import hanging
from trainables.training.watching.watchdog import Watchdog, silence_of


def test_a_process_that_falls_silent_ends_and_says_where(tmp_path: Path) -> None:
    # Together they take longer than the limit, which is for each.
    got_on = hanging(tmp_path, 0.3, 0.3, 0.3)
    assert (got_on.returncode, got_on.stdout) == (0, "got on\n")
    assert list(tmp_path.iterdir()) == []
    hung = hanging(tmp_path, 0.1, 600)
    assert (hung.returncode, hung.stdout) == (1, "")
    assert silence_of(tmp_path).startswith("no report within 0.5 s (in train, <string> line 9)")


def test_a_limit_that_cannot_say_so_ends_the_process_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the place of a folder")
    assert hanging(tmp_path / "file", 600).returncode == 1
    assert silence_of(tmp_path / "file") == ""


def test_no_limit_writes_nothing(tmp_path: Path) -> None:
    dog = Watchdog(tmp_path, None)
    with dog.watching():
        pass
    dog.close()
    assert list(tmp_path.iterdir()) == []

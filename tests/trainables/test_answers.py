"""Where a command's answer goes: into files, through links, into pipes and devices."""

import json
import os
import threading
from pathlib import Path

import pytest

from trainables.errors import UserError
from trainables.terminal.answers import require_json, write_json


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    require_json(link)
    write_json(link, {"a": 1})
    assert link.is_symlink()
    assert json.loads(target.read_text()) == {"a": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "target.json"]
    dangling = tmp_path / "dangling.json"
    dangling.symlink_to(tmp_path / "made.json")
    write_json(dangling, {"b": 2})
    assert dangling.is_symlink()
    assert json.loads((tmp_path / "made.json").read_text()) == {"b": 2}


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    require_json(pipe)  # and does not wait for a reader
    write_json(pipe, {"a": float("nan")})
    reader.join(timeout=10)
    assert json.loads(read[0]) == {"a": None}
    assert pipe.is_fifo()
    inner, outer = os.pipe()  # as a shell's >(…)
    with os.fdopen(inner) as end:
        require_json(f"/dev/fd/{outer}")
        write_json(f"/dev/fd/{outer}", {"b": 2})
        os.close(outer)
        assert json.loads(end.read()) == {"b": 2}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_a_device_is_written_to_and_not_replaced() -> None:
    require_json("/dev/null")
    write_json("/dev/null", {"a": 1})
    with pytest.raises(OSError, match="No space left"):
        write_json("/dev/full", {"a": 1})
    for device in ("/dev/null", "/dev/full"):
        assert Path(device).is_char_device()


def test_a_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`--json` must be a file, got the folder"):
        require_json(tmp_path)
    require_json(None)
    require_json("-")
    require_json(tmp_path / "new" / "answer.json")

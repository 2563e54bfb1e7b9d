"""A checkpoint's manifest: damage shows."""

from pathlib import Path

import pytest

from trainables.training.checkpoints.manifest import MANIFEST, valid_checkpoint, write_manifest


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "no manifest", "half manifest"])
def test_damage_shows(tmp_path: Path, damage: str) -> None:
    (tmp_path / "a.pt").write_bytes(b"0123456789")
    (tmp_path / "b.json").write_text("{}")
    write_manifest(tmp_path, step=40)
    assert valid_checkpoint(tmp_path) == 40
    match damage:
        case "truncate":
            (tmp_path / "a.pt").write_bytes(b"01234")
        case "flip":
            (tmp_path / "a.pt").write_bytes(b"0123456780")
        case "remove":
            (tmp_path / "b.json").unlink()
        case "no manifest":
            (tmp_path / MANIFEST).unlink()
        case "half manifest":
            text = (tmp_path / MANIFEST).read_text()
            (tmp_path / MANIFEST).write_text(text[: len(text) // 2])
    assert valid_checkpoint(tmp_path) is None


def test_nothing_is_no_checkpoint(tmp_path: Path) -> None:
    assert valid_checkpoint(tmp_path / "absent") is None
    write_manifest(tmp_path, step=1)
    assert valid_checkpoint(tmp_path) is None

"""What a conversion says of a user's own data, which it cannot know to be wrong."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.data.catalogue import DatasetSpec
from trainables.data.frame import Frame
from trainables.data.store.convert import convert
from trainables.errors import UserError

SIZE = (16, 16)


class Frames:
    native_size = SIZE
    scale, scenes = 1.0, "{split}-{position}"
    notes: Any = ()

    def __init__(self, root: Path) -> None: ...

    def num_frames(self, split: str) -> int:
        return {"train": 3, "test": 2}[split]

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        random = np.random.default_rng([position, len(split)])
        depth = random.uniform(1, 5, size).astype(np.float32) * self.scale
        depth[0] = np.nan
        return Frame(
            name=str(position),
            scene=self.scenes.format(split=split, position=position),
            image=random.integers(0, 255, (*size, 3), dtype=np.uint8),
            depth=depth,
        )


def convert_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, depth_kind: str = "metric", **members: Any
) -> tuple[str, ...]:
    """Return the notes on data of a source with other members."""
    described = DatasetSpec(
        summary="",
        tasks=("depth",),
        num_classes=0,
        depth_kind=depth_kind,
        open_source=type("Own", (Frames,), {**members, "__module__": __name__}),
    )
    monkeypatch.setattr(sys.modules[__name__], "OWN", described, raising=False)
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / "x").touch()
    return convert(f"{__name__}:OWN", folder / "raw", folder / "store").notes


def test_data_that_are_in_order_get_no_note(tmp_path: Path, monkeypatch) -> None:
    assert convert_own(tmp_path, monkeypatch) == ()


def test_scenes_that_train_and_test_share_are_said(tmp_path: Path, monkeypatch) -> None:
    (note,) = convert_own(tmp_path, monkeypatch, scenes="room-{position}")
    assert note.startswith("scene 'room-0' and 1 more are in train and in test; if that is one")


def test_depths_that_are_hardly_metres_are_said(tmp_path: Path, monkeypatch) -> None:
    (note,) = convert_own(tmp_path, monkeypatch, scale=1000.0)
    assert note.startswith("no depth is below 1")
    assert "metres in the 3 frames looked at" in note
    assert "if the values are millimetres, divide them by 1000" in note


def test_disparities_have_no_metres(tmp_path: Path, monkeypatch) -> None:
    assert convert_own(tmp_path, monkeypatch, "disparity", scale=1000.0) == ()


def test_notes_of_a_source_may_be_one_sentence(tmp_path: Path, monkeypatch) -> None:
    assert convert_own(tmp_path, monkeypatch, notes="two were dark") == ("two were dark",)


def test_notes_that_raise_are_the_sources_fault(tmp_path: Path, monkeypatch) -> None:
    broken = property(lambda _: 1 // 0)
    with pytest.raises(UserError, match="notes of source Own raised ZeroDivisionError"):
        convert_own(tmp_path, monkeypatch, notes=broken)

    with pytest.raises(UserError, match="notes of source Own must be sentences, got 7"):
        convert_own(tmp_path, monkeypatch, notes=7)
    assert not (tmp_path / "store").exists()


def test_what_ones_own_source_refuses_is_told_with_the_frame(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"^frame 0 of train: `scene` of a frame must be text"):
        convert_own(tmp_path, monkeypatch, scenes="")

    def load(self: object, split: str, position: int, size: object) -> None:
        raise UserError("no such room; check the list")

    with pytest.raises(UserError, match=r"^frame 0 of train: no such room; check the list"):
        convert_own(tmp_path, monkeypatch, load=load)

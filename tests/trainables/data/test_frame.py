"""A frame refuses arrays that do not fit together, and says which."""

import numpy as np
import pytest

from trainables.data.frame import Frame
from trainables.errors import UserError

IMAGE = np.zeros((4, 6, 3), dtype=np.uint8)


def test_arrays_lists_what_is_present() -> None:
    depth = np.ones((4, 6), dtype=np.float32)
    frame = Frame(name="a", scene="s", image=IMAGE, depth=depth)
    assert frame.size == (4, 6)
    assert [name for name, _ in frame.arrays()] == ["image", "depth"]


@pytest.mark.parametrize(
    ("modality", "array", "words"),
    [
        ("depth", np.ones((4, 5), np.float32), ["image 4x6", "depth 4x5"]),
        ("segmentation", np.ones((8, 6), np.uint8), ["image 4x6", "segmentation 8x6"]),
        ("segmentation", np.ones((4, 6), np.int64), ["uint8", "int64"]),
        ("normals", np.ones((4, 6), np.float32), ["(height, width, 3)", "(4, 6)"]),
        ("normals", np.ones((4, 6, 4), np.float32), ["(height, width, 3)", "(4, 6, 4)"]),
        ("edges", np.ones((4, 6, 1), np.float32), ["(height, width)", "(4, 6, 1)"]),
    ],
)
def test_misfits_are_named(modality: str, array: np.ndarray, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        Frame(name="kitchen-7", scene="s", image=IMAGE, **{modality: array})
    for word in ("kitchen-7", modality, *words):
        assert word in str(error.value)


@pytest.mark.parametrize("field_name", ["name", "scene"])
@pytest.mark.parametrize("value", [7, None, "", b"kitchen", "caf\udce9.png"])
def test_names_that_no_store_holds(field_name: str, value: object) -> None:
    names: dict[str, object] = {"name": "kitchen-7", "scene": "kitchen", field_name: value}
    with pytest.raises(UserError, match=f"`{field_name}` of a frame must be text .*, got .*; "):
        Frame(**names, image=IMAGE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "array"),
    [
        ("image", None),
        ("image", IMAGE.tolist()),
        ("depth", 2.5),
        ("depth", np.ma.masked_less(np.ones((4, 6), np.float32), 2)),
        ("edges", memoryview(np.ones((4, 6), np.float32))),
        ("height", [1.0]),
    ],
)
def test_what_is_no_array(column: str, array: object) -> None:
    arrays: dict[str, object] = {"image": IMAGE}
    arrays |= {"extra": {column: array}} if column == "height" else {column: array}
    with pytest.raises(UserError, match=rf"'kitchen-7': {column} must be a NumPy array, got \w+;"):
        Frame(name="kitchen-7", scene="s", **arrays)  # type: ignore[arg-type]

"""What a frame's values must be before they are stored."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.data.conftest import make_frame, make_meta
from trainables.data.frame import Frame
from trainables.data.store.building import write_store
from trainables.data.store.encoding import to_stored
from trainables.data.store.split_writer import write_split
from trainables.errors import UserError
from trainables.registry.tasks import TaskDescription

SIZE = (16, 24)


class Source:
    """Twelve frames, one of them changed."""

    native_size = SIZE

    def __init__(self, change=None, split="test", position=1) -> None:
        self.change, self.where = change, (split, position)

    def num_frames(self, split: str) -> int:
        return {"train": 8, "test": 4}[split]

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        frame = make_frame(position + 100 * (split == "test"), size)
        arrays = {name: array.copy() for name, array in frame.arrays()}
        if (split, position) == self.where and self.change is not None:
            self.change(arrays)
        return Frame(name=f"room-{position}", scene=frame.scene, **arrays)


def write(folder, change=None, *, split="test", position=1, **fields):
    return write_store(Source(change, split, position), folder, make_meta(SIZE, **fields))


def setting(column, value, where=(slice(3, 5), slice(2, 9))):
    return lambda arrays: arrays[column].__setitem__(where, value)


def colours(arrays):
    arrays["normals"] = (arrays["normals"] * 127.5 + 127.5).astype(np.float32)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (colours, "normals must be unit vectors"),
        (setting("normals", 0), r"normals must be unit vectors.*got \[0, 0, 0\]"),
        (setting("normals", (0, 0, -1.05)), r"normals must be unit .*-1\.05\]; divide them"),
        (setting("normals", (0.6, np.nan, -0.8)), "normals must be unit vectors, or NaN in all"),
        (setting("normals", (0, np.inf, 0)), r"normals must be unit vectors.*inf"),
        (setting("normals", (3e38, 3e38, 0)), r"normals must be unit vectors.*3e\+38"),
        (setting("segmentation", 4), "segmentation must be a class 0-3, or 255 .*, got 4; map"),
        (setting("segmentation", 254), "segmentation must be a class 0-3, .*, got 254"),
        (setting("depth", -0.1), r"depth must be in \(0, 65504\] or NaN, got \[-0\.1"),
        (setting("depth", np.inf), r"depth must be in .*inf\]"),
        (setting("edges", 1.01), r"edges must be in \[0, 1\] everywhere, got .*1\.01"),
        (setting("keypoints", -0.01), r"keypoints must be in \[0, 1\]"),
        (setting("keypoints", np.nan), "keypoints must be .*unknown_responses=True"),
    ],
)
def test_a_value_that_its_kind_does_not_have(tmp_path, change, said, split):
    with pytest.raises(UserError, match=rf"frame 'room-1' of {split}: {said}"):
        write(tmp_path, change, split=split)


@settings(max_examples=200, deadline=None)
@given(
    vector=st.tuples(*[st.floats(-300, 300, allow_subnormal=False)] * 3),
    length=st.one_of(st.just(None), st.floats(0.985, 1.015)),
)
def test_normals_are_refused_or_stored_as_they_are(vector, length):
    """Whatever is stored is what was given, to half a step of 1/127 and the tolerance."""
    normals = np.array(vector, np.float64)
    if length is not None and np.linalg.norm(normals) > 1e-3:
        normals *= length / np.linalg.norm(normals)
    array = np.broadcast_to(normals.astype(np.float32), (2, 2, 3)).copy()
    try:
        stored = to_stored("normals", array, "'a' of train")
    except UserError:
        assert not 0.99 < np.linalg.norm(normals) < 1.01
    else:
        assert 0.97 < np.linalg.norm(normals) < 1.03
        assert np.abs(stored / 127 - array).max() <= 0.5 / 127 + 0.021


@settings(max_examples=60, deadline=None)
@given(label=st.integers(0, 255), num_classes=st.integers(2, 255))
def test_labels_are_classes_or_255(label, num_classes):
    labels = np.zeros((2, 3), np.uint8)
    labels[1, 2] = label
    if label < num_classes or label == 255:
        stored = to_stored("segmentation", labels, "'a' of train", num_classes=num_classes)
        np.testing.assert_array_equal(stored, labels)
    else:
        with pytest.raises(UserError, match=f"0-{num_classes - 1}, .* got {label};"):
            to_stored("segmentation", labels, "'a' of train", num_classes=num_classes)


@pytest.mark.parametrize(
    ("column", "value"), [("depth", np.nan), ("segmentation", 255), ("normals", np.nan)]
)
def test_a_target_that_is_known_nowhere_in_a_split(tmp_path, column, value):
    class Unknown(Source):
        def load(self, split, position, size):
            self.where = (split, position) if split == "test" else None
            return super().load(split, position, size)

    source = Unknown(setting(column, value, ...))
    with pytest.raises(UserError, match=f"test must have a known value of {column}, got none in"):
        write_store(source, tmp_path, make_meta(SIZE))


def test_images_in_fractions_that_became_bytes(tmp_path):
    class Dark(Source):
        def load(self, split, position, size):
            self.where = (split, position)
            return super().load(split, position, size)

    source = Dark(lambda arrays: arrays.update(image=arrays["image"] // 255))
    with pytest.raises(UserError, match=r"values 0-255, got none above 1 in train; multiply"):
        write_store(source, tmp_path, make_meta(SIZE))
    write(tmp_path, lambda arrays: arrays["image"].fill(0))  # one black frame is one black frame


@pytest.mark.parametrize(
    ("column", "dtype", "said"),
    [
        ("image", np.float32, r"image must be uint8, got float32; .*\[0, 1\] by 255"),
        ("segmentation", np.int64, "segmentation must be uint8, got int64; map .* 255"),
        ("depth", np.uint16, "depth must be float32, got uint16"),
        ("normals", np.float64, "normals must be float32, got float64"),
    ],
)
def test_another_type(tmp_path, column, dtype, said):
    with pytest.raises(UserError, match=said):
        write(tmp_path, lambda a: a.update({column: np.nan_to_num(a[column]).astype(dtype)}))


def test_sizes_that_differ(tmp_path):
    with pytest.raises(UserError, match="image and depth must have one size, got image 16x24"):
        write(tmp_path, lambda arrays: arrays.update(depth=arrays["depth"].T.copy()))


def repeat(split, position, *, targets=True):
    first = Source().load("train", 0, SIZE)

    def change(arrays):
        arrays["image"] = first.image
        if targets:
            arrays.update({name: array for name, array in first.arrays()})

    return {"change": change, "split": split, "position": position}


def test_a_frame_in_both_splits_of_ones_own_source(tmp_path):
    with pytest.raises(UserError, match=r"in train or in test, .*'room-0', 'room-3' in test"):
        write(tmp_path, **repeat("test", 3))
    with pytest.raises(UserError, match=r"in train or in test"):
        write(tmp_path, **repeat("test", 3, targets=False))


def test_a_frame_twice_in_a_split(tmp_path):
    with pytest.raises(UserError, match=r"in train once, got 'room-0' and 'room-5'"):
        write(tmp_path, **repeat("train", 5))
    write(tmp_path, **repeat("train", 5, targets=False))  # other targets: another frame


def test_a_black_frame_may_be_in_both(tmp_path):
    class Black(Source):
        def load(self, split, position, size):
            self.where = (split, 0)
            return super().load(split, position, size)

    write_store(Black(lambda arrays: arrays["image"].fill(0)), tmp_path, make_meta(SIZE))


def test_a_target_that_one_split_lacks(tmp_path):
    class Half(Source):
        def load(self, split, position, size):
            frame = super().load(split, position, size)
            return dataclasses.replace(frame, edges=None) if split == "test" else frame

    with pytest.raises(UserError, match=r"same targets, got image.* edges.* in train and image"):
        write_store(Half(), tmp_path, make_meta(SIZE))


def test_names_that_are_there_twice(tmp_path):
    class Twins(Source):
        def load(self, split, position, size):
            frame = super().load(split, position, size)
            return dataclasses.replace(frame, name=f"room-{position // 2}")

    with pytest.raises(UserError, match=r"unique within a split, got 'room-0' 2 times in train; "):
        write_store(Twins(), tmp_path, make_meta(SIZE))


def test_labels_of_ones_own_task_are_its_classes(tmp_path):
    from trainables.data.targets import num_classes_of

    def task(channels, kind="labels") -> TaskDescription:
        from trainables.registry.tasks import Metric

        return TaskDescription(
            name="parts", summary="x", implementation="a:B", channels=channels, kind=kind,
            metrics=(Metric(name="parts/a", unit="", direction="maximize", description="x"),),
            primary="parts/a",
        )  # fmt: skip

    assert num_classes_of(task(5), 12) == 5
    assert num_classes_of(task("classes"), 12) == 12
    assert num_classes_of(task(1), 12) is None  # one channel: its labels mean what it likes
    assert num_classes_of(task(5, "values"), 12) is None
    labels = np.full(SIZE, 5, np.uint8)
    frame = Frame(name="a", scene="a", image=make_frame(0, SIZE).image, extra={"parts": labels})
    meta = make_meta(SIZE, own_kinds={"parts": "labels"})
    with pytest.raises(UserError, match=r"'a' of train: parts must be a class 0-4, .* got 5"):
        write_split(tmp_path / "train.arrow", [frame], meta, num_classes={"parts": 5})

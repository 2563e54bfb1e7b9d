"""The official MATLAB file against the other two layouts, and what can be wrong with it."""

import json

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tests.trainables.data.sources.official_files import write_labeled_mat, write_png
from trainables.data.sources.mat_files import read_matrices
from trainables.data.sources.nyu_v2 import open_source
from trainables.data.store.convert import convert
from trainables.data.store.split_file import Split
from trainables.errors import UserError

SIZE = (48, 64)
TRAIN, TEST = (1, 2, 5), (3,)  # from 0; frames 0 and 4 belong to neither
MAPPING = np.random.default_rng(0).integers(1, 41, 894)  # class 1-40 of raw label 1-894


def content():
    """Six frames: smooth colours, in-painted depth of a slanted wall, raw labels."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    images = np.stack(
        [
            np.stack([rows * 4 + n, columns * 3 + n, rows + columns + 9 * n], 2).astype(np.uint8)
            for n in range(6)
        ]
    )
    depths = np.stack([2 + columns / 40 + rows / 90 + 0.2 * n for n in range(6)]).astype(np.float32)
    labels = rng.integers(0, 895, (6, *SIZE)).astype(np.uint16)
    labels[:, 0, :3] = (0, 1, 894)
    return images, depths, labels


def classes(labels):
    """By a loop: 0-39, 255 where there is no label."""
    return np.array(
        [[255 if raw == 0 else MAPPING[raw - 1] - 1 for raw in row] for row in labels], np.uint8
    )


@pytest.fixture
def official(tmp_path):
    folder = tmp_path / "official"
    write_labeled_mat(folder / "nyu_depth_v2_labeled.mat", *content(), ["wall", "cup"])
    splits = {
        "trainNdxs": np.array([[n + 1] for n in TRAIN], np.float64),
        "testNdxs": np.array([[n + 1] for n in TEST], np.float64),
    }
    scipy.io.savemat(folder / "splits.mat", splits, do_compression=True)
    scipy.io.savemat(folder / "classMapping40.mat", {"mapClass": MAPPING[None].astype(float)})
    return folder


def test_the_file_worked_by_hand(official):
    images, depths, labels = content()
    source = open_source(official)
    assert source.native_size == SIZE
    assert (source.num_frames("train"), source.num_frames("test")) == (3, 1)
    for split, numbers in (("train", TRAIN), ("test", TEST)):
        for position, number in enumerate(numbers):
            frame = source.load(split, position, SIZE)
            assert frame.name == f"{number:04d}"
            np.testing.assert_array_equal(frame.image, images[number])
            np.testing.assert_array_equal(frame.depth, depths[number])
            np.testing.assert_array_equal(frame.segmentation, classes(labels[number]))
    assert [source.load("train", p, SIZE).scene for p in range(3)] == ["run-0001"] * 2 + [
        "run-0005"
    ]


def write_other_layouts(root, source):
    """The frames in plain folders and in AdaShare's layout, the latter with the same normals."""
    listing = {"train": [], "test": []}
    images, depths, labels = content()
    for split, numbers in (("train", TRAIN), ("test", TEST)):
        for position, number in enumerate(numbers):
            name = f"{number:04d}"
            (root / "plain" / "rgb").mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number]).save(
                root / "plain" / "rgb" / f"{name}.jpg", quality=98, subsampling=0
            )
            write_png(root / "plain" / "seg" / f"{name}.png", classes(labels[number]))
            steps = np.rint(depths[number] * 25.5 - 0.5).astype(np.uint8)
            write_png(root / "plain" / "depth" / f"{name}.png", steps)
            right, down, forward = np.moveaxis(source.load(split, position, SIZE).normals, 2, 0)
            packed = np.rint((np.stack([right, forward, -down], 2) + 1) * 127.5)
            packed = np.where(np.isnan(packed), 255, packed).astype(np.uint8)
            files = [f"img/{name}.png", f"seg/{name}.png", f"normal_mask/{name}.png"]
            for path, array in zip(
                files, (images[number], classes(labels[number]), packed), strict=True
            ):
                write_png(root / "adashare" / path, array)
            (root / "adashare" / "depth").mkdir(parents=True, exist_ok=True)
            np.save(root / "adashare" / "depth" / f"{name}.npy", depths[number])
            listing[split].append([*files, f"depth/{name}.npy"])
    splits = {"train": list(TRAIN), "test": list(TEST)}
    (root / "plain" / "splits.json").write_text(json.dumps(splits))
    (root / "adashare" / "nyu_v2_3task.json").write_text(json.dumps(listing))


def test_one_frame_in_all_three_layouts_is_the_same(official, tmp_path):
    source = open_source(official)
    write_other_layouts(tmp_path, source)
    adashare, plain = open_source(tmp_path / "adashare"), open_source(tmp_path / "plain")
    for split, count in (("train", 3), ("test", 1)):
        for position in range(count):
            one, exact, lossy = (s.load(split, position, SIZE) for s in (source, adashare, plain))
            assert one.name == exact.name == lossy.name
            assert one.scene == exact.scene == lossy.scene
            for modality in ("image", "segmentation", "depth"):
                np.testing.assert_array_equal(getattr(one, modality), getattr(exact, modality))
            # Bytes hold a component to within 1 / 255.
            known = ~np.isnan(one.normals[..., 0])
            assert known.mean() > 0.5
            np.testing.assert_array_equal(np.isnan(exact.normals[..., 0]), ~known)
            assert np.abs(one.normals - exact.normals)[known].max() < 2 / 255
            # Plain folders: labels exact, depth in steps of 1 / 25.5 m, colour through JPEG.
            np.testing.assert_array_equal(one.segmentation, lossy.segmentation)
            assert np.abs(one.depth - lossy.depth).max() <= 0.5 / 25.5 + 1e-6
            assert np.abs(one.image.astype(int) - lossy.image.astype(int)).mean() < 2


def test_the_store_keeps_the_frames(official, tmp_path):
    summary = convert("nyu-v2", official, tmp_path / "store", (24, 32))
    assert summary.num_frames == {"train": 3, "test": 1}
    source, split = open_source(official), Split(tmp_path / "store" / "train.arrow")
    for position in range(3):
        frame = source.load("train", position, (24, 32))
        np.testing.assert_array_equal(split.column("image")[position], frame.image)
        np.testing.assert_array_equal(split.column("segmentation")[position], frame.segmentation)
        np.testing.assert_array_equal(
            split.column("depth")[position], frame.depth.astype(np.float16)
        )


def test_the_facts_may_be_text_in_a_folder_of_their_own(official, tmp_path):
    before = open_source(official)
    for name in ("splits.mat", "classMapping40.mat"):
        (official / name).unlink()
    meta = official / "meta"
    meta.mkdir()
    lines = [f"{raw + 1},{label}" for raw, label in enumerate(MAPPING)]
    (meta / "nyu894_to_nyu40.csv").write_text("raw,nyu40\n" + "\n".join(lines) + "\n")
    splits = {"train": [n + 1 for n in TRAIN], "test": [n + 1 for n in TEST]}
    (meta / "official_splits_1_based.json").write_text(json.dumps(splits))
    after = open_source(official)
    assert after.file.numbers == before.file.numbers == {"train": TRAIN, "test": TEST}
    np.testing.assert_array_equal(after.file.mapping, before.file.mapping)


def rewrite(official, **changed):
    images, depths, labels = content()
    values = {"images": images, "depths": depths, "labels": labels} | changed
    write_labeled_mat(official / "nyu_depth_v2_labeled.mat", **values, names=["a"])


def edit(official, name):
    with h5py.File(official / "nyu_depth_v2_labeled.mat", "r+") as file:
        del file[name]


def cut(path, length):
    path.write_bytes(path.read_bytes()[:length])


MAT = "nyu_depth_v2_labeled.mat"


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (lambda f: cut(f / MAT, 4000), MAT, "readable HDF5"),
        (lambda f: (f / MAT).write_bytes(b"MATLAB 5.0"), MAT, "readable HDF5"),
        (lambda f: edit(f, "depths"), MAT, "depths as float32 of 3 axes.*got none"),
        (lambda f: edit(f, "images"), MAT, "images as uint8 of 4 axes.*got none"),
        (
            lambda f: rewrite(f, depths=np.ones((6, 48, 60), np.float32)),
            MAT,
            r"depths .*got float32 \(6, 60, 48\)",
        ),
        (
            lambda f: rewrite(f, labels=np.ones((6, *SIZE), np.uint8)),
            MAT,
            "labels as uint16.*got uint8",
        ),
        (lambda f: (f / "splits.mat").unlink(), MAT, "official split beside it, got none of"),
        (lambda f: (f / "classMapping40.mat").unlink(), MAT, "classes of the raw labels beside"),
        (lambda f: cut(f / "splits.mat", 150), "splits.mat", "readable MATLAB file"),
        (lambda f: cut(f / "splits.mat", 60), "splits.mat", "no MATLAB file of version 5"),
        (
            lambda f: scipy.io.savemat(f / "splits.mat", {"trainNdxs": [1.0]}),
            "splits.mat",
            "frames of train and test from 1, got KeyError",
        ),
        (
            lambda f: scipy.io.savemat(f / "splits.mat", {"trainNdxs": [1, 2], "testNdxs": [2]}),
            "splits.mat",
            "at most once, got 3 frames, 2 of them different",
        ),
        (
            lambda f: scipy.io.savemat(f / "splits.mat", {"trainNdxs": [1], "testNdxs": [7]}),
            "splits.mat",
            "frames 1-6 .*from 1 to 7",
        ),
        (
            lambda f: scipy.io.savemat(f / "classMapping40.mat", {"mapClass": MAPPING[:-1]}),
            "classMapping40.mat",
            "got 893 labels",
        ),
        (
            lambda f: scipy.io.savemat(f / "classMapping40.mat", {"mapClass": MAPPING + 1}),
            "classMapping40.mat",
            "classes 1-40, got 894 labels to classes 2-41",
        ),
    ],
)
def test_a_bad_file_is_named(official, damage, file, message):
    damage(official)
    with pytest.raises(UserError, match=message) as caught:
        open_source(official)
    assert str(official / file) in str(caught.value)


def test_a_raw_label_that_does_not_exist(official):
    labels = content()[2]
    labels[5, 7, 7] = 895
    rewrite(official, labels=labels)
    source = open_source(official)
    source.load("train", 1, SIZE)
    with pytest.raises(UserError, match=r"labeled\.mat: labels must be .* got 895 in frame 6"):
        source.load("train", 2, SIZE)


@settings(max_examples=40, deadline=None)
@given(
    array=arrays.arrays(
        st.sampled_from([np.float64, np.float32, np.uint8, np.int16, np.uint16, np.int32]),
        arrays.array_shapes(min_dims=2, max_dims=3, max_side=5),
        elements=st.integers(0, 100),
    ),
    name=st.sampled_from(["a", "abcd", "mapClass", "a_rather_long_name"]),
    compressed=st.booleans(),
)
def test_matrices_are_read_as_scipy_writes_them(tmp_path_factory, array, name, compressed):
    path = tmp_path_factory.mktemp("mat") / "file.mat"
    passed_over = {"text": "words", "cells": np.array([{}, "x"], object)}
    scipy.io.savemat(path, passed_over | {name: array, "last": 7.0}, do_compression=compressed)
    found = read_matrices(path)
    assert set(found) == {name, "last"}
    np.testing.assert_array_equal(found[name], array)
    assert found[name].dtype == array.dtype
    assert found["last"].tolist() == [[7.0]]

"""Both layouts of Cityscapes: one frame, the same arrays; and what can be wrong with a file."""

import json
import re

import numpy as np
import pytest
import torch

from spaces.presets import trial_config
from tests.trainables.data.sources.official_files import (
    CAMERA,
    EVALUATED,
    random_city,
    write_array_city,
    write_npy,
    write_official_city,
    write_png,
)
from trainables.data.catalogue import open_dataset
from trainables.data.loading.decoding import decode
from trainables.data.sources.cityscapes import (
    open_metric_source,
    open_source,
    read_labels,
)
from trainables.data.store.convert import convert
from trainables.data.store.split_file import Split
from trainables.errors import UserError

SIZE = (33, 47)  # odd on purpose
NAMES = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "ulm_000000_000019"],
    "val": ["lindau_000000_000019", "munster_000000_000019"],
}


def frames() -> dict[str, dict[str, np.ndarray]]:
    names = [name for listed in NAMES.values() for name in listed]
    return {name: random_city(seed, SIZE) for seed, name in enumerate(names)}


@pytest.fixture
def official(tmp_path):
    for split, names in NAMES.items():
        for name in names:
            write_official_city(tmp_path / "official", split, name, frames()[name])
    return tmp_path / "official"


def write_arrays(root, *, index: bool, names=None):
    listing = {"train": [], "test": []}
    for split, listed in NAMES.items():
        for position, name in enumerate(listed):
            label = name if names is None else f"{names[split][position]}"
            paths = write_array_city(root / split, label, frames()[name])
            listing["test" if split == "val" else split].append(paths)
    if index:
        (root / "cityscape.json").write_text(json.dumps(listing))
    return root


def test_the_official_encodings_worked_by_hand(tmp_path):
    values = random_city(0, (4, 6))
    values["labels"][0] = (7, 0, 33, 11, 26, 10)
    values["steps"][0] = (0, 1, 2, 257, 32257, 65535)
    write_official_city(tmp_path, "train", "ulm_000000_000019", values)
    write_official_city(tmp_path, "val", "lindau_000000_000019", values)
    frame = open_source(tmp_path).load("train", 0, (4, 6))
    assert (frame.name, frame.scene) == ("ulm_000000_000019", "ulm")
    np.testing.assert_array_equal(frame.image, values["image"])
    # road, unlabelled, bicycle, building, car, rail track
    assert frame.segmentation[0].tolist() == [0, 255, 18, 2, 13, 255]
    assert np.isnan(frame.depth[0, :2]).all()
    expected = np.array([1, 256, 32256, 65534]) / 65535  # a pixel is 256 of these
    np.testing.assert_allclose(frame.depth[0, 2:], expected, rtol=1e-7)


def test_every_label_id_becomes_its_train_id(tmp_path):
    ids = np.array([[*range(34), 255]], np.uint8)
    write_png(tmp_path / "a.png", ids)
    train_ids = read_labels(tmp_path / "a.png")[0]
    assert [int(ids[0, at]) for at in np.argsort(train_ids, kind="stable")[:19]] == EVALUATED
    assert (train_ids != 255).sum() == 19


@pytest.mark.parametrize("layout", ["index", "folders"])
@pytest.mark.parametrize("size", [SIZE, (16, 24)])
def test_one_frame_in_both_layouts_is_the_same(official, tmp_path, layout, size):
    arrays = open_source(write_arrays(tmp_path / "arrays", index=layout == "index"))
    source = open_source(official)
    for split, names in (("train", NAMES["train"]), ("test", NAMES["val"])):
        assert source.num_frames(split) == arrays.num_frames(split) == len(names)
        for position, name in enumerate(names):
            one, other = (s.load(split, position, size) for s in (source, arrays))
            assert one.name == other.name == name
            assert one.scene == other.scene == name.split("_")[0]
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.segmentation, other.segmentation)
            np.testing.assert_array_equal(one.depth, other.depth)
    assert arrays.native_size == SIZE
    assert source.native_size == (1024, 2048)


def test_the_store_is_lossless_and_opens_by_preset(official, tmp_path):
    summary = convert("cityscapes", official, tmp_path / "store", (64, 128))
    assert summary.num_frames == {"train": 3, "test": 2}
    assert summary.notes == ()
    source, split = open_source(official), Split(tmp_path / "store" / "train.arrow")
    assert split.meta.depth_kind == "disparity"
    stored = {m: torch.from_numpy(split.column(m).copy()) for m in split.modalities}
    targets = decode(stored, split).targets
    for position in range(3):
        frame = source.load("train", position, (64, 128))
        np.testing.assert_array_equal(split.column("image")[position], frame.image)
        np.testing.assert_array_equal(targets["segmentation"][position], frame.segmentation)
        # float16 keeps 11 bits, which is what the stored type can hold.
        exact = frame.depth.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(targets["depth"][position, 0], exact)
    config = trial_config("dense", "cityscapes", "tiny", root=str(tmp_path / "store"))
    assert config.training.loss_weights == {"segmentation": 1.0, "depth": 20.0}
    dataset = open_dataset(config.data)
    assert dataset.num_channels("segmentation") == 19
    assert set(dataset.train.scenes).isdisjoint(dataset.val.scenes)


def test_all_values_of_16_bits_are_the_same_in_both_layouts(tmp_path):
    values = random_city(0, (256, 256))
    values["steps"] = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for split, name in (("train", "ulm_000000_000019"), ("val", "lindau_000000_000019")):
        write_official_city(tmp_path / "official", split, name, values)
        write_array_city(tmp_path / "arrays" / split, name, values)
    depth, other = (
        open_source(tmp_path / layout).load("train", 0, (256, 256)).depth
        for layout in ("official", "arrays")
    )
    np.testing.assert_array_equal(depth, other)
    assert np.isnan(depth.flat[:2]).all()
    expected = np.arange(1, 65535) / 65535
    np.testing.assert_allclose(depth.flat[2:], expected, rtol=1e-6)


def test_metric_depth_is_baseline_times_focal_length_by_disparity(tmp_path):
    values = random_city(0, (4, 6))
    # Unknown, 1 pixel, 10 pixels, hardly less than a pixel, 1 / 256 pixel.
    values["steps"][0, :5] = (0, 257, 257 + 256 * 9, 256, 2)
    for split, name in (("train", "ulm_000000_000019"), ("val", "lindau_000000_000019")):
        write_official_city(tmp_path, split, name, values)
    depth = open_metric_source(tmp_path).load("train", 0, (4, 6)).depth
    span = CAMERA["extrinsic"]["baseline"] * CAMERA["intrinsic"]["fx"]
    assert np.isnan(depth[0, [0, 3, 4]]).all()
    np.testing.assert_allclose(depth[0, 1:3], [span, span / 10], rtol=1e-6)


def test_numbered_frames_are_in_order_and_blocks_of_ten_stay_together(tmp_path):
    names = {"train": [10, 9, 2], "val": [0, 1]}
    for index in (True, False):
        root = write_arrays(tmp_path / str(index), index=index, names=names)
        files = open_source(root).files["train"]
        assert [entry.name for entry in files] == ["2", "9", "10"]
        assert [entry.scene for entry in files] == ["block-0000", "block-0000", "block-0001"]


@pytest.mark.parametrize(
    ("folders", "left", "note"),
    [
        (("disparity",), ("depth",), "segmentation: left out, .* no folder gtFine/"),
        (("gtFine",), ("segmentation",), "depth: left out, .* no folder disparity/"),
    ],
)
def test_a_missing_modality_is_left_out_and_said(tmp_path, folders, left, note):
    for split, names in NAMES.items():
        for name in names:
            write_official_city(tmp_path / "raw", split, name, frames()[name], folders)
    summary = convert("cityscapes", tmp_path / "raw", tmp_path / "store", (16, 32))
    assert len(summary.notes) == 1
    assert re.match(note, summary.notes[0])
    assert Split(tmp_path / "store" / "train.arrow").modalities == ("image", *left)


def test_arrays_of_seven_classes_leave_segmentation_out(tmp_path):
    root = write_arrays(tmp_path, index=False)
    for split in NAMES:
        for path in (root / split / "label_19").iterdir():
            path.unlink()
        (root / split / "label_19").rmdir()
    source = open_source(root)
    assert "segmentation: left out" in source.notes[0]
    assert source.load("test", 0, SIZE).segmentation is None


def official_file(root, folder, suffix):
    return root / folder / "train" / "ulm" / f"ulm_000000_000019_{suffix}"


IMAGE = ("leftImg8bit", "leftImg8bit.png")
LABELS, DISPARITY = ("gtFine", "gtFine_labelIds.png"), ("disparity", "disparity.png")


@pytest.mark.parametrize(
    ("which", "damage", "message"),
    [
        (DISPARITY, lambda p: write_png(p, np.ones((33, 46), np.uint16)), r"33x47, got 33x46"),
        (DISPARITY, lambda p: write_png(p, np.ones(SIZE, np.uint8)), r"mode I;16.*got 'L'"),
        (DISPARITY, lambda p: p.write_bytes(p.read_bytes()[:700]), r"readable image"),
        (LABELS, lambda p: write_png(p, np.full(SIZE, 34, np.uint8)), r"0-33 or 255, got 34"),
        (LABELS, lambda p: write_png(p, np.zeros((*SIZE, 3), np.uint8)), r"got 'RGB'"),
        (LABELS, lambda p: p.write_bytes(b"GIF89a"), r"readable image"),
        (IMAGE, lambda p: write_png(p, np.zeros(SIZE, np.uint8)), r"mode RGB, got 'L'"),
        (IMAGE, lambda p: p.write_bytes(b""), r"readable image"),
    ],
)
def test_a_bad_official_file_is_named(official, which, damage, message):
    path = official_file(official, *which)
    damage(path)
    source = open_source(official)
    with pytest.raises(UserError, match=message) as caught:
        source.load("train", 2, SIZE)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"extrinsic": {"baseline": 0}, "intrinsic": {"fx": 1}}']
)
def test_a_bad_camera_is_named(official, text):
    path = official_file(official, "camera", "camera.json")
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(str(path))):
        open_metric_source(official).load("train", 2, SIZE)
    open_source(official).load("train", 2, SIZE)  # disparity needs none


def test_files_missing_for_some_frames_are_named(official):
    official_file(official, *DISPARITY).unlink()
    with pytest.raises(UserError, match=r"ulm_000000_000019_disparity\.png; .*leave depth out"):
        open_source(official)


@pytest.mark.parametrize(
    ("kind", "array", "message"),
    [
        ("label_19", np.full(SIZE, 19), r"0-18 or -1 \(ignored\), got 19"),
        ("label_19", np.full(SIZE, 0.5), r"got 0\.5"),
        ("label_19", np.zeros((2, *SIZE)), r"shape \(height, width\)"),
        ("label_19", np.zeros((33, 46)), r"33x47, got 33x46"),
        ("depth", np.full((*SIZE, 1), 300.0), r"in \[0, 1\], got \[300\.0, 300\.0\]"),
        ("depth", np.full(SIZE, np.nan), r"in \[0, 1\]"),
        ("image", np.full((*SIZE, 3), 255.0), r"image in \[0, 1\].*divide bytes by 255"),
        ("image", np.zeros(SIZE), r"\(height, width, 3\)"),
        ("image", np.array(["text"]), r"array of numbers"),
    ],
)
def test_a_bad_array_is_named(tmp_path, kind, array, message):
    root = write_arrays(tmp_path, index=False)
    path = root / "train" / kind / "ulm_000000_000019.npy"
    write_npy(path, array)
    with pytest.raises(UserError, match=message) as caught:
        open_source(root).load("train", 2, SIZE)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", '{"train": [["a", "b"]], "test": []}'])
def test_a_malformed_index(tmp_path, content):
    (tmp_path / "cityscape.json").write_text(content)
    with pytest.raises(UserError, match=r"cityscape\.json must map train and test"):
        open_source(tmp_path)


def test_folders_that_are_not_cityscapes(tmp_path, official):
    with pytest.raises(UserError, match=r"without leftImg8bit/.*supported: the official one"):
        open_source(tmp_path)
    with pytest.raises(UserError, match=r"official layout.*needs its camera files"):
        open_metric_source(tmp_path)
    for path in (official / "leftImg8bit" / "val").glob("*/*"):
        path.unlink()
    with pytest.raises(UserError, match=r"leftImg8bit/val, got none"):
        open_source(official)

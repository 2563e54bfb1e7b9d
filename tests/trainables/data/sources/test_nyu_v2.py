"""Both layouts, and one message for each thing that can be wrong with a file."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from trainables.data.sources import nyu_v2
from trainables.data.sources.nyu_v2 import has_white_frame, load_frame, open_source
from trainables.errors import UserError


@pytest.fixture
def plain(tmp_path, write_plain_nyu):
    return write_plain_nyu(tmp_path / "raw", train=[2, 3, 6], test=[4])


def write_adashare(folder, size=(48, 64)):
    """Two frames whose normals point to the camera (-z) but for one invalid pixel."""
    for name in ("img", "seg", "normal_mask", "depth"):
        (folder / name).mkdir(parents=True)
    listing = {"train": [], "test": []}
    for split, name in (("train", "0001"), ("test", "0002")):
        paths = [
            f"img/{name}.png",
            f"seg/{name}.png",
            f"normal_mask/{name}.png",
            f"depth/{name}.npy",
        ]
        listing[split].append(paths)
        Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(folder / paths[0])
        Image.fromarray(np.full(size, 39, np.uint8)).save(folder / paths[1])
        # (R, G, B) = (x, z, -y)
        normals = np.full((*size, 3), (128, 0, 128), np.uint8)
        normals[0, 0] = 255
        normals[1, 1] = (255, 128, 128)
        normals[2, 2] = (128, 128, 255)
        Image.fromarray(normals).save(folder / paths[2])
        depth = np.full(size, 2.5, np.float32)
        depth[3, 3] = 0
        np.save(folder / paths[3], depth)
    (folder / "nyu_v2_3task.json").write_text(json.dumps(listing))
    return folder


def test_plain_layout(plain):
    source = open_source(plain)
    assert (source.num_frames("train"), source.num_frames("test")) == (3, 1)
    frame = source.load("train", 2, (48, 64))
    assert (frame.name, frame.scene) == ("0006", "run-0006")
    assert source.load("train", 1, (48, 64)).scene == "run-0002"
    stored = np.asarray(Image.open(plain / "seg" / "0006.png"))
    np.testing.assert_array_equal(frame.segmentation, stored)
    np.testing.assert_allclose(frame.depth[0, [0, -1]], [50.5 / 25.5, 100.5 / 25.5])
    assert frame.normals.shape == (48, 64, 3)


def test_adashare_layout(tmp_path):
    frame = open_source(write_adashare(tmp_path)).load("test", 0, (48, 64))
    assert frame.name == "0002"
    assert (frame.segmentation == 39).all()
    assert np.isnan(frame.depth[3, 3])
    assert frame.depth[0, 0] == 2.5
    assert np.isnan(frame.normals[0, 0]).all()
    np.testing.assert_allclose(frame.normals[5, 5], [0, 0, -1], atol=0.01)
    np.testing.assert_allclose(frame.normals[1, 1], [1, 0, 0], atol=0.01)
    np.testing.assert_allclose(frame.normals[2, 2], [0, -1, 0], atol=0.01)


def test_frames_are_resized_on_the_way(plain):
    assert open_source(plain).load("train", 0, (24, 32)).size == (24, 32)


def test_the_white_frame_is_ignored_and_continued(tmp_path, write_plain_nyu):
    size = nyu_v2.NATIVE_SIZE
    folder = write_plain_nyu(tmp_path / "raw", [1], [2], size)
    picture = np.full((*size, 3), 255, np.uint8)
    picture[8:-8, 8:-8] = 60
    assert has_white_frame(picture)
    assert not has_white_frame(np.full((*size, 3), 60, np.uint8))
    assert not has_white_frame(picture[:, :600])
    Image.fromarray(picture).save(folder / "rgb" / "0001.jpg", quality=95)
    frame = open_source(folder).load("train", 0, size)
    inside = np.zeros(size, bool)
    inside[8:-8, 8:-8] = True
    assert frame.image.max() < 70
    np.testing.assert_array_equal(~np.isnan(frame.depth), inside)
    assert (frame.segmentation[~inside] == 255).all()
    assert np.isnan(frame.normals[~inside]).all()
    assert not np.isnan(frame.normals[240, 320]).any()


def save_labels(folder, labels):
    Image.fromarray(labels).save(folder / "seg" / "0003.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: save_labels(f, np.zeros((48, 60), np.uint8)),
            r"size of its image.*48x64, got 48x60",
        ),
        (lambda f: save_labels(f, np.full((48, 64), 40, np.uint8)), r"0-39 or 255.*got 40"),
        (lambda f: save_labels(f, np.zeros((48, 64, 3), np.uint8)), r"mode L or P, got 'RGB'"),
        (lambda f: (f / "seg" / "0003.png").write_bytes(b"no image"), r"readable image"),
        (lambda f: (f / "seg" / "0003.png").write_bytes(b""), r"readable image"),
        (
            lambda f: (f / "seg" / "0003.png").write_bytes(
                (f / "seg" / "0002.png").read_bytes()[:900]
            ),
            r"readable image",
        ),
    ],
)
def test_a_bad_file_is_named(plain, damage, message):
    damage(plain)
    source = open_source(plain)
    source.load("train", 0, (48, 64))
    with pytest.raises(UserError, match=message) as caught:
        source.load("train", 1, (48, 64))
    assert str(plain / "seg" / "0003.png") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"text"])
def test_a_bad_depth_array_is_named(tmp_path, content):
    folder = write_adashare(tmp_path)
    (folder / "depth" / "0001.npy").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(folder / "depth" / "0001.npy"))):
        open_source(folder).load("train", 0, (48, 64))


def test_the_index_must_name_files_that_exist(plain):
    (plain / "depth" / "0004.png").unlink()
    with pytest.raises(UserError, match=r"splits\.json must name files that exist.*0004\.png"):
        open_source(plain)


@pytest.mark.parametrize("content", ["", "[]", '{"train": [2]}', '{"train": ["x"], "test": []}'])
def test_a_malformed_index(plain, content):
    (plain / "splits.json").write_text(content)
    with pytest.raises(UserError, match=r"splits\.json must map train and test"):
        open_source(plain)


def test_an_index_that_begins_with_a_mark(plain):
    index = plain / "splits.json"
    listed = open_source(plain).num_frames("train")
    index.write_text("\ufeff" + index.read_text(), encoding="utf-8")
    assert open_source(plain).num_frames("train") == listed


def test_a_frame_listed_twice(tmp_path, plain):
    (plain / "splits.json").write_text('{"train": [2, 3, 2], "test": [4]}')
    with pytest.raises(UserError, match=r"splits\.json must list a frame once, got '0002' 2 times"):
        open_source(plain)
    folder = write_adashare(tmp_path)
    index = folder / "nyu_v2_3task.json"
    listing = json.loads(index.read_text())
    listing["test"] *= 3
    index.write_text(json.dumps(listing))
    with pytest.raises(UserError, match=r"nyu_v2_3task\.json .*'0002' 3 times for 'test'; remove"):
        open_source(folder)


def test_unpadded_numbers_are_in_the_order_of_numbers(tmp_path):
    folder = write_adashare(tmp_path)
    files = ("img/{}.png", "seg/{}.png", "normal_mask/{}.png", "depth/{}.npy")

    def entry(name: str, content: str) -> list[str]:
        for file in files:
            (folder / file.format(name)).write_bytes((folder / file.format(content)).read_bytes())
        return [file.format(name) for file in files]

    listing = {
        "train": [entry(str(number), "0001") for number in (10, 9, 2, 1, 11)],
        "test": [entry("3", "0002")],
    }
    (folder / "nyu_v2_3task.json").write_text(json.dumps(listing))
    listed = open_source(folder).files["train"]
    assert [files.name for files in listed] == ["1", "2", "9", "10", "11"]
    assert [files.image.name for files in listed] == [f"{f.name}.png" for f in listed]
    # Two runs of consecutive numbers; as text, 1 10 11 2 9 would make three.
    assert [files.scene for files in listed] == ["run-0001"] * 2 + ["run-0009"] * 3


def test_an_empty_list(plain):
    (plain / "splits.json").write_text('{"train": [2], "test": []}')
    with pytest.raises(UserError, match="frames for 'test', got none"):
        open_source(plain)


def test_unknown_layout_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"splits\.json.*nyu_v2_3task\.json"):
        open_source(tmp_path)


@pytest.mark.realdata
def test_layouts_agree_on_the_frames_they_share(real_data):
    for folder in ("nyuv2", "nyuv2_adashare"):
        if not (real_data / folder).is_dir():
            pytest.skip(f"{real_data / folder} is not there")
    by_name = {
        files.name: files
        for listed in open_source(real_data / "nyuv2").files.values()
        for files in listed
    }
    compared = 0
    for listed in open_source(real_data / "nyuv2_adashare").files.values():
        for files in listed:
            derived, stored = load_frame(by_name[files.name]), load_frame(files)
            np.testing.assert_array_equal(derived.segmentation, stored.segmentation)
            np.testing.assert_array_equal(np.isnan(derived.depth), np.isnan(stored.depth))
            assert np.nanmean(np.abs(derived.depth - stored.depth)) < 0.011  # quantisation
            # The plain layout's colour is compressed by JPEG.
            difference = derived.image.astype(int) - stored.image.astype(int)
            assert np.abs(difference).mean() < 3
            cosine = (derived.normals * stored.normals).sum(axis=2)
            angles = np.degrees(np.arccos(np.clip(cosine[~np.isnan(cosine)], -1, 1)))
            assert angles.mean() < 13
            assert np.median(angles) < 8
            assert np.isfinite(cosine).mean() > 0.4
            compared += 1
    assert compared == 4


@pytest.mark.realdata
def test_real_runs_are_scenes_of_a_known_number(real_data):
    source = open_source(real_data / "nyuv2")
    assert (source.num_frames("train"), source.num_frames("test")) == (795, 500)
    scenes = [files.scene for files in source.files["train"]]
    assert len(set(scenes)) == 123

"""The three orders of Taskonomy's folders, its encodings, and what can be wrong with a file."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spaces.presets import trial_config
from tests.trainables.data.sources.official_files import (
    TASKONOMY_DOMAINS,
    TASKONOMY_ORDERS,
    random_room,
    write_png,
    write_room,
)
from trainables.data.batch import Batch
from trainables.data.catalogue import open_dataset
from trainables.data.loading.augmentation import AugmentationParameters, augment
from trainables.data.loading.decoding import decode
from trainables.data.resizing import resize_response
from trainables.data.sources.taskonomy import (
    CLASS_NAMES,
    TEST_BUILDINGS,
    buildings_for_test,
    open_source,
)
from trainables.data.store.convert import convert
from trainables.data.store.encoding import to_stored
from trainables.data.store.split_file import Split
from trainables.errors import UserError

SIZE = (21, 27)
ROOMS = [("allensville", 3), ("allensville", 20), ("hanson", 3), ("ihlen", 0), ("corozal", 7)]


def write_all(root, order="building first", domains=tuple(TASKONOMY_DOMAINS)):
    for seed, (building, point) in enumerate(ROOMS):
        write_room(root, building, point, random_room(seed, SIZE), order, domains)
    return root


@pytest.fixture
def raw(tmp_path):
    return write_all(tmp_path / "raw")


def test_the_encodings_worked_by_hand(tmp_path):
    values = random_room(0, (2, 8))
    values["segment_semantic"][1] = (0, 1, 2, 17, 5, 5, 5, 5)
    values["normal"][1, :4] = [(255, 128, 128), (128, 0, 128), (128, 128, 255), (127, 128, 127)]
    values["depth_zbuffer"][1] = (512, 1, 64499, 2560, 512, 65535, 0, 64500)
    values["normal"][1, 4:] = (128, 128, 255)
    values["keypoints2d"][1, :4] = (0, 164, 400, 65535)
    values["edge_texture"][1, :4] = (0, 2621, 60000, 65535)
    for building in ("allensville", "ihlen"):
        write_room(tmp_path, building, 4, values)
    frame = open_source(tmp_path).load("train", 0, (2, 8))
    assert (frame.name, frame.scene) == ("allensville-point_4_view_2", "allensville")
    assert frame.segmentation[1, :4].tolist() == [255, 0, 1, 16]
    assert CLASS_NAMES[16] == "vase"
    np.testing.assert_allclose(frame.depth[1, :4], [1, 1 / 512, 64499 / 512, 5], rtol=1e-7)
    assert np.isnan(frame.depth[1, 5:]).all()
    # Right, up (down is positive), towards the camera (forward is positive), no direction.
    expected = [[1, 0, 0], [0, -1, 0], [0, 0, -1]]
    np.testing.assert_allclose(frame.normals[1, :3], expected, atol=0.01)
    assert np.isnan(frame.normals[1, 3]).all()
    assert not np.isnan(frame.normals[1, 4]).any()
    assert np.isnan(frame.normals[1, 5:]).all()  # no depth, no surface
    np.testing.assert_allclose(
        frame.keypoints[1, :4], [0, 164 / 65536 / 0.005, 1, np.nan], rtol=1e-6
    )
    np.testing.assert_allclose(frame.edges[1, :4], [0, 2621 / 65536 / 0.08, 1, np.nan], rtol=1e-6)


@pytest.mark.parametrize("order", TASKONOMY_ORDERS)
@pytest.mark.parametrize("size", [SIZE, (16, 16)])
def test_one_frame_in_every_order_is_the_same(raw, tmp_path, order, size):
    source, other = open_source(raw), open_source(write_all(tmp_path / "other", order))
    for split, count in (("train", 4), ("test", 1)):
        assert source.num_frames(split) == other.num_frames(split) == count
        for position in range(count):
            one, two = source.load(split, position, size), other.load(split, position, size)
            assert (one.name, one.scene) == (two.name, two.scene)
            for (modality, array), (_, again) in zip(one.arrays(), two.arrays(), strict=True):
                np.testing.assert_array_equal(array, again, err_msg=modality)
    assert source.load("test", 0, size).name == "ihlen-point_0_view_2"


def test_frames_are_in_the_order_of_numbers(raw):
    source = open_source(raw)
    names = [source.files["train"][position].name for position in range(4)]
    assert names == [
        "allensville-point_3_view_2",
        "allensville-point_20_view_2",
        "corozal-point_7_view_2",
        "hanson-point_3_view_2",
    ]


def test_the_store_is_lossless_and_opens_by_preset(raw, tmp_path):
    convert("taskonomy", raw, tmp_path / "store", (64, 64))
    split, source = Split(tmp_path / "store" / "train.arrow"), open_source(raw)
    assert split.meta.unknown_responses
    stored = {m: torch.from_numpy(split.column(m).copy()) for m in split.modalities}
    targets = decode(stored, split).targets
    for position in range(4):
        frame = source.load("train", position, (64, 64))
        np.testing.assert_array_equal(split.column("image")[position], frame.image)
        np.testing.assert_array_equal(targets["segmentation"][position], frame.segmentation)
        depth = frame.depth.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(targets["depth"][position, 0], depth)
        normals = np.moveaxis(frame.normals, 2, 0)
        got = targets["normals"][position].numpy()
        np.testing.assert_array_equal(np.isnan(got), np.isnan(normals))
        assert np.nanmax(np.abs(got - normals)) < 1 / 127
        for modality in ("keypoints", "edges"):
            response, kept = getattr(frame, modality), targets[modality][position, 0].numpy()
            assert np.isnan(response).any()
            np.testing.assert_array_equal(np.isnan(kept), np.isnan(response))
            assert np.nanmax(np.abs(kept - response)) <= 0.5 / 254 + 1e-6
    config = trial_config("dense", "taskonomy", "tiny", root=str(tmp_path / "store"))
    dataset = open_dataset(config.data)
    assert dataset.num_channels("segmentation") == 17
    assert dataset.test.scenes == ("ihlen",)
    assert set(dataset.train.scenes).isdisjoint(dataset.val.scenes)


@given(st.integers(0, 254))
def test_a_stored_response_is_stored_again_as_it_was(value):
    response = (torch.tensor([[value, 255]], dtype=torch.uint8).float() / 254).numpy()
    response[0, 1] = np.nan
    again = to_stored("edges", response, "a", unknown_responses=True)
    assert again.tolist() == [[value, 255]]


@pytest.mark.parametrize("missing", ["keypoints2d", "segment_semantic", "depth_zbuffer"])
def test_a_missing_domain_is_left_out_and_said(tmp_path, missing):
    domains = tuple(domain for domain in TASKONOMY_DOMAINS if domain != missing)
    summary = convert(
        "taskonomy", write_all(tmp_path / "raw", domains=domains), tmp_path / "store", (16, 16)
    )
    task = {"keypoints2d": "keypoints", "segment_semantic": "segmentation"}.get(missing, "depth")
    assert len(summary.notes) == 1
    assert summary.notes[0].startswith(f"{task}: left out")
    assert task not in Split(tmp_path / "store" / "test.arrow").modalities


def test_files_missing_for_some_frames_are_named(raw):
    path = raw / "hanson" / "edge_texture" / "point_3_view_2_domain_edge_texture.png"
    path.unlink()
    with pytest.raises(UserError, match="every image must have its file of edge_texture") as caught:
        open_source(raw)
    assert str(path) in str(caught.value)


def test_many_missing_files_are_counted(raw):
    for path in list(raw.glob("*/normal/*.png"))[1:]:
        path.unlink()
    with pytest.raises(UserError, match=r"normal\.png and 1 more; "):
        open_source(raw)


@pytest.mark.parametrize(
    ("domain", "damage", "message"),
    [
        ("depth_zbuffer", lambda p: write_png(p, np.ones(SIZE, np.uint8)), "mode I;16"),
        ("depth_zbuffer", lambda p: p.write_bytes(p.read_bytes()[:200]), "readable image"),
        ("normal", lambda p: write_png(p, np.ones(SIZE, np.uint8)), "mode RGB, got 'L'"),
        ("normal", lambda p: write_png(p, np.ones((9, 27, 3), np.uint8)), "21x27, got 9x27"),
        ("segment_semantic", lambda p: write_png(p, np.full(SIZE, 18, np.uint8)), "0-17.*got 18"),
        ("keypoints2d", lambda p: p.write_bytes(b"text"), "readable image"),
        ("edge_texture", lambda p: write_png(p, np.ones((20, 27), np.uint16)), "got 20x27"),
        ("rgb", lambda p: p.write_bytes(b""), "readable image"),
    ],
)
def test_a_bad_file_is_named(raw, domain, damage, message):
    path = raw / "hanson" / domain / f"point_3_view_2_domain_{TASKONOMY_DOMAINS[domain]}.png"
    damage(path)
    with pytest.raises(UserError, match=message) as caught:
        open_source(raw).load("train", 3, SIZE)
    assert str(path) in str(caught.value)


def test_foreign_and_doubled_files_are_named(raw):
    path = raw / "hanson" / "rgb" / "point_3_view_2_domain_normal.png"
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"named point_X_view_Y_domain_rgb\.png, got .*normal\.png"):
        open_source(raw)
    path.unlink()
    write_room(raw, "hanson", 3, random_room(0, SIZE), "omnidata", ("rgb",))
    with pytest.raises(UserError, match="one file of rgb"):
        open_source(raw)


def test_folders_that_are_not_taskonomy(tmp_path):
    with pytest.raises(UserError, match=r"without images point_X.*domains: rgb, segment_semantic"):
        open_source(tmp_path)
    write_all(tmp_path, domains=("rgb",))
    with pytest.raises(UserError, match="with rgb alone"):
        open_source(tmp_path)


def test_buildings_decide_the_split():
    assert buildings_for_test(["Ihlen", "hanson", "uvalda"]) == {"Ihlen", "uvalda"}
    others = [f"building{number}" for number in range(35)]
    chosen = buildings_for_test(others)
    assert len(chosen) == 5
    assert buildings_for_test(reversed(others)) == chosen
    # A building's place does not depend on what else is there, but for the boundary.
    assert len(buildings_for_test(others[:28]) & chosen) >= 3
    for too_few in (["hanson"], list(TEST_BUILDINGS)):
        with pytest.raises(UserError, match="buildings for train and for test"):
            buildings_for_test(too_few)


def test_means_of_responses_leave_out_what_is_unknown():
    nan = np.nan
    response = np.array([[0.2, 0.4, nan, nan], [0.6, nan, nan, 0.8]], np.float32)
    np.testing.assert_allclose(resize_response(response, (1, 2)), [[0.4, nan]], rtol=1e-6)
    assert resize_response(response[:, :2], (1, 1))[0, 0] == pytest.approx(0.4)


def test_an_unknown_response_never_mixes_into_known_ones():
    response = torch.full((1, 1, 8, 8), 0.5)
    response[0, 0, 4, 4] = float("nan")
    parameters = AugmentationParameters(
        scale=torch.tensor([1.25], dtype=torch.float64),
        mirror=torch.tensor([True]),
        top=torch.tensor([0]),
        left=torch.tensor([0]),
    )
    batch = Batch(images_BCHW=torch.zeros(1, 3, 8, 8), targets={"edges": response})
    got = augment(batch, parameters, crop=(10, 10), depth_kind="metric").targets["edges"][0, 0]
    unknown = got.isnan()
    assert 1 <= unknown.sum() <= 9
    assert unknown[5, 4]  # the pixel that lies on it
    torch.testing.assert_close(got[~unknown], torch.full_like(got[~unknown], 0.5))

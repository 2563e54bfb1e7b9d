"""From official files through store and augmentation: targets against the transformed scene.

The scene is one plane, known in closed form. Resizing by s with the focal length kept shows it as
if compressed to 1/s of its depth, a plane again, so every target can be derived anew.
"""

import numpy as np
import pytest
import torch

from tests.trainables.data.sources.official_files import (
    random_city,
    random_room,
    write_official_city,
    write_room,
)
from trainables.data.loading.augmentation import AugmentationParameters, augment
from trainables.data.loading.decoding import decode
from trainables.data.sources.normals_from_depth import Intrinsics
from trainables.data.store.convert import convert
from trainables.data.store.split_file import Split

SIZE, CROP = (96, 128), (64, 72)
CAMERA = Intrinsics(fx=110.0, fy=112.0, cx=60.0, cy=50.0)
NORMAL = np.array([0.5, -0.4, -0.8]) / np.linalg.norm([0.5, -0.4, -0.8])
DISTANCE = 3.0
BASELINE = 0.2
# Any scale and offset: test_augmentation_geometry. Here, that a layout's units and axes arrive.
CASES = [(0.5, False, (0, 0)), (0.8, True, (5, 9)), (1.5, False, (5, 9)), (1.5, True, (0, 0))]


def depth_of(normal: np.ndarray, camera: Intrinsics, size: tuple[int, int]) -> np.ndarray:
    """float64 (H, W) of the plane n . P = -distance; NaN behind the camera."""
    x = (np.arange(size[1]) - camera.cx)[None, :] / camera.fx
    y = (np.arange(size[0]) - camera.cy)[:, None] / camera.fy
    slope = normal[0] * x + normal[1] * y + normal[2]
    return np.where(slope < 0, -DISTANCE / slope, np.nan)


def transformed(scale: float, mirror: bool, offset: tuple[int, int]) -> tuple:
    """The plane's normal and depth as the augmented image shows them."""
    centre = SIZE[1] - 1 - CAMERA.cx if mirror else CAMERA.cx
    camera = Intrinsics(
        fx=CAMERA.fx,
        fy=CAMERA.fy,
        cx=(centre + 0.5) * scale - 0.5 - offset[1],
        cy=(CAMERA.cy + 0.5) * scale - 0.5 - offset[0],
    )
    # x' = -x; z' = z / s, and normals transform by the inverse transpose.
    normal = NORMAL * [-1 if mirror else 1, 1, scale]
    return normal / np.linalg.norm(normal), depth_of(normal, camera, CROP)


def augmented(store, scale, mirror, offset):
    split = Split(store / "train.arrow")
    batch = decode(
        {m: torch.from_numpy(split.column(m)[:1].copy()) for m in split.modalities}, split
    )
    parameters = AugmentationParameters(
        scale=torch.tensor([scale], dtype=torch.float64),
        mirror=torch.tensor([mirror]),
        top=torch.tensor([offset[0]]),
        left=torch.tensor([offset[1]]),
    )
    result = augment(batch, parameters, crop=CROP, depth_kind=split.meta.depth_kind)
    return {task: target[0].numpy() for task, target in result.targets.items()}


@pytest.fixture(scope="module")
def city_stores(tmp_path_factory):
    """The plane in the official layout of Cityscapes, converted to disparity and to metres."""
    root = tmp_path_factory.mktemp("city")
    values = random_city(0, SIZE)
    pixels = BASELINE * CAMERA.fx / depth_of(NORMAL, CAMERA, SIZE)
    values["steps"] = np.rint(np.nan_to_num(pixels) * 256 + 1).astype(np.uint16)
    values["steps"][~(pixels > 0)] = 0
    values["camera"] = {"extrinsic": {"baseline": BASELINE}, "intrinsic": {"fx": CAMERA.fx}}
    for split, name in (("train", "ulm_000000_000019"), ("val", "lindau_000000_000019")):
        write_official_city(root / "raw", split, name, values)
        values["image"] = 255 - values["image"]  # another frame
    for name in ("cityscapes", "cityscapes-metric"):
        convert(name, root / "raw", root / name, SIZE)
    return root


@pytest.mark.parametrize(("scale", "mirror", "offset"), CASES)
def test_disparity_is_multiplied_and_depth_divided(city_stores, scale, mirror, offset):
    _, expected = transformed(scale, mirror, offset)
    share = augmented(city_stores / "cityscapes", scale, mirror, offset)["depth"][0]
    metres = augmented(city_stores / "cityscapes-metric", scale, mirror, offset)["depth"][0]
    known = ~np.isnan(share)
    np.testing.assert_array_equal(known, ~np.isnan(metres))
    assert known.mean() > 0.3
    # Nearest sampling is off by up to half a pixel of the source, 16-bit steps by 1 / 512 pixel.
    from_disparity = BASELINE * CAMERA.fx / (share * 65535 / 256)
    for got in (from_disparity, metres):
        relative = np.abs(got / expected - 1)[known]
        assert np.median(relative) < 0.006
        assert relative.max() < 0.03
    # The rule is told from its opposite and from none.
    if scale != 1:
        assert np.median(np.abs(from_disparity * scale / expected - 1)[known]) > 0.15


@pytest.fixture(scope="module")
def room_store(tmp_path_factory):
    root = tmp_path_factory.mktemp("room")
    values = random_room(0, SIZE)
    depth = depth_of(NORMAL, CAMERA, SIZE)
    steps = np.rint(np.nan_to_num(depth, nan=65535 / 512) * 512)
    values["depth_zbuffer"] = np.minimum(steps, 65535).astype(np.uint16)
    right, down, forward = NORMAL
    values["normal"][:] = np.rint((np.array([right, down, -forward]) + 1) * 127.5)
    ramp = np.broadcast_to(np.arange(SIZE[1]), SIZE)
    values["keypoints2d"] = np.rint(ramp / SIZE[1] * 0.005 * 65536).astype(np.uint16)
    for building in ("hanson", "ihlen"):
        write_room(root / "raw", building, 1, values)
        values["rgb"] = 255 - values["rgb"]  # another frame
    convert("taskonomy", root / "raw", root / "store", SIZE)
    return root / "store"


@pytest.mark.parametrize(("scale", "mirror", "offset"), CASES)
def test_taskonomys_targets_agree_with_the_transformed_scene(room_store, scale, mirror, offset):
    normal, expected = transformed(scale, mirror, offset)
    targets = augmented(room_store, scale, mirror, offset)
    depth, normals = targets["depth"][0], targets["normals"]
    known = ~np.isnan(depth)
    assert known.mean() > 0.3
    relative = np.abs(depth / expected - 1)[known]
    assert np.median(relative) < 0.006
    assert relative.max() < 0.03
    cosine = np.einsum("chw,c->hw", normals, normal)
    assert np.degrees(np.arccos(np.clip(cosine[known], -1, 1))).max() < 1.0  # bytes
    # Keypoints rise to the right, and to the left when mirrored.
    row = targets["keypoints"][0][20]
    steps = np.diff(row[~np.isnan(row)])
    assert (steps.mean() < 0) == mirror

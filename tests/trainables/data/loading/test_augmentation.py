"""Augmentation is checked against loops over pixels and against geometry derived anew."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.batch import IGNORE_LABEL, Batch
from trainables.data.loading.augmentation import AugmentationParameters, augment
from trainables.data.sources.normals_from_depth import Intrinsics, normals_from_depth

NAN = float("nan")


def parameters(scale=1.0, mirror=False, top=0, left=0) -> AugmentationParameters:
    return AugmentationParameters(
        scale=torch.tensor([scale], dtype=torch.float64),
        mirror=torch.tensor([mirror]),
        top=torch.tensor([top]),
        left=torch.tensor([left]),
    )


def random_batch(size, seed=0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    normals = torch.randn(1, 3, *size, generator=rng)
    depth = torch.rand(1, 1, *size, generator=rng) + 0.5
    depth[0, 0, 0, 0] = NAN
    return Batch(
        images_BCHW=torch.randn(1, 3, *size, generator=rng),
        targets={
            "segmentation": torch.randint(0, 40, (1, *size), generator=rng),
            "normals": torch.nn.functional.normalize(normals, dim=1),
            "depth": depth,
            "edges": torch.rand(1, 1, *size, generator=rng),
        },
    )


def test_neutral_parameters_copy_every_pixel():
    batch = random_batch((7, 9))
    result = augment(batch, parameters(), crop=(7, 9), depth_kind="metric")
    torch.testing.assert_close(result.images_BCHW, batch.images_BCHW, rtol=0, atol=2e-6)
    for task, target in batch.targets.items():
        torch.testing.assert_close(
            result.targets[task], target, rtol=0, atol=2e-6, equal_nan=True, msg=task
        )


def test_mirror_worked_by_hand():
    batch = Batch(
        images_BCHW=torch.tensor([[[[1.0, 2.0, 3.0]]]]),
        targets={
            "segmentation": torch.tensor([[[4, 5, 6]]]),
            "normals": torch.tensor(
                [[[[0.6, 0.0, -0.8]], [[0.0, 0.6, 0.0]], [[-0.8, -0.8, -0.6]]]]
            ),
            "depth": torch.tensor([[[[1.0, 2.0, NAN]]]]),
        },
    )
    result = augment(batch, parameters(mirror=True), crop=(1, 3), depth_kind="metric")
    assert result.images_BCHW.flatten().tolist() == pytest.approx([3, 2, 1])
    assert result.targets["segmentation"].flatten().tolist() == [6, 5, 4]
    expected = torch.tensor([[[[0.8, 0.0, -0.6]], [[0.0, 0.6, 0.0]], [[-0.6, -0.8, -0.8]]]])
    torch.testing.assert_close(result.targets["normals"], expected)
    depth = result.targets["depth"].flatten()
    assert depth[0].isnan()
    assert depth[1:].tolist() == [2, 1]


def test_double_size_worked_by_hand():
    batch = Batch(
        images_BCHW=torch.zeros(1, 1, 1, 2),
        targets={
            "segmentation": torch.tensor([[[7, 8]]]),
            "depth": torch.tensor([[[[4.0, 6.0]]]]),
            "edges": torch.tensor([[[[0.0, 1.0]]]]),
        },
    )
    result = augment(batch, parameters(scale=2.0), crop=(2, 4), depth_kind="metric")
    assert result.targets["segmentation"].tolist() == [[[7, 7, 8, 8]] * 2]
    assert result.targets["depth"].tolist() == [[[[2, 2, 3, 3]] * 2]]
    # New centres lie at -0.25, 0.25, 0.75 and 1.25 of the old ones.
    assert result.targets["edges"][0, 0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    crop=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    scale_percent=st.integers(50, 150),
    mirror=st.booleans(),
    offset=st.tuples(st.integers(-4, 6), st.integers(-4, 6)),
    kind=st.sampled_from(["metric", "disparity"]),
)
def test_against_loops_over_pixels(size, crop, scale_percent, mirror, offset, kind):
    scale = scale_percent / 100
    batch = random_batch(size)
    result = augment(batch, parameters(scale, mirror, *offset), crop=crop, depth_kind=kind)
    source = {task: target[0].numpy() for task, target in batch.targets.items()}
    image = batch.images_BCHW[0].numpy()
    if mirror:
        source = {task: target[..., ::-1] for task, target in source.items()}
        image = image[..., ::-1]

    def bilinear(plane, y, x):
        y, x = min(max(y - 0.5, 0), size[0] - 1), min(max(x - 0.5, 0), size[1] - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, size[0] - 1), min(left + 1, size[1] - 1)
        a, b = y - top, x - left
        upper = plane[..., top, left] * (1 - b) + plane[..., top, right] * b
        lower = plane[..., bottom, left] * (1 - b) + plane[..., bottom, right] * b
        return upper * (1 - a) + lower * a

    for i in range(crop[0]):
        for j in range(crop[1]):
            y, x = (i + offset[0] + 0.5) / scale, (j + offset[1] + 0.5) / scale
            got = {task: target[0, ..., i, j].numpy() for task, target in result.targets.items()}
            pixel = result.images_BCHW[0, :, i, j].numpy()
            if not (0 <= y < size[0] and 0 <= x < size[1]):
                assert (pixel == 0).all()
                assert got.pop("segmentation") == IGNORE_LABEL
                assert all(np.isnan(value).all() for value in got.values())
                continue
            row, column = int(y), int(x)
            np.testing.assert_allclose(pixel, bilinear(image, y, x), atol=1e-4)
            np.testing.assert_allclose(got["edges"], bilinear(source["edges"], y, x), atol=1e-4)
            assert got["segmentation"] == source["segmentation"][row, column]
            depth = source["depth"][0, row, column]
            expected = depth * scale if kind == "disparity" else depth / scale
            np.testing.assert_allclose(got["depth"], [expected], rtol=1e-5)
            normal = source["normals"][:, row, column] * [-1 if mirror else 1, 1, scale]
            np.testing.assert_allclose(got["normals"], normal / np.linalg.norm(normal), atol=1e-5)


def plane_batch(size, camera, normal, distance):
    """Depth and normals of the plane n . P = -distance, seen by `camera`; float64 exact."""
    x, y = (ray.astype(np.float64) for ray in camera.rays(size))
    depth = -distance / (normal[0] * x + normal[1] * y + normal[2])
    normals = np.broadcast_to(np.array(normal)[:, None, None], (3, *size))
    return Batch(
        images_BCHW=torch.zeros(1, 3, *size),
        targets={
            "depth": torch.from_numpy(depth[None, None]).float(),
            "normals": torch.from_numpy(normals[None].copy()).float(),
        },
    )


def fitted_normal(depth, camera):
    """Un-project and fit a plane by least squares; facing the camera."""
    x, y = (ray.astype(np.float64) for ray in camera.rays(depth.shape))
    points = np.stack([x * depth, y * depth, depth], axis=2).reshape(-1, 3)
    points = points[~np.isnan(points[:, 2])]
    direction = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][2]
    return direction if direction[2] < 0 else -direction


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.0, 1.25, 1.5])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("offset", [(0, 0), (9, 14)])
def test_normals_agree_with_those_of_the_augmented_depth(scale, mirror, offset):
    size, crop = (96, 128), (64, 72)
    camera = Intrinsics(fx=110.0, fy=112.0, cx=60.0, cy=50.0)
    normal = np.array([0.5, -0.4, -0.8])
    normal /= np.linalg.norm(normal)
    batch = plane_batch(size, camera, normal, 3.0)
    result = augment(batch, parameters(scale, mirror, *offset), crop=crop, depth_kind="metric")
    # The focal length stays; the principal point moves with the image.
    center = size[1] - 1 - camera.cx if mirror else camera.cx
    seen = Intrinsics(
        fx=camera.fx,
        fy=camera.fy,
        cx=(center + 0.5) * scale - 0.5 - offset[1],
        cy=(camera.cy + 0.5) * scale - 0.5 - offset[0],
    )
    depth = result.targets["depth"][0, 0].numpy().astype(np.float64)
    given = result.targets["normals"][0].numpy()
    given = given[:, ~np.isnan(given[0])]
    angle = math.degrees(math.acos(min(1, fitted_normal(depth, seen) @ given.mean(1))))
    assert np.ptp(given, axis=1).max() < 1e-5
    assert angle < 1.0  # nearest sampling moves points by up to half a pixel
    if scale in (0.5, 1.5):  # the check tells the rule from leaving normals alone
        plain = normal * [-1 if mirror else 1, 1, 1]
        assert math.degrees(math.acos(fitted_normal(depth, seen) @ plain)) > 5


def test_mirroring_commutes_with_deriving_normals():
    size = (40, 50)
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    depth = 3 + 0.4 * np.sin(columns / 7) + 0.3 * np.cos(rows / 9) + columns / 60
    camera = Intrinsics(fx=60.0, fy=60.0, cx=20.0, cy=18.0)
    mirrored_camera = Intrinsics(fx=60.0, fy=60.0, cx=size[1] - 1 - 20.0, cy=18.0)
    normals = normals_from_depth(depth, camera, sigma=2.0)
    batch = Batch(
        images_BCHW=torch.zeros(1, 3, *size),
        targets={"normals": torch.from_numpy(normals.transpose(2, 0, 1)[None].copy())},
    )
    result = augment(batch, parameters(mirror=True), crop=size, depth_kind="metric")
    derived = normals_from_depth(depth[:, ::-1], mirrored_camera, sigma=2.0)
    got = result.targets["normals"][0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(derived))
    np.testing.assert_allclose(got, derived, atol=2e-5)


def test_padding_surrounds_exactly_the_shrunk_image():
    batch = random_batch((8, 12))
    batch.targets["depth"][:] = 1.0
    result = augment(batch, parameters(0.5, False, -2, -3), crop=(8, 12), depth_kind="metric")
    known = torch.zeros(8, 12, dtype=torch.bool)
    known[2:6, 3:9] = True
    assert torch.equal(~result.targets["depth"][0, 0].isnan(), known)
    assert torch.equal(~result.targets["normals"][0, 0].isnan(), known)
    assert torch.equal(~result.targets["edges"][0, 0].isnan(), known)
    assert torch.equal(result.targets["segmentation"][0] != IGNORE_LABEL, known)
    assert torch.equal((result.images_BCHW[0] != 0).all(0), known)


def test_the_border_is_not_faded():
    batch = Batch(images_BCHW=torch.full((1, 3, 5, 5), 2.0), targets={})
    result = augment(batch, parameters(1.4, True, 0, 0), crop=(7, 7), depth_kind="metric")
    torch.testing.assert_close(result.images_BCHW, torch.full((1, 3, 7, 7), 2.0))


def draw(seed=0, count=400, **changed):
    settings_ = {
        "size": (40, 60),
        "crop": (32, 32),
        "scale_range": (0.5, 1.5),
        "mirror": True,
    } | changed
    return AugmentationParameters.draw(torch.Generator().manual_seed(seed), count, **settings_)


def test_draws_are_seeded_and_cover_the_ranges():
    first, again, other = draw(0), draw(0), draw(1)
    for name in ("scale", "mirror", "top", "left"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
    assert 0.5 <= first.scale.min() < 0.55
    assert 1.45 < first.scale.max() <= 1.5
    assert 0.4 < first.mirror.double().mean() < 0.6


def test_crops_lie_inside_where_they_fit_and_around_where_not():
    drawn = draw(0, 2000)
    for offset, side, window in ((drawn.top, 40, 32), (drawn.left, 60, 32)):
        slack = (side * drawn.scale).floor().long() - window
        fits = slack >= 0
        assert fits.any()
        assert (offset[fits] >= 0).all()
        assert (offset[fits] <= slack[fits]).all()
        assert (offset[~fits] <= 0).all()
        assert (offset[~fits] >= slack[~fits]).all()
        assert (offset == slack)[fits].any()  # the last position is reached


def test_settings_do_not_shift_the_stream():
    plain, fixed = draw(0), draw(0, mirror=False, scale_range=(1.0, 1.0))
    assert not fixed.mirror.any()
    assert (fixed.scale == 1).all()
    after = []
    for mirror in (True, False):
        generator = torch.Generator().manual_seed(0)
        AugmentationParameters.draw(
            generator, 5, size=(8, 8), crop=(4, 4), scale_range=(1, 1), mirror=mirror
        )
        after.append(torch.rand(1, generator=generator).item())
    assert after[0] == after[1]
    assert plain.mirror.any()

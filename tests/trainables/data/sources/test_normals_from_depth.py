"""Normals against closed forms: planes at any slant, and a sphere."""

import numpy as np
import pytest

from trainables.data.sources.normals_from_depth import Intrinsics, gaussian_blur, normals_from_depth

CAMERA = Intrinsics(fx=100.0, fy=104.0, cx=44.0, cy=30.0)
SIZE = (64, 80)


def plane_depth(normal, distance=2.0):
    x, y = CAMERA.rays(SIZE)
    return (-distance / (normal[0] * x + normal[1] * y + normal[2])).astype(np.float32)


@pytest.mark.parametrize(
    "direction", [(0, 0, -1), (0.5, 0.2, -0.8), (-0.7, 0.3, -0.6), (0, -0.9, -0.5)]
)
@pytest.mark.parametrize("sigma", [0.0, 3.0])
def test_planes(direction, sigma):
    normal = np.array(direction) / np.linalg.norm(direction)
    depth = plane_depth(normal)
    assert (depth > 0).all()
    got = normals_from_depth(depth, CAMERA, sigma=sigma)
    inner = got[20:-20, 20:-20]  # smoothing bends the plane near the border
    np.testing.assert_allclose(inner, np.broadcast_to(normal, inner.shape), atol=2e-3)


def test_sphere():
    x, y = (ray.astype(np.float64) for ray in CAMERA.rays(SIZE))
    centre, radius = np.array([0.1, -0.05, 4.0]), 0.8
    rays = np.stack(np.broadcast_arrays(x, y, np.ones(SIZE)), axis=2)
    length2, along = (rays**2).sum(2), rays @ centre
    root = along**2 - length2 * (centre @ centre - radius**2)
    hit = root > 0
    t = (along - np.sqrt(np.where(hit, root, 0))) / length2
    depth = np.where(hit, t, np.nan).astype(np.float32)
    truth = (rays * t[..., None] - centre) / radius
    got = normals_from_depth(depth, CAMERA, sigma=0.0)
    middle = hit & (root > 0.7 * root.max())
    cosine = (got * truth).sum(2)[middle]
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 2
    assert np.isnan(got[~hit]).all()


def test_normals_face_the_camera():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 8, SIZE).astype(np.float32)
    normals = normals_from_depth(depth, CAMERA, sigma=1.0, max_roughness=np.inf)
    x, y = CAMERA.rays(SIZE)
    rays = np.stack(np.broadcast_arrays(x, y, np.ones(SIZE, np.float32)), axis=2)
    assert ((normals * rays).sum(2) < 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=2), 1, atol=1e-5)


def test_an_occlusion_is_unknown_and_a_slanted_plane_is_not():
    depth = np.full(SIZE, 2.0, np.float32)
    depth[:, 40:] = 4.0
    normals = normals_from_depth(depth, CAMERA, sigma=3.0)
    assert np.isnan(normals[:, 38:42]).all()
    assert not np.isnan(normals[:, :25]).any()
    assert not np.isnan(normals[:, -25:]).any()
    slanted = normals_from_depth(plane_depth(np.array([0.6, 0.0, -0.8])), CAMERA, sigma=3.0)
    assert not np.isnan(slanted[10:-10, 10:-10]).any()


def test_unknown_depth_weighs_nothing():
    depth = plane_depth(np.array([0.3, 0.0, -0.95394]))
    holed = depth.copy()
    holed[30:33, 40:44] = np.nan
    whole = normals_from_depth(depth, CAMERA, sigma=2.0)
    got = normals_from_depth(holed, CAMERA, sigma=2.0)
    assert np.isnan(got[30:33, 40:44]).all()
    assert np.nanmax(np.abs(got - whole)[20:45, 25:60]) < 0.1


def test_intrinsics_of_a_halved_image():
    half = CAMERA.scaled(0.5, 0.5)
    assert (half.fx, half.fy) == (50, 52)
    # The left edge of the image stays the same ray.
    assert (-0.5 - half.cx) / half.fx == pytest.approx((-0.5 - CAMERA.cx) / CAMERA.fx)


def test_blur_is_a_convolution():
    image = np.zeros((21, 23), np.float32)
    image[10, 11] = 1
    blurred = gaussian_blur(image, 1.5)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert blurred[10, 12] / blurred[10, 11] == pytest.approx(np.exp(-0.5 / 1.5**2), rel=1e-4)
    np.testing.assert_allclose(gaussian_blur(np.full((9, 9), 3, np.float32), 2), 3, rtol=1e-5)

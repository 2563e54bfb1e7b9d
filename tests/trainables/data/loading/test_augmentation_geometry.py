"""Augmentation commutes with rendering: a curved scene is moved by a matrix and seen anew.

A scene is a list of quadrics Q (P̃ᵀ Q P̃ = 0 for homogeneous points P̃), the oracle an exact
float64 ray-caster that knows nothing of the rules for depth and normals: a transformation M of
the world turns Q into M⁻ᵀ Q M⁻¹, depth is where the ray meets the surface, and the normal is the
gradient there. Mirroring is M = diag(-1, 1, 1); a resize by s at a fixed focal length is
M = diag(1, 1, 1/s).
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.batch import Batch
from trainables.data.loading.augmentation import AugmentationParameters, augment
from trainables.data.sources.normals_from_depth import Intrinsics, normals_from_depth

SIZE = (36, 44)
CAMERA = Intrinsics(fx=38.0, fy=40.0, cx=20.0, cy=16.5)


def plane(normal: tuple[float, float, float], offset: float) -> np.ndarray:
    """n · P = offset."""
    quadric = np.zeros((4, 4))
    quadric[3, :3] = quadric[:3, 3] = np.array(normal) / 2
    quadric[3, 3] = -offset
    return quadric


def sphere(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    c = np.array(centre)
    quadric = np.eye(4)
    quadric[3, :3] = quadric[:3, 3] = -c
    quadric[3, 3] = c @ c - radius**2
    return quadric


SCENE = [
    plane((0.0, 1.0, 0.0), 1.2),  # the floor; y points down
    plane((0.45, -0.1, 1.0), 4.5),  # an oblique wall
    sphere((0.7, 0.4, 2.4), 0.8),
    sphere((-0.6, -0.3, 2.0), 0.5),
]


def moved(scene: list[np.ndarray], scales: tuple[float, float, float]) -> list[np.ndarray]:
    """By diag(scales), in world coordinates."""
    inverse = np.diag([1 / s for s in scales] + [1.0])
    return [inverse.T @ quadric @ inverse for quadric in scene]


def render(scene: list[np.ndarray], rays_HW3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) and normals (H, W, 3), facing the camera at the origin; rays have Z = 1."""
    depth = np.full(rays_HW3.shape[:2], np.inf)
    normals = np.zeros(rays_HW3.shape)
    for quadric in scene:
        # a t² + 2 b t + c = 0 along t · ray.
        a = np.einsum("hwi,ij,hwj->hw", rays_HW3, quadric[:3, :3], rays_HW3)
        b = rays_HW3 @ quadric[:3, 3]
        c = quadric[3, 3]
        with np.errstate(invalid="ignore", divide="ignore"):
            root = np.sqrt(b * b - a * c)
            flat = np.abs(a) < 1e-12
            hits = [np.where(flat, -c / (2 * b), (-b - root) / a)]
            hits.append(np.where(flat, np.nan, (-b + root) / a))
        for t in hits:
            closer = (t > 1e-6) & (t < depth)  # NaN: the ray passes by
            depth = np.where(closer, t, depth)
            points = t[..., None] * rays_HW3
            gradient = points @ quadric[:3, :3] + quadric[:3, 3]
            normals = np.where(closer[..., None], gradient, normals)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    away = (normals * rays_HW3).sum(2, keepdims=True) > 0
    return depth, np.where(away, -normals, normals)


def rays_at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(H, W, 3) from columns (W,) and rows (H,) on the plane Z = 1."""
    x, y = np.meshgrid(x, y)
    return np.stack([x, y, np.ones_like(x)], axis=2)


def pixel_rays(camera: Intrinsics, size: tuple[int, int]) -> np.ndarray:
    return rays_at(
        (np.arange(size[1]) - camera.cx) / camera.fx, (np.arange(size[0]) - camera.cy) / camera.fy
    )


def batch_of(depth: np.ndarray, normals: np.ndarray) -> Batch:
    return Batch(
        images_BCHW=torch.zeros(1, 3, *depth.shape),
        targets={
            "depth": torch.from_numpy(depth[None, None].copy()).float(),
            "normals": torch.from_numpy(normals.transpose(2, 0, 1)[None].copy()).float(),
        },
    )


def augmented(
    batch: Batch,
    scale: float,
    mirror: bool,
    offset: tuple[int, int],
    crop: tuple[int, int],
    kind: str = "metric",
) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) and normals (H, W, 3) after augmentation."""
    parameters = AugmentationParameters(
        scale=torch.tensor([scale], dtype=torch.float64),
        mirror=torch.tensor([mirror]),
        top=torch.tensor([offset[0]]),
        left=torch.tensor([offset[1]]),
    )
    targets = augment(batch, parameters, crop=crop, depth_kind=kind).targets
    return targets["depth"][0, 0].numpy(), targets["normals"][0].permute(1, 2, 0).numpy()


def nearest_rays(
    scale: float, mirror: bool, offset: tuple[int, int], crop: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The rays, in the new camera, of the source pixels that the crop's pixels were taken from,
    and which of those lie in the image. A pixel at x on the plane Z = 1 comes to lie at s · x."""
    columns = np.floor((np.arange(crop[1]) + offset[1] + 0.5) / scale)
    rows = np.floor((np.arange(crop[0]) + offset[0] + 0.5) / scale)
    inside = ((rows >= 0) & (rows < SIZE[0]))[:, None] & ((columns >= 0) & (columns < SIZE[1]))
    centre = SIZE[1] - 1 - CAMERA.cx if mirror else CAMERA.cx
    x, y = (columns - centre) / CAMERA.fx, (rows - CAMERA.cy) / CAMERA.fy
    return rays_at(scale * x, scale * y), inside


@settings(deadline=None, max_examples=40)
@given(
    scale=st.floats(0.5, 1.5),
    mirror=st.booleans(),
    offset=st.tuples(st.integers(-4, 12), st.integers(-4, 12)),
)
def test_augmenting_equals_seeing_the_moved_scene(
    scale: float, mirror: bool, offset: tuple[int, int]
) -> None:
    crop = (30, 34)
    batch = batch_of(*render(SCENE, pixel_rays(CAMERA, SIZE)))
    depth, normals = augmented(batch, scale, mirror, offset, crop)
    scene = moved(SCENE, (-1.0 if mirror else 1.0, 1.0, 1.0 / scale))
    rays, inside = nearest_rays(scale, mirror, offset, crop)
    expected_depth, expected_normals = render(scene, rays)
    assert np.array_equal(np.isfinite(depth), inside)
    np.testing.assert_allclose(depth[inside], expected_depth[inside], rtol=2e-6)
    np.testing.assert_allclose(normals[inside], expected_normals[inside], atol=2e-6)


def test_the_scene_has_what_it_takes() -> None:
    """Floor, wall and both spheres are seen, and leaving normals alone would be noticed."""
    _, normals = render(SCENE, pixel_rays(CAMERA, SIZE))
    for share in ((normals[..., 1] == -1).mean(), (normals[..., 0] > 0.3).mean()):
        assert share > 0.03
    rays, _ = nearest_rays(0.5, False, (0, 0), (18, 22))
    _, seen = render(moved(SCENE, (1.0, 1.0, 2.0)), rays)
    angles = np.degrees(np.arccos(np.clip((seen * normals[1::2, 1::2]).sum(2), -1, 1)))
    assert np.median(angles[angles > 0.01]) > 10


@pytest.mark.parametrize("mirror", [False, True])
def test_half_size_is_the_camera_of_half_the_focal_length(mirror: bool) -> None:
    """At s = 1/2 the nearest pixels are every second one, so that the same scene seen by a camera
    of focal length s · f gives the augmented depth times s, with no sampling in between."""
    scale, crop = 0.5, (SIZE[0] // 2, SIZE[1] // 2)
    batch = batch_of(*render(SCENE, pixel_rays(CAMERA, SIZE)))
    depth, normals = augmented(batch, scale, mirror, (0, 0), crop)
    centre = SIZE[1] - 1 - CAMERA.cx if mirror else CAMERA.cx
    # The nearest pixel of i is 2 i + 1: half a pixel off the centre that `scaled` assumes.
    zoomed = Intrinsics(
        fx=scale * CAMERA.fx, fy=scale * CAMERA.fy, cx=(centre - 1) / 2, cy=(CAMERA.cy - 1) / 2
    )
    scene = moved(SCENE, (-1.0 if mirror else 1.0, 1.0, 1.0))
    expected_depth, expected_normals = render(scene, pixel_rays(zoomed, crop))
    np.testing.assert_allclose(depth * scale, expected_depth, rtol=2e-6)
    # Its normals are the scene's; n_z grows with the depth that the focal length stands for.
    undone = normals / [1.0, 1.0, scale]
    undone /= np.linalg.norm(undone, axis=2, keepdims=True)
    np.testing.assert_allclose(undone, expected_normals, atol=2e-6)


@pytest.mark.parametrize("scale", [0.75, 1.25, 1.5])
def test_any_size_is_the_camera_of_that_focal_length_to_half_a_pixel(scale: float) -> None:
    """On an oblique plane, where inverse depth is affine and half a source pixel bounds it."""
    wall = [plane((0.45, -0.3, 1.0), 4.5)]
    batch = batch_of(*render(wall, pixel_rays(CAMERA, SIZE)))
    crop = (int(SIZE[0] * scale), int(SIZE[1] * scale))
    depth, _ = augmented(batch, scale, False, (0, 0), crop)
    expected, _ = render(wall, pixel_rays(CAMERA.scaled(scale, scale), crop))
    error = np.abs(1 / (depth * scale) - 1 / expected)
    assert error.max() <= 0.5 * (0.45 / CAMERA.fx + 0.3 / CAMERA.fy) / 4.5 + 1e-6
    assert np.abs(1 / depth - 1 / expected).max() > 10 * error.max()  # not so if undivided


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("scale", [0.5, 0.8, 1.5])
def test_disparity_stays_the_inverse_of_depth(scale: float, mirror: bool) -> None:
    """d = f b / Z of the moved scene, whose Z is 1/s of what it was."""
    depth, normals = render(SCENE, pixel_rays(CAMERA, SIZE))
    focal_times_baseline = 3.7
    arguments = (scale, mirror, (2, 3), (20, 24))
    metric, _ = augmented(batch_of(depth, normals), *arguments)
    disparity, _ = augmented(
        batch_of(focal_times_baseline / depth, normals), *arguments, kind="disparity"
    )
    known = np.isfinite(metric)
    assert np.array_equal(known, np.isfinite(disparity))
    np.testing.assert_allclose(disparity[known], focal_times_baseline / metric[known], rtol=2e-6)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_normals_are_those_derived_from_the_augmented_depth(scale: float, mirror: bool) -> None:
    """By `normals_from_depth`, which serves data sets without normals: exact on planes."""
    wall = [plane((0.45, -0.3, 1.0), 4.5)]
    crop = (int(SIZE[0] * scale), int(SIZE[1] * scale))
    batch = batch_of(*render(wall, pixel_rays(CAMERA, SIZE)))
    depth, normals = augmented(batch, scale, mirror, (0, 0), crop)
    centre = SIZE[1] - 1 - CAMERA.cx if mirror else CAMERA.cx
    skip = 1 if scale == 0.5 else 0
    seen = Intrinsics(
        fx=CAMERA.fx,
        fy=CAMERA.fy,
        cx=(centre - skip) * scale,
        cy=(CAMERA.cy - skip) * scale,
    )
    derived = normals_from_depth(depth, seen, sigma=0.0)
    np.testing.assert_allclose(derived, normals, atol=1e-4)

"""Generates the `scenes` data set: procedural indoor views with five consistent targets.

Every frame is a function of (seed, index) alone. Consecutive frames show one room from
`VIEWS_PER_SCENE` places: frame i belongs to room i // VIEWS_PER_SCENE. Nothing is
downloaded. Geometry is exact, so every pixel has depth and a normal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.frame import Frame
from trainables.data.scenes.geometry import Camera, Scene
from trainables.data.scenes.layout import CLASS_NAMES, NUM_CLASSES, build_scene, place_camera
from trainables.data.scenes.rendering import cast, describe, shade, trace
from trainables.errors import UserError
from trainables.seeds import derive_seed

__all__ = ["CLASS_NAMES", "NUM_CLASSES", "VIEWS_PER_SCENE", "render_scenes"]

VIEWS_PER_SCENE = 4

_LUMINANCE = np.array([0.3, 0.59, 0.11], dtype=np.float32)  # of linear red, green, blue
_SMALLEST_SIDE = 16  # pixels
KEYPOINT_SIGMA = 0.08  # of the shorter side; still visible at an eighth of the resolution
EDGE_SIGMA = 0.04  # of the shorter side; the same
_STEP = 0.1  # metres: an occlusion at least this deep is a full edge
_VISIBLE = 1e-2  # metres that a visible corner may lie behind the first hit, e.g. under a rug


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensor:
    """Describes the camera's electronics.

    exposure: mean luminance aimed at. shot_noise, read_noise: strengths of the two noises.
    """

    exposure: float
    white_balance: tuple[float, ...]  # gains of red, green, blue
    shot_noise: float
    read_noise: float


def render_scenes(seed: int, indices: Sequence[int], size: tuple[int, int]) -> Iterator[Frame]:
    """Yield frames `indices` of the endless sequence of `seed`, at `size` (height, width).

    All five targets are present and finite; segmentation is 255 on the few unlabelled
    objects. Raises `UserError` for a negative seed or index or a side below 16 pixels.
    """
    if min(size) < _SMALLEST_SIDE:
        raise UserError(
            f"`size` must be at least {_SMALLEST_SIDE}x{_SMALLEST_SIDE} pixels, "
            f"got {size[0]}x{size[1]}; 64x64 trains quickly"
        )
    if seed < 0 or any(index < 0 for index in indices):
        raise UserError(
            f"`seed` and `indices` must be at least 0, got seed {seed} and "
            f"smallest index {min(indices, default=0)}; count from 0"
        )
    return _frames(seed, indices, size)


def render_view(
    scene: Scene, camera: Camera, size: tuple[int, int], sensor: Sensor, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return the arrays of a `Frame` for one view of one room; `rng` draws the sensor's noise."""
    height, width = size
    centres, lattice = _pixel_grid(size)
    num, num_shaded = height * width, height * width + lattice.shape[1]
    corners, corner_depths = _projected_corners(scene, camera, size)
    middle = np.array([[width / 2], [height / 2]])
    pixels = np.concatenate((centres, lattice, corners.T - middle), axis=1)
    rays = cast(scene, camera, pixels, width)
    depth, owner = trace(scene, camera, rays)
    visible = corners[depth[num_shaded:] > corner_depths - _VISIBLE]
    rays, depth = rays[:, :num_shaded], depth[:num_shaded]
    surfaces = describe(scene, camera, rays, depth, owner[:num_shaded])
    radiance = shade(scene, camera, surfaces, _light_samples(size))
    points, normals = surfaces.points[:, :num], surfaces.normals[:, :num]
    axes = camera.rotation.astype(np.float32)
    seen = sum(axes[:, i, None] * normals[i] for i in range(3))
    return {
        "image": _develop(radiance, size, sensor, rng),
        "segmentation": surfaces.labels[:num].reshape(size),
        "normals": np.ascontiguousarray(np.moveaxis(seen.reshape(3, *size), 0, 2)),
        "depth": depth[:num].reshape(size),
        "keypoints": _keypoint_response(visible, size),
        "edges": _edge_response(
            surfaces.faces[:num].reshape(size),
            normals.reshape(3, *size),
            points.reshape(3, *size),
        ),
    }


def _frames(seed: int, indices: Sequence[int], size: tuple[int, int]) -> Iterator[Frame]:
    room, scene = -1, None
    for index in indices:
        if scene is None or index // VIEWS_PER_SCENE != room:
            room = index // VIEWS_PER_SCENE
            scene = build_scene(_stream(seed, room, 0))
        rng = _stream(seed, room, 1 + index % VIEWS_PER_SCENE)
        camera = place_camera(rng, scene)
        sensor = Sensor(
            exposure=float(rng.uniform(0.16, 0.34)),
            white_balance=tuple(float(g) for g in rng.uniform(0.9, 1.1, 3)),
            shot_noise=float(rng.uniform(0.0002, 0.0015)),
            read_noise=float(rng.uniform(0.001, 0.006)),
        )
        yield Frame(
            name=f"scenes-{seed}-{index:06d}",
            scene=f"{seed}-{room:05d}",
            **render_view(scene, camera, size, sensor, rng),
        )


def _stream(seed: int, room: int, part: int) -> np.random.Generator:
    """Return the generator of a room (part 0) or of one of its views (part 1 and up)."""
    derived = derive_seed(seed, "scenes", room * (VIEWS_PER_SCENE + 1) + part)
    return np.random.Generator(np.random.PCG64(derived))


def _pixel_grid(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel centres (2, HW) and corners (2, (H+1)(W+1)) relative to the image's centre.

    Ground truth is taken at the centres. Colour is taken from centres and corners (a quincunx),
    which costs two rays per pixel and is as smooth as four.
    """
    height, width = size
    grids = []
    for extra, shift in ((0, 0.5), (1, 0.0)):
        v, u = np.mgrid[: height + extra, : width + extra] + shift
        grids.append(np.stack((u.ravel() - width / 2, v.ravel() - height / 2)))
    return grids[0], grids[1]


def _light_samples(size: tuple[int, int]) -> np.ndarray:
    """Return points in the unit ball (3, rays) at which shadows are sampled.

    Pixel centres get its centre, and pixel corners one of four points around it, so that the
    corners of every pixel have all four.
    """
    height, width = size
    directions = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    tetrahedron = 0.5 * np.array(directions, dtype=np.float32).T
    row, column = np.mgrid[: height + 1, : width + 1] % 2
    lattice = tetrahedron[:, (2 * row + column).ravel()]
    return np.concatenate((np.zeros((3, height * width), dtype=np.float32), lattice), axis=1)


def _develop(
    radiance: np.ndarray, size: tuple[int, int], sensor: Sensor, rng: np.random.Generator
) -> np.ndarray:
    """Return the image, uint8 (H, W, 3): exposure, saturation, anti-aliasing, noise and gamma."""
    height, width = size
    means = radiance[:, : height * width].mean(axis=1)
    gain = sensor.exposure / max(float(means @ _LUMINANCE), 1e-3)
    gains = np.array([gain * w for w in sensor.white_balance], dtype=np.float32)
    exposed = 1 - np.exp(-gains[:, None] * radiance)
    centre = exposed[:, : height * width].reshape(3, *size)
    lattice = exposed[:, height * width :].reshape(3, height + 1, width + 1)
    rows = lattice[:, 1:] + lattice[:, :-1]
    linear = np.float32(0.5) * centre + np.float32(0.125) * (rows[..., 1:] + rows[..., :-1])
    noise = rng.standard_normal(linear.shape, dtype=np.float32)
    linear += noise * np.sqrt(sensor.shot_noise * linear + sensor.read_noise**2, dtype=np.float32)
    display = np.clip(linear, 0, 1) ** np.float32(1 / 2.2)
    return np.ascontiguousarray(np.moveaxis(np.rint(display * 255).astype(np.uint8), 0, 2))


def _projected_corners(
    scene: Scene, camera: Camera, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates (K, 2) and depths (K,) of the corners inside the image."""
    unit = np.array([(i & 1, i >> 1 & 1, i >> 2 & 1) for i in range(8)], dtype=float)
    points = np.concatenate([unit * scene.room, *(p.corners() for p in scene.primitives)])
    pixels, depth = camera.project(points, size)
    inside = (depth > 0.05) & (pixels >= 0).all(axis=1) & (pixels < size[::-1]).all(axis=1)
    return pixels[inside], depth[inside]


def _keypoint_response(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a Gaussian at each corner (u, v), the greatest where they overlap; float32 (H, W)."""
    response = np.zeros(size, dtype=np.float32)
    if len(corners):
        sigma = KEYPOINT_SIGMA * min(size)
        across, down = (
            np.exp(-0.5 * ((np.arange(side) + 0.5 - corners[:, axis, None]) / sigma) ** 2)
            for axis, side in ((0, size[1]), (1, size[0]))
        )
        for row, column in zip(down.astype(np.float32), across.astype(np.float32), strict=True):
            np.maximum(response, row[:, None] * column, out=response)
    return response


def _edge_response(faces: np.ndarray, normals: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return creases and occlusions between neighbouring pixels, slightly spread: float32 (H, W).

    Between two faces the response is the greater of 1 - cos of the crease's angle and the
    distance of either point from the other's plane in units of 10 cm, at most 1. Within a smooth
    face it is 0, even if the face is curved.
    """
    strength = np.zeros(faces.shape, dtype=np.float32)
    for axis in (0, 1):
        before, after = [slice(None)] * 2, [slice(None)] * 2
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        p, q = tuple(before), tuple(after)
        offset = points[:, *q] - points[:, *p]
        crease = 1 - (normals[:, *p] * normals[:, *q]).sum(axis=0)
        gap = np.maximum(
            np.abs((offset * normals[:, *p]).sum(axis=0)),
            np.abs((offset * normals[:, *q]).sum(axis=0)),
        )
        link = np.minimum(np.maximum(crease, gap / np.float32(_STEP)), 1)
        link = np.where(faces[p] != faces[q], link, np.float32(0))
        for side in (p, q):
            strength[side] = np.maximum(strength[side], link)
    # The greatest of the Gaussian-weighted neighbours; separable because the weights are.
    sigma = EDGE_SIGMA * min(faces.shape)
    for axis in (0, 1):
        spread = strength.copy()
        for shift in range(1, int(np.ceil(3 * sigma)) + 1):
            weight = np.float32(np.exp(-0.5 * (shift / sigma) ** 2))
            before, after = [slice(None)] * 2, [slice(None)] * 2
            before[axis], after[axis] = slice(None, -shift), slice(shift, None)
            p, q = tuple(before), tuple(after)
            spread[p] = np.maximum(spread[p], weight * strength[q])
            spread[q] = np.maximum(spread[q], weight * strength[p])
        strength = spread
    return np.clip(strength, 0, 1)

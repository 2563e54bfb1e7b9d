"""The frames of the scenes data set: determinism, ranges, and targets that agree."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.batch import IGNORE_LABEL
from trainables.data.scenes import scenes
from trainables.data.scenes.geometry import Camera, Scene
from trainables.data.scenes.layout import build_scene, place_camera
from trainables.data.scenes.rendering import ROOM, cast, trace
from trainables.data.scenes.scenes import (
    NUM_CLASSES,
    VIEWS_PER_SCENE,
    Sensor,
    render_scenes,
    render_view,
)
from trainables.errors import UserError

SENSOR = Sensor(exposure=0.25, white_balance=(1.0, 1.0, 1.0), shot_noise=0.0, read_noise=0.0)


@pytest.fixture
def sharp_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges a pixel wide: where they lie is tested, not how far they are spread."""
    monkeypatch.setattr(scenes, "EDGE_SIGMA", 0.01)


def _view(seed: int, size: tuple[int, int] = (96, 96)) -> tuple[Scene, Camera, dict]:
    rng = np.random.default_rng(seed)
    scene = build_scene(rng)
    camera = place_camera(rng, scene)
    return scene, camera, render_view(scene, camera, size, SENSOR, rng)


def _rays(camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """Camera-frame directions (H, W, 3) with z = 1, from the definition of a pinhole."""
    height, width = size
    v, u = np.mgrid[:height, :width] + 0.5
    focal = camera.focal * width
    return np.dstack(((u - width / 2) / focal, (v - height / 2) / focal, np.ones(size)))


def _windows(array: np.ndarray) -> np.ndarray:
    """The nine neighbours of every interior pixel, (9, H-2, W-2, ...)."""
    height, width = array.shape[:2]
    return np.stack(
        [array[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    )


def test_a_frame_depends_on_seed_and_index_alone() -> None:
    together = list(render_scenes(3, range(6), (32, 40)))
    shuffled = {f.name: f for f in render_scenes(3, [5, 1, 4, 0, 2, 3], (32, 40))}
    for index, frame in enumerate(together):
        (alone,) = render_scenes(3, [index], (32, 40))
        for other in (alone, shuffled[frame.name]):
            assert (other.name, other.scene) == (frame.name, frame.scene)
            for (modality, a), (_, b) in zip(frame.arrays(), other.arrays(), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=modality)


def test_seeds_and_indices_give_different_frames() -> None:
    images = [f.image for f in render_scenes(0, range(5), (32, 32))]
    images += [f.image for f in render_scenes(1, range(5), (32, 32))]
    assert len({image.tobytes() for image in images}) == 10


def test_consecutive_frames_share_a_scene() -> None:
    frames = list(render_scenes(0, range(3 * VIEWS_PER_SCENE), (16, 16)))
    names = [frame.scene for frame in frames]
    assert names == [names[VIEWS_PER_SCENE * (i // VIEWS_PER_SCENE)] for i in range(len(names))]
    assert len(set(names)) == 3
    assert len({frame.name for frame in frames}) == len(frames)


def test_fifty_frames_are_valid_and_show_every_class() -> None:
    counts = np.zeros(256, dtype=int)
    for frame in render_scenes(0, range(50), (48, 64)):
        assert frame.size == (48, 64)
        assert {name for name, _ in frame.arrays()} == {
            "image", "segmentation", "normals", "depth", "keypoints", "edges",
        }  # fmt: skip
        assert all(np.isfinite(array).all() for _, array in frame.arrays())
        assert frame.depth.min() > 0.2
        assert frame.depth.max() < 8
        np.testing.assert_allclose(np.linalg.norm(frame.normals, axis=2), 1, atol=1e-5)
        for response in (frame.keypoints, frame.edges):
            assert response.min() >= 0
            assert response.max() <= 1
        assert 0.2 < frame.image.mean() / 255 < 0.7
        assert frame.image.std() > 10
        counts += np.bincount(frame.segmentation.ravel(), minlength=256)
    assert (counts[:NUM_CLASSES] > 0).all()
    assert counts[NUM_CLASSES:IGNORE_LABEL].sum() == 0
    assert 0 < counts[IGNORE_LABEL] < 0.05 * counts.sum()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_normals_face_the_camera(seed: int) -> None:
    size = (40, 56)
    _, camera, view = _view(seed, size)
    facing = (view["normals"] * _rays(camera, size)).sum(axis=2)
    # A silhouette may be seen edge on, to rounding.
    assert facing.max() < 1e-3
    assert (facing < 0).mean() > 0.999


@pytest.mark.usefixtures("sharp_edges")
@pytest.mark.parametrize("seed", range(6))
def test_normals_follow_from_depth_where_there_is_no_edge(seed: int) -> None:
    size = (96, 96)
    _, camera, view = _view(seed, size)
    points = view["depth"][..., None].astype(np.float64) * _rays(camera, size)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    derived = np.cross(down, across)
    derived /= np.linalg.norm(derived, axis=2, keepdims=True)
    stored = view["normals"][1:-1, 1:-1]
    cosine = np.clip((derived * stored).sum(axis=2), -1, 1)
    angle = np.degrees(np.arccos(cosine))
    smooth = (_windows(view["edges"]) == 0).all(axis=0)
    assert smooth.mean() > 0.2
    bend = np.abs(_windows(view["normals"]) - stored).max(axis=(0, 3))
    planar = smooth & (bend < 1e-6)
    assert planar.sum() > 1000
    assert angle[planar].max() < 0.25
    curved = smooth & (bend >= 1e-6)
    if curved.any():  # central differences of a curved face are not its tangents exactly
        assert np.median(angle[curved]) < 1.5


@pytest.mark.usefixtures("sharp_edges")
@pytest.mark.parametrize("seed", range(6))
def test_edges_lie_where_depth_jumps_and_labels_change(seed: int) -> None:
    size = (96, 96)
    _, camera, view = _view(seed, size)
    points = view["depth"][..., None] * _rays(camera, size)
    depth, labels, edges = view["depth"], view["segmentation"], view["edges"]
    for axis in (0, 1):
        p = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        q = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        weaker = np.minimum(edges[p], edges[q])
        # A plane seen at most 85 degrees off changes its depth less than this per pixel.
        pitch = 1 / (camera.focal * size[1])
        jump = np.abs(depth[q] - depth[p]) > 0.1 + 14 * pitch * np.minimum(depth[p], depth[q])
        assert (weaker[jump] > 0.9).all()
        offset = points[q] - points[p]
        plane_gap = np.maximum(
            np.abs((offset * view["normals"][p]).sum(axis=2)),
            np.abs((offset * view["normals"][q]).sum(axis=2)),
        )
        bend = 1 - (view["normals"][p] * view["normals"][q]).sum(axis=2)
        expected = np.minimum(np.maximum(bend, plane_gap / 0.1), 1)
        changed = labels[p] != labels[q]
        assert changed.sum() > 50
        assert (weaker[changed] >= expected[changed] - 2e-3).all()


@pytest.mark.parametrize("seed", range(4))
def test_no_ray_passes_through_a_solid(seed: int) -> None:
    """Brute force: march each ray by the solids' distance functions."""
    scene, camera, _ = _view(seed, (16, 16))
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(-32, 32, (2, 30))
    rays = cast(scene, camera, pixels, 64)
    depth, owner = trace(scene, camera, rays)
    for ray, end, hit in zip(rays.T.astype(float), depth.astype(float), owner, strict=True):
        for share in np.linspace(0.02, 0.999, 25):
            point = tuple(camera.position + share * end * ray)
            assert min(p.clearance(point) for p in scene.primitives) > -2e-3
        last = np.asarray(camera.position) + end * ray
        if hit == ROOM:
            assert min(np.abs(last).min(), np.abs(last - scene.room).min()) < 1e-4
        else:
            assert abs(scene.primitives[hit].clearance(tuple(last))) < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_a_mirrored_world_gives_mirrored_targets(seed: int) -> None:
    size = (48, 64)
    scene, camera, view = _view(seed, size)
    width = scene.room[0]
    mirrored_scene = replace(
        scene,
        primitives=tuple(
            replace(p, centre=(width - p.centre[0], *p.centre[1:]), yaw=-p.yaw)
            for p in scene.primitives
        ),
    )
    x, y, z = camera.position
    rotation = camera.rotation * (-1, 1, 1)
    rotation[0] *= -1
    mirrored_camera = replace(camera, position=(width - x, y, z), rotation=rotation)
    rng = np.random.default_rng(0)
    mirror = render_view(mirrored_scene, mirrored_camera, size, SENSOR, rng)
    same = mirror["segmentation"] == view["segmentation"][:, ::-1]
    assert same.mean() > 0.998
    close = np.abs(mirror["depth"] - view["depth"][:, ::-1]) < 2e-3
    assert close.mean() > 0.998
    normals = view["normals"][:, ::-1] * np.float32([-1, 1, 1])
    assert (np.abs(mirror["normals"] - normals).max(axis=2) < 1e-3).mean() > 0.998
    for name in ("keypoints", "edges"):
        assert np.abs(mirror[name] - view[name][:, ::-1]).mean() < 2e-3


def test_a_class_is_not_told_by_its_colour() -> None:
    """The nearest mean colour names few pixels of the furniture, though hues are a hint."""
    pixels, labels = [], []
    for frame in render_scenes(0, range(0, 240, 4), (24, 32)):
        furniture = (frame.segmentation > 2) & (frame.segmentation != IGNORE_LABEL)
        pixels.append(frame.image[furniture] / 255)
        labels.append(frame.segmentation[furniture])
    colours, classes = np.concatenate(pixels), np.concatenate(labels)
    means = np.stack([colours[classes == c].mean(axis=0) for c in range(3, NUM_CLASSES)])
    nearest = 3 + ((colours[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    recalls = [(nearest[classes == c] == c).mean() for c in range(3, NUM_CLASSES)]
    assert np.mean(recalls) < 0.33


@pytest.mark.parametrize(
    ("seed", "indices", "size", "value"),
    [(0, [0], (8, 64), "8x64"), (-1, [0], (64, 64), "-1"), (0, [2, -5], (64, 64), "-5")],
)
def test_mistakes_are_named(seed: int, indices: list[int], size: tuple, value: str) -> None:
    with pytest.raises(UserError, match=value):
        render_scenes(seed, indices, size)

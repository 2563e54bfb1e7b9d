"""Hand-built rooms whose depth, normals, corners and light are known in closed form.

The room is 4 x 6 x 3 m. The camera stands at (2, 0.5, 1.5) and looks along +y; the image is
41 x 41 with a focal length of 20.5 pixels, so that pixel (20, 20) looks straight ahead and
pixel (20 + j, 20 + i) along (j, i, 20.5).
"""

import numpy as np
import pytest

from trainables.data.scenes import scenes
from trainables.data.scenes.geometry import Camera, Light, Primitive, Scene
from trainables.data.scenes.layout import LABELS
from trainables.data.scenes.rendering import cast, describe, shade, trace
from trainables.data.scenes.scenes import Sensor, render_view
from trainables.data.scenes.textures import TEXTURES, Material, noise

SIZE = (41, 41)
FOCAL = 20.5
GREY = Material(texture="plain", palette=np.full((3, 3), 0.5), grain=0.0)
CAMERA = Camera.looking_at((2.0, 0.5, 1.5), (2.0, 5.0, 1.5), roll=0.0, focal=0.5)
SENSOR = Sensor(exposure=0.25, white_balance=(1.0, 1.0, 1.0), shot_noise=0.0, read_noise=0.0)


@pytest.fixture
def sharp_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges a pixel wide: where they lie is tested, not how far they are spread."""
    monkeypatch.setattr(scenes, "EDGE_SIGMA", 0.01)


def _solid(shape: str, kind: str, **changes: object) -> Primitive:
    fields = {"centre": (2.0, 3.0, 1.5), "half": (0.5, 0.5, 0.5), "material": GREY} | changes
    return Primitive(shape=shape, label=LABELS[kind], **fields)  # type: ignore[arg-type]


def _scene(*primitives: Primitive, lights: tuple[Light, ...] = (), ambient: float = 1.0) -> Scene:
    return Scene(
        room=(4.0, 6.0, 3.0),
        surfaces=(GREY, GREY, GREY),
        primitives=primitives,
        lights=lights,
        ambient=ambient,
    )


def _view(scene: Scene) -> dict[str, np.ndarray]:
    return render_view(scene, CAMERA, SIZE, SENSOR, np.random.default_rng(0))


def test_the_empty_room() -> None:
    view = _view(_scene())
    assert view["depth"][20, 20] == pytest.approx(5.5, abs=1e-5)
    np.testing.assert_allclose(view["normals"][20, 20], (0, 0, -1), atol=1e-6)
    # 10 rows down the floor, 1.5 m below: depth 1.5 / (10 / 20.5).
    assert view["depth"][30, 20] == pytest.approx(1.5 * FOCAL / 10, rel=1e-6)
    np.testing.assert_allclose(view["normals"][30, 20], (0, -1, 0), atol=1e-6)
    assert view["segmentation"][30, 20] == LABELS["floor"]
    assert view["segmentation"][10, 20] == LABELS["ceiling"]
    np.testing.assert_allclose(view["normals"][10, 20], (0, 1, 0), atol=1e-6)
    # 12 columns right, the right wall 2 m off: its inside faces left.
    assert view["depth"][20, 32] == pytest.approx(2 * FOCAL / 12, rel=1e-6)
    np.testing.assert_allclose(view["normals"][20, 32], (-1, 0, 0), atol=1e-6)
    assert view["segmentation"][20, 32] == LABELS["wall"]


def test_a_sphere() -> None:
    view = _view(_scene(_solid("sphere", "ball")))
    assert view["depth"][20, 20] == pytest.approx(2.0, abs=1e-5)
    np.testing.assert_allclose(view["normals"][20, 20], (0, 0, -1), atol=1e-5)
    # Pixel (20, 23): the nearer root of |t (3/20.5, 0, 1) - (0, 0, 2.5)| = 0.5.
    slope = 3 / FOCAL
    a, b, c = 1 + slope**2, -2 * 2.5, 2.5**2 - 0.25
    t = (-b - np.sqrt(b * b - 4 * a * c)) / (2 * a)
    assert view["depth"][20, 23] == pytest.approx(t, abs=1e-5)
    normal = np.array((slope * t, 0, t - 2.5)) / 0.5
    np.testing.assert_allclose(view["normals"][20, 23], normal, atol=1e-5)
    # The silhouette: sin(angle) = 0.5 / 2.5 to the axis.
    v, u = np.mgrid[:41, :41] - 20
    cosine = FOCAL / np.sqrt(u * u + v * v + FOCAL**2)
    inside = cosine > np.sqrt(1 - 0.2**2)
    np.testing.assert_array_equal(view["segmentation"] == LABELS["ball"], inside)


def test_a_box() -> None:
    view = _view(_scene(_solid("box", "crate")))
    # The front face is 2 m off and spans +-0.5 / 2 * 20.5 = +-5.125 pixels.
    face = view["segmentation"] == LABELS["crate"]
    assert face.sum() == 11 * 11
    assert face[15:26, 15:26].all()
    np.testing.assert_allclose(view["depth"][face], 2.0, atol=1e-5)
    np.testing.assert_allclose(view["normals"][face] - (0, 0, -1), 0, atol=1e-6)


def test_a_turned_box_shows_its_vertical_edge() -> None:
    view = _view(_scene(_solid("box", "crate", yaw=np.pi / 4)))
    # Half the diagonal towards the camera; beside it the faces look 45 degrees aside.
    assert view["depth"][20, 20] == pytest.approx(2.5 - np.sqrt(0.5), abs=1e-5)
    root = np.sqrt(0.5)
    np.testing.assert_allclose(view["normals"][20, 18], (-root, 0, -root), atol=1e-5)
    np.testing.assert_allclose(view["normals"][20, 22], (root, 0, -root), atol=1e-5)
    assert view["edges"][20, 20] == pytest.approx(1.0)  # a right angle: 1 - cos = 1


def test_a_cylinder_from_the_side_and_from_above() -> None:
    view = _view(_scene(_solid("cylinder", "pouf")))
    assert view["depth"][20, 20] == pytest.approx(2.0, abs=1e-5)
    side = view["segmentation"] == LABELS["pouf"]
    np.testing.assert_allclose(view["normals"][side][:, 1], 0, atol=1e-6)
    low = _solid("cylinder", "pouf", centre=(2.0, 3.0, 0.5))
    view = _view(_scene(low))
    # The ray through the top's centre: 0.5 m down in 2.5 m is 4.1 rows; row 24 is on the top.
    assert view["depth"][24, 20] == pytest.approx(0.5 * FOCAL / 4, rel=1e-5)
    np.testing.assert_allclose(view["normals"][24, 20], (0, -1, 0), atol=1e-6)


def test_keypoints_are_the_visible_corners_and_no_others() -> None:
    view = _view(_scene(_solid("box", "crate")))
    front = [(x, y, 2.0) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    room = [(x, y, 5.5) for x in (-2.0, 2.0) for y in (-1.5, 1.5)]
    sigma = scenes.KEYPOINT_SIGMA * 41
    v, u = np.mgrid[:41, :41] + 0.5
    expected = np.zeros(SIZE)
    for x, y, z in front + room:  # the box hides its own four corners behind
        centre = FOCAL + FOCAL * x / z, FOCAL + FOCAL * y / z
        square = (u - centre[0]) ** 2 + (v - centre[1]) ** 2
        expected = np.maximum(expected, np.exp(-square / (2 * sigma**2)))
    np.testing.assert_allclose(view["keypoints"], expected, atol=1e-5)
    assert view["keypoints"][15, 15] > 0.98


def test_an_occluder_hides_keypoints() -> None:
    screen = _solid("sphere", "ball", centre=(2.0, 1.5, 1.5), half=(0.6, 0.6, 0.6))
    hidden = _view(_scene(screen, _solid("box", "crate")))
    alone = _view(_scene(_solid("box", "crate")))
    assert alone["keypoints"][15, 15] > 0.98
    assert hidden["keypoints"][15, 15] < 0.5
    assert (hidden["segmentation"] != LABELS["crate"]).all()


@pytest.mark.usefixtures("sharp_edges")
def test_edges_of_a_box_against_the_wall_behind_it() -> None:
    edges = _view(_scene(_solid("box", "crate")))["edges"]
    np.testing.assert_allclose(edges[15:26, 15], 1.0)
    np.testing.assert_allclose(edges[15:26, 14], 1.0)
    assert edges[20, 20] == 0.0  # inside the face
    assert edges[20, 10] == 0.0 or edges[20, 10] < edges[20, 14]


@pytest.mark.usefixtures("sharp_edges")
def test_a_coplanar_seam_and_a_curved_face_are_no_edges() -> None:
    left = _solid("box", "crate", centre=(1.775, 3.0, 1.5), half=(0.275, 0.5, 0.5))
    right = _solid("box", "crate", centre=(2.275, 3.0, 1.5), half=(0.225, 0.5, 0.5))
    seam = _view(_scene(left, right))["edges"]
    assert seam[20, 18:23].max() < 1e-3
    ball = _view(_scene(_solid("sphere", "ball", half=(1.5, 1.5, 1.5))))["edges"]
    assert ball[18:23, 18:23].max() == 0.0


def _radiance_below(scene: Scene, point: tuple[float, float]) -> np.ndarray:
    """Radiance (3,) of the floor at `point`, from a camera looking down at it aslant."""
    camera = Camera.looking_at((2.0, 0.5, 1.0), (*point, 0.0), roll=0.0, focal=1.0)
    rays = cast(scene, camera, np.zeros((2, 1)), 1)
    depth, owner = trace(scene, camera, rays)
    surfaces = describe(scene, camera, rays, depth, owner)
    np.testing.assert_allclose(surfaces.points[:, 0], (*point, 0.0), atol=1e-4)
    return shade(scene, camera, surfaces, np.zeros((3, 1), dtype=np.float32))[:, 0]


def test_light_falls_off_and_is_blocked() -> None:
    lamp = Light(position=(2.0, 3.0, 2.5), power=(1.0, 2.0, 3.0), radius=0.1)
    ball = _solid("sphere", "ball", centre=(2.0, 3.0, 1.5), half=(0.3, 0.3, 0.3))
    scene = _scene(ball, lights=(lamp,), ambient=0.0)
    # 1.5 m aside: cos = 2.5 / d, d^2 = 8.5; albedo one half.
    expected = 0.5 * np.array((1.0, 2.0, 3.0)) * (2.5 / np.sqrt(8.5)) / (8.5 + 0.4)
    np.testing.assert_allclose(_radiance_below(scene, (3.5, 3.0)), expected, rtol=1e-2)
    np.testing.assert_array_equal(_radiance_below(scene, (2.0, 3.0)), 0.0)
    # The ball's shadow on the floor: tangent of asin(0.3 / 1) times 2.5 m = 0.786 m.
    assert _radiance_below(scene, (2.0 + 0.77, 3.0))[0] == 0.0
    assert _radiance_below(scene, (2.0 + 0.80, 3.0))[0] > 0.0


def test_creases_are_darker_than_open_floor() -> None:
    scene = _scene()
    assert _radiance_below(scene, (2.0, 5.9))[0] < 0.9 * _radiance_below(scene, (2.0, 3.0))[0]


@pytest.mark.parametrize("name", sorted(TEXTURES))
def test_textures_stay_between_their_colours(name: str) -> None:
    rng = np.random.default_rng(0)
    u, v = rng.uniform(-9, 9, (2, 2000)).astype(np.float32)
    blend = TEXTURES[name](u, v)
    assert blend.shape == u.shape
    assert blend.min() >= 0
    assert blend.max() <= 1 + 1e-6
    if name != "plain":
        assert blend.std() > 0.05
    palette = np.array([(0.1, 0.1, 0.1), (0.2, 0.3, 0.4), (0.6, 0.5, 0.4)])
    albedo = Material(texture=name, palette=palette, scale=0.3, grain=0.0).albedo(u, v)
    assert albedo.shape == (3, 2000)
    assert albedo.dtype == np.float32
    assert (albedo.min(axis=1) >= palette.min(axis=0) - 1e-6).all()
    assert (albedo.max(axis=1) <= palette.max(axis=0) + 1e-6).all()


def test_noise_is_periodic_and_spread() -> None:
    u = np.linspace(0, 7.9, 500, dtype=np.float32)
    np.testing.assert_array_equal(noise(u + 8, u), noise(u, u + 8))
    assert noise(u, u).min() < 0.2
    assert noise(u, u).max() > 0.8


def test_projection_undoes_casting() -> None:
    camera = Camera.looking_at((1.0, 1.0, 1.5), (3.0, 4.0, 0.5), roll=0.1, focal=0.7)
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera.rotation) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    pixels = rng.uniform((0, 0), (80, 60), (50, 2))
    rays = cast(_scene(), camera, (pixels - (40, 30)).T, 80)
    depths = rng.uniform(1, 5, 50)
    points = camera.position + (depths * rays).T
    found, depth = camera.project(points, (60, 80))
    np.testing.assert_allclose(found, pixels, atol=1e-3)
    np.testing.assert_allclose(depth, depths, rtol=1e-5)


def test_box_corners_and_clearance() -> None:
    box = _solid("box", "crate", half=(0.5, 0.3, 0.2), yaw=0.4)
    corners = box.corners()
    assert len({tuple(c) for c in corners}) == 8
    np.testing.assert_allclose([box.clearance(tuple(c)) for c in corners], 0, atol=1e-6)
    distances = np.linalg.norm(corners - box.centre, axis=1)
    np.testing.assert_allclose(distances, box.bounding_radius, rtol=1e-6)
    assert box.clearance(box.centre) == pytest.approx(-0.2)
    assert box.clearance((2.0, 3.0, 2.5)) == pytest.approx(0.8)
    assert _solid("sphere", "ball").corners().shape == (0, 3)

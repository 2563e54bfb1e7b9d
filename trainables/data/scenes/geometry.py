"""Defines the solids, lights and cameras of a procedural room.

The world is right-handed, in metres, z up; the room is the box (0, 0, 0)…`Scene.room`.
"""

from dataclasses import dataclass
from math import cos, hypot, sin

import numpy as np

from trainables.data.scenes.textures import Material

Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Primitive:
    """Describes an upright convex solid, turned by `yaw` (radians) about the vertical.

    half: half extents in metres; (r, r, half height) for a "cylinder", (r, r, r) for a "sphere".
    """

    shape: str  # "box" | "cylinder" | "sphere"
    centre: Point
    half: Point
    label: int
    material: Material
    yaw: float = 0.0
    casts_shadow: bool = True

    @property
    def bounding_radius(self) -> float:
        """Return the radius of the sphere about `centre` that holds the solid."""
        x, y, z = self.half
        if self.shape == "sphere":
            return x
        return hypot(x, z) if self.shape == "cylinder" else hypot(x, y, z)

    def to_local(self, vector: np.ndarray) -> np.ndarray:
        """Return world directions (3, N) in the solid's own axes."""
        if self.yaw == 0.0:
            return vector
        c, s = np.float32(cos(self.yaw)), np.float32(sin(self.yaw))
        return np.stack((c * vector[0] + s * vector[1], c * vector[1] - s * vector[0], vector[2]))

    def to_world(self, vector: np.ndarray) -> np.ndarray:
        """Return directions (3, N) in the solid's axes in world axes; the inverse of `to_local`."""
        if self.yaw == 0.0:
            return vector
        c, s = np.float32(cos(self.yaw)), np.float32(sin(self.yaw))
        return np.stack((c * vector[0] - s * vector[1], c * vector[1] + s * vector[0], vector[2]))

    def corners(self) -> np.ndarray:
        """Return the (8, 3) corners of a box, or an empty (0, 3) array for round solids."""
        if self.shape != "box":
            return np.empty((0, 3))
        signs = np.array([(i & 1, i >> 1 & 1, i >> 2 & 1) for i in range(8)]) * 2.0 - 1.0
        return self.to_world((signs * self.half).T).T + self.centre

    def clearance(self, point: Point) -> float:
        """Return the metres from `point` to the surface; negative inside."""
        offset = np.subtract(point, self.centre)[:, None]
        x, y, z = (float(v) for v in self.to_local(offset)[:, 0])
        if self.shape == "sphere":
            return hypot(x, y, z) - self.half[0]
        if self.shape == "cylinder":
            excess = [hypot(x, y) - self.half[0], abs(z) - self.half[2]]
        else:
            excess = [abs(v) - h for v, h in zip((x, y, z), self.half, strict=True)]
        outside = hypot(*(max(e, 0.0) for e in excess))
        return outside if outside > 0 else max(excess)


@dataclass(frozen=True, kw_only=True, slots=True)
class Light:
    """Describes a small spherical area light; `power` is linear RGB at one metre."""

    position: Point
    power: Point
    radius: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Holds a room, its furniture and its lights; `surfaces` are floor, wall and ceiling."""

    room: Point
    surfaces: tuple[Material, Material, Material]
    primitives: tuple[Primitive, ...]
    lights: tuple[Light, ...]
    ambient: float = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """Describes a pinhole camera with square pixels and a central principal point.

    rotation: rows are the camera's x (right), y (down), z (forward) axes in the world.
    focal: focal length as a fraction of the image's width.
    """

    position: Point
    rotation: np.ndarray
    focal: float

    @classmethod
    def looking_at(cls, position: Point, target: Point, *, roll: float, focal: float) -> "Camera":
        """Return a camera that looks towards `target`, never straight up or down.

        roll: in radians, clockwise as seen by the camera.
        """
        forward = np.subtract(target, position)
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        rolled = cos(roll) * right + sin(roll) * down
        rotation = np.stack((rolled, np.cross(forward, rolled), forward))
        return cls(position=position, rotation=rotation, focal=focal)

    def project(self, points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel coordinates (N, 2) as (u, v), with centres at halves, and depths (N,)."""
        height, width = size
        local = (points - self.position) @ self.rotation.T
        depth = local[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            plane = local[:, :2] / depth[:, None]
        return plane * (self.focal * width) + (width / 2, height / 2), depth

"""Casts rays through a procedural room exactly, vectorised over rays.

Rays are (3, N) float32 in the world, scaled so that the ray parameter is the depth along
the optical axis. Each ray is tested only against solids whose bounding sphere it meets.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trainables.data.scenes.geometry import Camera, Light, Primitive, Scene

ROOM = -1  # the owner of a ray that meets no solid
FLOOR, WALL, CEILING = 0, 1, 2  # the labels of the room's own surfaces

_NEAREST = np.float32(1e-3)  # metres; nearer hits are the ray's own start
_SHADOW_OFFSET = np.float32(3e-3)  # metres along the normal, against self-shadowing


@dataclass(frozen=True, kw_only=True, slots=True)
class Surfaces:
    """Holds what N rays meet first.

    points, normals: world (3, N), the normals unit and facing the ray. labels: uint8 (N,).
    faces: int32 (N,), equal where two rays meet the same smooth face of the same solid.
    albedo: linear RGB (3, N). gloss, emission: (N,).
    """

    points: np.ndarray
    normals: np.ndarray
    labels: np.ndarray
    faces: np.ndarray
    albedo: np.ndarray
    gloss: np.ndarray
    emission: np.ndarray


def cast(scene: Scene, camera: Camera, pixels: np.ndarray, width: int) -> np.ndarray:
    """Return ray directions (3, N) through pixels (2, N) relative to the image's centre."""
    plane = (pixels / (camera.focal * width)).astype(np.float32)
    axes = camera.rotation.astype(np.float32)
    rays = plane[0] * axes[0][:, None] + plane[1] * axes[1][:, None] + axes[2][:, None]
    rays[rays == 0] = np.float32(1e-12)  # so that slabs divide safely
    return rays


def trace(scene: Scene, camera: Camera, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each ray's depth (N,) at its first hit and the index of its solid, `ROOM` if none."""
    origin = np.array(camera.position, dtype=np.float32)[:, None]
    room = np.array(scene.room, dtype=np.float32)[:, None]
    depth = ((np.where(rays > 0, room, np.float32(0)) - origin) / rays).min(axis=0)
    owner = np.full(rays.shape[1], ROOM, dtype=np.int32)
    for index, candidates in _candidates(scene.primitives, origin, rays, 0.0):
        hit = _first_hit(scene.primitives[index], origin, rays[:, candidates])
        closer = hit < depth[candidates]
        depth[candidates[closer]] = hit[closer]
        owner[candidates[closer]] = index
    return depth, owner


def describe(
    scene: Scene, camera: Camera, rays: np.ndarray, depth: np.ndarray, owner: np.ndarray
) -> Surfaces:
    """Return normals, labels and materials where the rays of `trace` end."""
    num = rays.shape[1]
    origin = np.array(camera.position, dtype=np.float32)[:, None]
    surfaces = Surfaces(
        points=origin + depth * rays,
        normals=np.empty((3, num), dtype=np.float32),
        labels=np.empty(num, dtype=np.uint8),
        faces=np.empty(num, dtype=np.int32),
        albedo=np.empty((3, num), dtype=np.float32),
        gloss=np.zeros(num, dtype=np.float32),
        emission=np.zeros(num, dtype=np.float32),
    )
    order = np.argsort(owner, kind="stable")
    bounds = np.searchsorted(owner[order], np.arange(ROOM, len(scene.primitives) + 1))
    room = order[bounds[0] : bounds[1]]
    if room.size:
        _describe_room(scene, surfaces, room)
    for index, primitive in enumerate(scene.primitives):
        where = order[bounds[index + 1] : bounds[index + 2]]
        if where.size:
            _describe_primitive(primitive, 8 * (index + 1), surfaces, where)
    return surfaces


def shade(
    scene: Scene, camera: Camera, surfaces: Surfaces, light_samples: np.ndarray
) -> np.ndarray:
    """Return the linear radiance (3, N) of the surfaces.

    light_samples: (3, N), the point in a light's unit ball to which each ray's shadow is tested.
    The average over the rays of a pixel gives penumbrae.
    """
    occlusion = _ambient_occlusion(scene, surfaces)
    light = np.broadcast_to(np.float32(scene.ambient) * occlusion, surfaces.points.shape).copy()
    highlight = np.zeros_like(surfaces.gloss)
    for source in scene.lights:
        _add_light(scene, camera, surfaces, source, light_samples, light, highlight)
    radiance = surfaces.albedo * light
    radiance += highlight
    shining = np.flatnonzero(surfaces.emission)
    if shining.size:
        radiance[:, shining] += surfaces.albedo[:, shining] * surfaces.emission[shining]
    return radiance


def _candidates(
    primitives: tuple[Primitive, ...], origin: np.ndarray, rays: np.ndarray, inflate: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every solid with the rays that may meet its inflated bounding sphere."""
    if not primitives:
        return
    centres = np.array([p.centre for p in primitives], dtype=np.float32) - origin.T
    radii = np.array([p.bounding_radius + inflate for p in primitives], dtype=np.float32) * 1.001
    squares = (centres * centres).sum(axis=1) - radii * radii
    # |ray| cos(angle) >= tangent length; a ray that starts inside the sphere always meets it.
    tangent = np.where(squares > 0, np.sqrt(np.maximum(squares, 0)) * 0.9999, -np.inf)
    lengths = np.sqrt((rays * rays).sum(axis=0))
    meets = centres @ rays >= tangent.astype(np.float32)[:, None] * lengths - np.float32(1e-4)
    for index in range(len(primitives)):
        where = np.flatnonzero(meets[index])
        if where.size:
            yield index, where


def _first_hit(primitive: Primitive, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Return the ray parameter (n,) at the entry into a solid; infinite for rays that miss it."""
    start = primitive.to_local(origin - np.array(primitive.centre, dtype=np.float32)[:, None])
    ray = primitive.to_local(rays)
    half = np.array(primitive.half, dtype=np.float32)[:, None]
    if primitive.shape == "box":
        inverse = 1 / np.where(ray == 0, np.float32(1e-12), ray)
        middle, reach = -start * inverse, half * np.abs(inverse)
        near, far = (middle - reach).max(axis=0), (middle + reach).min(axis=0)
    else:
        axes = 2 if primitive.shape == "cylinder" else 3
        flat_start, flat_ray = start[:axes], ray[:axes]
        a = (flat_ray * flat_ray).sum(axis=0) + np.float32(1e-20)
        b = (flat_start * flat_ray).sum(axis=0)
        c = (flat_start * flat_start).sum(axis=0) - half[0] * half[0]
        root = b * b - a * c
        missed = root < 0
        root = np.sqrt(np.maximum(root, 0))
        near, far = (-b - root) / a, (-b + root) / a
        if axes == 2:
            inverse = 1 / np.where(ray[2] == 0, np.float32(1e-12), ray[2])
            middle, reach = -start[2] * inverse, half[2] * np.abs(inverse)
            near, far = np.maximum(near, middle - reach), np.minimum(far, middle + reach)
        near[missed] = np.inf
    near[(near >= far) | (near < _NEAREST)] = np.inf
    return near


def _describe_room(scene: Scene, surfaces: Surfaces, where: np.ndarray) -> None:
    points = surfaces.points[:, where]
    far = np.array(scene.room, dtype=np.float32)[:, None]
    # Of the six faces, the ray ends on the nearest.
    face = np.abs(np.concatenate((points, points - far))).argmin(axis=0)
    axis, upper = face % 3, face // 3
    normals = np.zeros_like(points)
    normals[axis, np.arange(where.size)] = 1 - 2 * upper
    surfaces.normals[:, where] = normals
    label = np.where(axis < 2, WALL, np.where(upper == 0, FLOOR, CEILING)).astype(np.uint8)
    surfaces.labels[where] = label
    surfaces.faces[where] = face
    for kind, material in enumerate(scene.surfaces):
        chosen = np.flatnonzero(label == kind)
        if chosen.size:
            u = np.where(axis[chosen] == 0, points[1, chosen], points[0, chosen])
            v = points[1, chosen] if kind != WALL else points[2, chosen]
            surfaces.albedo[:, where[chosen]] = material.albedo(u, v)


def _describe_primitive(
    primitive: Primitive, first_face: int, surfaces: Surfaces, where: np.ndarray
) -> None:
    centre = np.array(primitive.centre, dtype=np.float32)[:, None]
    x, y, z = local = primitive.to_local(surfaces.points[:, where] - centre)
    half = np.array(primitive.half, dtype=np.float32)[:, None]
    normals = np.zeros_like(local)
    if primitive.shape == "box":
        axis = (np.abs(local) - half).argmax(axis=0)
        columns = np.arange(where.size)
        sign = np.sign(local[axis, columns])
        normals[axis, columns] = sign
        face = 2 * axis + (sign > 0)
        u, v = np.where(axis == 0, y, x), np.where(axis == 2, y, z)
    elif primitive.shape == "cylinder":
        radius = np.sqrt(x * x + y * y)
        cap = np.abs(z) - half[2] > radius - half[0]
        normals[:2] = np.where(cap, np.float32(0), local[:2] / np.maximum(radius, 1e-6))
        normals[2] = np.where(cap, np.sign(z), np.float32(0))
        face = np.where(cap, 1 + (z > 0), 0)
        u, v = np.where(cap, x, half[0] * np.arctan2(y, x)), np.where(cap, y, z)
    else:
        normals = local / np.sqrt((local * local).sum(axis=0))
        face = np.zeros(where.size, dtype=np.int32)
        pole, first, second = (0, 1, 2) if primitive.material.turned else (2, 0, 1)
        u = half[0] * np.arctan2(normals[second], normals[first])
        v = half[0] * np.arcsin(np.clip(normals[pole], -1, 1))
    surfaces.normals[:, where] = primitive.to_world(normals)
    surfaces.labels[where] = primitive.label
    surfaces.faces[where] = first_face + face
    surfaces.albedo[:, where] = primitive.material.albedo(u, v)
    surfaces.gloss[where] = primitive.material.gloss
    surfaces.emission[where] = primitive.material.emission


def _ambient_occlusion(scene: Scene, surfaces: Surfaces) -> np.ndarray:
    """Return the openness (N,) in [0, 1]: less in the room's creases and beside bulky solids.

    This is a closed-form approximation: each wall dims by its angle and an exponential of its
    distance, and each solid counts as a sphere of its mean size.
    """
    points, normals = surfaces.points, surfaces.normals
    openness = np.ones(points.shape[1], dtype=np.float32)
    for axis, length in enumerate(scene.room):
        towards = np.exp(points[axis] * np.float32(-1 / 0.35))
        away = np.exp((points[axis] - np.float32(length)) * np.float32(1 / 0.35))
        # (1 - n·m)/2 is 0 for the face on which the point lies.
        openness -= np.float32(0.3) * (towards * (1 - normals[axis]) + away * (1 + normals[axis]))
    bulky = [p for p in scene.primitives if min(p.half) > 0.1]
    for primitive in bulky:
        radius = float(np.prod(primitive.half)) ** (1 / 3)
        offset = np.array(primitive.centre, dtype=np.float32)[:, None] - points
        square = (offset * offset).sum(axis=0)
        where = np.flatnonzero(square < 9 * radius * radius)
        square = square[where]
        facing = (offset[:, where] * normals[:, where]).sum(axis=0)
        shaded = np.maximum(facing, 0) * np.float32(radius**2) / (square * np.sqrt(square) + 1e-6)
        openness[where] *= 1 - np.minimum(np.float32(0.8) * shaded, np.float32(0.7))
    return np.maximum(openness, np.float32(0.1))


def _add_light(
    scene: Scene,
    camera: Camera,
    surfaces: Surfaces,
    source: Light,
    light_samples: np.ndarray,
    light: np.ndarray,
    highlight: np.ndarray,
) -> None:
    """Add a light's share to `light` (3, N) and its highlight to `highlight` (N,), in place."""
    centre = np.array(source.position, dtype=np.float32)[:, None]
    towards = centre + np.float32(source.radius) * light_samples - surfaces.points
    square = (towards * towards).sum(axis=0)
    cosine = (towards * surfaces.normals).sum(axis=0) / np.sqrt(square)
    lit = cosine > 0
    _cast_shadows(scene, surfaces, centre, towards, lit, source.radius)
    strength = np.where(lit, cosine, np.float32(0)) / (square + np.float32(0.4))
    light += np.array(source.power, dtype=np.float32)[:, None] * strength
    shiny = np.flatnonzero((surfaces.gloss > 0) & lit)
    if shiny.size:
        eye = np.array(camera.position, dtype=np.float32)[:, None] - surfaces.points[:, shiny]
        eye /= np.sqrt((eye * eye).sum(axis=0))
        halfway = towards[:, shiny] / np.sqrt(square[shiny]) + eye
        halfway /= np.sqrt((halfway * halfway).sum(axis=0))
        aligned = np.maximum((halfway * surfaces.normals[:, shiny]).sum(axis=0), 0)
        highlight[shiny] += surfaces.gloss[shiny] * aligned**40 * np.float32(source.power[0] / 4)


def _cast_shadows(
    scene: Scene,
    surfaces: Surfaces,
    centre: np.ndarray,
    towards: np.ndarray,
    lit: np.ndarray,
    radius: float,
) -> None:
    """Clear `lit` (N,) where a solid stands between the point and the light's sample."""
    casters = tuple(p for p in scene.primitives if p.casts_shadow)
    for index, candidates in _candidates(casters, centre, surfaces.points - centre, radius):
        where = candidates[lit[candidates]]
        if where.size:
            start = surfaces.points[:, where] + _SHADOW_OFFSET * surfaces.normals[:, where]
            lit[where] = _first_hit(casters[index], start, towards[:, where]) >= 1

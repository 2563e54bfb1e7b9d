"""Furnishes a procedural room and places the camera in it.

Objects are larger than real furniture, so that each spans several cells of a stride-8 network at
64x64. Colour is only a hint (see `textures`). A crate and a pouf can be the same box with
different textures. A pouf and a pillar can be the same cylinder in different places. A lamp and a
ball can be the same sphere, but only the lamp shines.
"""

from dataclasses import dataclass, field
from math import cos, hypot, pi, radians, sin, tan

import numpy as np

from trainables.data.batch import IGNORE_LABEL
from trainables.data.scenes.geometry import Camera, Light, Point, Primitive, Scene
from trainables.data.scenes.textures import Material, random_material

CLASS_NAMES = (
    "floor",
    "wall",
    "ceiling",
    "table",
    "cabinet",
    "crate",
    "pouf",
    "ball",
    "lamp",
    "pillar",
    "picture",
    "rug",
)
NUM_CLASSES = len(CLASS_NAMES)
LABELS = {name: label for label, name in enumerate(CLASS_NAMES)}

_WALL_GAP = 0.02  # metres; keeps faces from being coplanar, so that no ray has two first hits


@dataclass(slots=True)
class _Plan:
    """Holds a room while it is being furnished."""

    rng: np.random.Generator
    room: Point
    primitives: list[Primitive] = field(default_factory=list)
    footprints: list[tuple[float, float, float]] = field(default_factory=list)  # x, y, radius

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def claim(self, radius: float, margin: float = 0.08) -> tuple[float, float] | None:
        """Return a free place on the floor for a disc, or None if the room is too full."""
        for _ in range(12):
            x = self.uniform(radius + margin, self.room[0] - radius - margin)
            y = self.uniform(radius + margin, self.room[1] - radius - margin)
            if self.claim_at(x, y, radius):
                return x, y
        return None

    def claim_at(self, x: float, y: float, radius: float) -> bool:
        free = all(hypot(x - a, y - b) > radius + r + 0.04 for a, b, r in self.footprints)
        if free:
            self.footprints.append((x, y, radius))
        return free

    def add(
        self,
        shape: str,
        kind: str,
        centre: Point,
        half: Point,
        *,
        material: Material | None = None,
        yaw: float = 0.0,
    ) -> Primitive:
        """Append a solid of class `kind`; "unlabelled" belongs to no class."""
        primitive = Primitive(
            shape=shape,
            centre=centre,
            half=half,
            label=LABELS.get(kind, IGNORE_LABEL),
            material=material or random_material(self.rng, kind),
            yaw=yaw,
            # A lamp casts no shadows, because its light is inside it and would be blocked.
            casts_shadow=kind != "lamp",
        )
        self.primitives.append(primitive)
        return primitive


def build_scene(rng: np.random.Generator) -> Scene:
    """Draw a furnished room."""
    width, depth = (float(side) for side in rng.uniform(3.2, 5.0, 2))
    room = (width, depth, float(rng.uniform(2.3, 3.1)))
    plan = _Plan(rng, room)
    floor, wall, ceiling = (random_material(rng, kind) for kind in ("floor", "wall", "ceiling"))
    lights = _add_lamps(plan)
    if plan.chance(0.5):
        _add_pillar(plan)
    for _ in range(int(rng.integers(0, 3))):
        _add_cabinet(plan)
    if plan.chance(0.75):
        _add_table(plan)
    for _ in range(int(rng.integers(2, 6))):
        kind = ("crate", "pouf", "ball")[int(rng.integers(3))]
        _add_loose(plan, kind)
    if plan.chance(0.35):
        _add_unlabelled(plan)
    if plan.chance(0.55):
        _add_rug(plan)
    for _ in range(int(rng.integers(1, 4))):
        _add_picture(plan)
    return Scene(
        room=room,
        surfaces=(floor, wall, ceiling),
        primitives=tuple(plan.primitives),
        lights=tuple(lights),
        ambient=plan.uniform(0.12, 0.34),
    )


def place_camera(rng: np.random.Generator, scene: Scene) -> Camera:
    """Draw a view towards some of the furniture, from a free place in the room."""
    width, depth, height = scene.room
    # Somewhere between the middle of the room and one of the things in it.
    subject = scene.primitives[int(rng.integers(len(scene.primitives)))].centre
    share = rng.uniform(0.3, 0.9)
    target = (
        float(share * subject[0] + (1 - share) * width / 2),
        float(share * subject[1] + (1 - share) * depth / 2),
        float(rng.uniform(0.2, 1.7)),
    )
    best, best_score = (0.3, 0.3, 1.5), -1.0
    for _ in range(16):
        # Near the walls rather than the middle: a long view shows more.
        angle, reach = rng.uniform(0, 2 * pi), 1.3 * rng.uniform(0.6, 1.0)
        position = (
            float(width / 2 + (width / 2 - 0.3) * np.clip(reach * cos(angle), -1, 1)),
            float(depth / 2 + (depth / 2 - 0.3) * np.clip(reach * sin(angle), -1, 1)),
            float(rng.uniform(0.9, min(2.0, height - 0.35))),
        )
        clearance = min(p.clearance(position) for p in scene.primitives)
        distance = hypot(target[0] - position[0], target[1] - position[1])
        score = min(clearance / 0.6, distance / 1.6, 1.0)
        if score > best_score:
            best, best_score = position, score
        if score == 1.0:
            break
    return Camera.looking_at(
        best,
        target,
        roll=radians(float(rng.normal(0, 2.5))),
        focal=0.5 / tan(radians(float(rng.uniform(56, 74))) / 2),
    )


def _add_lamps(plan: _Plan) -> list[Light]:
    """Add a ceiling light or an invisible light high up, and often a standing lamp."""
    width, depth, height = plan.room
    warm = plan.uniform(0.0, 1.0)
    tint = (1.0, 1.0 - 0.16 * warm, 1.0 - 0.38 * warm)
    x, y = width * plan.uniform(0.3, 0.7), depth * plan.uniform(0.3, 0.7)
    lights = []
    if plan.chance(0.65):
        radius = plan.uniform(0.16, 0.26)
        drop = height - radius - plan.uniform(0.05, 0.4)
        plan.add("sphere", "lamp", (x, y, drop), (radius, radius, radius))
        plan.add("cylinder", "lamp", (x, y, height - 0.2), (0.02, 0.02, 0.2))
        lights.append(Light(position=(x, y, drop), power=_scaled(tint, 3.2), radius=radius))
    else:
        x, y = width * plan.uniform(0.1, 0.9), depth * plan.uniform(0.1, 0.9)
        position = (x, y, height * plan.uniform(0.75, 0.93))
        lights.append(Light(position=position, power=_scaled(tint, 3.5), radius=0.2))
    if plan.chance(0.5):
        radius = plan.uniform(0.17, 0.28)
        place = plan.claim(radius)
        if place is not None:
            top = plan.uniform(1.1, 1.7)
            plan.add("sphere", "lamp", (*place, top), (radius, radius, radius))
            pole = random_material(plan.rng, "pole")
            plan.add("cylinder", "lamp", (*place, top / 2), (0.03, 0.03, top / 2), material=pole)
            lights.append(
                Light(position=(*place, top), power=_scaled((1.0, 0.86, 0.66), 1.3), radius=radius)
            )
    return lights


def _scaled(colour: Point, power: float) -> Point:
    return (colour[0] * power, colour[1] * power, colour[2] * power)


def _add_pillar(plan: _Plan) -> None:
    radius = plan.uniform(0.14, 0.28)
    place = plan.claim(radius)
    if place is not None:
        half = plan.room[2] / 2 + 0.05  # through floor and ceiling
        plan.add("cylinder", "pillar", (*place, plan.room[2] / 2), (radius, radius, half))


def _add_cabinet(plan: _Plan) -> None:
    """Add a large box with its back to a wall."""
    half = (plan.uniform(0.4, 0.75), plan.uniform(0.2, 0.3), plan.uniform(0.45, 1.0))
    wall = int(plan.rng.integers(4))
    length = plan.room[wall % 2]
    along = plan.uniform(half[0] + 0.05, length - half[0] - 0.05)
    across = half[1] + _WALL_GAP
    if wall >= 2:
        across = plan.room[1 - wall % 2] - across
    x, y = (along, across) if wall % 2 == 0 else (across, along)
    if plan.claim_at(x, y, half[0]):
        yaw = 0.0 if wall % 2 == 0 else pi / 2
        plan.add("box", "cabinet", (x, y, half[2]), half, yaw=yaw)


def _add_table(plan: _Plan) -> None:
    """Add a slab on four round legs, sometimes with something on it."""
    half_x, half_y = plan.uniform(0.45, 0.75), plan.uniform(0.32, 0.5)
    place = plan.claim(hypot(half_x, half_y))
    if place is None:
        return
    top, thickness, yaw = plan.uniform(0.6, 0.85), plan.uniform(0.025, 0.05), plan.uniform(0, pi)
    centre = (*place, top - thickness)
    slab = plan.add("box", "table", centre, (half_x, half_y, thickness), yaw=yaw)
    leg = plan.uniform(0.03, 0.05)
    height = (top - 2 * thickness) / 2
    for sx, sy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        offset = np.array([[sx * (half_x - 2 * leg)], [sy * (half_y - 2 * leg)], [0.0]])
        dx, dy, _ = (float(v) for v in slab.to_world(offset)[:, 0])
        position = (place[0] + dx, place[1] + dy, height)
        plan.add("cylinder", "table", position, (leg, leg, height), material=slab.material)
    if plan.chance(0.6):
        kind = ("crate", "ball", "pouf")[int(plan.rng.integers(3))]
        _add_solid(plan, kind, place, top, plan.uniform(0.18, 0.28))


def _add_loose(plan: _Plan, kind: str) -> None:
    """Add a crate, pouf or ball on the floor; a crate may have another thing on it."""
    size = plan.uniform(0.26, 0.46)
    place = plan.claim(size * 1.3)
    if place is None:
        return
    top = _add_solid(plan, kind, place, 0.0, size)
    if kind == "crate" and plan.chance(0.4):
        upper = ("crate", "ball", "pouf")[int(plan.rng.integers(3))]
        _add_solid(plan, upper, place, top, size * plan.uniform(0.55, 0.8))


def _add_solid(
    plan: _Plan, kind: str, place: tuple[float, float], base: float, size: float
) -> float:
    """Add a solid of about `size` half extent at height `base` and return the height of its top."""
    x, y = place
    if kind == "ball":
        plan.add("sphere", kind, (x, y, base + size), (size, size, size))
        return base + 2 * size
    if kind == "crate" or plan.chance(0.5):
        half = (size, size * plan.uniform(0.75, 1.0), size * plan.uniform(0.6, 1.0))
        plan.add("box", kind, (x, y, base + half[2]), half, yaw=plan.uniform(0, pi))
        return base + 2 * half[2]
    half_height = size * plan.uniform(0.5, 0.9)
    plan.add("cylinder", kind, (x, y, base + half_height), (size, size, half_height))
    return base + 2 * half_height


def _add_unlabelled(plan: _Plan) -> None:
    """Add a solid of any shape and texture that has no label."""
    size = plan.uniform(0.18, 0.35)
    place = plan.claim(size * 1.3)
    if place is not None:
        shape = ("box", "cylinder", "sphere")[int(plan.rng.integers(3))]
        half_height = size if shape == "sphere" else size * plan.uniform(0.6, 1.8)
        centre = (*place, half_height)
        yaw = plan.uniform(0, pi)
        plan.add(shape, "unlabelled", centre, (size, size, half_height), yaw=yaw)


def _add_rug(plan: _Plan) -> None:
    """Add a thin patch on the floor; other things may stand on it."""
    # Thinner than a real rug, so that its side, smaller than a pixel, does not dot the edges.
    half = (plan.uniform(0.6, 1.1), plan.uniform(0.5, 0.9), 1e-4)
    x = plan.uniform(half[0] + 0.3, plan.room[0] - half[0] - 0.3)
    y = plan.uniform(half[1] + 0.3, plan.room[1] - half[1] - 0.3)
    plan.add("box", "rug", (x, y, half[2]), half, yaw=float(plan.rng.normal(0, 0.15)))


def _add_picture(plan: _Plan) -> None:
    """Add a thin box on a wall; cabinets may stand in front of it."""
    half = (plan.uniform(0.25, 0.55), 0.012, plan.uniform(0.2, 0.42))
    wall = int(plan.rng.integers(4))
    along = plan.uniform(half[0] + 0.2, plan.room[wall % 2] - half[0] - 0.2)
    across = half[1] if wall < 2 else plan.room[1 - wall % 2] - half[1]
    x, y = (along, across) if wall % 2 == 0 else (across, along)
    yaw = 0.0 if wall % 2 == 0 else pi / 2
    pictures = (p for p in plan.primitives if p.label == LABELS["picture"])
    overlapping = any(
        hypot(p.centre[0] - x, p.centre[1] - y) < half[0] + p.half[0] for p in pictures
    )
    if not overlapping:
        centre = (x, y, plan.uniform(1.25, 1.6))
        plan.add("box", "picture", centre, half, yaw=yaw)

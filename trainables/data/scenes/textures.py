"""Makes the materials of the procedural rooms: a surface pattern, three colours and grain.

A texture maps surface coordinates (metres) to a position between the colours, 0…1.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

_NOISE_SIZE = 512  # cells of the periodic noise table
_NOISE_CELLS_PER_METRE = 64.0
_RAMP = 64  # steps of a material's colour ramp

Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Describes the look of a surface.

    palette: linear RGB (3, 3), the texture's low, middle and high colours. scale: metres per
    repeat. phase: shift of the pattern in metres. grain: relative strength of the fine noise.
    gloss: strength of the highlight. emission: added light, linear.
    """

    texture: str
    palette: np.ndarray
    scale: float = 0.3
    phase: tuple[float, float] = (0.0, 0.0)
    turned: bool = False
    grain: float = 0.15
    gloss: float = 0.0
    emission: float = 0.0

    def albedo(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return linear RGB (3, N) at surface coordinates in metres, each (N,)."""
        u, v = u + np.float32(self.phase[0]), v + np.float32(self.phase[1])
        if self.turned:
            u, v = v, u
        blend = TEXTURES[self.texture](u / np.float32(self.scale), v / np.float32(self.scale))
        knots = np.linspace(0, 1, len(self.palette))
        steps = np.linspace(0, 1, _RAMP)
        ramp = np.stack([np.interp(steps, knots, c) for c in self.palette.T]).astype(np.float32)
        colours = ramp[:, np.clip(blend * (_RAMP - 1), 0, _RAMP - 1).astype(np.intp)]
        if self.grain:
            colours *= np.float32(1 - self.grain) + np.float32(2 * self.grain) * noise(u, v)
        return colours


@cache
def _noise_table() -> np.ndarray:
    """Return periodic fractal noise in [0, 1], the same in all scenes; materials shift it."""
    rng = np.random.Generator(np.random.PCG64(20_240_501))
    table = np.zeros((_NOISE_SIZE, _NOISE_SIZE))
    for level, weight in ((8, 0.5), (32, 0.9), (128, 0.6), (512, 0.5)):
        lattice = rng.random((level, level))
        position = np.arange(_NOISE_SIZE) * level / _NOISE_SIZE
        low = position.astype(int)
        share = position - low
        share = share * share * (3 - 2 * share)
        high = (low + 1) % level
        rows = lattice[low] * (1 - share)[:, None] + lattice[high] * share[:, None]
        table += weight * (rows[:, low] * (1 - share) + rows[:, high] * share)
    table -= table.mean()
    return np.clip(0.5 + table / (4 * table.std()), 0, 1).astype(np.float32)


def noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return fractal noise in [0, 1] at coordinates in metres, with a period of 8 metres."""
    scale = np.float32(_NOISE_CELLS_PER_METRE)
    row = np.floor(u * scale).astype(np.int32) & (_NOISE_SIZE - 1)
    column = np.floor(v * scale).astype(np.int32) & (_NOISE_SIZE - 1)
    return _noise_table()[row, column]


def _fraction(x: np.ndarray) -> np.ndarray:
    return x - np.floor(x)


def _cell(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return a value in [0, 1] per lattice cell, unrelated between neighbours."""
    row = (i * np.float32(37) + j * np.float32(101)).astype(np.int32) & (_NOISE_SIZE - 1)
    column = (i * np.float32(71) + j * np.float32(13)).astype(np.int32) & (_NOISE_SIZE - 1)
    return _noise_table()[row, column]


def _plain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.full_like(u, 0.5)


def _checker(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.mod(np.floor(u) + np.floor(v), 2)


def _stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (_fraction(u) < 0.5).astype(np.float32)


def _waves(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.float32(0.5) + np.float32(0.5) * np.sin(np.float32(2 * np.pi) * u)


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = _fraction(u) - np.float32(0.5), _fraction(v) - np.float32(0.5)
    return (x * x + y * y < 0.1).astype(np.float32)


def _weave(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = _fraction(2 * u), _fraction(2 * v)
    over = np.mod(np.floor(2 * u) + np.floor(2 * v), 2)
    return np.where(over > 0, x * (1 - x), y * (1 - y)) * 3 + np.float32(0.2) * over


def _planks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Draw grained boards along v, each in its own shade, with dark joints."""
    board = np.floor(u * 2)
    shift = _cell(board, board)
    length = np.floor(v * np.float32(0.3) + 5 * shift)
    grain = noise(u * 3, v * np.float32(0.15) + shift)
    shade = np.float32(0.15) + np.float32(0.5) * _cell(board, length) + np.float32(0.35) * grain
    return np.where(_fraction(u * 2) < 0.07, np.float32(0), shade)


def _slats(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Draw a crate's face: broad boards with wide dark gaps and a batten across them."""
    board = np.floor(u * 2)
    shade = np.float32(0.5) + np.float32(0.3) * _cell(board, board)
    gap = _fraction(u * 2) < 0.22
    batten = np.abs(_fraction(v * np.float32(0.8)) - np.float32(0.5)) < 0.1
    return np.where(batten, np.float32(1), np.where(gap, np.float32(0), shade))


def _tiles(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    joint = (_fraction(u) < 0.06) | (_fraction(v) < 0.06)
    shade = np.float32(0.45) + np.float32(0.45) * _cell(np.floor(u), np.floor(v))
    return np.where(joint, np.float32(0), shade)


def _bricks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    course = np.floor(v * 3)
    x = u + np.float32(0.5) * np.mod(course, 2)
    joint = (_fraction(x) < 0.06) | (_fraction(v * 3) < 0.16)
    return np.where(joint, np.float32(1), np.float32(0.6) * _cell(np.floor(x), course))


def _marble(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bend = noise(u * np.float32(0.25), v * np.float32(0.25))
    return np.float32(0.5) + np.float32(0.5) * np.sin(6 * bend + 4 * u + 2 * v)


def _clouds(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return noise(u * np.float32(0.5), v * np.float32(0.5))


def _panels(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Draw doors or drawers: a groove around a field, with a knob."""
    x, y = _fraction(u), _fraction(v)
    distance = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    knob = (x - np.float32(0.85)) ** 2 + (y - np.float32(0.5)) ** 2 < 0.004
    field = np.where(distance < 0.03, np.float32(0), np.float32(0.55))
    return np.where(knob, np.float32(1), np.where((distance > 0.12), field + 0.1, field))


def _painting(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Draw large soft forms in three colours with hard borders."""
    form = noise(u * np.float32(0.35), v * np.float32(0.35))
    return np.floor(form * 3 + np.float32(0.8) * v) % 3 * np.float32(0.5)


TEXTURES: dict[str, Texture] = {
    "plain": _plain,
    "checker": _checker,
    "stripes": _stripes,
    "waves": _waves,
    "dots": _dots,
    "weave": _weave,
    "planks": _planks,
    "slats": _slats,
    "tiles": _tiles,
    "bricks": _bricks,
    "marble": _marble,
    "clouds": _clouds,
    "panels": _panels,
    "painting": _painting,
}

# By kind of thing: (texture, smallest and largest scale in metres). Textures that several kinds
# share are distractors; only "slats" tells a crate from a pouf of the same shape.
_CHOICES: dict[str, tuple[tuple[str, float, float], ...]] = {
    "floor": (
        ("planks", 0.25, 0.5),
        ("tiles", 0.3, 0.6),
        ("checker", 0.3, 0.6),
        ("clouds", 0.6, 1.5),
        ("plain", 1.0, 1.0),
    ),
    "wall": (
        ("plain", 1.0, 1.0),
        ("clouds", 0.6, 2.0),
        ("stripes", 0.25, 0.6),
        ("bricks", 0.3, 0.5),
    ),
    "ceiling": (("plain", 1.0, 1.0), ("tiles", 0.5, 0.8), ("planks", 0.4, 0.7)),
    "table": (
        ("planks", 0.2, 0.4),
        ("plain", 1.0, 1.0),
        ("clouds", 0.3, 0.8),
        ("marble", 0.3, 0.6),
    ),
    "cabinet": (("panels", 0.45, 0.7), ("planks", 0.3, 0.6), ("plain", 1.0, 1.0)),
    "crate": (("slats", 0.25, 0.4),),
    "pouf": (
        ("weave", 0.2, 0.35),
        ("dots", 0.12, 0.22),
        ("checker", 0.12, 0.25),
        ("plain", 1.0, 1.0),
    ),
    "ball": (
        ("stripes", 0.2, 0.45),
        ("checker", 0.2, 0.4),
        ("dots", 0.18, 0.3),
        ("plain", 1.0, 1.0),
        ("marble", 0.3, 0.6),
    ),
    "lamp": (("plain", 1.0, 1.0),),
    "pole": (("plain", 1.0, 1.0),),
    "pillar": (
        ("marble", 0.4, 0.9),
        ("bricks", 0.25, 0.4),
        ("plain", 1.0, 1.0),
        ("stripes", 0.15, 0.3),
    ),
    "picture": (("painting", 0.4, 0.9), ("waves", 0.2, 0.5), ("checker", 0.15, 0.3)),
    "rug": (
        ("stripes", 0.2, 0.5),
        ("weave", 0.25, 0.5),
        ("dots", 0.2, 0.4),
        ("checker", 0.2, 0.4),
        ("waves", 0.2, 0.5),
    ),
    "unlabelled": (("plain", 1.0, 1.0), ("clouds", 0.3, 0.8), ("bricks", 0.2, 0.4)),
}

# Range of the palette's value (HSV).
_BRIGHTNESS: dict[str, tuple[float, float]] = {
    "floor": (0.25, 0.7),
    "wall": (0.6, 0.95),
    "ceiling": (0.8, 1.0),
    "lamp": (0.9, 1.0),
}

# The usual hue of a kind, as wood is usually brown: a hint to start learning from. A third of all
# things have a random hue, and the hints overlap, so colour alone classifies few pixels.
_HABITUAL_HUE: dict[str, float] = {
    "floor": 0.09,
    "wall": 0.13,
    "table": 0.06,
    "cabinet": 0.62,
    "crate": 0.1,
    "pouf": 0.78,
    "ball": 0.0,
    "pillar": 0.55,
    "picture": 0.35,
    "rug": 0.95,
}
_HABIT = 0.65


def random_material(rng: np.random.Generator, kind: str) -> Material:
    """Draw a look for a kind of thing (a class name, "pole" or "unlabelled")."""
    choices = _CHOICES[kind]
    texture, low, high = choices[int(rng.integers(len(choices)))]
    darkest, brightest = _BRIGHTNESS.get(kind, (0.25, 0.95))
    hue, value = rng.random(), rng.uniform(darkest, brightest)
    if kind in _HABITUAL_HUE and rng.random() < _HABIT:
        hue = _HABITUAL_HUE[kind] + rng.normal(0, 0.05)
    # Rooms are muted, so that most of the colour comes from the furniture.
    muted = 0.5 if kind in ("wall", "ceiling") else 1.0
    saturation = muted * rng.beta(1.8, 2.2)
    contrast = muted * rng.uniform(0.3, 0.7)
    if kind == "lamp":
        saturation *= 0.25
    second = hue + rng.normal(0, 0.15)
    # Bright on dark and dark on bright are equally frequent.
    low_value, high_value = value * (1 - contrast), min(1.0, value * (1 + 0.5 * contrast))
    if rng.random() < 0.5 and texture not in ("slats", "planks", "tiles", "panels"):
        low_value, high_value = high_value, low_value
    colours = (
        colorsys.hsv_to_rgb(hue % 1, saturation, low_value),
        colorsys.hsv_to_rgb(hue % 1, saturation, value),
        colorsys.hsv_to_rgb(second % 1, 0.8 * muted * rng.beta(1.6, 2.2), high_value),
    )
    glossy = kind in ("ball", "pillar", "table", "pole", "unlabelled") and rng.random() < 0.6
    return Material(
        texture=texture,
        palette=np.array(colours) ** 2.2,
        scale=float(rng.uniform(low, high)),
        phase=(float(rng.uniform(0, 8)), float(rng.uniform(0, 8))),
        turned=bool(texture in ("stripes", "planks", "slats", "waves") and rng.random() < 0.5),
        grain=0.0 if kind == "lamp" else float(rng.uniform(0.05, 0.3)),
        gloss=float(rng.uniform(0.2, 0.7)) if glossy else 0.0,
        emission=float(rng.uniform(1.2, 2.5)) if kind == "lamp" else 0.0,
    )

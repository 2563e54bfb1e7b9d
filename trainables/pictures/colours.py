"""Gives classes their fixed colours, and values the colours of a scale. NumPy only.

The scales are Matplotlib's viridis, magma and inferno (CC0) at 17 places each. Between those they
are linear, which is off by 6 of 255 at most.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trainables.errors import unknown_name

Colours = NDArray[np.uint8]

WHITE = (255, 255, 255)  # what is unknown; no class and no scale has this colour
RIGHT, WRONG = (26, 22, 40), (255, 32, 32)  # of a map of misclassified pixels

# Each is as far from all before it, and from black and white, as CIELAB of moderate chroma allows.
_CLASSES = (
    "1f77b4 d24b0f 0f960f d21e96 f0d22d 00f0e1 87784b 3c2da5 f0b4ff 783c5a ff9696 b4e196 004b4b "
    "d2004b 00f096 87d2f0 005a1e ffb469 c378ff 782d0f 788700 3c87ff a5e14b 5aa587 785aa5 e1c3a5 "
    "9687a5 a56900 780f78 f078b4 96b4ff 5a3c2d 96004b f0870f 4bb469 f0d2f0 0096a5 d2c369 3c4b69 "
    "d25a4b"
)

_SCALES = {
    "viridis": "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1f9f88 27ad81 "
    "3dbc74 5cc863 81d34d aadc32 d5e21a fde725",
    "magma": "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 cf4070 e55064 "
    "f4695c fb8761 fea571 fec287 fde0a1 fcfdbf",
    "inferno": "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 d04545 e35933 "
    "f1711f f98c0a fcaa0f f9c932 f2e865 fcffa4",
    "grey": "000000 e1e1e1",
}


def class_colours(num_classes: int, own: Sequence[str] = ()) -> Colours:
    """Return the colours of classes 0, 1, … as (num_classes, 3).

    own: the data set's own colours as "rrggbb", one per class; without them, and beyond the 40
    that are listed here, a rule gives every class a colour that depends on its number alone.
    """
    listed = [_rgb(text) for text in (own or _CLASSES.split())][:num_classes]
    more = [_by_number(number) for number in range(len(listed), num_classes)]
    return np.array([*listed, *more], dtype=np.uint8).reshape(-1, 3)


@cache
def scale_table(name: str) -> Colours:
    """Return a scale's 256 colours from low to high, (256, 3). Raises `UserError` for its name."""
    if name not in _SCALES:
        raise unknown_name("scale", name, _SCALES)
    anchors = np.array([_rgb(text) for text in _SCALES[name].split()], dtype=np.float64)
    places = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(places, np.arange(len(anchors)), anchors[:, c]) for c in range(3)]
    table = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    table.flags.writeable = False
    return table


def on_scale(values: np.ndarray, low: float, high: float, name: str) -> Colours:
    """Return the colours of values of any shape, with three channels last.

    Values beyond `low` and `high` get the colours of the ends, and NaN is white.
    """
    span = high - low
    with np.errstate(invalid="ignore", over="ignore"):
        share = (values.astype(np.float64) - low) / span if span > 0 else values * 0.0
        places = np.nan_to_num(np.clip(share, 0.0, 1.0) * 255.0)
    colours = scale_table(name)[np.rint(places).astype(np.intp)]
    return np.where(np.isnan(values)[..., None], np.array(WHITE, np.uint8), colours)


def _rgb(text: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _by_number(number: int) -> tuple[int, int, int]:
    """Return a colour by steps of the golden ratio around the circle of hues."""
    hue = (number * 0.618033988749895) % 1.0 * 6.0
    light = (0.95, 0.7, 0.5)[number % 3]
    channels = (abs((hue + shift) % 6 - 3) - 1 for shift in (0, 4, 2))
    red, green, blue = (round(255 * light * (0.2 + 0.8 * min(max(c, 0), 1))) for c in channels)
    return red, green, blue

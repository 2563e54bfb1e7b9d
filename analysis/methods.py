"""Say how each method is called and drawn: one label, colour and marker in every figure.

Colours are from Okabe & Ito (2008) and Paul Tol's muted scheme: readers with any common colour
blindness can tell them apart, and each method's marker differs as well. Standard library only.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

# Matplotlib's name of a shape, or its (corners, 1, angle) of a star, and Plotly's name of it.
_SYMBOLS: dict["str | tuple[int, int, int]", str] = {
    "s": "square",
    "X": "x",
    "o": "circle",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "p": "pentagon",
    "<": "triangle-left",
    "*": "star",
    "h": "hexagon",
    ">": "triangle-right",
    "P": "cross",
    "d": "diamond-tall",
    "H": "hexagon2",
    "8": "octagon",
    (3, 1, 0): "star-triangle-up",
    (3, 1, 180): "star-triangle-down",
    (4, 1, 0): "star-diamond",
    (4, 1, 45): "star-square",
    (6, 1, 0): "hexagram",
}
# For methods that are not described below. No described method has one of these markers.
_OWN_COLOURS = ("#374151", "#1D4ED8", "#B91C1C", "#047857", "#7E22CE", "#B45309", "#BE185D")
_OWN_MARKERS = ((4, 1, 0), (6, 1, 0), (3, 1, 0), (4, 1, 45), (3, 1, 180))


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodStyle:
    """Hold a method's look. `marker` is a name of Matplotlib's, or the numbers of a star."""

    label: str
    colour: str
    marker: str | tuple[int, int, int]

    @property
    def symbol(self) -> str:
        """Return Plotly's name of the marker."""
        return _SYMBOLS[self.marker]


def _style(label: str, colour: str, marker: str) -> MethodStyle:
    return MethodStyle(label=label, colour=colour, marker=marker)


METHOD_STYLES: dict[str, MethodStyle] = {
    "dense": _style("Dense", "#000000", "s"),
    "random": _style("Random", "#8c8c8c", "X"),
    "disparse-static": _style("DiSparse static", "#0072B2", "o"),
    "disparse-dynamic": _style("DiSparse dynamic", "#D55E00", "D"),
    "disparse-pretrained": _style("DiSparse pretrained", "#009E73", "^"),
    "snip": _style("SNIP", "#CC79A7", "v"),
    "rigl": _style("RigL", "#E69F00", "p"),
    "set": _style("SET", "#999933", "<"),
    "gmp": _style("GMP", "#882255", "*"),
    "lth": _style("LTH", "#56B4E9", "h"),
    "imp": _style("IMP", "#332288", ">"),
    "random-pretrained": _style("Random pretrained", "#5f5f5f", "P"),
    "cross-stitch": _style("Cross-Stitch", "#44AA99", "d"),
    "sluice": _style("Sluice", "#AA4499", "H"),
    "den": _style("DEN", "#661100", "8"),
}
_VOTING = ("disparse-static", "disparse-dynamic", "disparse-pretrained")


def method_style(method: str) -> MethodStyle:
    """Return a method's look; a method that is not described gets one that never changes."""
    return METHOD_STYLES.get(method) or _own_style(method)


def method_order(methods: Iterable[str]) -> list[str]:
    """Return the distinct methods in the order of the table, those not described last."""
    place = {name: index for index, name in enumerate(METHOD_STYLES)}
    return sorted(set(methods), key=lambda m: (place.get(m, len(place)), m))


def may_vote(method: str) -> bool:
    """Tell whether tasks may vote on the method's masks; a user's own method may let them."""
    return method in _VOTING or method not in METHOD_STYLES


def _own_style(method: str) -> MethodStyle:
    code = zlib.crc32(method.encode())
    return MethodStyle(
        label=_own_label(method),
        colour=_OWN_COLOURS[code % len(_OWN_COLOURS)],
        marker=_OWN_MARKERS[code // len(_OWN_COLOURS) % len(_OWN_MARKERS)],
    )


def _own_label(method: str) -> str:
    """Shorten `my_package.my_rule:METHOD` to my_rule, `my_package.my_rule:FAST` to my_rule:FAST."""
    module, colon, name = method.partition(":")
    if not colon:
        return method
    short = module.rpartition(".")[2]
    return short if name == "METHOD" else f"{short}:{name}"

"""Say how each method is called and drawn: one label, colour and marker in every figure.

Colours are from Okabe & Ito (2008) and Paul Tol's muted scheme: readers with any common colour
blindness can tell them apart, and each method's marker differs as well. The built-in
methods are described in `trainables.registry.methods`.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.registry.methods import METHODS, MethodDescription

# For methods that name no colour. No described method has one of these markers: Matplotlib's
# (corners, 1, angle) of a star, and Plotly's name of it.
_OWN_COLOURS = ("#374151", "#1D4ED8", "#B91C1C", "#047857", "#7E22CE", "#B45309", "#BE185D")
_OWN_MARKERS: tuple[tuple[tuple[int, int, int], str], ...] = (
    ((4, 1, 0), "star-diamond"),
    ((6, 1, 0), "hexagram"),
    ((3, 1, 0), "star-triangle-up"),
    ((4, 1, 45), "star-square"),
    ((3, 1, 180), "star-triangle-down"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodStyle:
    """Hold a method's look.

    marker: Matplotlib's name of a shape, or the numbers of a star. symbol: Plotly's name of it.
    """

    label: str
    colour: str
    marker: str | tuple[int, int, int]
    symbol: str


_recorded: dict[str, MethodDescription] = {}  # a user's own, as studies describe them


def remember_methods(descriptions: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the methods known that a study's record describes, plain values by their reference.

    So a figure draws a user's own method as it is described, without its code.
    """
    for reference, row in descriptions.items():
        _recorded[reference] = MethodDescription(**{**row, "reads": tuple(row["reads"])})


def method_style(method: str) -> MethodStyle:
    """Return a method's look; one without a colour gets a look that never changes."""
    described = METHODS.get(method) or _recorded.get(method)
    if described is None or not described.colour:
        return _own_style(method, "" if described is None else described.label)
    return MethodStyle(
        label=described.label or described.name,
        colour=described.colour,
        marker=described.marker,
        symbol=described.symbol,
    )


def method_order(methods: Iterable[str]) -> list[str]:
    """Return the distinct methods in the order of the table, those not described last."""
    place = {name: index for index, name in enumerate(METHODS)}
    return sorted(set(methods), key=lambda m: (place.get(m, len(place)), m))


def may_vote(method: str) -> bool:
    """Tell whether tasks may vote on the method's masks; a user's own method may let them."""
    described = METHODS.get(method) or _recorded.get(method)
    return described is None or described.votes


def settings_read(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without those that the method does not read; all of an unknown one."""
    described = METHODS.get(method) or _recorded.get(method)
    return {
        name: value
        for name, value in settings.items()
        if described is None or not described.ignores(name)
    }


def _own_style(method: str, label: str) -> MethodStyle:
    code = zlib.crc32(method.encode())
    marker, symbol = _OWN_MARKERS[code // len(_OWN_COLOURS) % len(_OWN_MARKERS)]
    return MethodStyle(
        label=label or _own_label(method),
        colour=_OWN_COLOURS[code % len(_OWN_COLOURS)],
        marker=marker,
        symbol=symbol,
    )


def _own_label(method: str) -> str:
    """Shorten `my_package.my_rule:METHOD` to my_rule, `my_package.my_rule:FAST` to my_rule:FAST."""
    module, colon, name = method.partition(":")
    if not colon:
        return method
    short = module.rpartition(".")[2]
    return short if name == "METHOD" else f"{short}:{name}"

"""Cells of the tables of docs/search.md."""

from collections.abc import Mapping
from typing import Any

from benchmarks.search.results.prose import LEVEL

NONE = "–"


def sign(comparison: Mapping[str, Any]) -> str:
    """What Holm's test says of ours against another: `<` the other is below it."""
    if comparison["p_holm"] >= LEVEL:
        return "="
    return "<" if comparison["mean"] > 0 else ">"


def difference(comparison: Mapping[str, Any]) -> str:
    """The mean of the differences and its interval."""
    low, high = comparison["low"], comparison["high"]
    return f"{comparison['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"


def probability(comparison: Mapping[str, Any]) -> str:
    """Holm's p."""
    return f"{comparison['p_holm']:.2g}"

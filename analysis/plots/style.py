"""Define the sizes, colours and ticks that all figures share. Standard library only."""

import math
from collections.abc import Iterable

DPI = 150
INK = "#1b1f24"
QUIET = "#6b7280"
GRID = "#e5e7eb"
# Points, on figures about ten inches wide: still ten pixels high in a page 800 pixels wide.
TITLE_SIZE = 14.0
PANEL_SIZE = 12.0
LABEL_SIZE = 10.5
TICK_SIZE = 9.5
FRONT = "#111827"  # the front's staircase
RANDOM_LINE = "#8c8c8c"
BETTER = "#047857"  # the word for the good direction, with its arrow
PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def wants_log(values: Iterable[float]) -> bool:
    """Tell whether to use a logarithmic axis: the values span more than a factor of eight."""
    positive = [v for v in values]
    return bool(positive) and min(positive) > 0 and max(positive) / min(positive) > 8


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1-2-5 ticks in [low, high], or only decades over more than three of them."""
    steps = (1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)
    ticks = [step * 10.0**power for power in range(-12, 13) for step in steps]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def bar_ticks(low: float, high: float) -> list[float]:
    """Return both ends of a logarithmic colour bar and one round value well between them."""
    room = (high / low) ** 0.25
    inner = [tick for tick in log_ticks(low, high) if low * room <= tick <= high / room]
    return [low, *inner[len(inner) // 2 :][:1], high]


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` ticks in [low, high], multiples of 1, 2 or 5 times 10^n."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if span / (s * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]

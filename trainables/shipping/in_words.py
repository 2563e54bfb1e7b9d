"""Says in a line what a shipped model costs. Standard library only."""

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from trainables.terminal.plurals import counted


def at_most(value: float, digits: int) -> str:
    """Write a value with so many significant digits, rounded up, as reports do."""
    if not math.isfinite(value):
        return str(value)
    context = Context(prec=digits, rounding=ROUND_CEILING)
    return f"{float(context.create_decimal(repr(float(value)))):.{digits}g}"


def share(value: float, *, down: bool = False) -> str:
    """Write a share of the dense network's with three decimals, rounded up. down: or down."""
    rounding = ROUND_FLOOR if down else ROUND_CEILING
    return f"{Decimal(repr(float(value))).quantize(Decimal('0.001'), rounding=rounding)}"


def costs_in_words(shipped: Mapping[str, Any]) -> str:
    """Return what a shipped model takes beside the dense one: every file's bytes, and time."""
    sizes, latency, files = shipped["sizes"], shipped["latency"], shipped["files"]
    dense = {
        "model.onnx": sizes.get("onnx_bytes_dense"),
        "weights.safetensors": sizes["bytes_dense"],
    }
    said = [
        f"{name} {share(files[name] / whole)} of the dense network's bytes"
        for name, whole in dense.items()
        if name in files and whole
    ]
    threads = counted(latency["threads"], "thread")
    return (
        f"{', '.join(said)}; time {share(latency['fraction'])} of the dense network's "
        f"({at_most(latency['shipped_ms'], 3)} ms, {latency['runtime']}, {latency['device']}, "
        f"{threads})"
    )

"""Measures how long the shipped network takes beside the dense one, in one process.

Passes of both follow one another, so what else the machine does meets both, and the ratio of a pair
says more than either time. Zeros save no time in dense kernels: a network with single weights
pruned takes as long as the dense one.
"""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from trainables.errors import UserError
from trainables.shipping.runtime import Predict, torch_threads
from trainables.training.watching.reports import Progress

_WARM_UP = 3
_FEWEST_PAIRS = 5
# A pass of a millisecond is at the mercy of the scheduler: each side of a pair is then the fastest
# of several passes, dense and shipped in turn, that together take about this long.
_PAIR_SECONDS = 0.05
_MOST_PASSES = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Holds the times of one measurement; lower is better.

    shipped_ms, dense_ms: median milliseconds of one pass over the whole batch.
    fraction: median of the paired ratios shipped / dense; below 1 is faster than dense.
    fraction_quartiles: the first and the third quartile of those ratios.
    pairs: how many were measured. passes_per_pair: of each network; the fastest one counts.
    device, runtime, threads, batch: what they were measured on.
    size: (height, width) of the images in pixels.
    """

    shipped_ms: float
    dense_ms: float
    fraction: float
    fraction_quartiles: tuple[float, float]
    pairs: int
    passes_per_pair: int
    device: str
    device_name: str
    runtime: str
    threads: int
    batch: int
    size: tuple[int, int]

    @property
    def spread(self) -> float:
        """Return the interquartile range of the paired ratios."""
        return self.fraction_quartiles[1] - self.fraction_quartiles[0]

    def metrics(self) -> dict[str, float]:
        """Return the `cost/latency_…` metrics by the names of `trainables.report`."""
        return {
            "cost/latency_ms": self.shipped_ms,
            "cost/latency_fraction": self.fraction,
            "cost/latency_spread": self.spread,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values, ready for JSON."""
        return asdict(self)


def measure(
    dense: Predict,
    shipped: Predict,
    size: Sequence[int],
    *,
    runtime: str,
    device: str = "cpu",
    threads: int = 1,
    batch: int = 1,
    repeats: int = 50,
    max_seconds: float = 60.0,
    progress: Progress | None = None,
) -> Latency:
    """Measure pairs of passes, dense and shipped in turn.

    dense: the network that the fraction is relative to, in the same runtime.
    size: (height, width) of the images in pixels.
    repeats: pairs after the warm-up; fewer, but at least 5, if they take longer than `max_seconds`.

    Raises `UserError` for a batch or repeats below 1.
    """
    if batch < 1 or repeats < 1:
        raise UserError(
            f"`--batch` and the repeats must be at least 1, got {batch} and {repeats}; raise them"
        )
    height, width = size
    images = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    images = images.to(device if runtime == "torch" else "cpu")
    seconds: dict[str, list[float]] = {"dense": [], "shipped": []}
    passes: dict[str, Callable[[], object]] = {
        "dense": lambda: dense(images),
        "shipped": lambda: shipped(images),
    }
    with torch.inference_mode(), torch_threads(threads):
        warm = min(sum(_pair(passes, 1, device).values()) for _ in range(_WARM_UP))
        num_passes = min(_MOST_PASSES, max(1, round(_PAIR_SECONDS / warm)))
        started = time.perf_counter()
        for pair in range(repeats):
            for name, taken in _pair(passes, num_passes, device, turn=pair).items():
                seconds[name].append(taken)
            if progress is not None:
                progress("latency", pair + 1, repeats)
            if pair + 1 >= _FEWEST_PAIRS and time.perf_counter() - started > max_seconds:
                break
    ratios = [s / d for s, d in zip(seconds["shipped"], seconds["dense"], strict=True)]
    low, middle, high = (
        statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    )
    return Latency(
        shipped_ms=1e3 * statistics.median(seconds["shipped"]),
        dense_ms=1e3 * statistics.median(seconds["dense"]),
        fraction=middle,
        fraction_quartiles=(low, high),
        pairs=len(ratios),
        passes_per_pair=num_passes,
        device=device,
        device_name=_device_name(device),
        runtime=runtime,
        threads=threads,
        batch=batch,
        size=(height, width),
    )


def _pair(
    passes: Mapping[str, Callable[[], object]], num_passes: int, device: str, turn: int = 0
) -> dict[str, float]:
    """Return the seconds of the fastest pass by network; the networks run in turn.

    turn: the first network begins if it is even.
    """
    names = tuple(passes)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(turn, turn + num_passes):
        # Neither always goes first: the second may find the caches warm.
        for name in names if number % 2 == 0 else names[::-1]:
            taken[name].append(_seconds(passes[name], device))
    return {name: min(seconds) for name, seconds in taken.items()}


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "CUDA"
    try:  # Linux; elsewhere the standard library knows at least the architecture
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _seconds(one_pass: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    one_pass()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start

"""Side-by-side timing: two things alternate in one run, and only their ratio is a result.

A machine that slows down half-way (other users, heat) slows both; the order within a pair
alternates, so neither always runs second on warm caches.
"""

import dataclasses
import gc
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Action = Callable[[], object]

_BOOTSTRAP_DRAWS = 2000
_WARM_UP_CALLS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Paired times of two actions; `ratio` is first / second, its median over the rounds.

    low, high: 95 % bootstrap interval of that median. quartiles: of the single ratios.
    """

    first_seconds: float  # median of one call
    second_seconds: float
    ratio: float
    low: float
    high: float
    quartiles: tuple[float, float]
    rounds: int

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> "Comparison":
        """From the paired times in seconds, two arrays of one length."""
        ratios = first / second
        draws = np.random.default_rng(0).choice(ratios, (_BOOTSTRAP_DRAWS, len(ratios)))
        low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
        lower, upper = np.quantile(ratios, [0.25, 0.75])
        return cls(
            first_seconds=float(np.median(first)),
            second_seconds=float(np.median(second)),
            ratio=float(np.median(ratios)),
            low=float(low),
            high=float(high),
            quartiles=(float(lower), float(upper)),
            rounds=len(ratios),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One line of the output.

    statement: what the ratio compares, e.g. "masked step / dense step".
    target: the ratio that must not be exceeded, where one is set.
    facts: further figures by name, their unit as the name's suffix.
    """

    name: str
    statement: str
    comparison: Comparison
    target: float | None = None
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.comparison.ratio <= self.target

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the JSON file."""
        return {**dataclasses.asdict(self), "met": self.met}

    def line(self) -> str:
        """Return one line of the printed table."""
        c = self.comparison
        text = (
            f"{self.name:<36} {c.ratio:7.3f}  95 % [{c.low:.3f}, {c.high:.3f}]  "
            f"quartiles [{c.quartiles[0]:.3f}, {c.quartiles[1]:.3f}]  {c.rounds:3d} pairs  "
            f"{1e3 * c.first_seconds:.2f} / {1e3 * c.second_seconds:.2f} ms"
        )
        if self.target is not None:
            text += f"  target <= {self.target:g}: {'met' if self.met else 'MISSED'}"
        for name, value in self.facts.items():
            text += f"\n{'':<36}   {name} {value:.4g}"
        return text


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A benchmark that cannot run here, and why."""

    name: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the JSON file."""
        return {"name": self.name, "skipped": self.reason}

    def line(self) -> str:
        """Return one line of the printed table."""
        return f"{self.name:<36} skipped: {self.reason}"


def compare(
    first: Action,
    second: Action,
    *,
    budget_seconds: float,
    min_rounds: int = 6,
    max_rounds: int = 1000,
    device: str = "cpu",
) -> Comparison:
    """Time the two in alternating order until the budget is spent, after a warm-up."""
    synchronise, clock = _synchroniser(device), _clock(device)
    for _ in range(_WARM_UP_CALLS):
        first()
        second()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + budget_seconds
    collecting = gc.isenabled()
    gc.disable()  # a collection inside one of the pair would be charged to it alone
    try:
        while len(times[0]) < max_rounds and (
            len(times[0]) < min_rounds or time.perf_counter() < end
        ):
            order = (0, 1) if len(times[0]) % 2 == 0 else (1, 0)
            for which in order:
                times[which].append(_timed((first, second)[which], synchronise, clock))
    finally:
        if collecting:
            gc.enable()
    return Comparison.of(np.array(times[0]), np.array(times[1]))


def _clock(device: str) -> Callable[[], float]:
    """Seconds. One thread on a CPU is charged its own time, so that other programs' load does not
    count; elsewhere (a GPU, several threads that wait for one another) only the wall clock is fair.
    """
    import torch

    alone = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def _synchroniser(device: str) -> Action:
    import torch

    return torch.cuda.synchronize if device == "cuda" else lambda: None


def _timed(action: Action, synchronise: Action, clock: Callable[[], float]) -> float:
    synchronise()
    start = clock()
    action()
    synchronise()
    return clock() - start


def machine_facts() -> dict[str, Any]:
    """What a ratio depends on: processor, cores, threads, accelerator, versions."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_model(),
        "cores": _num_cores(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": gpu,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _num_cores() -> int | None:
    """Those this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

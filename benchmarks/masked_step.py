"""What masks cost: a masked step beside a dense step of the same model, batch and optimiser.

The dense side knows no registry at all. The pruned weights are plain zeros, so no arithmetic
is saved either: the ratio is the price of `_foreach_mul_` on gradients and weights.
"""

from collections.abc import Iterator

from benchmarks.measure import Measurement, compare
from benchmarks.workload import build_workload

DENSITY = 0.1
TARGETS = {"cpu": 1.05, "cuda": 1.02}


def run(quick: bool) -> Iterator[Measurement]:
    """Yield the measurements of this part. quick: fewer repetitions."""
    yield measure("tiny", device="cpu", budget_seconds=1.0 if quick else 40.0)
    if not quick:
        yield measure("small", device="cpu", budget_seconds=60.0)


def measure(
    preset: str, *, device: str, budget_seconds: float, dataset: str = "scenes"
) -> Measurement:
    """The ratio for one preset on one device."""
    masked = build_workload(preset, dataset=dataset, device=device)
    dense = build_workload(preset, dataset=dataset, device=device)
    masked.prune_at_random(DENSITY)
    comparison = compare(
        lambda: masked.step(masked=True),
        lambda: dense.step(masked=False),
        budget_seconds=budget_seconds,
        device=device,
    )
    return Measurement(
        name=f"masked_step/{preset}/{device}",
        statement="masked step / dense step of the same model",
        comparison=comparison,
        target=TARGETS[device],
        facts={"prunable_weights": masked.registry.total, "density": masked.registry.density},
    )

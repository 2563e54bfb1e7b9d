"""What a change of topology (drop and grow) costs beside an ordinary masked step.

On an update step the optimiser is not stepped, so an update takes a step's place: over an
interval of n steps its share of the time is u / (n - 1 + u), u being the measured ratio.
"""

from collections.abc import Iterator

from benchmarks.measure import Measurement, compare
from benchmarks.workload import build_workload
from trainables.sparsity.catalogue import get_method

METHODS = ("rigl", "disparse-dynamic")
DENSITY = 0.1
DROP_FRACTION = 0.3
PUBLISHED_INTERVAL_STEPS = 100  # delta_T of both papers


def run(quick: bool) -> Iterator[Measurement]:
    """Yield the measurements of this part. quick: fewer repetitions."""
    for method in METHODS:
        yield measure(method, preset="tiny", device="cpu", budget_seconds=1.0 if quick else 20.0)


def measure(method: str, *, preset: str, device: str, budget_seconds: float) -> Measurement:
    """The ratio for one method, all five tasks."""
    workload = build_workload(preset, method=method, device=device)
    rule, context = get_method(method), workload.context()
    start = rule.prune(context, DENSITY)  # at the method's own allocation
    workload.registry.update(start.masks, workload.optimiser)
    workload.registry.attach(workload.optimiser)

    def update() -> None:
        proposal = rule.regrow(context, workload.batch, DROP_FRACTION, DENSITY)
        workload.registry.update(proposal.masks, workload.optimiser)

    comparison = compare(
        update,
        lambda: workload.step(masked=True),
        budget_seconds=budget_seconds,
        device=device,
    )
    interval = workload.config.regrowth.interval_steps
    return Measurement(
        name=f"topology_update/{method}/{device}",
        statement="drop and grow / masked step",
        comparison=comparison,
        facts={
            f"share_of_training_every_{n}_steps": comparison.ratio / (n - 1 + comparison.ratio)
            for n in (interval, PUBLISHED_INTERVAL_STEPS)
        },
    )

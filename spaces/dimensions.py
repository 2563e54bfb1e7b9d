"""Defines what may vary in a trial: one function for every dimension of the spaces.

A dimension is drawn only for those of the offered methods that read its setting. Ranges in steps
and of the learning rate depend on a reference trial.
"""

from collections.abc import Sequence
from typing import Any

from spaces.space import Parameter, When
from trainables.config import (
    ANNEALINGS,
    ARBITERS,
    GRADIENTS_AT,
    RATE_SCHEDULES,
    REGROW_BUDGETS,
    REWIND_FRACTIONS,
    SALIENCY_WEIGHTS,
    SCORES,
    TrialConfig,
)
from trainables.registry.lookup import METHOD
from trainables.registry.structures import CHANNEL, group_sizes, structure_kind

GRADUAL = ("linear", "cubic", "cosine", "exponential")


def _readers(setting: str, methods: Sequence[str]) -> tuple[When, ...] | None:
    """Return the condition that the method reads a setting; None if no offered method does."""
    kept = tuple(method for method in methods if setting in METHOD.find(method).settings)
    return (When(name="method", values=kept),) if kept else None


def _drawn_for(methods: Sequence[str], **parameter: Any) -> list[Parameter]:
    """Return the parameter, drawn for the methods that read it; empty if none is offered."""
    when = _readers(parameter["name"], methods)
    return [] if when is None else [Parameter(when=when, **parameter)]


def method(methods: Sequence[str]) -> Parameter:
    """Return the choice among `methods`; the first is the default."""
    return Parameter(
        name="method",
        kind="categorical",
        choices=tuple(methods),
        default=methods[0],
        doc="the sparsity method",
    )


def target(methods: Sequence[str], reference: TrialConfig) -> list[Parameter]:
    """Return the sparsity that is reached; none for N:M, which sets it."""
    structure = reference.sparsity.structure
    if group_sizes(structure) is not None:
        return []  # N:M sets it
    low, high, default = (0.2, 0.9, 0.5) if structure == CHANNEL else (0.5, 0.99, 0.9)
    doc = "fraction of the prunable weights that ends at zero"
    if structure == CHANNEL:
        doc = f"fraction of the {reference.sparsity.counts} that is taken out"
    return _drawn_for(
        methods,
        name="sparsity.target",
        kind="float",
        low=low,
        high=high,
        default=default,
        doc=doc,
    )


def allocation(methods: Sequence[str], reference: TrialConfig) -> list[Parameter]:
    """Return how kept weights are shared out over layers; none for N:M."""
    structure = reference.sparsity.structure
    if group_sizes(structure) is not None:
        return []  # every group keeps the same share
    channels = structure == CHANNEL
    kind = structure_kind(structure)
    return _drawn_for(
        [method for method in methods if kind in METHOD.find(method).structures],
        name="sparsity.allocation",
        kind="categorical",
        choices=("uniform", "global") if channels else ("uniform", "er", "erk"),
        default="uniform" if channels else "erk",
        doc="how the kept weights are shared out over the layers",
    )


def _steps_range(reference: TrialConfig) -> tuple[int, int]:
    """Return the shortest and longest interval in steps, a hundredth and a tenth of a dense run."""
    low = max(1, round(reference.training.reference_steps / 100))
    return low, max(low, round(reference.training.reference_steps / 10))


def schedule(methods: Sequence[str], reference: TrialConfig) -> list[Parameter]:
    """Return the path from dense to the target: its shape, ends and interval."""
    when = _readers("sparsity.schedule", methods)
    if when is None:
        return []
    gradual = (When(name="sparsity.schedule", values=GRADUAL),)
    low, high = _steps_range(reference)
    return [
        Parameter(
            name="sparsity.schedule",
            kind="categorical",
            choices=("one-shot", *GRADUAL),
            default="one-shot",
            when=when,
            doc="the path from dense to the target",
        ),
        Parameter(
            name="sparsity.start_fraction",
            kind="float",
            low=0.0,
            high=0.25,
            default=0.0,
            when=gradual,
            doc="when pruning starts, as a fraction of training",
        ),
        Parameter(
            name="sparsity.end_fraction",
            kind="float",
            low=0.3,
            high=0.8,
            default=0.5,
            when=gradual,
            doc="when the target is reached, as a fraction of training",
        ),
        Parameter(
            name="sparsity.interval_steps",
            kind="int",
            low=low,
            high=high,
            log=True,
            default=min(max(reference.sparsity.interval_steps, low), high),
            when=gradual,
            doc="steps between two prunings",
        ),
    ]


def regrowth(methods: Sequence[str]) -> list[Parameter]:
    """Return the share of weights that an update replaces."""
    return _drawn_for(
        methods,
        name="regrowth.fraction",
        kind="float",
        low=0.1,
        high=0.6,
        default=0.3,
        doc="share of a layer's kept weights replaced at the first update (alpha_0)",
    )


def regrowth_details(methods: Sequence[str], reference: TrialConfig) -> list[Parameter]:
    """Return how the replaced share falls, and when updates are."""
    when = _readers("regrowth.annealing", methods)
    if when is None:
        return []
    low, high = _steps_range(reference)
    return [
        Parameter(
            name="regrowth.annealing",
            kind="categorical",
            choices=ANNEALINGS,
            default="cosine",
            when=when,
            doc="how the replaced share falls over training",
        ),
        Parameter(
            name="regrowth.interval_steps",
            kind="int",
            low=low,
            high=high,
            log=True,
            default=min(max(reference.regrowth.interval_steps, low), high),
            when=when,
            doc="steps between two updates (delta T)",
        ),
        Parameter(
            name="regrowth.end_fraction",
            kind="float",
            low=0.5,
            high=0.9,
            default=0.75,
            when=when,
            doc="when updates end, as a fraction of training (T_end)",
        ),
    ]


def levels(methods: Sequence[str]) -> list[Parameter]:
    """Return the lottery ticket's levels, and where it rewinds to."""
    return [
        *_drawn_for(
            methods,
            name="sparsity.level_fraction",
            kind="float",
            low=0.1,
            high=0.6,
            default=0.2,
            doc="share of the remaining weights that a level prunes",
        ),
        *_drawn_for(
            methods,
            name="sparsity.rewind_fraction",
            kind="categorical",
            choices=REWIND_FRACTIONS,
            default=0.05,
            doc="where in the dense run training starts again, as a fraction of it",
        ),
    ]


def votes(methods: Sequence[str]) -> list[Parameter]:
    """Return what tasks rank weights by, and how their votes are settled."""
    return [
        *_drawn_for(
            methods,
            name="sparsity.score",
            kind="categorical",
            choices=SCORES,
            default="taylor",
            doc="what a task ranks weights by",
        ),
        *_drawn_for(
            methods,
            name="sparsity.saliency_weights",
            kind="categorical",
            choices=SALIENCY_WEIGHTS,
            default="xavier",
            doc="the weights that saliency at initialisation is taken on",
        ),
        *_drawn_for(
            methods,
            name="sparsity.arbiter",
            kind="categorical",
            choices=ARBITERS,
            default="unanimous",
            doc="which tasks must agree before a shared weight is pruned",
        ),
        *_drawn_for(
            methods,
            name="regrowth.budget",
            kind="categorical",
            choices=REGROW_BUDGETS,
            default="exact",
            doc="whether the union of what tasks grow may overshoot a layer's count",
        ),
        *_drawn_for(
            methods,
            name="regrowth.gradient_at",
            kind="categorical",
            choices=GRADIENTS_AT,
            default="sparse",
            doc="the weights at which growth gradients are taken; dense as in DiSparse's own code",
        ),
    ]


def learning_rate(reference: TrialConfig) -> Parameter:
    """Return the learning rate, within a factor of four of the reference's."""
    rate = reference.optimiser.learning_rate
    return Parameter(
        name="optimiser.learning_rate",
        kind="float",
        low=rate / 4,
        high=rate * 4,
        log=True,
        default=rate,
        doc="step size at the start of training",
    )


def optimiser_details() -> list[Parameter]:
    """Return the update rule, its decay, and how the rate falls."""
    return [
        Parameter(
            name="optimiser.name",
            kind="categorical",
            # SGD needs another range of learning rates. To use it, set its name and rate by --set.
            choices=("adam", "adamw"),
            default="adam",
            doc="the update rule",
        ),
        Parameter(
            name="optimiser.weight_decay",
            kind="float",
            low=1e-6,
            high=1e-2,
            log=True,
            default=5e-4,
            doc="pull of the kept weights towards zero",
        ),
        Parameter(
            name="optimiser.rate_schedule",
            kind="categorical",
            choices=RATE_SCHEDULES,
            default="cosine",
            doc="how the learning rate falls over training",
        ),
        Parameter(
            name="optimiser.halve_every_fraction",
            kind="float",
            low=0.1,
            high=0.4,
            default=0.2,
            when=(When(name="optimiser.rate_schedule", values=("halving",)),),
            doc="fraction of training between two halvings",
        ),
    ]

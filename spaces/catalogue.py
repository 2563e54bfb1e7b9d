"""Defines the spaces by name, and which dimensions each has.

Ranges in steps and ranges of the learning rate depend on a reference trial, so the same space
serves a run of 200 steps and one of 20,000.
"""

from collections.abc import Callable, Sequence

from spaces import dimensions
from spaces.space import Parameter, Space
from trainables.config import TrialConfig
from trainables.errors import UserError, unknown_name
from trainables.registry.methods import METHODS
from trainables.registry.structures import WEIGHT

SPARSE_METHODS = tuple(name for name, method in METHODS.items() if WEIGHT in method.structures)


def _compact(methods: Sequence[str], reference: TrialConfig) -> tuple[Parameter, ...]:
    return (
        dimensions.method(methods),
        *dimensions.target(methods, reference),
        *dimensions.allocation(methods, reference),
        *dimensions.regrowth(methods),
        dimensions.learning_rate(reference),
    )


def _full(methods: Sequence[str], reference: TrialConfig) -> tuple[Parameter, ...]:
    return (
        *_compact(methods, reference),
        *dimensions.schedule(methods, reference),
        *dimensions.regrowth_details(methods, reference),
        *dimensions.levels(methods),
        *dimensions.votes(methods),
        *dimensions.optimiser_details(),
    )


Builder = Callable[[Sequence[str], TrialConfig], tuple[Parameter, ...]]

SPACES: dict[str, tuple[str, Builder]] = {
    "compact": ("what matters most, for budgets of tens of trials", _compact),
    "full": ("method x sparsity x schedule x regrowth x optimiser", _full),
}


def build_space(
    name: str, reference: TrialConfig, methods: Sequence[str] = SPARSE_METHODS
) -> Space:
    """Build the space `name` over `methods`, scaled to `reference`.

    methods: built-in names or import paths of a user's own. For dense systems among them, only
      what a dense trial reads is drawn.
    Raises `UserError` for an unknown space or method.
    """
    if name not in SPACES:
        raise unknown_name("space", name, SPACES)
    if not methods:
        raise UserError("a space must offer a method, got none; name one")
    doc, builder = SPACES[name]
    return Space(name=name, doc=doc, parameters=builder(methods, reference))

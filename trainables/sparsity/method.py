"""Defines a sparsity method: a rule from scores and old masks to new masks.

Loops, phases and caching are in `trainables.training`; nothing is trained here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from trainables.config import TrialConfig
from trainables.data.batch import Batch
from trainables.registry.methods import MethodDescription
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.proposal import Masks, Proposal
from trainables.sparsity.structures.structure import Structure
from trainables.tasks.base import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodContext:
    """Holds what a rule may look at.

    batches: `batches(n)` yields n training batches for scoring, the same ones for the same
      trial seed and step.
    autocast: a fresh context manager for the forward pass (no-op in fp32).
    generator: the trial's "masks" stream, on the CPU, so that draws agree on every rank.
    structure: turns scores into masks: of single weights, N of M, or whole channels.
    """

    model: torch.nn.Module  # a MultitaskModel
    registry: MaskRegistry
    tasks: Mapping[str, Task]
    loss_weights: Mapping[str, float]
    batches: Callable[[int], Iterator[Batch]]
    autocast: Callable[[], AbstractContextManager[object]]
    generator: torch.Generator
    config: TrialConfig
    structure: Structure


__all__ = ["Masks", "Method", "MethodContext", "Proposal"]


class Method:
    """Holds the rule of a method, with the description of what it is and when it acts.

    A rule has no state between calls: masks are in the registry.
    """

    def __init__(self, description: MethodDescription) -> None:
        self.description = description

    @property
    def name(self) -> str:
        """Return the method's name."""
        return self.description.name

    @property
    def sparse(self) -> bool:
        """Return whether `prune` is called at all."""
        return self.description.sparse

    @property
    def needs_pretraining(self) -> bool:
        """Return whether `prune` is called on a trained dense model."""
        return self.description.needs_pretraining

    @property
    def rewinds(self) -> bool:
        """Return whether training starts again from step k after each `prune`."""
        return self.description.rewinds

    @property
    def regrows(self) -> bool:
        """Return whether `regrow` is called every `regrowth.interval_steps`."""
        return self.description.regrows

    @property
    def regrows_by_gradient(self) -> bool:
        """Return whether `regrow` replaces the optimiser's step."""
        return self.description.regrows_by_gradient

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Return masks that keep exactly `round(density * total)` weights, if single weights are
        pruned; other structures have budgets of their own (`trainables.sparsity.structures`).

        It is called once for a one-shot schedule and at every interval of a gradual one. The
        current masks are in `context.registry`; the new masks must lie within them.
        """
        raise NotImplementedError

    def regrow(
        self, context: MethodContext, batch: Batch, drop_fraction: float, density: float
    ) -> Proposal:
        """Return masks after drop and grow, using `batch` if `regrows_by_gradient`.

        It is only called if `regrows`. Every layer must end at its allocated count for `density`,
        which a gradual schedule changes.
        """
        raise NotImplementedError

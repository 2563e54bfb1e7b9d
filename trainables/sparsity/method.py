"""Defines a sparsity method: a rule from scores and old masks to new masks.

Loops, phases and caching are in `trainables.training`; nothing is trained here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data.batch import Batch
from trainables.registry.methods import MethodDescription
from trainables.sparsity.masks import MaskRegistry
from trainables.tasks.base import Task

Masks = dict[str, Tensor]  # by parameter name; bool, in the parameter's shape and on its device


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """Holds new masks and, if the method lets tasks vote, what each task voted for.

    votes: by task, then by parameter name; a task votes on the shared tensors and its own. They
      say what a task would keep (from `prune`) or would grow (from `regrow`).
    """

    masks: Masks
    votes: Mapping[str, Masks] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodContext:
    """Holds what a rule may look at.

    batches: `batches(n)` yields n training batches for scoring, the same ones for the same
      trial seed and step.
    autocast: a fresh context manager for the forward pass (no-op in fp32).
    generator: the trial's "masks" stream, on the CPU, so that draws agree on every rank.
    """

    model: torch.nn.Module  # a MultitaskModel
    registry: MaskRegistry
    tasks: Mapping[str, Task]
    loss_weights: Mapping[str, float]
    batches: Callable[[int], Iterator[Batch]]
    autocast: Callable[[], AbstractContextManager[object]]
    generator: torch.Generator
    config: TrialConfig


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
        """Return masks that keep exactly `round(density * total)` weights.

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

"""A sparsity method: a rule from scores and old masks to new masks.

Loops, phases and caching live in `trainables.training`; here nothing trains.
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
    """New masks, and where a method lets tasks vote, what each would keep.

    votes: by task, then by parameter name; a task votes on the shared tensors and its own. Of
      `prune` what it would keep, of `regrow` what it would grow.
    """

    masks: Masks
    votes: Mapping[str, Masks] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodContext:
    """What a rule may look at.

    batches: `batches(n)` yields n training batches meant for scoring; the same ones
      for the same trial seed and call site (`step`).
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
    """The rule of a method, with the description that says what it is and when it acts.

    A rule holds no state between calls: masks live in the registry.
    """

    def __init__(self, description: MethodDescription) -> None:
        self.description = description

    @property
    def name(self) -> str:
        """The method's own name."""
        return self.description.name

    @property
    def sparse(self) -> bool:
        """Whether `prune` is called at all."""
        return self.description.sparse

    @property
    def needs_pretraining(self) -> bool:
        """Whether `prune` is called on a trained dense model."""
        return self.description.needs_pretraining

    @property
    def rewinds(self) -> bool:
        """Whether training starts again from step k after each `prune`."""
        return self.description.rewinds

    @property
    def regrows(self) -> bool:
        """Whether `regrow` is called every `regrowth.interval_steps`."""
        return self.description.regrows

    @property
    def regrows_by_gradient(self) -> bool:
        """Whether `regrow` takes the place of the optimiser's step."""
        return self.description.regrows_by_gradient

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Give masks that keep exactly `round(density * total)` weights.

        Called once for a one-shot schedule and at every interval of a gradual one, with
        the current masks in `context.registry`; then the new masks lie within the old.
        """
        raise NotImplementedError

    def regrow(
        self, context: MethodContext, batch: Batch, drop_fraction: float, density: float
    ) -> Proposal:
        """Drop and grow, by one training batch where `regrows_by_gradient`. Only where `regrows`.

        Every layer ends at its allocated count for `density` (which a gradual schedule moves).
        """
        raise NotImplementedError

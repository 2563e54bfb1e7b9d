"""Defines a structure: how scores of weights become masks that keep or prune weights together.

A structure does not know how weights are scored, so every method that scores or draws weights has
every structure that makes sense for it (`MethodDescription.structures`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch

from trainables.config import SparsityConfig
from trainables.sparsity.allocation import regrow_budget
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.proposal import Masks, Proposal, Scores
from trainables.sparsity.selection import TieOrder


class Structure(ABC):
    """Turns scores into masks of one structure, within the masks that the registry holds.

    Scores are by parameter name, higher is better. `density` is the scheduled density: 1 - target
    at the end of a schedule. `generator` is the trial's "masks" stream, on the CPU.
    """

    def __init__(self, registry: MaskRegistry, config: SparsityConfig) -> None:
        self.registry = registry
        self.config = config

    @abstractmethod
    def prune(self, scores: Scores, density: float, generator: torch.Generator) -> Masks:
        """Return the masks of what scores best, as much as the budget of `density` allows.

        Raises `FloatingPointError`, naming the tensor, for a score that is NaN or infinite.
        """

    @abstractmethod
    def vote(
        self, scores: Mapping[str, Scores], density: float, generator: torch.Generator
    ) -> Proposal:
        """Return what a vote of the tasks keeps, and the votes.

        scores: by task; a task scores the shared tensors and its own.
        Raises `FloatingPointError`, naming the tensor, for a score that is NaN or infinite.
        """

    def draw(self, density: float, generator: torch.Generator) -> Masks:
        """Return masks of what a uniform draw keeps, within the current masks."""
        return self.prune(self.random_scores(generator), density, generator)

    def random_scores(self, generator: torch.Generator) -> Scores:
        """Return uniform scores in [0, 1), drawn on the CPU so that ranks and devices agree."""
        return {
            name: torch.rand(weight.shape, generator=generator).to(weight.device)
            for name, weight in self.registry.parameters.items()
        }

    def counts(self, density: float) -> dict[str, int]:
        """Return how many weights each layer keeps after a drop-and-grow update at `density`."""
        return regrow_budget(self.config.allocation, self.registry, density)

    @abstractmethod
    def grow(self, scores: Scores, kept: Masks, counts: Mapping[str, int], ties: TieOrder) -> Masks:
        """Return masks of the best weights outside `kept`, so that each layer has its count."""

    @abstractmethod
    def grow_by_vote(
        self, scores: Mapping[str, Scores], kept: Masks, counts: Mapping[str, int], ties: TieOrder
    ) -> Proposal:
        """Return what a vote of the tasks grows outside `kept`, and the votes.

        Each layer has its count afterwards.
        """

    @property
    def left_dense(self) -> dict[str, str]:
        """Return the layers that this structure cannot prune, each with the reason."""
        return {}

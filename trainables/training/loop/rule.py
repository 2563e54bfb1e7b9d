"""Asks a method's rule for masks, and gives it all that it may use."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.data.batch import Batch
from trainables.data.loading.loader import BatchSource
from trainables.errors import UserError
from trainables.seeds import generator
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.method import Method, MethodContext, Proposal
from trainables.sparsity.structures.structure import Structure
from trainables.tasks.base import Task
from trainables.training.device import autocast_factory, resolve_precision
from trainables.user_code import calling


class Rule:
    """Proposes the masks of one trial; it changes none.

    generator: what the rule draws random numbers from.
    """

    def __init__(
        self,
        config: TrialConfig,
        *,
        model: nn.Module,
        tasks: Mapping[str, Task],
        registry: MaskRegistry,
        method: Method,
        structure: Structure,
        source: BatchSource,
        device: str,
    ) -> None:
        self._config = config
        self._model = model
        self._tasks = tasks
        self._registry = registry
        self._method = method
        self._structure = structure
        self._source = source
        # Scoring does not scale the loss, so in fp16 all small gradients would become zero and tie.
        precision = resolve_precision(config.training.precision, device)
        self._autocast = autocast_factory("fp32" if precision == "fp16" else precision, device)
        self.generator = generator(config.seed, "masks")
        self._num_scored = 0  # batches, since the last proposal to prune

    def prune(self, density: float, position: int) -> tuple[Proposal, float]:
        """Return the masks to prune to, and what their scores cost in dense training steps.

        position: steps of the trial so far, pre-training included; they decide which frames the
          weights are scored on.
        Raises `UserError` for a user's rule that fails.
        """
        self._num_scored = 0
        proposal = self._proposed(lambda: self._method.prune(self._context(position), density))
        # One forward pass, and a backward pass (twice a forward) for each task that votes.
        num_backward = len(self._tasks) if proposal.votes is not None else 1
        return proposal, self._num_scored * (1 + 2 * num_backward) / 3

    def regrow(self, batch: Batch, drop_fraction: float, density: float, position: int) -> Proposal:
        """Return the masks after dropping and growing, by the gradients of a training batch.

        Pruned weights whose values are kept are in place meanwhile. `position` and errors are
        those of `prune`.
        """
        held = self._registry.pruned_values
        with contextlib.nullcontext() if held is None else held.in_place():
            return self._proposed(
                lambda: self._method.regrow(self._context(position), batch, drop_fraction, density)
            )

    def _proposed(self, propose: Callable[[], Proposal]) -> Proposal:
        """Return what the method's rule proposes. Raises `UserError` for a user's that fails."""
        rule = f"the rule of method {self._config.method!r}"
        with calling(rule, self._method):
            proposal = propose()
        masks = proposal.masks if isinstance(proposal, Proposal) else None
        if not isinstance(masks, Mapping) or not all(isinstance(m, Tensor) for m in masks.values()):
            raise UserError(
                f"{rule} must return a Proposal whose masks are boolean tensors by parameter name, "
                f"got {proposal!r:.80}; see trainables.sparsity.method.Method"
            )
        return proposal

    def _context(self, position: int) -> MethodContext:
        def batches(num_batches: int) -> Iterator[Batch]:
            self._num_scored += num_batches
            return self._source.scoring_batches(num_batches, position)

        return MethodContext(
            model=self._model,
            registry=self._registry,
            tasks=self._tasks,
            loss_weights=self._config.training.loss_weights,
            batches=batches,
            autocast=self._autocast,
            generator=self.generator,
            config=self._config,
            structure=self._structure,
        )

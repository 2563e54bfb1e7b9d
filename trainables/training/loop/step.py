"""Takes gradient steps that keep pruned weights at zero.

The order within a step is the contract that keeps zeros zero: backward → unscale →
mask the gradients → clip → optimiser → mask the weights (the registry's step-post hook).

A step has three parts. The host's comes first (`prepare`, the learning rate) and last (`finish`,
the loss now and then). Between them is the device's (`compute`), which reads no value on the host
and changes everything in place, so that it can be recorded once and replayed
(`trainables.training.loop.replay`).
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.data.batch import Batch
from trainables.models.not_finite import require_finite_predictions
from trainables.models.passes import differentiating, predict, require_dense_gradients
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.tasks.base import Task
from trainables.training.device import autocast_factory, resolve_precision
from trainables.training.loop.losses import (
    auxiliary_loss,
    split_batch,
    task_losses,
    weighted_loss,
)
from trainables.training.loop.optimisation import (
    build_optimiser,
    learning_rate_at,
    load_optimiser,
    set_learning_rate,
)

# On a GPU reading the loss waits for the device; a diverged run may waste this many steps.
_LOSS_CHECK_STEPS = {"cpu": 1, "cuda": 50}


class GradientStep:
    """Takes gradient steps with one optimiser, which every phase creates anew.

    autocast: a factory of contexts for the forward pass, also of evaluation.
    optimiser: the optimiser of the current phase.
    loss_sum, loss_count: sum and number of losses since `forget_losses`.
    """

    def __init__(
        self,
        config: TrialConfig,
        *,
        model: nn.Module,
        tasks: Mapping[str, Task],
        registry: MaskRegistry,
        device: str,
        recordable: bool = False,
    ) -> None:
        """Start the first phase; `recordable` is of the optimiser (`build_optimiser`)."""
        self.config = config
        self._model = model
        self._tasks = tasks
        self._registry = registry
        self._device = device
        self._recordable = recordable
        precision = resolve_precision(config.training.precision, device)
        self.autocast = autocast_factory(precision, device)
        self._scales = precision == "fp16"
        self.loss_sum = torch.zeros((), device=device)
        self.loss_count = 0
        self._last_losses: dict[str, Tensor] = {}  # by task, to say which is not finite
        self.start_phase()

    def start_phase(self) -> None:
        """Begin with a new optimiser and loss scaler; moments are zero."""
        self.optimiser = build_optimiser(
            self.config.optimiser, self._model, recordable=self._recordable
        )
        self._scaler = torch.amp.GradScaler(self._device, enabled=self._scales)
        self._registry.attach(self.optimiser)
        self._first = True

    def prepare(self, rate_position: tuple[int, int], *, retraining: bool = False) -> None:
        """Set the learning rate of the next step.

        rate_position: the step and the length of the run that the learning rate follows.
        retraining: whether pre-training lies behind (`optimiser.retraining_rate`).
        """
        rate = learning_rate_at(self.config.optimiser, *rate_position, retraining=retraining)
        set_learning_rate(self.optimiser, rate)

    def compute(self, batch: Batch, *, auxiliary: bool) -> None:
        """Train on one batch: the device's part of a step.

        auxiliary: whether what the network itself adds to the loss counts.
        """
        config = self.config
        self.optimiser.zero_grad(set_to_none=True)
        parts = config.training.accumulation
        for part in split_batch(batch, parts):
            compute = functools.partial(self._loss, part, auxiliary)
            loss = compute() / parts
            with differentiating(self._model, tuple(self._tasks.values()), compute):
                self._scaler.scale(loss).backward()
            self.loss_sum += loss.detach()
        if self._first:  # what a network's gradients are does not change within a phase
            gradients = {name: p.grad for name, p in self._model.named_parameters()}
            require_dense_gradients(self._model, gradients)
        self._scaler.unscale_(self.optimiser)
        self._registry.apply_to_gradients()
        if config.optimiser.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), config.optimiser.clip_norm)
        self._scaler.step(self.optimiser)
        self._scaler.update()

    def finish(self) -> None:
        """Count the step. Raises `FloatingPointError` for a loss that is not finite.

        On a GPU the loss is only checked after a phase's first step, and every so many.
        """
        self.loss_count += 1
        due = self._first or self.loss_count % _LOSS_CHECK_STEPS[self._device] == 0
        self._first = False
        if due and not bool(torch.isfinite(self.loss_sum)):
            raise self._not_finite(float(self.loss_sum))

    def differentiate(self, batch: Batch, *, auxiliary: bool) -> None:
        """Compute the loss of a micro-batch and its gradients, and change no weight."""
        part = split_batch(batch, self.config.training.accumulation)[0]
        self._loss(part, auxiliary).backward()

    def require_finite_predictions(self, batch: Batch) -> None:
        """Raise `UserError` if a user's model predicts NaN or infinity for a micro-batch."""
        part = split_batch(batch, self.config.training.accumulation)[0]
        with self.autocast():
            require_finite_predictions(self._model, part.images_BCHW, tuple(self._tasks))

    def renew_scaler(self) -> None:
        """Replace the loss scaler by one of the same state, after a step that did not end."""
        state = self._scaler.state_dict()
        self._scaler = torch.amp.GradScaler(self._device, enabled=self._scales)
        self._scaler.load_state_dict(state)

    def mean_loss(self) -> float:
        """Return the mean loss since `forget_losses`; NaN if there was no step since then.

        Raises `FloatingPointError` if the mean is not finite.
        """
        if self.loss_count == 0:
            return float("nan")
        mean = float(self.loss_sum) / self.loss_count
        if not math.isfinite(mean):
            raise self._not_finite(mean)
        return mean

    def forget_losses(self) -> None:
        """Begin a new mean of the losses."""
        self.loss_sum.zero_()
        self.loss_count = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's and the scaler's state and the losses since the last report."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, in the same phase of the same trial.

        It first starts the phase anew, so the model's weights must already be in place.
        """
        self.start_phase()
        load_optimiser(self.optimiser, state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        self.loss_sum.copy_(state["loss_sum"])
        self.loss_count = state["loss_count"]

    def _not_finite(self, loss: float) -> FloatingPointError:
        values = {name: float(value) for name, value in self._last_losses.items()}
        bad = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
        of = f" (of {', '.join(bad)})" if bad else ""
        return FloatingPointError(f"the training loss is {loss}{of}")

    def _loss(self, batch: Batch, auxiliary: bool) -> Tensor:
        with self.autocast():
            predictions = predict(self._model, batch.images_BCHW, tuple(self._tasks))
        losses = task_losses(self._tasks, predictions, batch)
        self._last_losses = {name: value.detach() for name, value in losses.items()}
        loss = weighted_loss(self.config.training.loss_weights, losses)
        if not auxiliary:
            return loss
        added = auxiliary_loss(self._model, self._tasks, predictions, batch)
        if added is None:
            return loss
        self._last_losses["auxiliary_loss()"] = added.detach()
        return loss + added

"""The training step, with masks around it (and nothing else: no reports, no files).

The order within a step is the contract that keeps zeros zero: backward → unscale →
mask the gradients → clip → optimiser → mask the weights (the registry's step-post hook).
"""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.cost import regrowth_step_flops
from trainables.data.batch import Batch
from trainables.data.loader import BatchSource
from trainables.errors import Failure
from trainables.seeds import derive_seed, generator
from trainables.sparsity.agreement import Ballots, add_ballots, count_ballots
from trainables.sparsity.masks import MaskRegistry
from trainables.sparsity.method import Method, MethodContext, Proposal
from trainables.sparsity.schedule import (
    density_at,
    drop_fraction_at,
    prune_due,
    prune_steps,
    regrow_due,
    rewind_step,
)
from trainables.tasks.base import Task
from trainables.training.device import autocast_factory, resolve_precision
from trainables.training.losses import auxiliary_loss, split_batch, weighted_loss
from trainables.training.optimisation import build_optimiser, learning_rate_at, set_learning_rate

# On a GPU every look at the loss waits for the device; a diverged run may waste this many steps.
_LOSS_CHECK_STEPS = {"cpu": 1, "cuda": 50}

_COUNTERS = (
    "pretrain_step",
    "step",
    "density_sum",
    "flops_sum",
    "scoring_steps",
    "loss_count",
    "num_updates",
    "growth_ballots",
)


class Diverged(Failure):
    """The training loss became NaN or infinite."""


class TrainingLoop:
    """Steps a model through its phases: dense pre-training where needed, then training."""

    def __init__(
        self,
        config: TrialConfig,
        *,
        model: nn.Module,
        tasks: Mapping[str, Task],
        registry: MaskRegistry,
        method: Method,
        source: BatchSource,
        device: str,
        flops_fraction: Callable[[], float],
    ) -> None:
        """`flops_fraction`: of the present masks; asked for only when masks have changed."""
        self.config = config
        self.model = model
        self.tasks = tasks
        self.registry = registry
        self.method = method
        self.source = source
        self.device = device
        precision = resolve_precision(config.training.precision, device)
        self.autocast = autocast_factory(precision, device)
        # Scoring scales no loss, and in fp16 small gradients would all tie at zero.
        self._scoring_autocast = autocast_factory(
            "fp32" if precision == "fp16" else precision, device
        )
        self._forward = torch.compile(model) if config.training.compile else model
        self._scales = precision == "fp16"
        self._mask_generator = generator(config.seed, "masks")
        self.pretrain_steps = config.training.pretrain_steps if method.needs_pretraining else 0
        self.pretrain_step = 0
        self.step = 0
        self.density_sum = 0.0  # over the steps of training proper
        self.flops_sum = 0.0  # spent on those steps, in dense training steps
        self.scoring_steps = 0.0  # spent on saliency, in dense training steps
        self._scored_batches = 0
        self._flops_fraction = flops_fraction
        self._present_flops = flops_fraction()
        self.loss_sum = torch.zeros((), device=device)  # since the last report
        self.loss_count = 0
        self.num_updates = 0  # of the topology
        self.growth_ballots: Ballots = {}  # over all updates
        self._rewind_step = rewind_step(config.sparsity.rewind_fraction, self.pretrain_steps)
        # The dense run at step k, on the CPU; only of methods that rewind, once it got there.
        self._rewind_state: dict[str, Tensor] | None = None
        self._start_phase()

    @property
    def in_pretraining(self) -> bool:
        return self.pretrain_step < self.pretrain_steps

    @property
    def average_training_density(self) -> float:
        """Mean over the steps of training so far; 1 before the first."""
        return self.density_sum / self.step if self.step else 1.0

    @property
    def average_step_flops(self) -> float:
        """Mean FLOPs of the training steps so far, as a fraction of a dense one's."""
        return self.flops_sum / self.step if self.step else 1.0

    def advance(self) -> None:
        """One step of the present phase.

        Whatever the model draws (dropout) depends on the seed and the position alone.
        """
        position = self._position()
        devices = [torch.cuda.current_device()] if self.device == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive_seed(self.config.seed, "dropout", position))
            self._advance(position)

    def finish_pretraining(
        self, final: Mapping[str, Tensor], rewind: Mapping[str, Tensor] | None
    ) -> None:
        """End pre-training with weights that were trained elsewhere, as if they had been here.

        final: the dense model's `state_dict` after `pretrain_steps`; rewind: at `rewind_step`,
        for methods that rewind.
        """
        self.model.load_state_dict(final)
        if self.method.rewinds:
            if rewind is None:
                raise ValueError(f"{self.config.method} needs the dense run at step k")
            self._rewind_state = dict(rewind)
        self.pretrain_step = self.pretrain_steps
        self._start_phase()

    def _position(self) -> int:
        """Where training stands in the order of its data; rewinding goes back in it."""
        if not self.method.rewinds or self.in_pretraining:
            return self.pretrain_step + self.step
        return self._rewind_step + self.step - self._level_start()

    def _rate_position(self, position: int) -> tuple[int, int]:
        """The step and the length of the run that the learning rate follows.

        What rewinds repeats the dense run's schedule from step k. Levels without rewinding are
        each a run of their own: on one schedule for all, the last would hardly learn at all.
        """
        steps = self.config.training.steps
        if self.method.rewinds:
            return position, self.pretrain_steps
        if self.config.sparsity.schedule != "levels" or not self.method.sparse:
            return self.step, steps
        starts = (*prune_steps(self.config.sparsity, steps), steps)
        start = self._level_start()
        return self.step - start, min(s for s in starts if s > start) - start

    def _level_start(self) -> int:
        """The last pruning up to now; `lth` trains from step k again after each."""
        steps = prune_steps(self.config.sparsity, self.config.training.steps)
        return max((step for step in steps if step <= self.step), default=0)

    def _advance(self, position: int) -> None:
        self.model.train()
        self._start_step()
        if self.in_pretraining:
            if self.method.rewinds and self.pretrain_step == self._rewind_step:
                self._rewind_state = {
                    name: value.detach().to("cpu", copy=True)
                    for name, value in self.model.state_dict().items()
                }
            self._gradient_step(self.pretrain_step, self.pretrain_steps, position)
            self.pretrain_step += 1
            if not self.in_pretraining:
                self.mean_loss()  # of pre-training: checked, and kept out of the first report
                self._start_phase()
            return
        self._prune_if_due()
        regrows = self._regrowth_is_due()
        if regrows:
            self._regrow(position)
        if not (regrows and self.method.regrows_by_gradient):
            self._gradient_step(*self._rate_position(position), position)
            self.flops_sum += self._present_flops
        self.density_sum += self.registry.density
        self.step += 1

    def ballots(self) -> Ballots:
        """How the tasks voted on shared layers: on growing, over all updates, where the method
        regrows; else on the masks in place."""
        return self.growth_ballots or count_ballots(self.registry.votes, self.registry.owner)

    def mean_loss(self) -> float:
        """Since the last call. Raises `Diverged` for NaN or infinity."""
        if self.loss_count == 0:
            return float("nan")
        mean = float(self.loss_sum) / self.loss_count
        if not math.isfinite(mean):
            raise self._diverged(mean)
        self.loss_sum.zero_()
        self.loss_count = 0
        return mean

    def state_dict(self) -> dict[str, object]:
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "registry": self.registry.state_dict(),
            "mask_generator": self._mask_generator.get_state(),
            "pretrain_step": self.pretrain_step,
            "step": self.step,
            "density_sum": self.density_sum,
            "flops_sum": self.flops_sum,
            "scoring_steps": self.scoring_steps,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "num_updates": self.num_updates,
            "growth_ballots": self.growth_ballots,
            "rewind_state": self._rewind_state,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        # The phase decides which optimiser exists, so the counters come first.
        for name in _COUNTERS:
            setattr(self, name, state[name])
        self._rewind_state = state["rewind_state"]  # type: ignore[assignment]
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
        self.registry.load_state_dict(state["registry"])  # type: ignore[arg-type]
        self._present_flops = self._flops_fraction()
        self._start_phase()
        self.optimiser.load_state_dict(state["optimiser"])  # type: ignore[arg-type]
        self._scaler.load_state_dict(state["scaler"])  # type: ignore[arg-type]
        self._mask_generator.set_state(state["mask_generator"].cpu())  # type: ignore[attr-defined]
        self.loss_sum.copy_(state["loss_sum"])  # type: ignore[arg-type]

    def _start_phase(self) -> None:
        self.optimiser = build_optimiser(self.config.optimiser, self.model)
        self._scaler = torch.amp.GradScaler(self.device, enabled=self._scales)
        self.registry.attach(self.optimiser)

    def _prune_if_due(self) -> None:
        config, steps = self.config.sparsity, self.config.training.steps
        if not self.method.sparse or not prune_due(config, self.step, steps):
            return
        density = density_at(config, self.step, steps)
        self._scored_batches = 0
        proposal = self._propose(lambda: self.method.prune(self._context(), density))
        # One forward pass, and a backward pass (twice a forward) for each task that votes.
        num_backward = len(self.tasks) if proposal.votes is not None else 1
        self.scoring_steps += self._scored_batches * (1 + 2 * num_backward) / 3
        self._adopt(proposal)
        if self.method.rewinds:
            self._rewind()

    def _rewind(self) -> None:
        """Weights and statistics back to step k of the dense run; moments start at zero."""
        assert self._rewind_state is not None, "pre-training has passed step k"
        self.model.load_state_dict(self._rewind_state)
        self.registry.apply_to_weights()
        self._start_phase()

    def _regrowth_is_due(self) -> bool:
        config, steps = self.config.regrowth, self.config.training.steps
        still_dense = self.registry.kept == self.registry.total
        return self.method.regrows and not still_dense and regrow_due(config, self.step, steps)

    def _regrow(self, position: int) -> None:
        """Drop and grow on this batch; by gradients, in place of the optimiser's step (RigL,
        Algorithm 1), else before it and for nothing."""
        steps = self.config.training.steps
        flops = self._present_flops
        proposal = self._propose(
            lambda: self.method.regrow(
                self._context(),
                self.source.train_batch(position),
                drop_fraction_at(self.config.regrowth, self.step, steps),
                density_at(self.config.sparsity, self.step, steps),
            )
        )
        if self.method.regrows_by_gradient:
            self.flops_sum += regrowth_step_flops(
                flops, len(self.tasks) if proposal.votes is not None else 1
            )
        self.growth_ballots = add_ballots(
            self.growth_ballots, count_ballots(proposal.votes, self.registry.owner)
        )
        self._adopt(Proposal(masks=proposal.masks))

    def _propose(self, rule: Callable[[], Proposal]) -> Proposal:
        try:
            return rule()
        except FloatingPointError as error:
            raise Diverged(
                f"{error} at step {self.step} of {self.config.training.steps} "
                f"({self.config.method}); lower optimiser.learning_rate or set "
                "optimiser.clip_norm"
            ) from error

    def _adopt(self, proposal: Proposal) -> None:
        self.registry.update(proposal.masks, self.optimiser, proposal.votes)
        self._present_flops = self._flops_fraction()
        self.num_updates += 1

    def _scoring_batches(self, num_batches: int) -> Iterator[Batch]:
        self._scored_batches += num_batches
        return self.source.scoring_batches(num_batches, self.pretrain_steps + self.step)

    def _context(self) -> MethodContext:
        return MethodContext(
            model=self.model,
            registry=self.registry,
            tasks=self.tasks,
            loss_weights=self.config.training.loss_weights,
            batches=self._scoring_batches,
            autocast=self._scoring_autocast,
            generator=self._mask_generator,
            config=self.config,
        )

    def _gradient_step(self, step: int, steps: int, position: int) -> None:
        config = self.config
        set_learning_rate(self.optimiser, learning_rate_at(config.optimiser, step, steps))
        self.optimiser.zero_grad(set_to_none=True)
        batch = self.source.train_batch(position)
        parts = config.training.accumulation
        for part in split_batch(batch, parts):
            loss = self._loss(part) / parts
            self._scaler.scale(loss).backward()
            self.loss_sum += loss.detach()
        self.loss_count += 1
        if self.loss_count % _LOSS_CHECK_STEPS[self.device] == 0 and not bool(
            torch.isfinite(self.loss_sum)
        ):
            raise self._diverged(float(self.loss_sum))
        self._scaler.unscale_(self.optimiser)
        self.registry.apply_to_gradients()
        if config.optimiser.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.optimiser.clip_norm)
        self._scaler.step(self.optimiser)
        self._scaler.update()

    def _start_step(self) -> None:
        start_step = getattr(self.model, "start_step", None)
        if start_step is not None:
            if self.in_pretraining:
                start_step("pretrain", self.pretrain_step)
            else:
                start_step("train", self.step)

    def _loss(self, batch: Batch) -> Tensor:
        with self.autocast():
            predictions = self._forward(batch.images_BCHW)
        loss = weighted_loss(self.tasks, self.config.training.loss_weights, predictions, batch)
        if self.in_pretraining:
            return loss
        added = auxiliary_loss(self.model, self.tasks, predictions, batch)
        return loss if added is None else loss + added

    def _diverged(self, loss: float) -> Diverged:
        at = f"step {self.step} of {self.config.training.steps}"
        if self.in_pretraining:
            at = f"pre-training step {self.pretrain_step} of {self.pretrain_steps}"
        return Diverged(
            f"the training loss is {loss} at {at} "
            f"({self.config.method}, learning rate {self.config.optimiser.learning_rate:g}); "
            "lower optimiser.learning_rate or set optimiser.clip_norm"
        )

"""Steps through the phases of a trial: when to pre-train, prune, regrow, rewind and train.

It makes no reports and writes no files. `trainables.training.loop.step` does a gradient step, and
`trainables.training.loop.rule` asks the method for masks.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.cost.cost_model import regrowth_step_flops
from trainables.data.loading.loader import BatchSource
from trainables.models.not_finite import Weights
from trainables.seeds import derive_seed
from trainables.sparsity.agreement import Ballots, add_ballots, count_ballots
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.method import Method, Proposal
from trainables.sparsity.schedule import density_at, drop_fraction_at, prune_due, regrow_due
from trainables.sparsity.structures.structure import Structure
from trainables.tasks.base import Task
from trainables.training.loop.divergence import Diverged, diverged
from trainables.training.loop.phases import Phases
from trainables.training.loop.replay import StepRunner, recorder_for
from trainables.training.loop.rule import Rule
from trainables.training.loop.step import GradientStep
from trainables.training.summary import warn_of_collapse
from trainables.user_code import calling, described, is_ours

__all__ = ["Diverged", "TrainingLoop"]

_COUNTERS = (
    "pretrain_step",
    "step",
    "density_sum",
    "flops_sum",
    "scoring_steps",
    "num_updates",
    "growth_ballots",
)


class TrainingLoop:
    """Steps a model through its phases: dense pre-training where needed, then training.

    step, pretrain_step: how many steps of training and of pre-training are done.
    density_sum, flops_sum: sums over the steps of training; FLOPs as a fraction of a dense step's.
    scoring_steps: cost of saliency so far, in dense training steps.
    num_updates: how often the masks have changed.
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
        flops_fraction: Callable[[], float],
    ) -> None:
        """Set up the loop; `flops_fraction` is called again whenever masks have changed."""
        self.config = config
        self.model = model
        self.tasks = tasks
        self.registry = registry
        self.method = method
        self.structure = structure
        self.source = source
        self.device = device
        # The released variant: growth gradients at dense weights, and the step is taken as well.
        self._grows_at_dense = method.regrows_by_gradient and config.regrowth.gradient_at == "dense"
        if self._grows_at_dense:
            registry.keep_pruned_values()
        recorder = recorder_for(config.training.graph, device)
        self.gradient_step = GradientStep(
            config,
            model=model,
            tasks=tasks,
            registry=registry,
            device=device,
            recordable=device == "cuda" or recorder is not None,
        )
        self._runner = StepRunner(
            config,
            recorder=recorder,
            step=self.gradient_step,
            source=source,
            model=model,
            tasks=tasks,
            registry=registry,
        )
        self._rule = Rule(
            config,
            model=model,
            tasks=tasks,
            registry=registry,
            method=method,
            structure=structure,
            source=source,
            device=device,
        )
        self._phases = Phases.of(config, method)
        self.pretrain_step = 0
        self.step = 0
        self.density_sum = 0.0
        self.flops_sum = 0.0
        self.scoring_steps = 0.0
        self._flops_fraction = flops_fraction
        self._present_flops = flops_fraction()
        self.num_updates = 0
        self._collapsed = ""  # what was said of layers without any weight
        self.growth_ballots: Ballots = {}  # over all updates
        # The dense run at step k, on the CPU; None before step k and without rewinding.
        self._rewind_state: dict[str, Tensor] | None = None

    @property
    def pretrain_steps(self) -> int:
        """Return the length of pre-training in steps; 0 if the method needs none."""
        return self._phases.pretrain_steps

    @property
    def in_pretraining(self) -> bool:
        """Return whether the next step is one of pre-training."""
        return self.pretrain_step < self.pretrain_steps

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """Return the optimiser of the current phase."""
        return self.gradient_step.optimiser

    @property
    def num_replayed(self) -> int:
        """Return how many steps were replays of a recorded one."""
        return self._runner.num_replayed

    @property
    def why_not_recorded(self) -> str:
        """Return why steps run eagerly although they were to be recorded, or ''."""
        return self._runner.reason

    @property
    def average_training_density(self) -> float:
        """Return the mean density over the steps of training so far; 1 before the first."""
        return self.density_sum / self.step if self.step else 1.0

    @property
    def average_step_flops(self) -> float:
        """Return the mean FLOPs of the training steps so far, as a fraction of a dense one's."""
        return self.flops_sum / self.step if self.step else 1.0

    def advance(self) -> None:
        """Take one step of the current phase. Raises `Diverged` for a loss that is not finite.

        Random numbers that the model draws (dropout) depend only on the seed and the position.
        """
        position = self._phases.position(self.pretrain_step, self.step)
        devices = [torch.cuda.current_device()] if self.device == "cuda" else []
        untrained = None if self.step or self.pretrain_step else Weights(self.model)
        with torch.random.fork_rng(devices=devices), self._explained(untrained):
            torch.manual_seed(derive_seed(self.config.seed, "dropout", position))
            self._advance(position)

    def finish_pretraining(
        self, final: Mapping[str, Tensor], rewind: Mapping[str, Tensor] | None
    ) -> None:
        """End pre-training with weights that were trained elsewhere, with the same effect.

        final: the dense model's `state_dict` after `pretrain_steps`; rewind: after `rewind_step`
        of them, for methods that rewind. Raises `ValueError` if such a method is given none.
        """
        self.model.load_state_dict(final)
        if self.method.rewinds:
            if rewind is None:
                raise ValueError(f"{self.config.method} needs the dense run at step k")
            self._rewind_state = dict(rewind)
        self.pretrain_step = self.pretrain_steps
        self._start_phase()

    def ballots(self) -> Ballots:
        """Return how the tasks voted on shared layers.

        If the method regrows, these are votes on what to grow, over all updates; otherwise they are
        votes on the current masks.
        """
        return self.growth_ballots or count_ballots(self.registry.votes, self.registry.owner)

    def mean_loss(self) -> float:
        """Return the mean loss since `forget_losses`. Raises `Diverged` for NaN or infinity."""
        with self._explained():
            return self.gradient_step.mean_loss()

    def forget_losses(self) -> None:
        """Begin a new mean of the losses, once the last one has been reported."""
        self.gradient_step.forget_losses()

    def state_dict(self) -> dict[str, object]:
        """Return everything that `load_state_dict` needs to continue bit for bit."""
        held = self.registry.pruned_values
        return {
            "model": self.model.state_dict(),
            "registry": self.registry.state_dict(),
            **({} if held is None else {"pruned_values": held.values}),
            "mask_generator": self._rule.generator.get_state(),
            "rewind_state": self._rewind_state,
            **{name: getattr(self, name) for name in _COUNTERS},
            **self.gradient_step.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue where `state_dict` was taken. Raises `KeyError` for a part that is missing."""
        # The phase decides which optimiser exists, so the counters come first.
        for name in _COUNTERS:
            setattr(self, name, state[name])
        self._rewind_state = state["rewind_state"]  # type: ignore[assignment]
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
        self.registry.load_state_dict(state["registry"])  # type: ignore[arg-type]
        if self.registry.pruned_values is not None:
            self.registry.pruned_values.load(state["pruned_values"])  # type: ignore[arg-type]
        self._present_flops = self._flops_fraction()
        self.gradient_step.load_state_dict(state)
        self._runner.start_phase()
        self._rule.generator.set_state(state["mask_generator"].cpu())  # type: ignore[attr-defined]

    def _advance(self, position: int) -> None:
        self.model.train()
        self._start_step()
        if self.in_pretraining:
            if self.method.rewinds and self.pretrain_step == self._phases.rewind_step:
                self._rewind_state = {
                    name: value.detach().to("cpu", copy=True)
                    for name, value in self.model.state_dict().items()
                }
            self._take_gradient_step(position)
            self.pretrain_step += 1
            if not self.in_pretraining:
                self.mean_loss()  # check pre-training's loss and keep it out of the first report
                self.forget_losses()
                self._start_phase()
            return
        self._prune_if_due()
        regrows = self._regrowth_is_due()
        if regrows:
            self._regrow(position)
        if not (regrows and self.method.regrows_by_gradient) or self._grows_at_dense:
            self._take_gradient_step(position)
            self.flops_sum += self._present_flops
        self.density_sum += self.registry.density
        self.step += 1

    def _take_gradient_step(self, position: int) -> None:
        self.gradient_step.prepare(
            self._phases.rate_position(self.pretrain_step, self.step),
            retraining=self.pretrain_steps > 0 and not self.in_pretraining,
        )
        self._runner.take(position, auxiliary=not self.in_pretraining)
        self.gradient_step.finish()

    def _start_phase(self) -> None:
        self.gradient_step.start_phase()
        self._runner.start_phase()

    def _prune_if_due(self) -> None:
        config, steps = self.config.sparsity, self.config.training.steps
        if not self.method.sparse or not prune_due(config, self.step, steps):
            return
        density = density_at(config, self.step, steps)
        proposal, scoring_steps = self._rule.prune(density, self.pretrain_steps + self.step)
        self.scoring_steps += scoring_steps
        self._adopt(proposal)
        if self.method.rewinds:
            self._rewind()

    def _rewind(self) -> None:
        """Set weights and statistics back to step k of the dense run; moments start at zero."""
        assert self._rewind_state is not None, "pre-training has passed step k"
        self.model.load_state_dict(self._rewind_state)
        self.registry.apply_to_weights()
        self._start_phase()

    def _regrowth_is_due(self) -> bool:
        config, steps = self.config.regrowth, self.config.training.steps
        still_dense = self.registry.kept == self.registry.total
        due = regrow_due(config, self.step, steps, released=self._grows_at_dense)
        return self.method.regrows and not still_dense and due

    def _regrow(self, position: int) -> None:
        """Drop and grow weights.

        If the method regrows by gradient, this uses the step's batch and replaces the optimiser's
        step (RigL, Algorithm 1), unless the gradients are those at dense weights. Otherwise it is
        done before that step and costs nothing.
        """
        steps = self.config.training.steps
        flops = self._present_flops
        proposal = self._rule.regrow(
            self.source.train_batch(position),
            drop_fraction_at(self.config.regrowth, self.step, steps),
            density_at(self.config.sparsity, self.step, steps),
            self.pretrain_steps + self.step,
        )
        if self.method.regrows_by_gradient:
            num_backward = len(self.tasks) if proposal.votes is not None else 1
            self.flops_sum += regrowth_step_flops(
                flops, num_backward, at_dense=self._grows_at_dense
            )
        self.growth_ballots = add_ballots(
            self.growth_ballots, count_ballots(proposal.votes, self.registry.owner)
        )
        self._adopt(Proposal(masks=proposal.masks))

    def _adopt(self, proposal: Proposal) -> None:
        self.registry.update(proposal.masks, self.optimiser, proposal.votes)
        self._present_flops = self._flops_fraction()
        self.num_updates += 1
        self._collapsed = warn_of_collapse(self.registry.layers(), self.step, self._collapsed)

    def _start_step(self) -> None:
        start_step = getattr(self.model, "start_step", None)
        if start_step is not None:
            with calling(f"start_step() of model {described(self.model)!r}", self.model):
                if self.in_pretraining:
                    start_step("pretrain", self.pretrain_step)
                else:
                    start_step("train", self.step)

    @contextlib.contextmanager
    def _explained(self, untrained: Weights | None = None) -> Iterator[None]:
        """Turn a loss or a score that is not finite into a `Diverged` that says what to lower.

        untrained: the weights before the first step of all, if this is it.
        """
        try:
            yield
        except FloatingPointError as error:
            at = f"step {self.step} of {self.config.training.steps}"
            if self.in_pretraining:
                at = f"pre-training step {self.pretrain_step} of {self.pretrain_steps}"
            if untrained is not None and not is_ours(self.model):
                untrained.put_back()
                self.gradient_step.require_finite_predictions(self.source.train_batch(0))
            raise diverged(error, self.config, at, untrained=untrained is not None) from error

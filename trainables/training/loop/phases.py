"""Locates a step in the order of the data, on the learning-rate schedule and in its level."""

from dataclasses import dataclass
from typing import Self

from trainables.config import SparsityConfig, TrainingConfig, TrialConfig
from trainables.sparsity.method import Method
from trainables.sparsity.schedule import prune_steps, rewind_step


@dataclass(frozen=True, kw_only=True, slots=True)
class Phases:
    """Holds the lengths of a trial's phases: dense pre-training, if needed, then training.

    steps, pretrain_steps: gradient steps of the two phases; the second is 0 without pre-training.
    rewind_step: k, the step of pre-training that `lth` goes back to.
    rewinds: training starts again from step k after every pruning.
    in_levels: every level has a learning-rate schedule of its own.
    """

    steps: int
    pretrain_steps: int
    rewind_step: int
    rewinds: bool
    in_levels: bool
    sparsity: SparsityConfig

    @classmethod
    def of(cls, config: TrialConfig, method: Method) -> Self:
        """Return the phases of a trial of `config`, whose method is `method`."""
        pretrain_steps = config.training.pretrain_steps if method.needs_pretraining else 0
        return cls(
            steps=config.training.steps,
            pretrain_steps=pretrain_steps,
            rewind_step=rewind_step(config.sparsity.rewind_fraction, pretrain_steps),
            rewinds=method.rewinds,
            in_levels=method.sparse and config.sparsity.schedule == "levels",
            sparsity=config.sparsity,
        )

    def position(self, pretrain_step: int, step: int) -> int:
        """Return the position of training in the order of its data; rewinding goes back in it."""
        if not self.rewinds or pretrain_step < self.pretrain_steps:
            return pretrain_step + step
        return self.rewind_step + step - self._level_start(step)

    def rate_position(self, pretrain_step: int, step: int) -> tuple[int, int]:
        """Return the step and the length of the run that the learning rate follows.

        A method that rewinds repeats the dense run's schedule from step k. Without rewinding, every
        level has its own schedule, because on one schedule for all the last level would hardly
        learn.
        """
        if pretrain_step < self.pretrain_steps:
            return pretrain_step, self.pretrain_steps
        if self.rewinds:
            return self.position(pretrain_step, step), self.pretrain_steps
        if not self.in_levels:
            return step, self.steps
        starts = (*prune_steps(self.sparsity, self.steps), self.steps)
        start = self._level_start(step)
        return step - start, min(s for s in starts if s > start) - start

    def _level_start(self, step: int) -> int:
        """Return the step of the last pruning up to `step`, or 0."""
        return max((s for s in prune_steps(self.sparsity, self.steps) if s <= step), default=0)


def report_steps(config: TrainingConfig) -> list[int]:
    """Return the steps of training after which a trial reports, ascending; the last is the end."""
    steps, num_reports = config.steps, config.num_reports
    return [round(i * steps / num_reports) for i in range(1, num_reports + 1)]

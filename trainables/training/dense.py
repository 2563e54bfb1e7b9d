"""Defines the dense runs that a trial may take from a cache instead of training them itself.

This module says what a trial asks for; `trainables.training.dense_runs` trains and keeps the runs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.errors import Failure
from trainables.report import delta_percent
from trainables.sparsity.method import Method
from trainables.training.watching.reports import Progress, Report

Weights = Mapping[str, Tensor]  # a model's `state_dict`, on the CPU

BEST_STEP = -1  # stands for the step of the weights that did best on validation


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseRun:
    """Holds a finished dense trial.

    reports: all reports, in order; the last is final.
    timing: as in `TrialRun.summary`, from the process that trained it.
    weights: by step, for the steps that were asked for.
    """

    reports: tuple[Report, ...]
    timing: Mapping[str, Any]
    weights: Mapping[int, Weights]

    @property
    def best_step(self) -> int:
        """Return the step of the weights that did best on validation."""
        return int(self.reports[-1].metrics["training/best_step"])

    @property
    def metrics(self) -> dict[str, float]:
        """Return the finite metrics of the final report, with which other trials are compared."""
        found = self.reports[-1].metrics
        return {name: value for name, value in found.items() if math.isfinite(value)}


class DenseRuns(Protocol):
    """Describes an object that trains or finds dense runs."""

    say: Callable[[str], None]  # called with a line for the user

    def get(
        self,
        config: TrialConfig,
        on_progress: Progress | None = None,
        *,
        steps: Sequence[int] = (),
    ) -> DenseRun:
        """Return the dense trial `config` with its weights after `steps`.

        steps: any of `BEST_STEP`, the last step, and `rewind_step` of `REWIND_FRACTIONS`.
        Raises `Failure` if its training fails.
        """
        ...


class Baseline:
    """Compares a trial with a dense model.

    metrics: the model's final metrics by full name, if they are known.
    config: the dense trial from which the metrics are taken when first needed; None for no
      comparison. Raises `ValueError` if it is given without `runs`.
    """

    def __init__(
        self,
        metrics: Mapping[str, float] | None,
        config: TrialConfig | None,
        runs: DenseRuns | None,
        on_progress: Progress,
    ) -> None:
        if config is not None and runs is None:
            raise ValueError("`baseline_config` is trained in a `dense_cache`, got none")
        self._metrics = metrics
        self._config = config
        self._runs = runs
        self._on_progress = on_progress

    def delta(self, split: str, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return Δ_T of the split's metrics, higher is better; empty without a baseline.

        metrics: by full name; those of other splits are ignored. If the baseline's training
        fails, a message says so once and the trial continues without the comparison.
        """
        prefix = f"{split}/"
        if not any(name.startswith(prefix) for name in metrics):
            return {}
        reference = self._reference()
        if reference is None:
            return {}
        here, there = (
            {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
            for values in (metrics, reference)
        )
        return {f"{prefix}multitask/delta_percent": delta_percent(here, there)}

    def _reference(self) -> Mapping[str, float] | None:
        if self._metrics is None and self._config is not None:
            assert self._runs is not None
            try:
                self._metrics = self._runs.get(self._config, self._on_progress).metrics
            except Failure as error:
                self._config = None
                self._runs.say(f"no multitask/delta_percent: the dense baseline failed: {error}")
        return self._metrics


def dense_config(config: TrialConfig) -> TrialConfig:
    """Return the dense trial whose trained model `config` starts from.

    It is as long as the pre-training of `config` and reports as often as `config` does, so that
    the methods of one study share it.
    """
    steps = config.training.pretrain_steps
    return config.replace(
        {
            "method": "dense",
            "training.steps": steps,
            "training.reference_steps": steps,
            "training.num_reports": min(config.training.num_reports, steps),
        }
    )


def starts_from_dense_trial(method: Method, model: nn.Module) -> bool:
    """Return whether the pre-training of `method` is an ordinary dense trial.

    It is not if the model behaves differently in that phase (Cross-Stitch trains single-task
    networks then), nor for a dense method, which would be its own pre-training.
    """
    own_phases = hasattr(model, "start_step") or hasattr(model, "auxiliary_loss")
    return method.needs_pretraining and method.sparse and not own_phases

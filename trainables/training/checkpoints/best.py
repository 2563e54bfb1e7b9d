"""Keeps the weights that did best on validation during training."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from trainables.errors import UserError
from trainables.report import PRIMARY_METRICS, describe
from trainables.sparsity.masking.masks import MaskRegistry


class BestWeights:
    """Keeps the best weights of one trial by its reports (docs/decisions/0004).

    The tasks' primary metrics have different units, so each task's error (1 - mIoU, an angle, a
    distance) is divided by its value at the trial's first report. The mean of these ratios is
    compared only within this trial.

    step: step of the best report so far; None if none was eligible yet.
    metrics: the `val/…` metrics of that report.
    """

    def __init__(self, tasks: Iterable[str]) -> None:
        self._tasks = tuple(tasks)
        self._first_errors: dict[str, float] | None = None
        self._score = math.inf
        self._weights: dict[str, Any] = {}
        self.step: int | None = None
        self.metrics: dict[str, float] = {}

    def offer(
        self,
        metrics: Mapping[str, float],
        step: int,
        model: nn.Module,
        registry: MaskRegistry,
        *,
        eligible: bool,
    ) -> None:
        """Compare a report with the best so far, and copy the weights if it is better.

        metrics: the report's. step, model, registry: what they were measured on.
        eligible: False before a gradual schedule has ended, when weights are denser than asked
          for. Such a report may still be the first, to which the others are relative.
        """
        errors = {task: _error(metrics, task) for task in self._tasks}
        if not all(map(math.isfinite, errors.values())):
            return
        if self._first_errors is None:
            self._first_errors = errors
        ratios = [errors[t] / max(self._first_errors[t], 1e-6) for t in self._tasks]
        score = sum(ratios) / len(ratios)
        if not eligible or score >= self._score:
            return
        self._score, self.step = score, step
        self.metrics = {name: v for name, v in metrics.items() if name.startswith("val/")}
        self._weights = on_cpu({"model": model.state_dict(), "registry": registry.state_dict()})

    def restore(self, model: nn.Module, registry: MaskRegistry) -> None:
        """Put the best weights and masks in place; `step` must not be None."""
        model.load_state_dict(self._weights["model"])
        registry.load_state_dict(self._weights["registry"])

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs, weights included."""
        return {
            "first_errors": self._first_errors,
            "score": self._score,
            "step": self.step,
            "metrics": self.metrics,
            "weights": self._weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; its weights are copied to the CPU."""
        self._first_errors = state["first_errors"]
        self._score = state["score"]
        self.step = state["step"]
        self.metrics = state["metrics"]
        self._weights = on_cpu(state["weights"])


def _error(metrics: Mapping[str, float], task: str) -> float:
    """Return a task's primary metric on validation, as a non-negative error."""
    name = PRIMARY_METRICS[task]
    value = metrics.get(f"val/{name}")
    if value is None:
        found = ", ".join(n for n in metrics if n.startswith(f"val/{task}/")) or "none of its own"
        raise UserError(
            f"the metrics of task {task!r} must hold its primary one, val/{name}, got {found}; "
            "let its accumulator's compute() give the names of its description"
        )
    return 1.0 - value if describe(name).direction == "maximize" else value


def on_cpu(value: Any) -> Any:
    """Return a copy of nested state with every tensor on the CPU, detached from the model's."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(inner) for inner in value)
    return value

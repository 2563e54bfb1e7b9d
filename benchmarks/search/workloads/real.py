"""The real trainable as a workload: scenes, tiny, where every epoch of the simulator trains.

Two tasks and the density. An epoch is a ninth of training. The space is the recipes' `compact` one
over methods that need no pre-training, and masks are final from the first step, so the density
that is reported is the one a trial ends with. Runs under way stay in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.search.workloads.workload import Report, Run
from spaces.catalogue import build_space
from spaces.presets import trial_config
from spaces.space import Space
from trainables.errors import Failure
from trainables.report import minimised, objective_names

TASKS = ("segmentation", "depth")
METHODS = ("random", "snip", "rigl", "disparse-static", "disparse-dynamic")
SETTINGS: Mapping[str, Any] = {
    "training.steps": 90,
    "training.num_reports": 9,
    "data.num_train": 400,
    "data.num_test": 8,  # every trial ends with an evaluation on test, which nothing here reads
}
# What a trial that diverged is taken to have learned, minimised: no class, and ten metres off.
_NOTHING_LEARNED = (0.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """A `Workload`."""

    name: str = "scenes"
    title: str = "scenes, tiny: segmentation, depth and density"

    @cached_property
    def space(self) -> Space:
        """The space that parameters are drawn from."""
        return build_space("compact", self._config({"method": METHODS[0]}, 0), METHODS)

    @property
    def num_objectives(self) -> int:
        """How many objectives there are."""
        return len(TASKS) + 1

    @property
    def num_epochs(self) -> int:
        """The full length of a trial, in epochs."""
        return int(SETTINGS["training.num_reports"])

    @property
    def constrained(self) -> bool:
        """Whether trials have to meet a constraint."""
        return False

    def start(self, params: Mapping[str, Any], seed: int) -> Run:
        """Begin a trial with these parameters."""
        return _Training(self._config(params, seed), self.num_epochs)

    def _config(self, params: Mapping[str, Any], seed: int) -> Any:
        values = {**SETTINGS, **params}
        method = str(values.pop("method"))
        return trial_config(method, "scenes", "tiny", tasks=TASKS, seed=seed, overrides=values)


class _Training:
    """A `Run` that really trains, on one thread of the CPU."""

    def __init__(self, config: Any, num_epochs: int) -> None:
        import torch

        from trainables.training.trial import TrialRun

        torch.set_num_threads(1)
        self._num_epochs = num_epochs
        self._density = 1.0 - config.sparsity.target
        self._run: TrialRun | None = TrialRun(config, device="cpu")
        self._epoch = 0

    def next_report(self) -> Report:
        self._epoch += 1
        values = (*self._errors(), self._density)
        return Report(
            epoch=self._epoch, fraction=self._epoch / self._num_epochs, values=values, worth=values
        )

    def _errors(self) -> tuple[float, ...]:
        *names, _ = objective_names(TASKS, "cost/density")
        try:
            report = self._run.next_report() if self._run is not None else None
        except Failure:
            self._run = report = None
        if report is None:
            return _NOTHING_LEARNED
        return tuple(minimised(name, report.metrics[name]) for name in names)

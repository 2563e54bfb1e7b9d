"""ParetoASHA is a Ray Tune scheduler that stops trials early by several objectives at once.

For any Ray Tune experiment, with any searcher; the rule is in `search.schedulers.rungs`:

    from ray import tune
    from search.schedulers.pareto_asha import ParetoASHA

    scheduler = ParetoASHA(
        metrics=["val/accuracy", "megaflops"], modes=["max", "min"],
        grace_period=3, max_t=27, reduction_factor=3,
    )
    config = tune.TuneConfig(scheduler=scheduler, num_samples=100)
    results = tune.Tuner(trainable, tune_config=config).fit()

`tune.TuneConfig` need not name a metric; one that it names has no effect here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.schedulers.trial_scheduler import FIFOScheduler

from search.schedulers.rungs import ParetoRungs, RungSettings
from trainables.errors import UserError

Values = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[Sequence[float], float] | None]


class ParetoASHA(FIFOScheduler):
    """Stops trials by asynchronous successive halving, with non-domination as the order.

    metrics, modes: the objectives, each `min` or `max`.
    time_attr: what a trial has trained by, in the unit of `grace_period` and `max_t`.
    reduction_factor: see `search.plans.rung_settings.RungSettings`.
    values: from a trial's configuration and result, both flat, to its vector (minimised, in the
      order of `metrics`) and the sum of its constraints' violations, 0 where all hold. None lets
      the trial continue, unrecorded. Default: the metrics, unconstrained; None where one of them
      is missing or no number.

    Raises `UserError` for settings that do not fit together.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        modes: Sequence[str],
        *,
        time_attr: str = "training_iteration",
        grace_period: float = 1.0,
        max_t: float = 100.0,
        reduction_factor: float = 3.0,
        values: Values | None = None,
    ) -> None:
        super().__init__()
        _check_names(metrics, modes)
        self._signs = {n: -1.0 if m == "max" else 1.0 for n, m in zip(metrics, modes, strict=True)}
        self._time_attr = time_attr
        self._values = values or self._unconstrained
        settings = RungSettings(
            grace=grace_period, maximum=max_t, reduction_factor=reduction_factor
        )
        self.rungs = ParetoRungs(settings, len(metrics))

    @property
    def metric(self) -> None:
        """None: Tune would ask a `metric` to be one name, and in every result."""
        return None

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept and ignore Tune's single metric; the objectives are this scheduler's own."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return Tune's word for what becomes of the trial after this report."""
        kept = self.keeps(self.key(trial), trial.config, result)
        return str(TrialScheduler.CONTINUE if kept else TrialScheduler.STOP)

    def key(self, trial: Trial) -> str:
        """Return what a trial is known by: Ray's id. Override it where trials outlive a driver."""
        return str(trial.trial_id)

    def keeps(
        self,
        key: str,
        config: Mapping[str, Any],
        result: Mapping[str, Any],
        spared: bool | None = None,
    ) -> bool:
        """Return whether a trial continues after a report, which may be of an earlier driver.

        spared: whether it continues though its rung would stop it; None to ask `spares`.
        """
        judged = self._values(config, result)
        if judged is None or self._time_attr not in result:
            return True
        vector, violation = judged
        time = float(result[self._time_attr])
        return self.rungs.decide(
            key,
            time,
            vector,
            violation=violation,
            spared=lambda: self.spares(config, result) if spared is None else spared,
        )

    def spares(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
        """Return whether a trial continues that is to stop: no. Override it to know better."""
        return False

    def _unconstrained(
        self, _: Mapping[str, Any], result: Mapping[str, Any]
    ) -> tuple[Sequence[float], float] | None:
        try:
            return [sign * float(result[name]) for name, sign in self._signs.items()], 0.0
        except (KeyError, TypeError, ValueError):
            return None

    def debug_string(self) -> str:
        """Return a line for Tune's display."""
        return f"Using ParetoASHA: records by rung {self.rungs.num_records()}"


def _check_names(metrics: Sequence[str], modes: Sequence[str]) -> None:
    """Raise `UserError` unless there is one mode, min or max, for every metric."""
    if not metrics or len(metrics) != len(modes) or len(set(metrics)) != len(metrics):
        raise UserError(
            f"`metrics` must name distinct objectives, with one mode each, got "
            f"(metrics={list(metrics)}, modes={list(modes)})"
        )
    for mode in modes:
        if mode not in ("min", "max"):
            raise UserError(f"`modes` must be min or max, got {mode!r}")

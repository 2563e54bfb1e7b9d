"""Optuna's own samplers for several objectives, as its documentation has them: ask and tell.

Every trial trains at full length. NSGA-II has a population of 10, a fifth of the default one,
which a budget of tens of trials would hardly leave its first generation with.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.search.systems.peers import Starts, quiet
from benchmarks.search.workloads.workload import Report, Workload

if TYPE_CHECKING:
    import optuna

_POPULATION = 10


class _Sampler:
    def __init__(
        self,
        workload: Workload,
        starts: Starts,
        build: Callable[[], "optuna.samplers.BaseSampler"],
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = workload.space
        with quiet():
            self._study = optuna.create_study(
                directions=["minimize"] * workload.num_objectives, sampler=build()
            )
        for start in starts:
            self._study.enqueue_trial(dict(start))
        self._trials: dict[int, optuna.Trial] = {}

    def ask(self, number: int) -> Mapping[str, Any]:
        """Return the parameters of trial `number`."""
        with quiet():
            self._trials[number] = self._study.ask()
            return self._space.suggest(self._trials[number])

    def keep(self, number: int, report: Report) -> bool:
        """Whether the trial continues after this report."""
        return True

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        """Learn how a trial ended."""
        with quiet():
            self._study.tell(self._trials.pop(number), list(report.values))


class OptunaNSGAII(_Sampler):
    """`optuna.samplers.NSGAIISampler` (Deb et al. 2002)."""

    def __init__(self, workload: Workload, seed: int, starts: Starts = ()) -> None:
        from optuna.samplers import NSGAIISampler

        super().__init__(
            workload, starts, lambda: NSGAIISampler(population_size=_POPULATION, seed=seed)
        )


class OptunaTPE(_Sampler):
    """`optuna.samplers.TPESampler`, as OptunaHub's AutoSampler sets it for categories."""

    def __init__(self, workload: Workload, seed: int, starts: Starts = ()) -> None:
        from optuna.samplers import TPESampler

        super().__init__(
            workload,
            starts,
            lambda: TPESampler(
                multivariate=True,
                constant_liar=True,
                warn_independent_sampling=False,
                seed=seed,
            ),
        )


class OptunaGP(_Sampler):
    """`optuna.samplers.GPSampler`: log expected hypervolume improvement.

    Parameters that depend on others are drawn at random by it, as its documentation says.
    """

    def __init__(self, workload: Workload, seed: int, starts: Starts = ()) -> None:
        from optuna.samplers import GPSampler

        super().__init__(workload, starts, lambda: GPSampler(seed=seed))

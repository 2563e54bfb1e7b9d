"""Average a grid's trials over seeds, so that its fronts and picks are of systems.

Of trials that differ by their seed alone the best is the luckiest, so a front of a grid's trials
would be one of lucky seeds. Each system stands as one trial here, with the means of its metrics; it
has the name of its first seed's trial, which no value has chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.statistics.choice import mean_metrics
from analysis.studies.systems_by_seed import read_grid
from analysis.studies.trials import Study, Trial
from trainables import report
from trainables.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemMeans:
    """Hold a study as it is compared: of a grid, a trial for each system with its means.

    seeds: by the name of such a trial, the seeds that its means are over; empty for a search.
    """

    study: Study
    seeds: Mapping[str, tuple[int, ...]]

    @property
    def most_seeds(self) -> int:
        """Return the largest number of seeds of a system; 0 for a search."""
        return max(map(len, self.seeds.values()), default=0)


def system_means(study: Study) -> SystemMeans:
    """Return a grid with its systems in the place of their trials; a search as it is.

    Means are over the complete trials whose objectives are all finite. What ran to its end and
    missed a constraint, failed or was stopped stays as it is. A note says what was averaged.
    """
    unchanged = SystemMeans(study=study, seeds={})
    if not study.is_grid:
        return unchanged
    try:
        grid = read_grid(study)
    except UserError:
        return unchanged  # no complete trial
    means: list[Trial] = []
    seeds: dict[str, tuple[int, ...]] = {}
    for system in grid.systems:
        usable = {
            seed: trial
            for seed, trial in system.trials.items()
            if not report.non_finite(trial.metrics, study.objectives)
        }
        if usable:
            first = next(iter(usable.values()))
            means.append(replace(first, metrics=mean_metrics(list(usable.values()))))
            seeds[first.trial] = tuple(usable)
    if not means:
        return unchanged
    others = [trial for trial in study.trials if trial.status != "complete"]
    trials = sorted((*means, *others), key=lambda trial: trial.number)
    fewest, most = min(map(len, seeds.values())), max(map(len, seeds.values()))
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    note = (
        f"A grid is compared by systems: {len(means)}, each by its mean over {count} "
        f"seed{'' if most == 1 else 's'}, and named by the trial of its first seed."
    )
    averaged = replace(study, trials=tuple(trials), notes=(*study.notes, note))
    return SystemMeans(study=averaged, seeds=seeds)

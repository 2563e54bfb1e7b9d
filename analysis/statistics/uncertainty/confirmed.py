"""Compare the values that trials were selected by with those at fresh seeds.

`python -m search confirm` trains the front again at seeds that the search has not used, the same
ones for every trial. All means, intervals and ties here are over these fresh seeds alone: the value
that a trial was selected by is the luckiest of many, and would spoil them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.statistics.choice import mean_of
from analysis.statistics.comparing.comparison import Interval, mean_interval
from analysis.studies.trials import RUNNING, Study, Trial
from trainables import report

CONFIDENCE = 0.95
# With fewer, not to be told apart is mostly want of power: of pairs that differ by two standard
# deviations in every task, three seeds leave 35 % undecided, five seeds 4 %.
ENOUGH_SEEDS = 5
_ROUNDING = 1e-12  # of a value: what is left of floats that are equal


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmed:
    """Hold a trial of a study and the same configuration at fresh seeds.

    runs: by seed, in ascending order; those that ran to the end with finite objectives, whether or
    not they met the constraints. failed: the others that ended, also by seed: failed, stopped or
    with an objective that is no number. One that is still at work is in neither.
    """

    trial: Trial
    runs: Mapping[int, Trial]
    failed: Mapping[int, Trial] = field(default_factory=dict)

    @property
    def tried(self) -> tuple[int, ...]:
        """Return the fresh seeds at which a training ended, well or not, in ascending order."""
        return tuple(sorted({*self.runs, *self.failed}))

    def values(self, name: str) -> dict[int, float]:
        """Return a metric by fresh seed, where it is finite."""
        return {
            seed: run.metrics[name]
            for seed, run in self.runs.items()
            if not report.non_finite(run.metrics, [name])
        }

    def mean(self, name: str) -> float:
        """Return a metric's mean over the fresh seeds; NaN without any."""
        return mean_of(list(self.values(name).values()))

    def interval(self, name: str) -> Interval:
        """Return Student's t interval of the mean (95 %); infinite for one seed, NaN for none."""
        values = list(self.values(name).values())
        if len(values) > 1 and min(values) == max(values):  # not as wide as floats round
            return Interval(low=values[0], high=values[0])
        return mean_interval(values, CONFIDENCE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimism:
    """Hold by how much values at selection were better than at fresh seeds, for one objective.

    mean: over the trials, in the metric's unit, positive where selection flattered.
    share: how many of the trials were better at selection.
    """

    objective: str
    mean: float
    share: int
    num_trials: int


def confirmations(study: Study) -> dict[str, Confirmed]:
    """Return what was trained at fresh seeds, by the trial's name, in the order of the study.

    Where all of a trial's trainings failed it is there too, without runs. Replicates, of the same
    settings under other seeds, share the runs of whichever of them was trained again.
    """

    def is_usable(run: Trial) -> bool:
        reached = run.status in report.REACHED_THE_END
        return reached and not report.non_finite(run.metrics, study.objectives)

    settings = {trial.number: _settings(trial) for trial in study.trials}
    ended: dict[str, dict[int, Trial]] = {}
    for run in study.confirmations:
        if run.status == RUNNING or run.seed is None:
            continue
        # What it repeats is not there where a system stands for its trials.
        of_trial = ended.setdefault(settings.get(run.confirms or 0, _settings(run)), {})
        if run.seed not in of_trial or is_usable(run):
            of_trial[run.seed] = run
    found = {}
    for trial in study.with_status(*report.REACHED_THE_END):
        if settings[trial.number] in ended:
            by_seed = sorted(ended[settings[trial.number]].items())
            found[trial.trial] = Confirmed(
                trial=trial,
                runs={seed: run for seed, run in by_seed if is_usable(run)},
                failed={seed: run for seed, run in by_seed if not is_usable(run)},
            )
    return found


def fresh_seeds(found: Mapping[str, Confirmed]) -> tuple[int, ...]:
    """Return every fresh seed at which some trial ran to its end, in ascending order."""
    return tuple(sorted({seed for one in found.values() for seed in one.runs}))


def tried_seeds(found: Mapping[str, Confirmed]) -> tuple[int, ...]:
    """Return every fresh seed at which some training ended, well or not, in ascending order."""
    return tuple(sorted({seed for one in found.values() for seed in one.tried}))


def seeds_text(known: Sequence[Confirmed]) -> str:
    """Return at how many fresh seeds each ran to its end: "5 fresh seeds" or "1 to 5 fresh seeds".

    Trials without runs are left out; "" where that leaves none.
    """
    counts = [len(one.runs) for one in known if one.runs]
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    said = f"{least} to {most}" if least < most else f"{most}"
    return f"{said} fresh seed{'s' if most > 1 else ''}"


def are_tied(first: Confirmed, second: Confirmed, names: Sequence[str]) -> bool:
    """Tell whether the fresh seeds cannot tell two trials apart in any of the metrics.

    That is so where the 95 % t interval of the mean difference, paired by seed, holds 0 for each of
    them. Pairs are not corrected for their number. Without two shared seeds there is no interval,
    and nobody is said to be tied.
    """
    if len(first.runs.keys() & second.runs.keys()) < 2:
        return False
    for name in names:
        ours, theirs = first.values(name), second.values(name)
        differences = np.asarray([ours[s] - theirs[s] for s in ours if s in theirs])
        interval = mean_interval(differences, CONFIDENCE)
        if interval.low > 0 or interval.high < 0:
            return False
    return True


def ties(
    members: Sequence[Trial], found: Mapping[str, Confirmed], names: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Return by name the numbers of the other members that each member is tied with.

    Members known at fewer than two fresh seeds are left out.
    """
    known = [found[t.trial] for t in members if t.trial in found and len(found[t.trial].runs) > 1]
    return {one.trial.trial: tied_with(one, members, found, names) for one in known}


def tied_with(
    one: Confirmed, members: Sequence[Trial], found: Mapping[str, Confirmed], names: Sequence[str]
) -> tuple[int, ...]:
    """Return the numbers of the other `members` that one is tied with, ascending."""
    others = (found[t.trial] for t in members if t.trial in found and t.trial != one.trial.trial)
    return tuple(sorted(o.trial.number for o in others if are_tied(one, o, names)))


def tied_at_few(
    tied: Mapping[str, tuple[int, ...]], found: Mapping[str, Confirmed]
) -> dict[str, tuple[int, ...]]:
    """Return those of the `ties` that rest on fewer shared seeds than `ENOUGH_SEEDS`."""
    runs = {one.trial.number: one.runs.keys() for one in found.values()}
    return {
        name: tuple(o for o in others if len(found[name].runs.keys() & runs[o]) < ENOUGH_SEEDS)
        for name, others in tied.items()
    }


def optimism(confirmed: Sequence[Confirmed], objectives: Sequence[str]) -> tuple[Optimism, ...]:
    """Return the winner's curse of each objective: what selection promised and fresh seeds lack."""
    found = []
    for name in objectives:
        selected = [one.trial.metrics.get(name, math.nan) for one in confirmed]
        gaps = [
            report.minimised(name, one.mean(name) - value)
            if not math.isclose(one.mean(name), value, rel_tol=_ROUNDING)
            else 0.0
            for one, value in zip(confirmed, selected, strict=True)
        ]
        gaps = [gap for gap in gaps if math.isfinite(gap)]
        if gaps:
            found.append(
                Optimism(
                    objective=name,
                    mean=mean_of(gaps),
                    share=sum(gap > 0 for gap in gaps),
                    num_trials=len(gaps),
                )
            )
    return tuple(found)


def _settings(trial: Trial) -> str:
    """Return them without the seed, as one text; of a trial without recorded ones, its number."""
    if not trial.params:
        return str(trial.number)
    params = {name: value for name, value in trial.params.items() if name != "seed"}
    return json.dumps([trial.method, params], sort_keys=True, default=str)

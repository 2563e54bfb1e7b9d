"""Say what a model is chosen among: a front as it was selected, or as fresh seeds know it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.statistics.choice import Choice, fresh_means, fresh_reference, mean_metrics
from analysis.statistics.fronts import dense_trials, eligible
from analysis.statistics.reasons import FreshRuns, Standing, standing
from analysis.statistics.uncertainty.confirmed import Confirmed, confirmations
from analysis.studies.trials import Study, Trial
from trainables.terminal.as_typed import study_command


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Hold the trials to choose among, and the mean metrics of the dense model beside them.

    seeds: by the trial's name, the fresh seeds that its metrics are means over; empty where they
    are the values at selection. known: what was trained at fresh seeds. selected: the same as they
    were at selection; None where these already are.
    """

    trials: tuple[Trial, ...]
    dense: Mapping[str, float]
    seeds: Mapping[str, tuple[int, ...]]
    known: Mapping[str, Confirmed]
    selected: "Candidates | None" = None


def candidates(study: Study) -> Candidates:
    """Return the complete trials of a study, with means over fresh seeds if its front has them.

    It has them where `fresh_means` says so. Trials that were not trained again are no candidates
    then.
    """
    trials, references = eligible(study), dense_trials(study)
    known = confirmations(study)
    selected = Candidates(trials=trials, dense=mean_metrics(references), seeds={}, known=known)
    fresh = {
        name: [
            *((run.status, run.metrics) for run in one.runs.values()),
            *(("failed", run.metrics) for run in one.failed.values()),
        ]
        for name, one in known.items()
    }
    means = fresh_means(trials, study.objectives, fresh, references)
    if not means:
        return selected
    return Candidates(
        trials=tuple(replace(t, metrics=means[t.trial]) for t in trials if t.trial in means),
        dense=fresh_reference(references, fresh),
        seeds={name: tuple(known[name].runs) for name in means},
        known=known,
        selected=selected,
    )


def standing_of(study: Study, choice: Choice[Trial], known: Mapping[str, Confirmed]) -> Standing:
    """Return what fresh seeds say of a choice, and which members of the front lack them."""

    def confirm(num_seeds: int) -> str:
        words = ("--seeds", str(num_seeds))
        return study_command("search confirm", study.name, study.directory.parent, *words)

    fresh = {
        name: FreshRuns(
            metrics={seed: run.metrics for seed, run in one.runs.items()},
            num_failed=len(one.failed),
        )
        for name, one in known.items()
    }
    references = [trial.trial for trial in dense_trials(study)]
    return standing(choice, study.objectives, fresh, references, confirm)

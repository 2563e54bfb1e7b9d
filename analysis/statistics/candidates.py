"""Say what a model is chosen among: a front as it was selected, or as fresh seeds know it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.statistics.choice import fresh_means, mean_metrics
from analysis.statistics.fronts import dense_trials, eligible
from analysis.statistics.uncertainty.confirmed import confirmations
from analysis.studies.trials import Study, Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Hold the trials to choose among, and the mean metrics of the dense model beside them.

    seeds: by the trial's name, the fresh seeds that its metrics are means over; empty where they
    are the values at selection.
    """

    trials: tuple[Trial, ...]
    dense: Mapping[str, float]
    seeds: Mapping[str, tuple[int, ...]]


def candidates(study: Study) -> Candidates:
    """Return the complete trials of a study, with means over fresh seeds if its front has them.

    It has them where `fresh_means` says so, and the dense model, if there is one, has two as well.
    Trials that were not trained again are no candidates then.
    """
    trials, references = eligible(study), dense_trials(study)
    selected = Candidates(trials=trials, dense=mean_metrics(references), seeds={})
    known = confirmations(study)
    fresh = {
        name: [*((run.status, run.metrics) for run in one.runs.values()), *_failed(one.failed)]
        for name, one in known.items()
    }
    means = fresh_means(trials, study.objectives, fresh)
    beside = [known[t.trial] for t in references if t.trial in known]
    beside = [one for one in beside if len(one.runs) > 1]
    if not means or (references and not beside):
        return selected
    return Candidates(
        trials=tuple(replace(t, metrics=means[t.trial]) for t in trials if t.trial in means),
        dense=mean_metrics(list(beside[0].runs.values())) if beside else {},
        seeds={name: tuple(known[name].runs) for name in means},
    )


def _failed(runs: Mapping[int, Trial]) -> list[tuple[str, Mapping[str, float]]]:
    return [("failed", run.metrics) for run in runs.values()]

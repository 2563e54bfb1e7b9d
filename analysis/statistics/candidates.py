"""Say what a model is chosen among, a front as it was selected or as fresh seeds know it; choose.

`analysis pick` and `search ship` both choose by `chosen`, and so take the same trial.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.statistics.choice import Choice, choose, fresh_means, fresh_reference, mean_metrics
from analysis.statistics.comparing.system_means import system_means
from analysis.statistics.conditions import parse_conditions
from analysis.statistics.eligible import dense_trials, eligible
from analysis.statistics.reasons import FreshRuns, Standing, standing
from analysis.statistics.uncertainty.confirmed import Confirmed, confirmations
from analysis.studies.trials import Study, Trial
from trainables.errors import UserError
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """Hold one model of a study's front, and what it was chosen among.

    study: of a grid, with systems in the place of their trials. standing: what fresh seeds say of
    the model. seeds: those that its values are means over; None where they are of its own seed.
    """

    study: Study
    among: Candidates
    choice: Choice[Trial]
    standing: Standing
    seeds: tuple[int, ...] | None


def chosen(
    study: Study, where: Sequence[str] = (), max_loss: float | None = None, best: str | None = None
) -> Chosen:
    """Choose one model of a study, a grid's among its systems.

    where, max_loss: as of `parse_conditions`. best: as of `choose`. Raises `UserError` as these do,
    and where no trial can be chosen.
    """
    means = system_means(study)
    study = means.study
    among = candidates(study)
    if not among.trials:
        raise no_model(study)
    known = {metric for trial in among.trials for metric in trial.metrics}
    bounds = parse_conditions(where, max_loss, study.objectives, among.dense, known)
    by_fresh = bool(among.seeds)
    choice = choose(among.trials, study.objectives, bounds, best, by_fresh=by_fresh)
    return Chosen(
        study=study,
        among=among,
        choice=choice,
        standing=standing_of(study, choice, among.known),
        seeds=(among.seeds or means.seeds).get(choice.trial.trial),
    )


def no_model(study: Study) -> UserError:
    """Return the error for a study without a trial to choose; it says how to go on."""
    resume = study_command("search resume", study.name, study.directory.parent)
    counts = Counter(trial.status for trial in study.trials)
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return UserError(
        f"a model must be picked from complete trials with finite objectives, got none of "
        f"{len(study.trials)}{f' ({said})' if said else ''} in study {study.name!r}; "
        f"`{resume}` goes on with it"
    )


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

"""Say which trials of a study may be on its front: those that compare with one another.

Eligible are trials that ran to the end and met the study's constraints (`complete`) and whose
objectives are all finite. The values of a trial that was stopped early come from less training and
compare with nothing here. A trial that missed a constraint (`infeasible`) is shown but is never a
member.
"""

from analysis.studies.trials import Study, Trial
from trainables import report


def eligible(study: Study) -> tuple[Trial, ...]:
    """Return the complete trials with every objective finite."""
    return _usable(study, "complete")


def infeasible(study: Study) -> tuple[Trial, ...]:
    """Return the trials that ran to the end and missed a constraint, all objectives finite."""
    return _usable(study, "infeasible")


def dense_trials(study: Study) -> tuple[Trial, ...]:
    """Return the dense trials that ran to the end, whether or not they met the constraints."""
    return tuple(t for t in (*eligible(study), *infeasible(study)) if t.method == "dense")


def _usable(study: Study, status: str) -> tuple[Trial, ...]:
    return tuple(
        trial
        for trial in study.with_status(status)
        if not report.non_finite(trial.metrics, study.objectives)
    )

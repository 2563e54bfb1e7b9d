"""The points of a study's prior: what `--prior` named, and the fronts of earlier studies.

They are written into `prior.json` of the new study when it begins, so that a resumed study believes
the same, whatever has become of the others.
"""

from typing import Any

from analysis.statistics.pareto import non_dominated
from search.plans.objective_values import ending_objectives
from search.plans.plan import Plan
from search.record.study_folder import StudyFiles, read_json, write_json
from search.record.warm_start import read_trials
from search.samplers.prior import Prior
from trainables.errors import UserError


def prior_of(plan: Plan, files: StudyFiles, *, begun: bool) -> Prior | None:
    """Return the prior of a study, read once, when it begins; None where it has none.

    Raises `UserError` for a study that is not there, or none of whose trials could be on the front
    of this one and drawn by it.
    """
    if not plan.prior:
        return None
    if not (begun and files.prior.exists()):
        values = dict(plan.prior.values)
        found = [
            {**point, **values}
            for source in plan.prior.studies
            for point in _front(plan, files, source)
        ]
        write_json(files.prior, {"points": found or [values]})
    return Prior(tuple(read_json(files.prior)["points"]))


def _front(plan: Plan, files: StudyFiles, source: str) -> list[dict[str, Any]]:
    """Return the configurations on a study's front, by the objectives and bounds of `plan`."""
    params, vectors = [], []
    for trial in read_trials(source, files.storage, "--prior"):
        drawn = trial.drawn_from(plan.space)
        values, violations = ending_objectives(plan, None, trial.metrics)
        if drawn is not None and values is not None and max(violations.values(), default=0.0) <= 0:
            params.append(dict(drawn.params))
            vectors.append(values)
    if not params:
        raise UserError(
            f"`--prior` must name a study with a trial that this one could draw, that measured "
            f"{', '.join(plan.objectives)} and meets the constraints, got {source!r} with none; "
            "leave it out, or name values by NAME=VALUE"
        )
    return [p for p, on in zip(params, non_dominated(vectors), strict=True) if on]

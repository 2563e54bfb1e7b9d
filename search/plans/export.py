"""Writes the grid of a baselines study for `python -m trainables sweep`, on a host without Ray.

The file holds every trial's configuration as the study would hand it out, and the study's own
description, from which `search import` makes the same study of the results.
"""

from search.plans.description import describe_study
from search.plans.plan import Plan
from trainables.coercion import to_plain
from trainables.errors import UserError
from trainables.sweep.grid import GridFile, GridTrial

# What the study is given when it is made; nothing of it tells one study from another.
_LATER = ("study_id", "created", "commit")


def grid_of(plan: Plan) -> GridFile:
    """Return the grid of a plan whose trials are known beforehand, in the order of the study.

    Raises `UserError` for a plan without a grid, and for a trial that its own rules refuse, which
    a study would record as failed.
    """
    if plan.grid is None:
        raise UserError(
            f"a study to export must be a grid of baselines, got {plan.study!r}, whose trials are "
            "drawn one after another; use `search baselines`"
        )
    trials = []
    dense: dict[int, int] = {}  # by seed, the place of the trial that others are compared with
    for place, (params, seed) in enumerate(plan.grid.cells()):
        try:
            config = plan.config(params, seed)
        except UserError as error:
            raise UserError(
                f"trial {place} ({params['method']}) cannot be exported: {error}"
            ) from None
        if config == plan.baseline_config(config):
            dense[seed] = place
        trials.append(GridTrial(config=config, baseline=dense.get(seed)))
    described = to_plain(describe_study(plan, {}))
    return GridFile(
        name=plan.study,
        trials=tuple(trials),
        objectives=plan.objectives,
        study={name: value for name, value in described.items() if name not in _LATER},
    )

"""Sets ParetoASHA up for a study: objectives, constraints, and what an earlier driver decided."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial
from ray.tune.experiment import Trial

from search.plans.objective_values import final_costs, final_density, minimised_objectives
from search.plans.plan import Plan
from search.record.outcomes import metrics_of
from search.schedulers.pareto_asha import ParetoASHA
from trainables.report import describe
from trainables.sweep.folder import trial_name

_FRACTION = "training/fraction"

# Whether the trial of a number, with what it reports, is worth what is left of its training.
Worth = Callable[[int, Mapping[str, float]], bool]


class StudyScheduler(ParetoASHA):
    """Knows trials by their names and numbers in the study, which outlive a driver.

    worth_finishing: asked of trials that are to stop; None where nobody knows.
    """

    worth_finishing: Worth | None = None

    def spares(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
        """Return whether the trial is worth finishing, though others are ahead of it."""
        asked = self.worth_finishing
        return asked is not None and asked(int(config["number"]), metrics_of(result))

    def key(self, trial: Trial) -> str:
        """Return the trial's name in the study."""
        return str(trial.config["name"])

    def __getstate__(self) -> dict[str, Any]:
        """Return all but who is asked: Tune pickles its configuration for `Tuner.restore`."""
        return {**self.__dict__, "worth_finishing": None}


def make_scheduler(plan: Plan, worth_finishing: Worth | None = None) -> StudyScheduler | None:
    """Return a scheduler for the study's objectives; None where trials are not to be stopped.

    Trials are compared by the cost that they will end with. References are never stopped, and
    no other trial is compared with them.
    """
    if plan.rungs is None:
        return None

    def values(
        config: Mapping[str, Any], result: Mapping[str, Any]
    ) -> tuple[Sequence[float], float] | None:
        if config["reference"] or result.get("status") == "failed":
            return None
        metrics, density = metrics_of(result), config["final_density"]
        costs = final_costs(density, metrics)
        vector = minimised_objectives(plan, {**metrics, **costs})
        if vector is None:
            return None
        # A task's floor may yet be reached, and a cap on cost while a gradual schedule is dense;
        # what is known of the end is missed from the beginning.
        return vector, plan.constraints.of(costs).total_violation(costs)

    scheduler = StudyScheduler(
        plan.objectives,
        ["max" if describe(name).direction == "maximize" else "min" for name in plan.objectives],
        time_attr=_FRACTION,
        grace_period=plan.rungs.grace,
        max_t=plan.rungs.maximum,
        reduction_factor=plan.rungs.reduction_factor,
        values=values,
    )
    scheduler.worth_finishing = worth_finishing
    return scheduler


def replay(
    scheduler: StudyScheduler,
    study: str,
    reports: Sequence[tuple[FrozenTrial, Mapping[str, float]]],
) -> dict[int, Mapping[str, float]]:
    """Tell a new scheduler all reports so far, so that it decides as the last one would have.

    Returns, by number, the last reports of trials that are to be stopped after them: a driver may
    have been killed before it could carry that out.
    """
    stopped: dict[int, Mapping[str, float]] = {}
    last = {trial.number: place for place, (trial, _) in enumerate(reports)}
    for place, (trial, metrics) in enumerate(reports):
        given, number = trial.user_attrs, trial.number
        config = {
            "number": number,
            "reference": given["reference"],
            "final_density": final_density(given["config"]),
        }
        went_on: bool | None = place < last[number] or None  # whatever is believed of it now
        if "status" in given:
            went_on = went_on or given["status"] != "stopped"
        if not scheduler.keeps(trial_name(study, number), config, metrics, went_on):
            stopped[number] = metrics
    return stopped

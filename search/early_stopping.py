"""ParetoASHA for one study: its objectives, its constraints, and what an earlier driver decided."""

from collections.abc import Mapping, Sequence
from typing import Any

from search.files import StudyFiles, read_json_lines
from search.ledger import Ledger, metrics_of, trial_name
from search.plan import Plan
from search.scheduler import ParetoASHA
from search.values import final_density, final_values
from trainables.report import describe


def make_scheduler(plan: Plan) -> ParetoASHA | None:
    """By the study's objectives, with the cost that a trial will end with; None where trials are
    not to be stopped. References never are, nor do others have to hold up against them."""
    if plan.rungs is None:
        return None

    def values(
        config: Mapping[str, Any], result: Mapping[str, Any]
    ) -> tuple[Sequence[float], float] | None:
        if config["reference"] or result.get("status") == "failed":
            return None
        metrics = metrics_of(result)
        vector = final_values(plan, config["final_density"], metrics)
        if vector is None:
            return None
        # A task's floor may yet be reached; a cap on cost is missed from the beginning.
        return vector, plan.constraints.total_violation(metrics, costs_only=True)

    return ParetoASHA(
        plan.objectives,
        ["max" if describe(name).direction == "maximize" else "min" for name in plan.objectives],
        time_attr="training/fraction",
        grace_period=plan.rungs.grace,
        max_t=plan.rungs.maximum,
        reduction_factor=plan.rungs.reduction_factor,
        brackets=plan.rungs.brackets,
        order=plan.rungs.order,
        values=values,
    )


def replay(scheduler: ParetoASHA, files: StudyFiles, ledger: Ledger) -> None:
    """Give a new scheduler all reports that are on disk, in the order they came: it then knows
    what the last one knew, and decides the same of trials that are resumed."""
    reports = []
    for trial in ledger.trials():
        name, attributes = trial_name(files.study, trial.number), trial.user_attrs
        scheduler.add(name)
        if "config" in attributes:
            config = {
                "reference": attributes.get("reference", False),
                "final_density": final_density(attributes["config"]),
            }
            rows = read_json_lines(files.reports(trial.number))
            reports += [(row["at"], name, config, row["metrics"]) for row in rows]
    for _, name, config, metrics in sorted(reports, key=lambda report: report[:2]):
        scheduler.keeps(name, config, metrics)

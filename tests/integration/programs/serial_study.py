"""A study without Ray: the same driver, ledger and records, trials one after another, at once.

    python tests/integration/programs/serial_study.py FOLDER

runs a study whose driver dies at every moment between two of its records, then to its end, and
prints how each driver ended. Each is a fork, so that Optuna and MLflow are imported once.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import search.execution.launch
from search.execution.callbacks.monitor import Monitor
from search.execution.launch_options import Launch
from search.execution.study import run_study
from search.execution.study_end import StudyEnd
from search.plans.plan import Plan
from search.plans.recipe import get_recipe
from search.plans.resolve import make_plan
from search.record.files.study_folder import StudyFiles
from search.record.ledger import Ledger
from search.record.outcomes import judge
from search.record.storage import StudyRecord
from search.tracking.projector import Projector

STEPS = (10, 20)
KILLED = 9


def plan_of(study: str, trials: int, **arguments: Any) -> Plan:
    return make_plan(
        get_recipe("demo"),
        study=study,
        trials=trials,
        **{
            "sampler": "random",
            "scheduler": "pareto-asha",
            "overrides": {"data.num_train": "32"},
            **arguments,
        },
    )


def launch_in(folder: object, **arguments: Any) -> Launch:
    quiet = {"check_data": False, "report": False, "quiet": True}
    return Launch(storage=str(folder), **{**quiet, **arguments})


def result_of(density: float, step: int) -> dict[str, Any]:
    quality = density**0.5 * step / STEPS[-1]
    return {
        "val/segmentation/miou": quality,
        "val/normals/mean_error_deg": 60.0 - 20.0 * quality,
        "val/depth/absolute_error": 2.0 - quality,
        "cost/density": density,
        "training/step": step,
        "training/fraction": step / STEPS[-1],
        "status": "complete" if step == STEPS[-1] else "running",
    }


def run_trials(
    plan: Plan,
    launch: Launch,
    files: StudyFiles,
    ledger: Ledger,
    monitor: Monitor,
    reports: object,
    ready: Callable[[], None],
    more: Callable[[], bool] = lambda: False,
) -> None:
    """In the place of `search.execution.launch.run_trials`."""
    ready()
    while (assignment := ledger.next()) is not None or more():
        if assignment is None:
            continue
        monitor.assigned(assignment)
        for step in STEPS:
            result = result_of(1.0 - assignment.config.sparsity.target, step)
            monitor.reported(assignment.number, result)
        outcome = judge(result, plan.objectives)
        assert outcome is not None
        ledger.finish(assignment.number, outcome)


def die_at(owner: type, method: str, when: Callable[..., bool]) -> None:
    """From now on the process ends, as if killed, where `owner.method` is called `when`."""
    real = getattr(owner, method)

    def dying(self: Any, *arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            os._exit(KILLED)
        return real(self, *arguments, **named)

    setattr(owner, method, dying)


MOMENTS: dict[str, Callable[[], None]] = {
    "while MLflow is opened": lambda: die_at(Projector, "wait_open", lambda: True),
    "between the record and its assignment": lambda: die_at(
        Ledger, "_assignment", lambda trial: trial.number == 1
    ),
    "between ask and the first report": lambda: die_at(
        Monitor, "assigned", lambda assignment: assignment.number == 2
    ),
    "between two reports": lambda: die_at(
        Monitor,
        "reported",
        lambda number, result: number == 3 and result["training/step"] == STEPS[1],
    ),
    "between outcome and state": lambda: die_at(
        StudyRecord, "end", lambda trial_id, *_: trial_id == 4
    ),
    "between state and table": lambda: die_at(
        Monitor, "finished", lambda number, outcome: number == 5
    ),
    "between the table and the end": lambda: die_at(Projector, "close", lambda: True),
}


def run(folder: str) -> StudyEnd:
    search.execution.launch.run_trials = run_trials
    return run_study(plan_of("killed", 7), launch_in(folder))


def main(folder: str) -> None:
    ends = {}
    for name, arm in MOMENTS.items():
        child = os.fork()
        if child == 0:
            arm()
            run(folder)
            os._exit(0)
        ends[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    end = run(folder)
    said = {"finished": end.finished, "left": end.remaining, "unwritten": end.unwritten}
    print(json.dumps({"ends": ends, **said}))


if __name__ == "__main__":
    main(*sys.argv[1:])

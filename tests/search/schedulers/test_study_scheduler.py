"""ParetoASHA in a study: which reports it goes by, and what a new driver's knows."""

import math
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle

from search.plans.objective_values import final_density
from search.plans.plan import Plan
from search.record.files.study_folder import StudyFiles, append_json_line, past_reports
from search.record.ledger import Assignment
from search.record.outcomes import Outcome, metrics_of
from search.schedulers.study_scheduler import StudyScheduler, Worth, make_scheduler, replay
from tests.search import studies
from tests.search.studies import driver_of, record_of

DENSITY, AVERAGE = "cost/density", "cost/average_training_density"


def plan_of(**arguments: Any) -> Plan:
    return studies.plan_of(trials=40, **arguments)


def scheduler_of(plan: Plan, worth_finishing: Worth | None = None) -> StudyScheduler:
    scheduler = make_scheduler(plan, worth_finishing)
    assert scheduler is not None
    return scheduler


def result_of(quality: float, density: float, fraction: float = 0.4, **more: Any) -> dict[str, Any]:
    return {
        "val/segmentation/miou": quality,
        "val/normals/mean_error_deg": 30.0 - 10.0 * quality,
        "val/depth/absolute_error": 1.0 - quality,
        DENSITY: density,
        "training/fraction": fraction,
        "status": "running",
        **more,
    }


def config_of(target: float | None = 0.9, **more: Any) -> dict[str, Any]:
    density = None if target is None else 1.0 - target
    return {"reference": False, "final_density": density, **more}


def num_records(scheduler: StudyScheduler) -> int:
    return sum(scheduler.rungs.num_records().values())


def test_no_scheduler_where_trials_are_not_to_be_stopped() -> None:
    assert make_scheduler(plan_of(scheduler="none")) is None


def test_references_are_neither_stopped_nor_held_up_against_others() -> None:
    scheduler = scheduler_of(plan_of())
    for number in range(6):
        assert scheduler.keeps(f"good-{number}", config_of(), result_of(0.5, 0.1))
    for number in range(6):
        config = config_of(None, reference=True)
        assert scheduler.keeps(f"reference-{number}", config, result_of(0.1 + 0.1 * number, 1.0))
    assert num_records(scheduler) == 6
    assert not scheduler.keeps("bad", config_of(), result_of(0.4, 0.1))


@pytest.mark.parametrize(
    "result",
    [
        result_of(0.0, 0.9, status="failed"),
        result_of(math.nan, 0.9),
        result_of(-math.inf, 0.9),
        {"training/fraction": 0.4},
        {},
    ],
)
def test_a_report_that_says_nothing_decides_nothing(result: dict[str, Any]) -> None:
    scheduler = scheduler_of(plan_of())
    for number in range(5):
        assert scheduler.keeps(f"t-{number}", config_of(), result)
    assert num_records(scheduler) == 0


def test_gradual_schedules_are_compared_by_the_cost_they_end_with() -> None:
    """Still dense, a trial that ends sparser and is as good is not behind those that are sparse
    already."""
    scheduler = scheduler_of(plan_of())
    for number in range(8):
        scheduler.keeps(f"sparse-{number}", config_of(0.9), result_of(0.5, 0.1))
    assert scheduler.keeps("gradual", config_of(0.95), result_of(0.5, 0.8))
    assert not scheduler.keeps("dense", config_of(0.5), result_of(0.5, 0.8))


@pytest.mark.parametrize("metric", [DENSITY, AVERAGE, "cost/flops_fraction"])
def test_a_cap_is_not_missed_before_the_end_is_known(metric: str) -> None:
    plan = plan_of(overrides={f"constraint.{metric}": "<=0.2"})
    scheduler = scheduler_of(plan)

    def costs(value: float) -> dict[str, Any]:
        return {AVERAGE: value, "cost/flops_fraction": value}

    for number in range(8):
        result = result_of(0.5, 0.1, **costs(0.1))
        assert scheduler.keeps(f"sparse-{number}", config_of(0.9), result)
    # Better than all, and dense for the time being: it will meet the cap, or may.
    assert scheduler.keeps("gradual", config_of(0.9), result_of(0.9, 0.8, **costs(0.8)))
    # What ends above the cap comes after all that do not, however good.
    assert not scheduler.keeps("dear", config_of(0.5), result_of(0.9, 0.5, **costs(0.5)))


def test_a_floor_may_yet_be_reached() -> None:
    plan = plan_of(overrides={"constraint.segmentation/miou": ">=0.4"})
    scheduler = scheduler_of(plan)
    for number in range(6):
        scheduler.keeps(f"t-{number}", config_of(), result_of(0.1, 0.1))
    assert scheduler.keeps("best so far", config_of(), result_of(0.2, 0.1))


def trial_of(assignment: Assignment) -> Any:
    """What the scheduler reads of a trial of Ray, whose id is another in every launch."""
    config = {
        "name": assignment.name,
        "number": assignment.number,
        "reference": assignment.reference,
        "final_density": final_density(assignment.config.to_dict()),
    }
    return SimpleNamespace(trial_id=f"ray-{random.random()}", config=config)


@pytest.mark.parametrize("worth_finishing", [None, lambda number, metrics: number % 2 == 0])
def test_a_new_driver_decides_as_the_old_one_would(
    worth_finishing: Worth | None, tmp_path: Path
) -> None:
    """All reports so far are on disk, in the folders of their trials, as the monitor writes them:
    not those of trials that failed. One trial was refused before Tune knew of it."""
    plan = plan_of(overrides={"scheduler.grace": "0.11"}, scheduler="pareto-asha", sampler="random")
    files = StudyFiles(storage=tmp_path, study="s")
    files.directory.mkdir()
    record = record_of(plan)
    ledger = driver_of(plan, record)
    scheduler, generator = scheduler_of(plan, worth_finishing), random.Random(0)
    fractions, at, running = (0.12, 0.25, 0.4, 0.7), 100.0, []
    for _ in range(20):
        assignment = ledger.next()
        assert assignment is not None
        if assignment.number == 3:
            refused = Outcome(status="failed", reason="refused", metrics={}, fraction=0.0)
            ledger.finish(assignment.number, refused)
            continue
        trial = trial_of(assignment)
        scheduler.on_trial_add(None, trial)
        running.append((assignment, trial, iter(fractions)))
    stopped = {}
    for _ in range(50):  # reports of several trials at once, in any order
        if not running:
            break
        place = generator.randrange(len(running))
        assignment, trial, left = running[place]
        fraction = next(left, None)
        if fraction is None:
            running.pop(place)
            continue
        result = result_of(generator.random(), generator.random(), fraction)
        if generator.random() < 0.1:
            result["status"] = "failed"
        else:
            row = {"step": int(1000 * fraction), "at": at, "metrics": metrics_of(result)}
            append_json_line(files.reports(assignment.number), row)
        at += 0.5
        answer = scheduler.on_trial_result(None, trial, result)
        if answer == "STOP":
            running.pop(place)
            stopped[assignment.number] = metrics_of(result)
            if generator.random() < 0.3:
                continue  # the driver dies before it records the stop
            outcome = Outcome(
                status="stopped", reason="", metrics=metrics_of(result), fraction=fraction
            )
            ledger.finish(assignment.number, outcome)
    assert num_records(scheduler) > 15
    # The driver dies here.
    again_ledger = driver_of(plan, record)
    again = scheduler_of(plan, worth_finishing)
    assert replay(again, "s", past_reports(files, again_ledger.trials())) == stopped
    assert again.rungs.num_records() == scheduler.rungs.num_records()
    for assignment, trial, left in running:
        resumed = SimpleNamespace(trial_id="another", config=trial.config)
        again.on_trial_add(None, resumed)
        for fraction in left:
            result = result_of(generator.random(), generator.random(), fraction)
            assert again.on_trial_result(None, resumed, result) == scheduler.on_trial_result(
                None, trial, result
            ), assignment.name
    # And of trials that are new to both.
    for _ in range(12):
        assignment = again_ledger.next()
        if assignment is None:
            break
        trial = trial_of(assignment)
        for one in (again, scheduler):
            one.on_trial_add(None, trial)
        for fraction in fractions:
            result = result_of(generator.random(), generator.random(), fraction)
            assert again.on_trial_result(None, trial, result) == scheduler.on_trial_result(
                None, trial, result
            )
    assert again.rungs.num_records() == scheduler.rungs.num_records()


def test_a_trial_that_was_spared_stays_so_whatever_is_believed_later(tmp_path: Path) -> None:
    """Of one that had not reported again, the new driver asks."""
    plan = plan_of(overrides={"sparsity.target": "0.9"})
    files = StudyFiles(storage=tmp_path, study="s")
    files.directory.mkdir()
    record = record_of(plan)
    ledger = driver_of(plan, record)
    asked: list[int] = []

    def worth_finishing(number: int, metrics: Mapping[str, float]) -> bool:
        asked.append(number)
        return answer

    answer, scheduler = True, scheduler_of(plan, worth_finishing)
    compared: list[int] = []  # references are not
    while len(compared) < 4:
        assignment = ledger.next()
        assert assignment is not None
        if assignment.reference:
            continue
        compared.append(assignment.number)
        for fraction in (0.4, 0.7) if len(compared) < 4 else (0.4,):
            result = result_of(0.5 - 0.1 * len(compared), 0.1, fraction)
            assert scheduler.on_trial_result(None, trial_of(assignment), result) == "CONTINUE"
            # The clock is set back between reports.
            row = {"step": 1, "at": assignment.number - fraction, "metrics": metrics_of(result)}
            append_json_line(files.reports(assignment.number), row)
    assert asked == compared[1:]
    asked.clear()
    for answer in (True, False):
        again = scheduler_of(plan, worth_finishing)
        reports = past_reports(files, driver_of(plan, record).trials())
        assert sorted(replay(again, "s", reports)) == ([] if answer else compared[3:])
    assert asked == 2 * compared[3:]


def test_tune_can_pickle_it_whoever_is_asked() -> None:
    lock = threading.RLock()  # as a driver's connections have
    scheduler = scheduler_of(plan_of(), lambda number, metrics: bool(lock))
    again = cloudpickle.loads(cloudpickle.dumps(scheduler))
    assert again.worth_finishing is None
    assert scheduler.worth_finishing is not None
    assert again.keeps("s-00000", config_of(), result_of(0.5, 0.1))

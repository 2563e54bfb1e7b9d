"""What a driver costs as its study grows: no Ray, reports are simulated, in a process of its own.

Records are real: reports on disk, MLflow by the writer, `trials.parquet`. The study storage is
SQLite, or memory where only the curve of asking is wanted.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

from benchmarks.orchestration.trainables import NUM_REPORTS, report
from search.execution.monitor import Monitor
from search.execution.progress_display import Progress
from search.plans.plan import make_plan
from search.plans.recipe import RECIPES
from search.record.ledger import Ledger, open_optuna
from search.record.outcomes import Outcome, judge
from search.record.study_folder import StudyFiles
from search.tracking.events import StudyFacts
from search.tracking.tracker import connect

_POINTS = (100, 300, 1000, 3000, 10000)


def grow(trials: int, sampler: str, storage: str) -> Iterator[dict[str, Any]]:
    """One row at every size up to `trials`: milliseconds of processor time per trial since the
    row before, by part, and the resident memory now."""
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        files = StudyFiles(storage=Path(folder), study="grown")
        files.directory.mkdir()
        plan = make_plan(RECIPES["demo"], study="grown", trials=trials, sampler=sampler)
        address = files.default_study_storage
        study = open_optuna(plan, address) if storage == "journal" else _in_memory(plan)
        facts = StudyFacts(study="grown", study_id="grown", params={})
        tracker = connect(files.default_tracking_uri, facts, files)
        ledger = Ledger(plan, study)
        objectives = plan.objectives
        progress = Progress(trials=trials, finished=0, objectives=objectives, quiet=True)
        monitor = Monitor(files, ledger, tracker, progress)
        clock = _Clock()
        last = 0
        for number in range(1, trials + 1):
            with clock.part("ask"):
                assignment = ledger.next(f"t{number}")
            if assignment is None:
                break
            with clock.part("record"):
                monitor.assigned(assignment)
            density = 1.0 - assignment.config.sparsity.target
            result: dict[str, Any] = {}
            for step in range(1, NUM_REPORTS + 1):
                result = report(step, density)
                with clock.part("record"):
                    monitor.reported(assignment.number, result)
            outcome: Outcome | None = judge(result, objectives)
            assert outcome is not None
            ledger.on_finished = None
            with clock.part("tell"):
                ledger.finish(assignment.number, outcome)
            with clock.part("record"):
                monitor.finished(assignment.number, outcome)
            if number in _POINTS or number == trials:
                yield {
                    "trials": number,
                    **{f"{k}_ms": v / (number - last) for k, v in clock.reset().items()},
                    "resident_mib": _resident_mib(),
                }
                last = number
        began = time.perf_counter()
        with clock.part("close"):
            monitor.close()
        unwritten = tracker.close(finished=True)
        yield {
            "trials": trials,
            "closing_driver_ms": clock.reset()["close"],
            "closing_seconds": time.perf_counter() - began,
            "unwritten": unwritten,
            "resident_mib": _resident_mib(),
        }


def decisions(records: int, num_objectives: int) -> Iterator[dict[str, Any]]:
    """One row at every size up to `records` at one rung: milliseconds of processor time of a
    decision, for vectors most of which do not dominate one another."""
    import numpy as np

    from search.schedulers.rungs import ParetoRungs, RungSettings

    rungs = ParetoRungs(RungSettings(), num_objectives)
    vectors = np.random.default_rng(0).random((records, num_objectives))
    began, last = time.thread_time(), 0
    for number, vector in enumerate(vectors, start=1):
        rungs.decide(f"t{number}", rungs.settings.grace, vector)
        if number in _POINTS or number == records:
            now = time.thread_time()
            yield {
                "records": number,
                "objectives": num_objectives,
                "decision_ms": 1000 * (now - began) / (number - last),
            }
            began, last = now, number


class _Clock:
    """Milliseconds of this thread, by part; reading and writing wait for a disk others use."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}

    def part(self, name: str) -> "_Part":
        return _Part(self._spent, name)

    def reset(self) -> dict[str, float]:
        spent, self._spent = self._spent, {}
        return spent


class _Part:
    def __init__(self, spent: dict[str, float], name: str) -> None:
        self._spent = spent
        self._name = name

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        spent = 1000 * (time.thread_time() - self._began)
        self._spent[self._name] = self._spent.get(self._name, 0.0) + spent


def _in_memory(plan: Any) -> optuna.Study:
    from trainables.report import describe

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = [describe(name).direction for name in plan.objectives]
    return optuna.create_study(study_name=plan.study, directions=directions)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(kind: str, size: str, *rest: str) -> None:
    """`grow TRIALS SAMPLER journal|memory` or `decisions RECORDS OBJECTIVES`; a line per row."""
    rows = grow(int(size), *rest) if kind == "grow" else decisions(int(size), int(rest[0]))
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

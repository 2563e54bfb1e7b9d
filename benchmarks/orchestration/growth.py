"""What a driver costs as its study grows: no Ray, reports are simulated, in a process of its own.

Records are real: trials in Optuna's journal, reports on disk, MLflow by the projector,
`trials.parquet`.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.orchestration.systems import resident_mib
from benchmarks.orchestration.trainables import NUM_REPORTS, report
from search.execution.callbacks.monitor import Monitor
from search.plans.description import describe_study
from search.plans.recipe import get_recipe
from search.plans.resolve import make_plan
from search.plans.rung_settings import RungSettings
from search.record.draws import sampler_of
from search.record.files.study_folder import StudyFiles, write_json
from search.record.ledger import Ledger
from search.record.outcomes import Outcome, judge
from search.record.storage import StudyRecord
from search.schedulers.rungs import ParetoRungs
from search.tracking.projector import Projector
from trainables.report import describe
from trainables.sweep.display import Progress

_POINTS = (100, 300, 1000, 3000, 10000)


def grow(trials: int, sampler: str) -> Iterator[dict[str, Any]]:
    """Yield one row at every size up to `trials`.

    Milliseconds of processor time per trial since the row before, by part, and the resident
    memory now.
    """
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        files = StudyFiles(storage=Path(folder), study="grown")
        files.directory.mkdir()
        plan = make_plan(get_recipe("demo"), study="grown", trials=trials, sampler=sampler)
        directions = {name: describe(name).direction for name in plan.objectives}
        record = StudyRecord.create(files.default_study_storage, plan.study, directions)
        write_json(files.description, describe_study(plan, {}))
        projector = Projector(files.default_tracking_uri, files.default_study_storage, files)
        projector.wait_open()
        ledger = Ledger(plan, record, sampler_of(plan))
        objectives = plan.objectives
        progress = Progress(trials=trials, finished=0, objectives=objectives, quiet=True)
        monitor = Monitor(files, ledger, progress)
        ledger.on_finished = None  # called below, on a clock of its own
        clock = _Clock()
        last = 0
        for number in range(1, trials + 1):
            with clock.part("ask"):
                assignment = ledger.next()
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
            with clock.part("tell"):
                ledger.finish(assignment.number, outcome)
            with clock.part("record"):
                monitor.finished(assignment.number, outcome)
            if number in _POINTS or number == trials:
                yield {
                    "trials": number,
                    **{f"{k}_ms": v / (number - last) for k, v in clock.reset().items()},
                    "resident_mib": resident_mib(),
                }
                last = number
        began = time.perf_counter()
        with clock.part("close"):
            monitor.close()
        unwritten = projector.close(finished=True)
        yield {
            "trials": trials,
            "closing_driver_ms": clock.reset()["close"],
            "closing_seconds": time.perf_counter() - began,
            "unwritten": unwritten,
            "resident_mib": resident_mib(),
        }


def decisions(records: int, num_objectives: int) -> Iterator[dict[str, Any]]:
    """Yield one row at every size up to `records` at one rung.

    Milliseconds of processor time of a decision, for vectors most of which do not dominate one
    another.
    """
    import numpy as np

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


def main(kind: str, size: str, which: str) -> None:
    """Print a line per row of `grow TRIALS SAMPLER` or `decisions RECORDS OBJECTIVES`."""
    rows = grow(int(size), which) if kind == "grow" else decisions(int(size), int(which))
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

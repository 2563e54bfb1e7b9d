"""One result per workload, system and seed, kept as a file: what is there is not run again."""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.search.real import Scenes
from benchmarks.search.simulator import Completion, Trace, simulate
from benchmarks.search.surrogates import SURROGATES, get_surrogate
from benchmarks.search.systems import get_system
from benchmarks.search.workload import Workload

REAL = "scenes"
# Lengths of full trials; the real trainable takes seconds for one.
FULL_LENGTHS = {**dict.fromkeys(SURROGATES, 40), REAL: 18}
CONCURRENCY = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A simulation. full_lengths: the budget, in full-length trials; starts: see `Entry`."""

    workload: str
    system: str
    seed: int
    full_lengths: int
    concurrency: int = CONCURRENCY
    starts: bool = False

    @classmethod
    def of(cls, workload: str, system: str, seed: int) -> "Job":
        """With the benchmark's budget. On the real trainable every system has the starts."""
        return cls(
            workload=workload,
            system=system,
            seed=seed,
            full_lengths=FULL_LENGTHS[workload],
            starts=workload == REAL,
        )

    @property
    def budget_epochs(self) -> int:
        return self.full_lengths * get_workload(self.workload).num_epochs

    def path(self, folder: Path) -> Path:
        return folder / self.workload / self.system / f"{self.seed}.json"


def get_workload(name: str) -> Workload:
    """Raises `UserError` for an unknown name; lists the valid ones."""
    return Scenes() if name == REAL else get_surrogate(name)


def run(job: Job) -> Trace:
    """Simulate, whether there is a result or not."""
    workload = get_workload(job.workload)
    return simulate(
        workload,
        get_system(job.system).build(workload, job.seed, job.starts),
        budget_epochs=job.budget_epochs,
        concurrency=job.concurrency,
        seed=job.seed,
    )


def load(job: Job, folder: Path) -> Trace | None:
    """The kept result; None where there is none, or one of other settings."""
    try:
        known = json.loads(job.path(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if known["job"] != dataclasses.asdict(job):
        return None
    return _trace(known["trace"])


def obtain(job: Job, folder: Path) -> Trace:
    """The kept result, or a new one, which is kept."""
    known = load(job, folder)
    if known is not None:
        return known
    trace = run(job)
    path = job.path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    content = {"job": dataclasses.asdict(job), "trace": dataclasses.asdict(trace)}
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)
    return trace


def missing(jobs: Sequence[Job], folder: Path) -> list[Job]:
    return [job for job in jobs if load(job, folder) is None]


def _trace(known: dict[str, Any]) -> Trace:
    completions = tuple(
        Completion(**{**completion, "worth": tuple(completion["worth"])})
        for completion in known["completions"]
    )
    return Trace(
        budget_epochs=known["budget_epochs"],
        num_trials=known["num_trials"],
        completions=completions,
        stopped_epochs=tuple(known["stopped_epochs"]),
    )

"""One result per workload, system and seed, kept as a file: what is there is not run again."""

import dataclasses
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.search.fingerprint import fingerprint
from benchmarks.search.pausing import PausingSystem, simulate_with_pauses
from benchmarks.search.simulator import Completion, Trace, simulate
from benchmarks.search.systems.catalogue import (
    MODEL_PEERS,
    OURS,
    PLAIN_TPE,
    RANDOM,
    SYSTEMS,
    Entry,
    get_system,
)
from benchmarks.search.twins import counted_anew, twin_of
from benchmarks.search.workloads import yahpo
from benchmarks.search.workloads.real import Scenes
from benchmarks.search.workloads.surrogates import SURROGATES, Surrogate, get_surrogate
from benchmarks.search.workloads.workload import Workload
from benchmarks.search.workloads.yahpo_models import data_problem
from trainables.addresses import first_line
from trainables.errors import UserError
from trainables.training.files import write_file

REAL = "scenes"
# Lengths of full trials; the real trainable takes seconds for one.
FULL_LENGTHS = {**dict.fromkeys(SURROGATES, 40), REAL: 18}
CONCURRENCY = 4
_FIRST_FRESH_SEED = 100
OWN_WORKLOADS = (*SURROGATES, REAL)
REAL_SYSTEMS = (OURS, RANDOM, PLAIN_TPE)
YAHPO_LENGTHS = 40
# No starting points there, so that a peer without them is the same peer.
YAHPO_PARTS = ("one-worker", "no-stopping", "random-sampler")
YAHPO_SYSTEMS = (OURS, RANDOM, PLAIN_TPE, "moasha", *MODEL_PEERS, *YAHPO_PARTS)
ONLY_YAHPO = (*MODEL_PEERS, "one-worker")
ONLY_CONSTRAINED = ("unconstrained",)  # elsewhere it is ours


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A simulation. full_lengths: the budget, in full-length trials; starts: whether every
    system begins with the same points."""

    workload: str
    system: str
    seed: int
    full_lengths: int
    concurrency: int = CONCURRENCY
    starts: bool = True

    @classmethod
    def of(cls, workload: str, system: str, seed: int, *, long: bool = False) -> "Job":
        """With the benchmark's budget; `long`: of YAHPO's tasks with that of CARP-S."""
        if long:
            full_lengths = yahpo.get_task(workload).evaluations
        else:
            full_lengths = FULL_LENGTHS.get(workload, YAHPO_LENGTHS)
        return cls(
            workload=workload,
            system=system,
            seed=seed,
            full_lengths=full_lengths,
            concurrency=get_system(system).concurrency or CONCURRENCY,
        )

    @property
    def budget_epochs(self) -> int:
        """The budget of a search, in epochs."""
        return self.full_lengths * get_workload(self.workload).num_epochs

    @property
    def code(self) -> str:
        """Of what the result depends on beside the job itself."""
        system = get_system(self.system)
        own = "surrogates" if self.workload in SURROGATES else "yahpo"
        workload = "real" if self.workload == REAL else own
        modules = ["simulator", "workloads.starts", f"workloads.{workload}"]
        names = [*(f"benchmarks.search.{module}" for module in modules), *system.modules]
        return fingerprint(names, system.settings)

    def path(self, folder: Path) -> Path:
        """Return the file of the job's result."""
        usual = self.full_lengths == FULL_LENGTHS.get(self.workload, YAHPO_LENGTHS)
        budget = "" if usual else f"-of-{self.full_lengths}"
        return folder / self.workload / self.system / f"{self.seed}{budget}.json"


def seeds_of(workload: str, num_seeds: int) -> range:
    """Of the surrogates, seeds on which nothing was developed: those below were looked at while
    the search was made."""
    first = 0 if workload == REAL else _FIRST_FRESH_SEED
    return range(first, first + num_seeds)


def get_workload(name: str) -> Workload:
    """Raises `UserError` for an unknown name; lists the valid ones."""
    if name == REAL:
        return Scenes()
    if name in SURROGATES:
        return get_surrogate(name)
    if name not in yahpo_names():
        known = ", ".join((*OWN_WORKLOADS, *yahpo_names()))
        hint = data_problem()
        raise UserError(
            f"unknown workload {name!r}; known are {known}" + (f" ({hint})" if hint else "")
        )
    return yahpo.get_task(name)


def scaled_workload(name: str) -> Surrogate | yahpo.Task:
    """Return one whose scale and front are known: all are but the real trainable."""
    found = get_workload(name)
    assert isinstance(found, Surrogate | yahpo.Task)
    return found


def yahpo_names() -> tuple[str, ...]:
    """The tasks that others wrote, where their data are there; else none."""
    return () if data_problem() else tuple(yahpo.tasks())


def run(job: Job) -> Trace:
    """Simulate, whether there is a result or not."""
    workload = get_workload(job.workload)
    system = get_system(job.system).build(workload, job.seed, job.starts)
    budget_epochs = job.budget_epochs
    if isinstance(system, PausingSystem):
        return simulate_with_pauses(workload, system, budget_epochs=budget_epochs, seed=job.seed)
    return simulate(
        workload,
        system,
        budget_epochs=budget_epochs,
        concurrency=job.concurrency,
        seed=job.seed,
    )


def load(job: Job, folder: Path) -> Trace | None:
    """The kept result; None where there is none, or one of other settings or other code."""
    try:
        known = json.loads(job.path(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if known.get("job") != dataclasses.asdict(job) or known.get("code") != job.code:
        return None
    return _trace(known["trace"])


def obtain(job: Job, folder: Path) -> Trace:
    """The kept result, or a new one, which is kept."""
    known = load(job, folder)
    if known is not None:
        return known
    trace = _told_by_its_twin(job, folder) or run(job)
    save(job, job.code, trace, folder)
    return trace


def _told_by_its_twin(job: Job, folder: Path) -> Trace | None:
    """See `twins`; None where there is no such run, or the search may stop trials."""
    if not get_system(job.system).whole_trials or job.workload not in yahpo_names():
        return None
    task = yahpo.get_task(job.workload)
    twin = twin_of(task)
    kept = load(dataclasses.replace(job, workload=twin), folder) if twin else None
    if kept is None:
        return None
    return counted_anew(
        kept,
        task,
        budget_epochs=job.budget_epochs,
        concurrency=job.concurrency,
        seed=job.seed,
    )


def save(job: Job, code: str, trace: Trace, folder: Path) -> None:
    """Keep a result. code: what it was made by, see `Job.code`."""
    content = {"job": dataclasses.asdict(job), "code": code, "trace": dataclasses.asdict(trace)}
    write_file(job.path(folder), json.dumps(content).encode())


def obtain_quietly(arguments: tuple[Job, Path]) -> tuple[str, bool]:
    """`obtain` in a process of its own; returns a line on what was done, and whether it failed.

    A run that fails does not hold up the others.
    """
    warnings.simplefilter("ignore")  # Optuna's and Ray's notes on what they will change
    job, folder = arguments
    name = f"{job.workload} {job.system} seed {job.seed}"
    start = time.process_time()
    try:
        trace = obtain(job, folder)
    except Exception as error:
        return f"{name} failed: {first_line(error)}", True
    seconds = time.process_time() - start
    return (
        f"{name}: {trace.num_trials} trials, {len(trace.completions)} complete, {seconds:.1f} s",
        False,
    )


def plan(
    num_seeds: Mapping[str, int], systems: Sequence[str] = (), *, long: bool = False
) -> list[Job]:
    """Ours and the peers first, seed by seed, then the parts.

    num_seeds: by workload. systems: those to run; all where none is named. long: see `Job.of`.
    Raises `UserError` for an unknown one.
    """
    chosen = [get_system(name) for name in systems] or list(SYSTEMS.values())
    jobs = []
    for parts in (False, True):
        for workload, seeds in num_seeds.items():
            entries = [e for e in chosen if (e.role == "part") == parts and _runs_on(e, workload)]
            jobs += [
                Job.of(workload, entry.name, seed, long=long)
                for seed in seeds_of(workload, seeds)
                for entry in entries
            ]
    return jobs


def _runs_on(entry: Entry, workload: str) -> bool:
    if workload == REAL:
        return entry.name in REAL_SYSTEMS
    if workload not in SURROGATES:
        return entry.name in YAHPO_SYSTEMS
    if entry.name in ONLY_YAHPO:
        return False
    return entry.name not in ONLY_CONSTRAINED or get_workload(workload).constrained


def missing(jobs: Sequence[Job], folder: Path) -> list[Job]:
    """Return the jobs without a result."""
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
        thinking_seconds=tuple(known["thinking_seconds"]),
    )

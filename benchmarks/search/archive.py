"""Keeps the runs that take minutes each in one file of the repository, a line for each.

So a document can be renewed where the results folder is new, without running them again.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.search.runs import REAL, Job, load, save
from benchmarks.search.simulator import Completion, Trace
from benchmarks.search.systems.catalogue import PRIMO, SYSTEMS
from trainables.training.files import write_file

SLOW_SYSTEMS = ("qlognehvi", PRIMO, "gp")  # and any system, where every epoch trains
_DIGITS = 8  # the surrogates compute in single precision


def unpack(archive: Path, storage: Path) -> int:
    """Write the archive's runs as results of `storage`, where it has none; return how many."""
    lacking = {job: kept for job, kept in _current(archive).items() if load(job, storage) is None}
    for job, kept in lacking.items():
        save(job, kept["code"], _trace(kept), storage)
    return len(lacking)


def pack(jobs: Iterable[Job], storage: Path, archive: Path) -> int:
    """Add the slow ones of `jobs` to the archive, as `storage` has them; return how many it holds.

    Those that other code made are left out.
    """
    lines = _current(archive)
    for job in jobs:
        slow = job.workload == REAL or job.system in SLOW_SYSTEMS
        if slow and (trace := load(job, storage)) is not None:
            lines[job] = {"job": asdict(job), "code": job.code} | _compact(trace)
    if lines:
        ordered = sorted(lines, key=lambda job: tuple(asdict(job).values()))
        text = "".join(json.dumps(lines[job], separators=(",", ":")) + "\n" for job in ordered)
        write_file(archive, text.encode())
    return len(lines)


def _current(archive: Path) -> dict[Job, dict[str, Any]]:
    """Return the lines that today's code made, by job."""
    if not archive.is_file():
        return {}
    found = {}
    for line in archive.read_text(encoding="utf-8").splitlines():
        kept = json.loads(line)
        job = Job(**kept["job"])
        if job.system in SYSTEMS and kept["code"] == job.code:
            found[job] = kept
    return found


def _compact(trace: Trace) -> dict[str, Any]:
    return {
        "budget_epochs": trace.budget_epochs,
        "num_trials": trace.num_trials,
        "completions": [
            [c.number, c.epochs, c.feasible, *(float(f"{x:.{_DIGITS}g}") for x in c.worth)]
            for c in trace.completions
        ],
        "stopped_epochs": trace.stopped_epochs,
        "thinking_seconds": [round(seconds, 4) for seconds in trace.thinking_seconds],
    }


def _trace(kept: Mapping[str, Any]) -> Trace:
    return Trace(
        budget_epochs=kept["budget_epochs"],
        num_trials=kept["num_trials"],
        completions=tuple(
            Completion(number=number, epochs=epochs, worth=tuple(worth), feasible=feasible)
            for number, epochs, feasible, *worth in kept["completions"]
        ),
        stopped_epochs=tuple(kept["stopped_epochs"]),
        thinking_seconds=tuple(kept["thinking_seconds"]),
    )

"""Keeps the runs that take minutes each in one file of the repository, a line for each.

So a document can be renewed where the results folder is new, and without thinking them again.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.search.runs import REAL, Job, load, save
from benchmarks.search.simulator import Completion, Trace

SLOW_SYSTEMS = ("qlognehvi", "primo", "gp")  # and any system, where every epoch trains
_DIGITS = 8  # the surrogates compute in single precision


def unpack(archive: Path, storage: Path) -> int:
    """Write the archive's runs as results of `storage`, where it has none; return how many."""
    num_written = 0
    for kept in _lines(archive):
        job = Job(**kept["job"])
        if load(job, storage) is None:
            save(job, kept["code"], _trace(kept), storage)
            num_written += 1
    return num_written


def pack(jobs: Iterable[Job], storage: Path, archive: Path) -> int:
    """Write the slow ones of `jobs` and of the archive, as `storage` has them; return how many.

    Those that other code made are left out.
    """
    known = [Job(**kept["job"]) for kept in _lines(archive)]
    slow = {job for job in jobs if job.workload == REAL or job.system in SLOW_SYSTEMS}
    lines = []
    for job in sorted({*known, *slow}, key=lambda job: tuple(asdict(job).values())):
        if (trace := load(job, storage)) is not None:
            kept = {"job": asdict(job), "code": job.code} | _compact(trace)
            lines.append(json.dumps(kept, separators=(",", ":")) + "\n")
    archive.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def _lines(archive: Path) -> list[dict[str, Any]]:
    if not archive.is_file():
        return []
    return [json.loads(line) for line in archive.read_text(encoding="utf-8").splitlines()]


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

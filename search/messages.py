"""What the commands of `python -m search` say of a study."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.execution.study import StudyEnd
from search.plans.budget import Budget
from search.plans.plan import Plan
from search.record.study_folder import again


def status_lines(found: Mapping[str, Any], storage: str) -> Iterator[str]:
    """Yield how a study stands. found: what `study_status` gave."""
    words = {} if found["driven"] else {"running": "interrupted"}
    counts = ", ".join(f"{n} {words.get(s, s)}" for s, n in found["counts"].items() if n)
    driver = "a driver is at work" if found["driven"] else "no driver is at work"
    name, budget = found["study"], Budget(**found["budget"])
    yield f"study {name} ({found['recipe']}): {counts or 'no trial yet'}; {driver}"
    yield f"used {found['used']:g} of {budget.text}; {found['front']} on the front"
    yield f"folder {found['directory']}; MLflow {found['tracking_uri']}"
    if (found["used"] < budget.amount or found["counts"]["running"]) and not found["driven"]:
        yield f"to continue: {again('resume', name, storage)}"


def end_lines(plan: Plan, end: StudyEnd) -> Iterator[str]:
    """Yield what a launch left, and where to look at it."""
    failed = f", {end.failed} failed" if end.failed else ""
    yield f"study {plan.study}: {end.finished} trials{failed}, {end.front} on the joint front"
    if end.table:
        yield end.table
    for path in (end.directory / "trials.parquet", end.directory / "report.html"):
        if path.is_file():
            yield f"{path.stem:7s} {_short(path)}"
    if end.tracking_uri.startswith("http"):
        yield f"MLflow  {end.tracking_uri}"
    else:
        ui = f"{_short(Path(sys.executable))} -m mlflow ui --backend-store-uri"
        yield f"MLflow  {ui} {shlex.quote(end.tracking_uri)}"


def problem_lines(plan: Plan, end: StudyEnd) -> Iterator[str]:
    """Yield what went wrong in a launch, and what to do about it."""
    storage = end.directory.parent
    for problem in (end.idle, end.unwritten, end.report_problem):
        if problem:
            yield f"Warning: {problem}"
    if end.unwritten:
        sync = again("sync", plan.study, storage)
        yield f"To write the rest when MLflow takes it: {sync}"
    if end.remaining:
        left = f"with {end.remaining} trials to go"
        if plan.budget.trials is None:
            left = f"before {plan.budget.text} were used"
        resume = again("resume", plan.study, storage)
        yield f"Interrupted {left}. To resume: {resume}"


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

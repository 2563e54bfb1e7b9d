"""What the commands of `python -m search` say of a study."""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.execution.study_end import StudyEnd
from search.plans.limits.budget import Budget
from search.plans.plan import Plan
from search.record.files.study_folder import again
from search.record.study_status import counts_in_words
from trainables.shipping.in_words import costs_in_words
from trainables.terminal.as_typed import as_typed, python, study_command
from trainables.terminal.plurals import counted

if TYPE_CHECKING:  # loads torch
    from search.execution.ship import Shipped, Wanted


def status_lines(found: Mapping[str, Any], storage: str) -> Iterator[str]:
    """Yield how a study stands. found: what `study_status` gave."""
    driven = found["driven"]
    counts = counts_in_words(found["counts"], driven=driven)
    driver = "a driver is at work" if driven else "no driver is at work"
    name, budget = found["study"], Budget(**found["budget"])
    yield f"study {name} ({found['recipe']}): {counts or 'no trial yet'}; {driver}"
    yield f"used {found['used']:g} of {budget.text}; {found['front']} on the front"
    if found["plateau"]:
        yield f"ended {found['plateau']}"
    if found["prior"]:
        yield f"prior: {found['prior']}; less of it with every trial that ends"
    again_at, due = found["confirmations"], found["confirmations_due"]
    if again_at or due != 0:
        ended = sum(again_at.values()) - again_at.get("running", 0)
        said = counts_in_words(again_at, driven=driven) or "none yet"
        if due is None:
            said += "; how many are to go is unknown"
        elif due:
            said += f"; {due} of {due + ended} to go"
        yield f"confirmed at fresh seeds: {said}"
    yield f"folder {found['directory']}; MLflow {found['tracking_uri']}"
    left = found["used"] < budget.amount and not found["plateau"]
    if (left or found["counts"]["running"] or not found["ended"]) and not driven:
        yield f"to continue: {again('resume', name, storage)}"


def end_lines(plan: Plan, end: StudyEnd, options: Sequence[str] = ()) -> Iterator[str]:
    """Yield what a launch left, and where to look at it.

    options: of the launch, which the next one is to have as well.
    """
    failed = f", {end.failed} failed" if end.failed else ""
    trials = f"{counted(end.finished, 'trial')}{failed}"
    front = "search's front" if end.confirmed else "joint front"
    yield f"study {plan.study}: {trials}, {end.front} on the {front}"
    if end.plateau:
        yield f"ended {end.plateau}"
    if end.confirmed:
        yield f"confirmed at fresh seeds: {end.confirmed}"
    for choice in end.choices:
        yield f"take     {choice}"
    if end.table:
        yield end.table
    for path in (end.directory / "trials.parquet", end.directory / "report.html"):
        if path.is_file():
            yield f"{path.stem:8s} {as_typed(path)}"
    if end.front and not end.remaining and plan.grid is None:
        yield f"choose   {study_command('analysis pick', plan.study, end.directory.parent)}"
        if end.unconfirmed:
            # Nothing behind the command: a shell may take a comment for arguments.
            confirm = again("confirm", plan.study, end.directory.parent, *options)
            yield f"be sure  train the front at fresh seeds: {confirm}"
    if end.tracking_uri.startswith("http"):
        yield f"MLflow   {end.tracking_uri}"
    else:
        ui = f"{python()} -m mlflow ui --backend-store-uri"
        yield f"MLflow   {ui} {shlex.quote(end.tracking_uri)}"
    yield "         switch its page to “Model training”, at the top left, to see the runs"


def problem_lines(plan: Plan, end: StudyEnd, options: Sequence[str] = ()) -> Iterator[str]:
    """Yield what went wrong in a launch, and what to do about it; options as of `end_lines`."""
    storage = end.directory.parent
    for problem in (end.idle, end.unwritten, end.report_problem):
        if problem:
            yield f"Warning: {problem}"
    if end.idle:
        yield f"To go on when it is mended: {again('resume', plan.study, storage, *options)}"
    if end.unwritten:
        sync = again("sync", plan.study, storage)
        yield f"To write the rest when MLflow takes it: {sync}"
    if end.remaining:
        left = f"with {counted(end.remaining, 'training' if end.confirming else 'trial')} to go"
        if plan.budget.trials is None and not end.confirming:
            left = f"with less than {plan.budget.text} used"
        resume = again("resume", plan.study, storage, *options)
        yield f"Interrupted {left}. To resume: {resume}"


def shipped_lines(shipped: "Shipped", wanted: "Wanted") -> Iterator[str]:
    """Yield what was chosen and why, what was written, and how to load it."""
    result, out = shipped.result, wanted.out
    yield f"{shipped.trial}: {result['config']['method']}"
    for reason in shipped.why:
        yield f"  why     {reason}"
    for said in shipped.standing.sentences():
        yield f"  but     {said}"
    yield f"  costs   {costs_in_words(result)}"
    for name, size in result["files"].items():
        yield f"  file    {out / name}, {size:,} bytes"
    yield f"  file    {out / 'card.md'}, {out / 'ship.json'}"
    if "model.onnx" in result["files"]:
        yield f"  load    onnxruntime.InferenceSession({str(out / 'model.onnx')!r})"
    if shipped.in_mlflow is not None:
        logged = shipped.in_mlflow
        name = f"{wanted.register} version {logged.version}, " if logged.version else ""
        yield f"  MLflow  {name}{'it had this file already' if logged.reused else 'a new model'}"
        yield f"  load    mlflow.set_tracking_uri({logged.tracking_uri!r})"
        yield f"          mlflow.pyfunc.load_model({logged.uri!r}).predict(images)"


def shipped_json(shipped: "Shipped") -> dict[str, Any]:
    """Return the object of `ship.json`, with the choice and where MLflow has the model."""
    logged = shipped.in_mlflow
    return {
        **shipped.result,
        "trial": shipped.trial,
        "why": list(shipped.why),
        **shipped.standing.to_json(),
        "mlflow": None if logged is None else dataclasses.asdict(logged),
        "problem": shipped.problem,
    }

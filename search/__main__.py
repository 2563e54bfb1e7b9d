"""`python -m search`: run a study or a grid of baselines, resume it, ask how it stands."""

import json
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

# Before anything imports them: no telemetry, no banners.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")

import typer

from search.options import (
    AddressOption,
    ConcurrencyOption,
    DataRootOption,
    QuietOption,
    ReportOption,
    StorageOption,
    StudyStorageOption,
    TimeLimitOption,
    TrackingOption,
)
from search.plans.recipe import RECIPES, get_recipe
from trainables.command_line import EXIT_INTERRUPTED, run_command_line
from trainables.errors import Failure

app = typer.Typer(
    help="Search sparse multitask models: many trials, Pareto fronts at the end.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_RUN_HELP = f"""Start a study, or go on with it: the same command resumes what was interrupted.

Recipes: {"; ".join(f"{r.name} ({r.summary})" for r in RECIPES.values())}

Examples:

python -m search run demo

python -m search run nyu-v2-small --data-root runs/data/nyuv2 --trials 8

python -m search run demo --name by-flops --set objective.cost=cost/flops_fraction

python -m search run demo --name snip-only --set method=snip --set training.steps=400

python -m search run demo --name floor --epochs 500 --set constraint.segmentation/miou='>=0.3'

python -m search run demo --name warm --seed 1 --warm-start demo

Settings of the scheduler (--set scheduler.NAME=...): grace, the fraction of training before which
no trial is stopped; reduction_factor, one in so many goes on at a rung; brackets.
"""


@app.command(help=_RUN_HELP)
def run(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe.")],
    name: Annotated[str | None, typer.Option(help="The study; default: the recipe's name.")] = None,
    trials: Annotated[int | None, typer.Option(help="How many; default: the recipe's.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Instead: passes over the training data, of all trials.")
    ] = None,
    gpu_hours: Annotated[
        float | None, typer.Option(help="Instead: hours of a GPU, of all trials.")
    ] = None,
    concurrency: ConcurrencyOption = None,
    seed: Annotated[int, typer.Option(help="Of the sampler and of every trial.")] = 0,
    data_root: DataRootOption = None,
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    ray_address: AddressOption = "local",
    trial_time_limit: TimeLimitOption = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="curves, tpe, nsga2, nsga3, gp or random; default: the recipe's."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="pareto-asha stops poor trials early, none does not; default: recipe's."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="name=value: fix a setting; or objective.cost, constraint.METRIC='<=BOUND', "
            "scheduler.SETTING. Repeatable.",
        ),
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            help="A study to learn from: its name, mlflow:NAME, or STORAGE#NAME. Repeatable."
        ),
    ] = None,
    report: ReportOption = True,
    quiet: QuietOption = False,
) -> None:
    from search.plans.plan import make_plan, parse_overrides

    plan = make_plan(
        get_recipe(recipe),
        study=name,
        trials=trials,
        epochs=epochs,
        gpu_hours=gpu_hours,
        seed=seed,
        sampler=sampler,
        scheduler=scheduler,
        data_root=data_root,
        overrides=parse_overrides(settings or []),
        warm_start=warm_start or (),
    )
    _run(
        plan,
        warm_start=tuple(warm_start or ()),
        storage=storage,
        tracking_uri=tracking_uri,
        study_storage=study_storage,
        ray_address=ray_address,
        concurrency=concurrency,
        trial_time_limit=trial_time_limit,
        report=report,
        quiet=quiet,
    )


_BASELINES_HELP = f"""Run systems x sparsities x seeds as one study, under one protocol and budget.

The budget is the recipe's training.steps for every system: where one starts from a trained
model, pre-training and training add up to it. Dense systems are run once per seed. Seed 0 of all
systems comes first. The same command starts the study, resumes it, or reports the finished one.

Recipes: {", ".join(RECIPES)}. Methods: `python -m trainables list methods`.

Examples:

python -m search baselines scenes-tiny

python -m search baselines demo --methods dense,snip,disparse-static --sparsities 0.9 --seeds 3

python -m search baselines nyu-v2-small --data-root DIR --set data.tasks=segmentation,depth

python -m search baselines scenes-tiny --settings tuned.json --set training.steps=1000 --name tuned

where tuned.json holds a method's own settings, or a list of them for several variants:
{{"snip": {{"optimiser.learning_rate": 0.001}}, "rigl": [{{"regrowth.fraction": 0.3}}, {{}}]}}
"""


@app.command(help=_BASELINES_HELP)
def baselines(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe.")],
    name: Annotated[str | None, typer.Option(help="The study; default: RECIPE-baselines.")] = None,
    seeds: Annotated[int, typer.Option(help="How many of every system.")] = 5,
    seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    methods: Annotated[
        str | None, typer.Option(help="a,b,c; default: all that can run on the recipe.")
    ] = None,
    sparsities: Annotated[
        str, typer.Option(help="Of the sparse systems, e.g. 0.3,0.9.")
    ] = "0.3,0.5,0.7,0.9",
    settings_file: Annotated[
        str | None, typer.Option("--settings", help="JSON file of settings by method, see above.")
    ] = None,
    data_root: DataRootOption = None,
    concurrency: ConcurrencyOption = None,
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    ray_address: AddressOption = "local",
    trial_time_limit: TimeLimitOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value: a setting of every system. Repeatable."),
    ] = None,
    report: ReportOption = True,
    quiet: QuietOption = False,
) -> None:
    from search.plans.baselines import (
        ignored,
        make_baselines_plan,
        parse_list,
        parse_sparsities,
        read_settings,
    )
    from search.plans.plan import parse_overrides

    variants = None if settings_file is None else read_settings(settings_file)
    plan = make_baselines_plan(
        get_recipe(recipe),
        study=name,
        methods=None if methods is None else parse_list(methods, "--methods"),
        sparsities=parse_sparsities(sparsities),
        seeds=seeds,
        seed=seed,
        settings=variants,
        data_root=data_root,
        overrides=parse_overrides(settings or []),
    )
    for line in () if quiet else ignored(plan, variants or {}):
        typer.echo(f"note: {line}: its settings have no effect", err=True)
    _run(
        plan,
        storage=storage,
        tracking_uri=tracking_uri,
        study_storage=study_storage,
        ray_address=ray_address,
        concurrency=concurrency,
        trial_time_limit=trial_time_limit,
        report=report,
        quiet=quiet,
    )


@app.command(
    help="Go on with a study that was interrupted, as it was started.\n\n"
    "Passwords are not recorded: repeat an address that holds one, or set MLFLOW_TRACKING_URI "
    "and DISPARSE_STUDY_STORAGE.\n\n"
    "Example: python -m search resume demo"
)
def resume(
    name: Annotated[str, typer.Argument(help="Name of the study.")],
    concurrency: ConcurrencyOption = None,
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    ray_address: AddressOption = "local",
    trial_time_limit: TimeLimitOption = None,
    report: ReportOption = True,
    quiet: QuietOption = False,
) -> None:
    from search.plans.description import plan_of

    plan, _ = plan_of(storage, name)
    _run(
        plan,
        storage=storage,
        tracking_uri=tracking_uri,
        study_storage=study_storage,
        ray_address=ray_address,
        concurrency=concurrency,
        trial_time_limit=trial_time_limit,
        report=report,
        quiet=quiet,
    )


@app.command(
    help="Raise a study's budget, in the unit it was started with, and go on with it.\n\n"
    "Killed and given again, it raises the budget again: go on by `search resume`.\n\n"
    "Example: python -m search extend demo --trials 12"
)
def extend(
    name: Annotated[str, typer.Argument(help="Name of the study.")],
    trials: Annotated[int | None, typer.Option(help="How many more.")] = None,
    epochs: Annotated[float | None, typer.Option(help="How many more.")] = None,
    gpu_hours: Annotated[float | None, typer.Option(help="How many more.")] = None,
    concurrency: ConcurrencyOption = None,
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    ray_address: AddressOption = "local",
    trial_time_limit: TimeLimitOption = None,
    report: ReportOption = True,
    quiet: QuietOption = False,
) -> None:
    from search.plans.budget import Budget
    from search.plans.description import extend_budget

    more = Budget(trials=trials, epochs=epochs, gpu_hours=gpu_hours)
    _run(
        extend_budget(storage, name, more),
        storage=storage,
        tracking_uri=tracking_uri,
        study_storage=study_storage,
        ray_address=ray_address,
        concurrency=concurrency,
        trial_time_limit=trial_time_limit,
        report=report,
        quiet=quiet,
    )


@app.command(
    help="How a study stands; changes nothing.\n\n"
    "Examples: python -m search status demo; python -m search status demo --json"
)
def status(
    name: Annotated[str, typer.Argument(help="Name of the study.")],
    storage: StorageOption = "runs",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    from search.plans.budget import Budget
    from search.record.study_folder import again
    from search.record.study_status import study_status

    _quiet_libraries()
    found = study_status(storage, name)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    words = {} if found["driven"] else {"running": "interrupted"}
    counts = ", ".join(f"{n} {words.get(s, s)}" for s, n in found["counts"].items() if n)
    driver = "a driver is at work" if found["driven"] else "no driver is at work"
    typer.echo(f"study {name} ({found['recipe']}): {counts or 'no trial yet'}; {driver}")
    budget = Budget.from_json(found["budget"])
    typer.echo(f"used {found['used']:g} of {budget.text}; {found['front']} on the front")
    typer.echo(f"folder {found['directory']}; MLflow {found['tracking_uri']}")
    if (found["used"] < budget.amount or found["counts"]["running"]) and not found["driven"]:
        typer.echo(f"go on with: {again('resume', name, storage)}")


@app.command(
    help="Bring MLflow level with the study's own record: runs, parameters, points, status and the "
    "front's tags that the server lacks are written, and no run is left RUNNING. A second time "
    "changes nothing. Points that somebody added by hand stay.\n\n"
    "For a server that was away, lost its data, or is new: one named by --tracking-uri is the "
    "study's from then on. Not while a driver is at work.\n\n"
    "Examples: python -m search sync demo; "
    "python -m search sync demo --tracking-uri http://server:5000"
)
def sync(
    name: Annotated[str, typer.Argument(help="Name of the study.")],
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    quiet: QuietOption = False,
) -> None:
    _quiet_libraries()
    from search.tracking.sync import sync_study

    end = sync_study(storage, name, tracking_uri=tracking_uri, study_storage=study_storage)
    if not quiet:
        done = f"{end.changes} changes" if end.changes else "nothing to change"
        typer.echo(f"study {name}: {end.trials} trials, {done} at {end.tracking_uri}")
    if end.refused:
        raise Failure(f"{end.refused} writes were refused by MLflow ({end.reason})")


def _run(plan: Any, *, quiet: bool, **launch: Any) -> None:
    from search.execution.study import Launch, run_study
    from search.record.study_folder import again

    _quiet_libraries()
    try:
        end = run_study(plan, Launch(quiet=quiet, **launch))
    except KeyboardInterrupt:
        typer.echo("Interrupted; the same command goes on", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not quiet:
        _say_end(plan, end)
    for problem in (end.idle, end.unwritten, end.report_problem):
        if problem:
            typer.echo(f"Warning: {problem}", err=True)
    if end.unwritten:
        sync = again("sync", plan.study, end.directory.parent)
        typer.echo(f"When the server is back, the same command writes them, or: {sync}", err=True)
    if end.remaining:
        left = f"with {end.remaining} trials to go"
        if plan.budget.trials is None:
            left = f"before {plan.budget.text} were used"
        typer.echo(
            f"Interrupted {left}; the same command goes on, "
            f"or: {again('resume', plan.study, end.directory.parent)}",
            err=True,
        )
    elif not end.complete:
        raise Failure(f"no trial of {plan.study} is complete; most often: {end.reason}")
    if end.remaining or end.report_problem or end.unwritten:
        raise typer.Exit(1)


def _say_end(plan: Any, end: Any) -> None:
    failed = f", {end.failed} failed" if end.failed else ""
    typer.echo(f"study {plan.study}: {end.finished} trials{failed}, {end.front} on the joint front")
    if plan.grid is not None:
        from search.record.systems_table import systems_table

        typer.echo("mean on test over seeds, at the best step by validation:")
        for line in systems_table(end.directory / "trials.parquet", plan.grid, plan.tasks):
            typer.echo(line)
    typer.echo(f"trials  {_short(end.directory / 'trials.parquet')}")
    report = end.directory / "report.html"
    if report.is_file():
        typer.echo(f"report  {_short(report)}")
    if "://" in end.tracking_uri and end.tracking_uri.startswith("http"):
        typer.echo(f"MLflow  {end.tracking_uri}")
    else:
        python = _short(Path(sys.executable))
        typer.echo(
            f"MLflow  {python} -m mlflow ui --backend-store-uri {shlex.quote(end.tracking_uri)}"
        )


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _quiet_libraries() -> None:
    # By the logger's name: importing Optuna for this would make every mistake wait for it.
    for name in ("mlflow", "alembic", "optuna", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    run_command_line(app)

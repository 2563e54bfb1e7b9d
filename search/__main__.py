"""`python -m search`: run a study or a grid of baselines, resume it, ask how it stands."""

import logging
import os
from typing import Annotated, Any

# Before anything imports them: no telemetry, no banners.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")

from trainables.terminal.installed import packages_needed

with packages_needed():
    import typer

    from search.baselines_command import baselines
    from search.import_command import import_sweep
    from search.launching import launches, run_plan
    from search.options import (
        DataRootOption,
        NameArgument,
        QuietOption,
        RecipeArgument,
        SetOption,
        StorageOption,
        StudyStorageOption,
        TrackingOption,
    )
    from search.ship_command import ship
    from search.status_command import status
    from trainables.errors import Failure
    from trainables.terminal.command_line import Commands, run_command_line

# By a logger's name: importing Optuna for this would make every mistake wait for it.
for _library in ("mlflow", "alembic", "optuna", "ray"):
    logging.getLogger(_library).setLevel(logging.ERROR)

app = typer.Typer(
    name="python -m search",
    help="Search sparse multitask models: many trials, Pareto fronts at the end.",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

UntilOption = Annotated[
    str | None,
    typer.Option(help="plateau[=SHARE]: end where the rest would add less than 2 % (or SHARE)."),
]
MoreOption = Annotated[float | None, typer.Option(help="How many more.")]


@app.command()
@launches
def run(
    recipe: RecipeArgument,
    launch: dict[str, Any],
    name: Annotated[str | None, typer.Option(help="The study; default: the recipe's name.")] = None,
    trials: Annotated[int | None, typer.Option(help="How many; default: the recipe's.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Instead: passes over the training data, of all trials.")
    ] = None,
    gpu_hours: Annotated[
        float | None, typer.Option(help="Instead: hours of a GPU, of all trials.")
    ] = None,
    until: UntilOption = None,
    seed: Annotated[int, typer.Option(help="Of the sampler and of every trial.")] = 0,
    data_root: DataRootOption = None,
    sampler: Annotated[str | None, typer.Option(help="curves, tpe, gp or random.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="pareto-asha stops poor trials early, none does not.")
    ] = None,
    settings: SetOption = None,
    warm_start: Annotated[
        list[str] | None, typer.Option(help="A study to learn from, see below. Repeatable.")
    ] = None,
    prior: Annotated[
        list[str] | None, typer.Option(help="What you believe is good, see below. Repeatable.")
    ] = None,
) -> None:
    """Start a study, or resume it: the same command resumes what was interrupted.

    --set also takes objective.cost, constraint.METRIC='<=BOUND' and settings of the scheduler:
    scheduler.grace, the fraction of training before which no trial is stopped;
    scheduler.reduction_factor, one in so many continues at a rung.
    --warm-start takes a study's name, or the path of its folder.
    --prior takes NAME=VALUE of a parameter (`python -m spaces show compact`), or a study, whose
    front is meant. Draws begin near it, and forget it as trials end, sooner where it is wrong.

    \b
    Examples:
      python -m search run demo
      python -m search run nyu-v2-small --data-root runs/data/nyuv2 --trials 8
      python -m search run demo --name enough --trials 100 --until plateau
      python -m search run my.toml --name by-flops --set objective.cost=cost/flops_fraction
      python -m search run demo --name snip-only --set method=snip --set training.steps=400
      python -m search run demo --name floor --set constraint.segmentation/miou='>=0.3'
      python -m search run demo --name warm --seed 1 --warm-start demo
      python -m search run demo --name sure --prior optimiser.learning_rate=3e-3
    """
    from search.plans.limits.plateau import parse_until
    from search.plans.recipe import get_recipe
    from search.plans.resolve import make_plan, parse_overrides

    plan = make_plan(
        get_recipe(recipe),
        study=name,
        trials=trials,
        epochs=epochs,
        gpu_hours=gpu_hours,
        plateau=None if until is None else parse_until(until),
        seed=seed,
        sampler=sampler,
        scheduler=scheduler,
        data_root=data_root,
        overrides=parse_overrides(settings or []),
        warm_start=warm_start or (),
        prior=prior or (),
    )
    run_plan(plan, **launch)


app.command()(baselines)
app.command("import")(import_sweep)


@app.command()
@launches
def resume(name: NameArgument, launch: dict[str, Any]) -> None:
    """Resume a study that was interrupted, as it was started.

    Passwords are not recorded: repeat an address that holds one, or set MLFLOW_TRACKING_URI and
    DISPARSE_STUDY_STORAGE.

    \b
    Example:
      python -m search resume demo
    """
    from search.record.files.study_file import plan_of

    run_plan(plan_of(launch["storage"], name), **launch)


@app.command()
@launches
def extend(
    name: NameArgument,
    launch: dict[str, Any],
    trials: Annotated[int | None, typer.Option(help="How many more.")] = None,
    epochs: MoreOption = None,
    gpu_hours: MoreOption = None,
    until: UntilOption = None,
) -> None:
    """Raise a study's budget, in the unit it was started with, and continue it.

    Given again, it raises the budget again: after an interruption use `search resume`. Without
    --until all of it is used; --until alone leaves the budget, and says at which plateau to end.

    \b
    Examples:
      python -m search extend demo --trials 12
      python -m search extend demo --trials 50 --until plateau
    """
    from search.plans.limits.budget import Budget
    from search.plans.limits.plateau import parse_until
    from search.record.files.study_file import plan_of

    share = None if until is None else parse_until(until)
    more = None
    if share is None or (trials, epochs, gpu_hours) != (None, None, None):
        more = Budget(trials=trials, epochs=epochs, gpu_hours=gpu_hours, plateau=share)
    run_plan(plan_of(launch["storage"], name), **launch, more=more, until=share)


@app.command()
@launches
def confirm(
    name: NameArgument,
    launch: dict[str, Any],
    seeds: Annotated[int, typer.Option(help="How many fresh ones, the same for every model.")] = 5,
) -> None:
    """Train the front again at fresh seeds, so that it has means, intervals and ties.

    First the members and the dense reference; then the trials that the noise measured there may
    have kept off the front, at most as many as it has members. They are trials of the same study
    outside its budget. The same command resumes what was interrupted, and repeats nothing.

    \b
    Examples:
      python -m search confirm demo
      python -m search confirm demo --seeds 8
    """
    from search.record.files.study_file import plan_of

    run_plan(plan_of(launch["storage"], name), **launch, confirm=seeds)


app.command()(status)


@app.command()
def sync(
    name: NameArgument,
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    quiet: QuietOption = False,
) -> None:
    """Project a study's record into MLflow, and into trials.parquet where it lacks trials.

    A second time changes nothing. For a server that was away, lost its data, or is new: one named
    by --tracking-uri is the study's from then on. What somebody added by hand stays. Not while a
    driver is at work.

    \b
    Examples:
      python -m search sync demo
      python -m search sync demo --tracking-uri http://server:5000
    """
    from search.tracking.sync import sync_study
    from trainables.terminal.plurals import counted

    end = sync_study(storage, name, tracking_uri=tracking_uri, study_storage=study_storage)
    if not quiet:
        done = f"{end.changes} changes" if end.changes else "nothing to change"
        done = f"trials.parquet written again, {done}" if end.wrote_table else done
        typer.echo(f"study {name}: {counted(end.trials, 'trial')}, {done} at {end.tracking_uri}")
    if end.refused:
        raise Failure(f"{end.refused} writes were refused by MLflow ({end.reason})")


app.command()(ship)


@app.command()
def recipe(
    name: Annotated[str | None, typer.Argument(help="A recipe; without it, list them.")] = None,
) -> None:
    """List the built-in recipes, or print one as TOML to start from.

    \b
    Example:
      python -m search recipe demo > my.toml
    """
    from search.plans.recipe import get_recipe, recipe_names, recipe_text

    if name is not None:
        typer.echo(recipe_text(name), nl=False)
        return
    width = max(map(len, recipe_names()))
    for each in recipe_names():
        typer.echo(f"{each:{width}s}  {get_recipe(each).summary}")


@app.command()
def delete(
    name: NameArgument,
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Delete a study: its folder, its record and its runs in MLflow, after asking.

    \b
    Example:
      python -m search delete demo
    """
    from search.tracking.delete import delete_study

    def ask(what: str) -> None:
        if not yes:
            typer.confirm(f"Delete {what}?", abort=True, err=True)

    places = {"tracking_uri": tracking_uri, "study_storage": study_storage}
    done = delete_study(storage, name, ask=ask, **places)
    if not quiet:
        typer.echo(done)


if __name__ == "__main__":
    run_command_line(app)

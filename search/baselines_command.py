"""Reads the command line of `python -m search baselines`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from search.launching import launches, run_plan
from search.options import DataRootOption, RecipeArgument, SetOption
from trainables.checks import require_given_once
from trainables.terminal.as_typed import command


@launches
def baselines(
    recipe: RecipeArgument,
    launch: dict[str, Any],
    name: Annotated[str | None, typer.Option(help="The study; default: RECIPE-baselines.")] = None,
    seeds: Annotated[int, typer.Option(help="How many of every system.")] = 5,
    seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    methods: Annotated[str | None, typer.Option(help="a,b,c; default: all that can run.")] = None,
    sparsities: Annotated[
        str | None, typer.Option(help="Of sparse systems; default: 0.3,0.5,0.7,0.9.")
    ] = None,
    settings_file: Annotated[
        str | None, typer.Option("--settings", help="JSON file of settings by method.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of every trial, pre-training included.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="corrected, or published (as of the papers' tables).")
    ] = None,
    export_grid: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Train nothing; write the grid for a host without Ray."),
    ] = None,
    data_root: DataRootOption = None,
    settings: SetOption = None,
) -> None:
    """Run systems x sparsities x seeds as one study, under one protocol and budget.

    The budget is the recipe's training.steps for every system, pre-training included. Dense
    systems are run once per seed. The same command starts the study, resumes it, or reports the
    finished one. Methods: `python -m trainables list methods`.

    --settings takes a method's own settings, or a list of them for several variants:
    {"snip": {"optimiser.learning_rate": 0.001}, "rigl": [{"regrowth.fraction": 0.3}, {}]}

    --export-grid writes what `python -m trainables sweep FILE --out DIR` trains where torch is all
    there is; `search import DIR` then makes this study of its results.

    \b
    Examples:
      python -m search baselines scenes-tiny
      python -m search baselines demo --methods dense,snip --sparsities 0.9 --seeds 3
      python -m search baselines nyu-v2-small --data-root DIR --set data.tasks=segmentation,depth
      python -m search baselines scenes-tiny --settings tuned.json --steps 1000
      python -m search baselines nyu-v2-paper --methods dense,snip --steps 5000 --metrics published
      python -m search baselines nyu-v2-paper --seeds 3 --export-grid nyu.json
    """
    from search.plans.baselines import (
        make_baselines_plan,
        parse_list,
        parse_sparsities,
        read_settings,
    )
    from search.plans.plan import STEPS
    from search.plans.recipe import get_recipe
    from search.plans.resolve import parse_overrides

    overrides = parse_overrides(settings or [])
    fixed = {STEPS: ("--steps", steps), "metrics": ("--metrics", metrics)}
    require_given_once(overrides, fixed)
    overrides |= {name: str(value) for name, (_, value) in fixed.items() if value is not None}
    plan = make_baselines_plan(
        get_recipe(recipe),
        study=name,
        methods=None if methods is None else parse_list(methods, "--methods"),
        sparsities=None if sparsities is None else parse_sparsities(sparsities),
        seeds=seeds,
        seed=seed,
        settings=None if settings_file is None else read_settings(settings_file),
        data_root=data_root,
        overrides=overrides,
    )
    if export_grid is not None:
        _export(plan, export_grid, quiet=launch["quiet"])
        return
    run_plan(plan, **launch)


def _export(plan: Any, path: Path, *, quiet: bool) -> None:
    from search.plans.export import grid_of
    from trainables.sweep.grid import write_grid

    grid = grid_of(plan)
    write_grid(path, grid)
    if not quiet:
        typer.echo(f"wrote {path}: {len(grid.trials)} trials of {plan.study}")
        typer.echo(f"to train them: {command('trainables sweep', str(path), '--out', 'DIR')}")
        typer.echo(f"into a study:  {command('search import', 'DIR')}")

"""Reads the command line of `python -m search import`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from search.launching import check_end, show_end
from search.options import (
    JsonOption,
    QuietOption,
    ReportOption,
    StorageOption,
    StudyStorageOption,
    TrackingOption,
)
from trainables.terminal.answers import STDOUT, require_json, write_json
from trainables.terminal.command_line import typed_command


def import_sweep(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The --out of a sweep that has ended.")
    ],
    name: Annotated[
        str | None, typer.Option(help="The study; default: the one that the grid is of.")
    ] = None,
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    report: ReportOption = True,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Take the results of `python -m trainables sweep` into a study, as if it had trained them.

    The grid must come from `search baselines … --export-grid`. The study is made, or it goes on:
    trials that it has stay as they are, so a second import changes nothing. Results that are
    damaged, of another sweep, or of other data, settings or recipes are refused by name, and
    nothing of them is taken. Large files (model.pt, predictions.npz) may be missing.

    \\b
    Examples:
      python -m search import runs/sweep
      python -m search import /mnt/gpu/sweep --name nyu-on-a-gpu --json -
    """
    require_json(json_file)
    from search.execution.cluster.ray_cluster import set_ray_environment
    from search.execution.launch_options import Launch
    from search.execution.study import run_study

    set_ray_environment()
    from search.execution.swept import plan_of_swept, read_swept, taking
    from trainables.terminal.plurals import counted

    silent = quiet or json_file == STDOUT
    swept = read_swept(directory)
    plan = plan_of_swept(swept, name)
    launch = Launch(
        storage=storage,
        tracking_uri=tracking_uri,
        study_storage=study_storage,
        quiet=silent,
        report=report,
        check_data=False,
        data=swept.data,
        runner=taking(swept),
    )
    if not silent:
        count = counted(len(swept.trials), "trial")
        print(f"{directory}: {count}, trained on {swept.sweep.device}", flush=True)
    end = run_study(plan, launch)
    without = f"{counted(swept.num_without_model, 'trial')} came without model.pt"
    notes = [f"note: {without}, and cannot be shipped"] if swept.num_without_model else []
    show_end(plan, end, quiet=silent, notes=notes)
    if json_file is not None:
        values: dict[str, Any] = dataclasses.asdict(end)
        values |= {"directory": str(end.directory), "study": plan.study}
        values |= {"device": swept.sweep.device, "without_model": swept.num_without_model}
        write_json(json_file, {"command": typed_command("search"), **values})
    check_end(plan, end)

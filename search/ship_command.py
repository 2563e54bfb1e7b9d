"""Reads the command line of `python -m search ship`."""

from pathlib import Path
from typing import Annotated

import typer

from search.options import (
    DataRootOption,
    JsonOption,
    NameArgument,
    QuietOption,
    StorageOption,
    StudyStorageOption,
    TrackingOption,
)
from trainables.errors import Failure
from trainables.terminal.answers import STDOUT, require_json, write_json
from trainables.terminal.command_line import EXIT_INTERRUPTED, typed_command


def ship(
    name: NameArgument,
    out: Annotated[Path, typer.Option(help="Folder for the files, as of `trainables ship`.")],
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="'METRIC<=VALUE'", help="A bound, as of `analysis pick`. Repeatable."),
    ] = None,
    max_loss: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="How much worse a task may be: 5 or 5%.")
    ] = None,
    best: Annotated[
        str | None, typer.Option(metavar="METRIC", help="To be best in; default: the knee.")
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option(help="A complete trial to ship instead of choosing: 3, or demo-00003."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="At so many seeds, its own among them; confirmed ones count.")
    ] = 1,
    register: Annotated[
        str | None, typer.Option(metavar="MODEL_NAME", help="Register it in MLflow.")
    ] = None,
    runtime: Annotated[
        str, typer.Option(help="onnxruntime or torch: what the time is measured in.")
    ] = "onnxruntime",
    device: Annotated[str, typer.Option(help="cpu or cuda: where it is measured.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of one pass on the CPU.")] = 1,
    data_root: DataRootOption = None,
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    no_data: Annotated[
        bool, typer.Option("--no-data", help="Compare on random images; no metric is computed.")
    ] = False,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Choose one model as `analysis pick` does, ship it to files, and log it to MLflow.

    It is exported, verified on the test images, timed and described in a card; in MLflow it is a
    model of its trial's run. --seeds 3 trains the same configuration at two fresh seeds, here, so
    that the card has intervals, of the fresh seeds alone; those of `search confirm` are used if
    there are any. The same command continues after an interruption.

    \b
    Examples:
      python -m search ship demo --out shipped/demo
      python -m search ship demo --trial 3 --out shipped/demo-00003 --register scenes-sparse
      python -m search ship demo --where 'cost/density<=0.1' --best segmentation/miou --out best
      python -m search ship demo --max-loss 5 --best cost/density --out shipped/demo-small
      python -m search ship demo --out shipped/demo --seeds 3 --threads 4 --json -
    """
    from analysis.statistics.conditions import parse_percent
    from search.execution.ship import Wanted, ship_from_study
    from search.messages import shipped_json, shipped_lines
    from trainables.shipping.options import ShipOptions
    from trainables.sweep.folder import trial_number

    wanted = Wanted(
        out=out,
        where=tuple(where or ()),
        max_loss=None if max_loss is None else parse_percent(max_loss),
        best=best,
        trial=None if trial is None else trial_number(trial, name),
        seeds=seeds,
        register=register,
    )
    require_json(json_file)
    try:
        shipped = ship_from_study(
            storage,
            name,
            wanted,
            ShipOptions(
                runtime=runtime,
                device=device,
                threads=threads,
                data_root=data_root,
                with_data=not no_data,
            ),
            tracking_uri=tracking_uri,
            study_storage=study_storage,
            command=typed_command("search"),
            quiet=quiet,
        )
    except KeyboardInterrupt:
        typer.echo("Interrupted. Run the same command again to continue.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    answer = shipped_json(shipped)
    if json_file is not None:
        write_json(json_file, answer)
    for line in () if quiet or json_file == STDOUT else shipped_lines(shipped, wanted):
        typer.echo(line)
    if shipped.problem:
        raise Failure(shipped.problem)

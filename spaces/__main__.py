"""Shows what may vary, on the command line: `python -m spaces`."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from spaces.catalogue import SPACES, build_space
from spaces.presets import trial_config
from trainables.command_line import Commands, run_command_line

app = typer.Typer(
    help="Look at the search spaces: every parameter, range, condition and default.",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("list", help="Print the names of the spaces.\n\nExample: python -m spaces list")
def list_spaces() -> None:
    """Print the names of the spaces, one per line."""
    for name, (doc, _) in SPACES.items():
        typer.echo(f"{name:10s}{doc}")


@app.command(
    help="Print every parameter of a space, with its range, condition and default.\n\n"
    "Ranges of steps and of the learning rate depend on --dataset and --preset.\n\n"
    "Examples: python -m spaces show full; "
    "python -m spaces show compact --dataset nyu-v2 --preset small --json"
)
def show(
    name: Annotated[str, typer.Argument(help="Name of a space; see `list`.")],
    dataset: Annotated[str, typer.Option(help="Data set that sets the ranges.")] = "scenes",
    preset: Annotated[str, typer.Option(help="Preset that sets the ranges.")] = "tiny",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print every parameter of a space, as a table or as JSON."""
    space = build_space(name, trial_config("disparse-static", dataset, preset))
    if as_json:
        typer.echo(json.dumps(space.to_json(), indent=2))
        return
    table = Table(title=f"{space.name}: {space.doc}")
    for heading in ("parameter", "kind", "range", "default", "drawn when", "meaning"):
        table.add_column(heading, overflow="fold")
    for parameter in space.parameters:
        table.add_row(
            parameter.name,
            parameter.kind,
            parameter.range_text(),
            str(parameter.default),
            parameter.condition_text() or "always",
            parameter.doc,
        )
    console = Console()
    # Without a terminal rich assumes 80 columns, which folds every cell.
    (console if console.is_terminal else Console(width=160)).print(table)


if __name__ == "__main__":
    run_command_line(app)

"""Shows what may vary, on the command line: `python -m spaces`."""

from typing import Annotated

from trainables.terminal.installed import packages_needed

with packages_needed():
    import typer
    from rich.console import Console
    from rich.table import Table

    from spaces.catalogue import SPACES, build_space
    from spaces.presets import trial_config
    from trainables.terminal.answers import STDOUT, write_json
    from trainables.terminal.command_line import Commands, run_command_line

JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write one JSON object; - prints it alone."),
]

app = typer.Typer(
    name="python -m spaces",
    help="Look at the search spaces: every parameter, range, condition and default.",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command("list")
def list_spaces(json_file: JsonFile = None) -> None:
    """Print the names of the spaces, one per line.

    \b
    Example:
      python -m spaces list
    """
    if json_file is not None:
        write_json(json_file, {name: doc for name, (doc, _) in SPACES.items()})
    for name, (doc, _) in {}.items() if json_file == STDOUT else SPACES.items():
        typer.echo(f"{name:10s}{doc}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a space; see `list`.")],
    dataset: Annotated[str, typer.Option(help="Data set that sets the ranges.")] = "scenes",
    preset: Annotated[str, typer.Option(help="Preset that sets the ranges.")] = "tiny",
    json_file: JsonFile = None,
) -> None:
    """Print every parameter of a space, with its range, condition and default.

    Ranges of steps and of the learning rate depend on --dataset and --preset.

    \b
    Examples:
      python -m spaces show full
      python -m spaces show compact --dataset nyu-v2 --preset small --json
    """
    space = build_space(name, trial_config("disparse-static", dataset, preset))
    if json_file is not None:
        write_json(json_file, space.to_json())
    if json_file == STDOUT:
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

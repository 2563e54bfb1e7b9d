"""`python -m benchmarks.claims`: run the studies behind the claims, and write what they show."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import UserError
from trainables.terminal.answers import write_json
from trainables.terminal.command_line import run_command_line

if TYPE_CHECKING:
    from benchmarks.claims.jobs import Job

app = typer.Typer(
    name="python -m benchmarks.claims",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

REPOSITORY = Path(__file__).resolve().parents[2]


@app.command(
    epilog="""Examples:

`python -m benchmarks.claims`

`python -m benchmarks.claims --only scenes --concurrency 2`

`python -m benchmarks.claims --only nyu-v2-normals,nyu-v2-depth --data-root runs/data/nyuv2
--steps 120 --set training.precision=bf16`

`python -m benchmarks.claims --only scenes --export-grids grids` (tuning first), then on a host
with torch alone `python -m trainables sweep grids/claims-scenes-tuning.json --out
grids/claims-scenes-tuning`, and here `--import grids --export-grids grids`, and so on.

`python -m benchmarks.claims --write-only`
"""
)
def claims(
    only: Annotated[
        list[str] | None,
        typer.Option(help="scenes,nyu-v2-normals,nyu-v2-depth, or some of them. Default: all."),
    ] = None,
    storage: Annotated[Path, typer.Option(help="Folder that holds all studies.")] = Path("runs"),
    data_root: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[DATASET=]DIR",
            help="Folder of the converted data, of nyu-v2 unless named. Repeatable.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of every trial, pre-training included.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=2, help="Paired seeds, from 0.")] = None,
    systems: Annotated[str | None, typer.Option(help="Comma-separated; default: all.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value: fix a setting of every trial. Repeatable."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Trials at once; default: the recipe's.")
    ] = None,
    export_grids: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Train nothing; write the grids that come next, for a GPU host."
        ),
    ] = None,
    import_from: Annotated[
        Path | None,
        typer.Option("--import", metavar="DIR", help="Take the sweeps of such grids from there."),
    ] = None,
    write_only: Annotated[
        bool, typer.Option("--write-only", help="Run nothing; write from what is finished.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where claims.md, claims.json and images/ go; default: docs/."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors alone.")] = False,
) -> None:
    """Tune every system alike, compare them over paired seeds, write the document.

    Resumable: finished studies are left as they are, and options that are left out are those the
    studies were begun with. The README's table is written too, unless --out names another folder.
    """
    from benchmarks.claims.jobs import Options, settle
    from benchmarks.claims.protocol import check_systems, get_settings
    from benchmarks.claims.results.document import render, write_readme
    from benchmarks.claims.results.figure import draw
    from benchmarks.claims.results.findings import collect
    from benchmarks.claims.studies import run_setting

    say = (lambda text: None) if quiet else _say
    if not write_only:
        options = Options(
            storage=storage,
            data_roots=parse_data_roots(data_root or ()),
            steps=steps,
            seeds=seeds,
            systems=None if systems is None else check_systems(_words(systems)),
            overrides=None if settings is None else tuple(settings),
            concurrency=concurrency,
            quiet=quiet,
            export_grids=export_grids,
            import_from=import_from,
        )
        jobs = [settle(setting, options) for setting in get_settings(_words(",".join(only or ())))]
        require_data(jobs)  # all of it, before hours are spent on the first
        ended = [run_setting(job, options, run_process, say) for job in jobs]
        if not all(ended):
            say("nothing is written while studies wait for a sweep")
            return
    found = collect(storage)
    folder = out or REPOSITORY / "docs"
    write_json(folder / "claims.json", found)
    pictured = draw(found, folder / "images" / "claims.png")
    (folder / "claims.md").write_text(render(found, pictured=pictured), encoding="utf-8")
    if out is None:
        write_readme(REPOSITORY / "README.md", found)
    say(f"wrote {folder / 'claims.md'}")


def parse_data_roots(items: Sequence[str]) -> dict[str, str]:
    """`["DIR"]` or `["scenes=DIR"]` → `{dataset: DIR}`."""
    from benchmarks.claims.protocol import SETTINGS
    from trainables.errors import unknown_name

    datasets = {setting.dataset for setting in SETTINGS.values()}
    roots = {}
    for item in items:
        dataset, separator, folder = item.rpartition("=")
        name = dataset if separator else "nyu-v2"
        if name not in datasets:
            raise unknown_name("dataset of the claims", name, datasets)
        roots[name] = folder
    return roots


def require_data(jobs: Sequence["Job"]) -> None:
    """Raises `UserError` where a job's data is not there (a procedural data set is generated)."""
    from trainables.data.catalogue import dataset_spec

    for job in jobs:
        dataset = job.setting.dataset
        if dataset_spec(dataset).generate is None and job.data_root is None:
            raise UserError(
                f"the claims on {job.setting.name} need {dataset} in a converted store, got no "
                f"data root; run `python -m trainables convert {dataset} SOURCE DESTINATION` and "
                "pass `--data-root DESTINATION`, or leave them out by --only scenes"
            )


def run_process(command: Sequence[str]) -> int:
    """As a process of its own, which an interruption from the keyboard reaches too."""
    return subprocess.run(command, check=False).returncode


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    run_command_line(app)

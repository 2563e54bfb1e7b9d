"""`python -m benchmarks.search`: run the searches side by side, and write what they found."""

import importlib.util
import multiprocessing
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.command_line import run_command_line, write_json
from trainables.errors import UserError

if TYPE_CHECKING:
    from benchmarks.search.runs import Job

app = typer.Typer(
    name="python -m benchmarks.search",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

REPOSITORY = Path(__file__).resolve().parents[2]


@app.command(
    epilog="""Examples:

`python -m benchmarks.search`

`python -m benchmarks.search --only crossing,six --systems ours,random --processes 2`

`python -m benchmarks.search --only scenes --real-seeds 10`

`python -m benchmarks.search --write-only`
"""
)
def search(
    only: Annotated[
        str | None, typer.Option(help="Surrogates, and scenes; comma-separated. Default: all.")
    ] = None,
    systems: Annotated[str | None, typer.Option(help="Comma-separated; default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Paired; of surrogates.")] = 20,
    real_seeds: Annotated[int, typer.Option(min=2, help="The same of scenes.")] = 5,
    processes: Annotated[int, typer.Option(min=1, help="Simulations at once.")] = 1,
    storage: Annotated[
        Path, typer.Option(help="Folder of the results; what is there is not run again.")
    ] = Path("runs/search-benchmark"),
    write_only: Annotated[
        bool, typer.Option("--write-only", help="Run nothing; write from what is kept.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where search.md, search.json and images/ go; docs/.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors alone.")] = False,
) -> None:
    """Simulate every system on every workload over paired seeds, and write the document.

    On scenes only random search, plain TPE and ours are run, because every epoch trains there.
    Results are kept one by one: after an interruption the same command goes on. Where the code of
    a search, a surrogate or the simulator has changed, what rests on it is run again.
    """
    from benchmarks.search.results.document import render
    from benchmarks.search.results.figure import draw
    from benchmarks.search.results.findings import collect
    from benchmarks.search.runs import REAL, WORKLOADS, get_workload, missing, plan

    names = _words(only) or list(WORKLOADS)
    for name in names:
        get_workload(name)
    counts = {name: real_seeds if name == REAL else seeds for name in names}
    if not write_only:
        jobs = missing(plan(counts, _words(systems)), storage)
        _require_syne_tune(job.system for job in jobs)
        _run_all(jobs, storage, processes, quiet)
    everything = {name: real_seeds if name == REAL else seeds for name in WORKLOADS}
    found = collect(storage, everything)
    folder = out or REPOSITORY / "docs"
    write_json(folder / "search.json", found)
    pictured = draw(found, folder / "images" / "search.png")
    (folder / "search.md").write_text(render(found, pictured=pictured), encoding="utf-8")
    if not quiet:
        print(f"wrote {folder / 'search.md'}", flush=True)


def _run_all(jobs: list["Job"], storage: Path, processes: int, quiet: bool) -> None:
    from benchmarks.search.runs import obtain_quietly

    os.environ["OMP_NUM_THREADS"] = "1"
    arguments = [(job, storage) for job in jobs]
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        for number, line in enumerate(pool.imap_unordered(obtain_quietly, arguments), start=1):
            if not quiet:
                print(f"{number}/{len(jobs)} {line}", flush=True)


def _require_syne_tune(systems: Iterable[str]) -> None:
    if "moasha" in systems and importlib.util.find_spec("syne_tune") is None:
        raise UserError(
            "the search `moasha` needs Syne Tune, which is not installed; `make bench-search` "
            "installs it, or leave it out by --systems"
        )


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


if __name__ == "__main__":
    run_command_line(app)

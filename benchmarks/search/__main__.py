"""`python -m benchmarks.search`: run the searches side by side, and write what they found."""

import importlib.util
import json
import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.errors import Failure, UserError
from trainables.terminal.answers import write_json
from trainables.terminal.command_line import run_command_line

if TYPE_CHECKING:
    from benchmarks.search.runs import Job

app = typer.Typer(
    name="python -m benchmarks.search",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PACKAGES = {"moasha": "syne_tune", "qlognehvi": "botorch"}
REPOSITORY = Path(__file__).resolve().parents[2]


@app.command(
    epilog="""Examples:

`python -m benchmarks.search`

`python -m benchmarks.search --only crossing,six --systems ours,random --processes 2`

`python -m benchmarks.search --only scenes --real-seeds 5`

`python -m benchmarks.search --only lcbench-167185-epoch --systems ours,random --long`

`python -m benchmarks.search --write-only`
"""
)
def search(
    only: Annotated[
        str | None,
        typer.Option(help="Surrogates, tasks of YAHPO, scenes; comma-separated. Default: all."),
    ] = None,
    systems: Annotated[str | None, typer.Option(help="Comma-separated; default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Paired; of surrogates.")] = 20,
    real_seeds: Annotated[int, typer.Option(min=2, help="The same of scenes.")] = 10,
    yahpo_seeds: Annotated[int, typer.Option(min=2, help="The same of YAHPO's tasks.")] = 16,
    long: Annotated[
        bool, typer.Option("--long", help="YAHPO's tasks alone, with the budgets of CARP-S.")
    ] = False,
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
    Results are kept one by one: after an interruption the same command goes on. Those that take
    minutes each are kept in docs/search-runs.jsonl too. Where the code of a search, a surrogate or
    the simulator has changed, what rests on it is run again.
    """
    from benchmarks.search.archive import pack, unpack
    from benchmarks.search.results.document import render
    from benchmarks.search.results.figure import draw
    from benchmarks.search.runs import OWN_WORKLOADS, get_workload, missing, plan, yahpo_names
    from benchmarks.search.workloads.yahpo_models import data_folder

    if long:
        data_folder()  # a mistake at once where there is none
    everything = yahpo_names() if long else (*OWN_WORKLOADS, *yahpo_names())
    names = _words(only) or everything
    for name in names:
        get_workload(name)
        if name not in everything:
            raise UserError(f"CARP-S has no budget for {name!r}: --long is for YAHPO's tasks alone")
    counts = _Counts(seeds=seeds, real_seeds=real_seeds, yahpo_seeds=yahpo_seeds)
    planned = plan({name: counts.of(name) for name in names}, _words(systems), long=long)
    folder = out or REPOSITORY / "docs"
    archive = folder / "search-runs.jsonl"
    unpack(archive, storage)
    failed: list[str] = []
    try:
        if not write_only:
            jobs = missing(planned, storage)
            _require_packages(job.system for job in jobs)
            failed = _run_all(jobs, storage, processes, quiet)
    finally:
        pack(planned, storage, archive)
    found = _findings(folder, storage, counts)
    pictured = draw(found["own"], folder / "images" / "search.png")
    (folder / "search.md").write_text(render(found, pictured=pictured), encoding="utf-8")
    if not quiet:
        print(f"wrote {folder / 'search.md'}", flush=True)
    if failed:
        raise Failure(
            f"{len(failed)} of the runs failed, and the document lacks them:\n" + "\n".join(failed)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counts:
    """How many seeds a workload has."""

    seeds: int
    real_seeds: int
    yahpo_seeds: int

    def of(self, workload: str) -> int:
        from benchmarks.search.runs import OWN_WORKLOADS, REAL

        if workload == REAL:
            return self.real_seeds
        return self.seeds if workload in OWN_WORKLOADS else self.yahpo_seeds


def _findings(folder: Path, storage: Path, counts: _Counts) -> dict[str, Any]:
    """What is kept, in three parts, and what the part's file knows of all else."""
    from benchmarks.search.results.findings import collect, together
    from benchmarks.search.runs import OWN_WORKLOADS, yahpo_names

    parts = {
        "own": ("search.json", OWN_WORKLOADS, False),
        "yahpo": ("search-yahpo.json", yahpo_names(), False),
        "yahpo-long": ("search-yahpo-long.json", yahpo_names(), True),
    }
    found = {}
    for part, (file, names, long) in parts.items():
        path = folder / file
        kept = collect(storage, {name: counts.of(name) for name in names}, long=long)
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        found[part] = together(kept, known, pooled=part != "own")
        if found[part]["workloads"]:
            write_json(path, found[part])
    return found


def _run_all(jobs: list["Job"], storage: Path, processes: int, quiet: bool) -> list[str]:
    """Run them; return what is to be said of those that failed."""
    from benchmarks.search.runs import obtain_quietly

    os.environ["OMP_NUM_THREADS"] = "1"
    arguments = [(job, storage) for job in jobs]
    context = multiprocessing.get_context("spawn")
    failed = []
    with context.Pool(processes) as pool:
        done = pool.imap_unordered(obtain_quietly, arguments)
        for number, (line, has_failed) in enumerate(done, start=1):
            if has_failed:
                failed.append(line)
            elif not quiet:
                print(f"{number}/{len(jobs)} {line}", flush=True)
    return failed


def _require_packages(systems: Iterable[str]) -> None:
    from benchmarks.search.systems.catalogue import PRIMO
    from benchmarks.search.systems.primo import environment_problem

    needed = set(systems)
    if PRIMO in needed and (problem := environment_problem()) is not None:
        raise UserError(f"{problem}, or leave it out by --systems")
    for system in sorted(needed & set(_PACKAGES)):
        if importlib.util.find_spec(_PACKAGES[system]) is None:
            raise UserError(
                f"the search `{system}` needs the package {_PACKAGES[system]}, which is not "
                "installed; `make bench-search` installs it, or leave it out by --systems"
            )


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


if __name__ == "__main__":
    run_command_line(app)

"""Reads the command line of `python -m trainables sweep`."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from trainables.sweep.grid import GridFile, MakeConfig, read_grid
from trainables.sweep.run import SweepOptions
from trainables.sweep.sweep import Terminated, check_complete, run_sweep
from trainables.terminal.answers import STDOUT, require_json, write_json
from trainables.terminal.as_typed import command
from trainables.terminal.command_line import EXIT_INTERRUPTED

EXIT_TERMINATED = 143

EXAMPLES = """\b
Examples:
  python -m trainables sweep GRID.json --out runs/sweep
  python -m trainables sweep GRID.json --out runs/sweep --at-once 4 --device cuda
  python -m trainables sweep GRID.json --out runs/sweep --data-root /data/nyuv2-store --json -

\b
Elsewhere, to bring the results into a study's record:
  python -m search import runs/sweep

\b
GRID.json lists the trials, with options of `train` or whole configurations:
  {"version": 1, "name": "rates", "trials": [
    {"method": "dense", "dataset": "scenes", "seed": 0},
    {"method": "snip", "dataset": "scenes", "sparsity": 0.9, "seed": 0, "baseline": 0,
     "settings": {"optimiser.learning_rate": 0.001}}]}
`baseline` is the place of the dense trial to compare with, from 0. Keys of a trial: method,
dataset, preset, tasks, sparsity, seed, steps, metrics, settings, baseline; or config, as in the
"config" of `train --json`, and baseline. `search baselines … --export-grid` writes such a file.
"""


def sweep_command(make_config: MakeConfig) -> Callable[..., None]:
    """Return the command. make_config: makes a trial of options of `train`, for `read_grid`."""

    def sweep(
        grid: Annotated[Path, typer.Argument(metavar="GRID", help="List of trials, see below.")],
        out: Annotated[Path, typer.Option(help="Folder for results; the same again goes on.")],
        at_once: Annotated[
            int | None,
            typer.Option(help="Trials side by side; default: one for each GPU, or one on the CPU."),
        ] = None,
        device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
        data_root: Annotated[
            str | None, typer.Option(help="Where the data are here, in place of the grid's own.")
        ] = None,
        dense_cache: Annotated[
            Path | None, typer.Option(help="Folder of dense runs; default: one in --out.")
        ] = None,
        trial_time_limit: Annotated[
            float | None, typer.Option(help="Seconds without a report that fail a trial.")
        ] = None,
        retry_failed: Annotated[
            bool, typer.Option("--retry-failed", help="Train trials that failed again.")
        ] = False,
        json_file: Annotated[
            str | None, typer.Option("--json", metavar="FILE|-", help="Write one JSON object.")
        ] = None,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    ) -> None:
        """Train the trials of GRID one after another, or several at once; needs torch, and no Ray.

        The same command goes on after Ctrl-C, a crash or a reboot, from checkpoints. A trial that
        fails is recorded with its reason, and the others go on. Where several share a GPU, each may
        take an equal part of its memory, and each holds its own copy of the data there.
        """
        _sweep(
            read_grid(grid, make_config),
            out,
            SweepOptions(
                at_once=at_once,
                device=device,
                data_root=data_root,
                dense_cache=dense_cache,
                time_limit=trial_time_limit,
                retry_failed=retry_failed,
                quiet=quiet,
                command=[Path(sys.executable).name, "-m", "trainables", *sys.argv[1:]],
            ),
            json_file,
        )

    return sweep


def _sweep(grid: GridFile, out: Path, options: SweepOptions, json_file: str | None) -> None:
    started = time.perf_counter()
    require_json(json_file)
    try:
        end = run_sweep(grid, out, options)
    except KeyboardInterrupt as heard:
        terminated = isinstance(heard, Terminated)
        said = "Ended by SIGTERM." if terminated else "Interrupted."
        typer.echo(f"{said} Run the same command again to go on.", err=True)
        raise typer.Exit(EXIT_TERMINATED if terminated else EXIT_INTERRUPTED) from None
    answer: dict[str, Any] = {
        "command": list(options.command),
        "sweep": end.sweep.name,
        "out": str(out),
        "counts": end.counts,
        "damaged": end.damaged,
        "trials": end.trials,
        "timing": {"total_seconds": time.perf_counter() - started, "device": end.sweep.device},
    }
    if json_file is not None:
        write_json(json_file, answer)
    if not options.quiet and json_file != STDOUT:
        counts = ", ".join(f"{count} {status}" for status, count in end.counts.items())
        print(f"sweep {end.sweep.name}: {counts or 'no trial ended'}; results in {out}")
        if end.sweep.study is not None:
            print(f"into a study's record: {command('search import', str(out))}")
    check_complete(end)

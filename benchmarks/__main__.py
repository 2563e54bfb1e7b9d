"""`python -m benchmarks`: measure the ratios, print them, write them down."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import cuda, masked_step, store_read, task_gradients, topology_update
from benchmarks.measure import Measurement, Skipped, machine_facts
from trainables.errors import unknown_name
from trainables.terminal.answers import write_json
from trainables.terminal.command_line import run_command_line

BENCHMARKS: dict[str, Callable[[bool], Iterator[Measurement | Skipped]]] = {
    "masked-step": masked_step.run,
    "task-gradients": task_gradients.run,
    "topology-update": topology_update.run,
    "store-read": store_read.run,
    "cuda": cuda.run,
}

app = typer.Typer(
    name="python -m benchmarks",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog="""Examples:

`python -m benchmarks`

`python -m benchmarks --quick masked-step`

`python -m benchmarks --json runs/benchmarks.json masked-step cuda`
"""
)
def benchmarks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help=", ".join(BENCHMARKS))
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Seconds, not minutes; noisy.")] = False,
    threads: Annotated[
        int, typer.Option(min=1, help="Of torch. One, as a trial has when trials share a machine.")
    ] = 1,
    json: Annotated[Path | None, typer.Option(help="Write one JSON object to this file.")] = None,
) -> None:
    """Measure ratios side by side in one run; all benchmarks unless some are named.

    Each line: the median ratio of paired runs, its 95 % bootstrap interval, the quartiles of the
    single ratios, and the median times of both sides. Close other programs first.
    """
    chosen = names or list(BENCHMARKS)
    for name in chosen:
        if name not in BENCHMARKS:
            raise unknown_name("benchmark", name, BENCHMARKS)
    torch.set_num_threads(threads)
    started = time.perf_counter()
    machine = machine_facts()
    print(f"{machine['cpu']}, {machine['cores']} cores, GPU: {machine['gpu'] or 'none'}, ", end="")
    print(f"torch {machine['torch']} on {threads} thread(s), load {machine['load_average']}")
    results: list[dict[str, Any]] = []
    for name in chosen:
        heading = ""
        for result in BENCHMARKS[name](quick):
            if isinstance(result, Measurement) and result.statement != heading:
                heading = result.statement
                print(f"\n{heading}")
            print(result.line(), flush=True)
            results.append(result.to_dict())
    seconds = time.perf_counter() - started
    print(f"\n{seconds:.0f} s")
    if json is not None:
        write_json(
            json,
            {
                "command": ["python", "-m", "benchmarks", *sys.argv[1:]],
                "quick": quick,
                "machine": machine,
                "seconds": seconds,
                "results": results,
            },
        )


if __name__ == "__main__":
    run_command_line(app)

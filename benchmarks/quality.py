"""`python -m benchmarks.quality`: does DiSparse beat Random on scenes? Paired by seed.

Not part of `make bench`: it trains fifteen models (about eight minutes on two cores). Every
method runs with the presets' defaults; nothing is tuned for the comparison.
"""

import multiprocessing
import os
from pathlib import Path
from typing import Annotated

import typer

from analysis.statistics.comparing.comparison import Comparison, compare, verdict
from trainables.errors import UserError
from trainables.report import PRIMARY_METRICS, describe
from trainables.terminal.answers import write_json
from trainables.terminal.command_line import run_command_line

Scores = dict[str, float]  # a task's primary metric on test, by task

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def train_one(job: tuple[str, int, float]) -> tuple[str, int, Scores]:
    """Train one method at one seed; `test` metrics of the best weights by validation."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from spaces.presets import trial_config
    from trainables.training.trial import TrialRun

    method, seed, sparsity = job
    torch.set_num_threads(1)
    config = trial_config(method, "scenes", "tiny", sparsity=sparsity, seed=seed)
    run = TrialRun(config, device="cpu")
    while (report := run.next_report()) is not None:
        last = report
    return method, seed, {t: last.metrics[f"test/{PRIMARY_METRICS[t]}"] for t in run.tasks}


@app.command()
def quality(
    methods: Annotated[str, typer.Option(help="Compared.")] = "disparse-static,disparse-dynamic",
    reference: Annotated[str, typer.Option(help="Compared with.")] = "random",
    seeds: Annotated[int, typer.Option(min=2, help="Paired seeds, from 0.")] = 5,
    sparsity: Annotated[float, typer.Option(help="Of every model.")] = 0.9,
    processes: Annotated[int, typer.Option(min=1, help="Models trained at once.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every score.")] = None,
) -> None:
    """Train METHODS and REFERENCE on scenes and print paired differences with intervals."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if reference in names:
        raise UserError(f"`--reference` must not be among --methods, got {reference}; remove it")
    jobs = [(name, seed, sparsity) for seed in range(seeds) for name in (reference, *names)]
    scores: dict[tuple[str, int], Scores] = {}
    train_one_first = jobs.pop(0)  # generates the data before the processes share it
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        first = pool.apply(train_one, (train_one_first,))
        for method, seed, result in (first, *pool.imap_unordered(train_one, jobs)):
            scores[method, seed] = result
            shown = "  ".join(f"{task} {value:.4f}" for task, value in result.items())
            print(f"{method} seed {seed}: {shown}", flush=True)
    print(f"\n{'method':<18} {'task':<13} {'better by':>10}  95 % interval, n = {seeds}")
    rows: list[tuple[str, str, Comparison]] = []
    for name in names:
        for task in scores[name, 0]:
            values = [scores[name, seed][task] for seed in range(seeds)]
            others = [scores[reference, seed][task] for seed in range(seeds)]
            lower_is_better = describe(PRIMARY_METRICS[task]).direction == "minimize"
            row = compare(values, others, lower_is_better=lower_is_better)
            rows.append((name, task, row))
            low, high = row.interval.low, row.interval.high
            undecided = verdict(row.interval, kind="superior") == "undecided"
            print(
                f"{name:<18} {task:<13} {row.mean:>10.4f}  [{low:.4f}, {high:.4f}]"
                f"{'  undecided' if undecided else ''}"
            )
    if json_file is not None:
        write_json(
            json_file,
            {
                "reference": reference,
                "sparsity": sparsity,
                "scores": [
                    {"method": method, "seed": seed, **result}
                    for (method, seed), result in sorted(scores.items())
                ],
                "differences": [
                    {"method": name, "task": task, "mean": r.mean, "low": r.interval.low}
                    | {"high": r.interval.high, "num_seeds": r.num_pairs}
                    for name, task, r in rows
                ],
            },
        )


if __name__ == "__main__":
    run_command_line(app)

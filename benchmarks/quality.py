"""`python -m benchmarks.quality`: does DiSparse beat Random on scenes? Paired by seed.

Not part of `make bench`: it trains fifteen models (about eight minutes on two cores). Every
method runs with the presets' defaults; nothing is tuned for the comparison.
"""

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from trainables.command_line import run_command_line, write_json
from trainables.errors import UserError
from trainables.report import PRIMARY_METRICS, describe

Scores = dict[str, float]  # a task's primary metric on test, by task

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """method − reference over paired seeds, turned so that positive is better.

    low, high: 95 % Student t interval of the mean.
    """

    method: str
    task: str
    mean: float
    low: float
    high: float
    num_seeds: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def paired_difference(
    method: str, task: str, values: Sequence[float], reference: Sequence[float]
) -> PairedDifference:
    """From two equally long lists, one entry per seed."""
    from scipy import stats

    sign = -describe(PRIMARY_METRICS[task]).sign
    differences = sign * (np.asarray(values) - np.asarray(reference))
    count = len(differences)
    half_width = stats.t.ppf(0.975, count - 1) * differences.std(ddof=1) / count**0.5
    mean = float(differences.mean())
    return PairedDifference(
        method=method,
        task=task,
        mean=mean,
        low=mean - float(half_width),
        high=mean + float(half_width),
        num_seeds=count,
    )


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
    rows = []
    for name in names:
        for task in scores[name, 0]:
            values = [scores[name, seed][task] for seed in range(seeds)]
            others = [scores[reference, seed][task] for seed in range(seeds)]
            row = paired_difference(name, task, values, others)
            verdict = "" if row.excludes_zero else "  undecided"
            rows.append(row)
            print(
                f"{name:<18} {task:<13} {row.mean:>10.4f}  [{row.low:.4f}, {row.high:.4f}]{verdict}"
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
                    {"method": r.method, "task": r.task, "mean": r.mean, "low": r.low}
                    | {"high": r.high, "num_seeds": r.num_seeds}
                    for r in rows
                ],
            },
        )


if __name__ == "__main__":
    run_command_line(app)

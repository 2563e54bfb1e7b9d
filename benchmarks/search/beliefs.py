"""`python -m benchmarks.search.beliefs`: where a plateau ends studies, and what priors are worth.

On surrogates of ours, tasks of YAHPO or scenes, in virtual time, over paired seeds. A run without
a prior says where the rule of `--until plateau` would have ended it and goes on to the end of its
budget, for comparison. Runs with a prior go on for three tenths longer, so that it shows how much
later they are level.
"""

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.search.results.scores import Trajectory, epochs_to_reach, mean_curve, trajectory
from benchmarks.search.runs import (
    CONCURRENCY,
    FULL_LENGTHS,
    REAL,
    YAHPO_LENGTHS,
    scaled_workload,
)
from benchmarks.search.simulator import simulate
from benchmarks.search.stated_priors import PRIORS, prior_of
from benchmarks.search.systems.ours import Ours, Variant
from benchmarks.search.workloads import real_sample
from benchmarks.search.workloads.real import Scenes
from benchmarks.search.workloads.starts import starts_of
from benchmarks.search.workloads.surrogates import Surrogate
from benchmarks.search.workloads.workload import Report
from benchmarks.search.workloads.yahpo import Task
from search.plans.limits.plateau import DEFAULT_SHARE, trials_left
from trainables.terminal.command_line import run_command_line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

TASKS = ("parallel", "crossing", "discontinuous", "three")
NONE = "none"
FIRST_SEED = 100  # nothing was developed on these
_LONGER = 1.3
_LEVEL = 0.98


class Watched(Ours):
    """Ours, which notes when `--until plateau` would have ended it: the epochs used, or None."""

    def __init__(
        self, workload: Surrogate | Task | Scenes, seed: int, variant: Variant, budget: int
    ) -> None:
        super().__init__(workload, seed, variant)
        self.plateau: int | None = None
        self._budget = budget
        self._epochs: dict[int, int] = {}  # by trial
        self._ended: list[int] = []
        self._num_complete = 0

    def keep(self, number: int, report: Report) -> bool:
        """Whether the trial continues after this report."""
        self._epochs[number] = report.epoch
        return super().keep(number, report)

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        """Learn how a trial ended, and look for a plateau as the ledger does."""
        super().end(number, report, complete=complete)
        self._epochs[number] = report.epoch
        self._ended.append(number)
        self._num_complete += complete
        if self.plateau is not None or len(self._ended) < len(self._starts):
            return
        used = sum(self._epochs[one] for one in self._ended)
        left = trials_left(self._budget, used, self._num_complete)
        gain = None if left is None else self._sampler.further_gain(self._space, left)
        if gain is not None and gain < DEFAULT_SHARE:
            self.plateau = sum(self._epochs.values())


def run(name: str, kind: str, seed: int, sampler: str = "curves") -> dict[str, Any]:
    """Return the epochs and hypervolumes of a run, and where its plateau was."""
    workload = _known(name)
    budget = _budget(name)
    variant = Variant(sampler=sampler)
    if kind != NONE:
        variant = dataclasses.replace(variant, prior=prior_of(workload, kind, seed))
        system: Ours = Ours(workload, seed, variant, starts_of(workload.space))
    else:
        system = Watched(workload, seed, variant, budget)
    trace = simulate(
        workload,
        system,
        budget_epochs=budget if kind == NONE else round(_LONGER * budget),
        concurrency=CONCURRENCY,
        seed=seed,
    )
    if isinstance(workload, Scenes):
        found = trajectory(trace, real_sample.normalisation())
    else:
        found = trajectory(trace, workload.normalisation)
    plateau = system.plateau if isinstance(system, Watched) else None
    return {"epochs": found.epochs_K, "volumes": found.hypervolume_K, "plateau": plateau}


def plateau_row(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Return a row of Markdown: where studies ended, and where 98 % of the end was there."""
    budget = _budget(name)
    ends, levels, shares = [], [], []
    for one in runs:
        found = _trajectory(one)
        at = budget if one["plateau"] is None else one["plateau"]
        reached = found.reaches(_LEVEL * found.final)
        assert reached is not None
        ends.append(at / budget)
        levels.append(reached / budget)
        shares.append(found.at(at) / found.final)
    off = np.array(ends) - np.array(levels)
    relative = np.array(ends) / np.array(levels) - 1.0
    return (
        f"| {_known(name).title} | {len(runs)} | {np.median(ends):.2f} | "
        f"{min(ends):.2f} | {max(ends):.2f} | {np.median(levels):.2f} | {np.median(off):+.2f} | "
        f"{np.mean(np.abs(off) <= 0.15):.0%} | {np.mean(np.abs(relative) <= 0.15):.0%} | "
        f"{np.mean(shares):.1%} |"
    )


def prior_row(
    name: str, kind: str, runs: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]]
) -> str:
    """Return a row of Markdown: when the mean curve reaches the end of that without a prior."""
    budget = _budget(name)
    ours, theirs = [_trajectory(one) for one in runs], [_trajectory(one) for one in plain]
    level = float(np.mean([one.at(budget) for one in theirs]))
    reached = epochs_to_reach(mean_curve(ours, round(_LONGER * budget)), level)
    by_seed = [a.reaches(b.at(budget)) for a, b in zip(ours, theirs, strict=True)]
    median = float(np.median([one if one is not None else np.inf for one in by_seed])) / budget
    differences = [a.at(budget) - b.at(budget) for a, b in zip(ours, theirs, strict=True)]
    error = 1.96 * np.std(differences, ddof=1) / np.sqrt(len(differences))
    shown = "later" if reached is None else f"{reached / budget:.0%}"
    middle = f"{median:.0%}" if np.isfinite(median) else "later"
    return (
        f"| {_known(name).title} | {kind} | {len(runs)} | {shown} | {middle} | "
        f"{np.mean(differences):+.4f} ± {error:.4f} |"
    )


def _known(name: str) -> Surrogate | Task | Scenes:
    return Scenes() if name == REAL else scaled_workload(name)


def _budget(name: str) -> int:
    return FULL_LENGTHS.get(name, YAHPO_LENGTHS) * _known(name).num_epochs


def _trajectory(known: Mapping[str, Any]) -> Trajectory:
    return Trajectory(
        epochs_K=tuple(known["epochs"]), hypervolume_K=tuple(float(v) for v in known["volumes"])
    )


def _obtain(storage: Path, name: str, kind: str, seed: int, sampler: str) -> dict[str, Any]:
    path = storage / f"{name}-{kind}-{sampler}-{seed}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run(name, kind, seed, sampler)), encoding="utf-8")
    return dict(json.loads(path.read_text(encoding="utf-8")))


@app.command()
def beliefs(
    seeds: Annotated[int, typer.Option(min=2, help="Of runs without a prior.")] = 20,
    prior_seeds: Annotated[int, typer.Option(min=2, help="Of runs with one, paired.")] = 10,
    sampler: Annotated[str, typer.Option(help="Of the runs for the plateau.")] = "curves",
    only: Annotated[
        str, typer.Option(help="Surrogates of ours, tasks of YAHPO, scenes; comma-separated.")
    ] = ",".join(TASKS),
    storage: Annotated[
        Path, typer.Option(help="Folder of the results; remove it when the code has changed.")
    ] = Path("runs/beliefs-benchmark"),
) -> None:
    """Measure the plateau and three priors, and print two tables."""
    warnings.simplefilter("ignore")
    names = only.split(",")
    plain = {
        name: [_obtain(storage, name, NONE, FIRST_SEED + n, sampler) for n in range(seeds)]
        for name in names
    }
    print("| workload | n | ends at | first | last | 98 % at | off | ±15 % | relative | there |")
    print("| :-- " + "| --: " * 9 + "|")
    for name in names:
        print(plateau_row(name, plain[name]), flush=True)
    if sampler != "curves":
        return
    print("\n| workload | prior | n | level at | by seed | at the end |\n" + "| :-- " * 6 + "|")
    for name in names:
        for kind in PRIORS:
            runs = [
                _obtain(storage, name, kind, FIRST_SEED + n, sampler) for n in range(prior_seeds)
            ]
            print(prior_row(name, kind, runs, plain[name][:prior_seeds]), flush=True)


if __name__ == "__main__":
    run_command_line(app)

"""Arrange a study's trials as systems × seeds, for paired comparisons and tables over seeds.

A system is a method at a sparsity, with its settings where the study has several variants of the
method at that sparsity. Only complete trials count, on `test` where every one of them was
evaluated there, else on `val`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.methods import method_order, method_style
from analysis.studies.trials import Study, Trial
from trainables import report
from trainables.errors import UserError

DELTA = "multitask/delta_percent"
_NOT_SETTINGS = ("seed", "method", "sparsity.target")


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """Hold one cell of the study's grid. `sparsity` is the target, 0 for dense systems.

    settings: the names and values that tell it from other variants, empty without variants.
    trials: one per seed, by seed.
    """

    method: str
    sparsity: float
    settings: tuple[tuple[str, str], ...]
    trials: Mapping[int, Trial]

    @property
    def label(self) -> str:
        """Return for example "SNIP 90 %" or "RigL 90 % (regrowth.fraction=0.5)"."""
        parts = [method_style(self.method).label]
        if self.sparsity > 0:
            parts.append(percent(self.sparsity))
        if self.settings:
            parts.append(f"({self.variant})")
        return " ".join(parts)

    @property
    def variant(self) -> str:
        """Return the settings as text, for example "regrowth.fraction=0.5"."""
        return ", ".join(f"{name}={value}" for name, value in self.settings)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds, in ascending order."""
        return tuple(self.trials)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Hold all systems of a study on one split.

    split: "test" or "val". notes: sentences for the reader.
    """

    study: Study
    split: str  # "test" or "val"
    systems: tuple[System, ...]
    notes: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the study's tasks, in the order of its objectives."""
        return tuple(report.task_of(name) for name in self.study.qualities)

    def primary(self) -> tuple[str, ...]:
        """Return one metric per task, in the study's order, without split."""
        return tuple(report.without_split(name) for name in self.study.qualities)

    def value(self, trial: Trial, name: str) -> float:
        """Return a metric by its name without split; NaN where the trial lacks it."""
        full = name if name.startswith("cost/") else f"{self.split}/{name}"
        return trial.metrics.get(full, math.nan)

    def task_values(self, trial: Trial) -> dict[str, float]:
        """Return every finite metric of the study's tasks, by name without split."""
        names = [name for task in self.tasks for name in report.task_metrics(task)]
        values = {name: self.value(trial, name) for name in names}
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def delta(self, trial: Trial, reference: Trial) -> float:
        """Return Δ_T of a trial to another in percent, over their common metrics; NaN for none."""
        ours, theirs = self.task_values(trial), self.task_values(reference)
        return report.delta_percent({n: v for n, v in ours.items() if n in theirs}, theirs)

    def dense_delta(self, trial: Trial) -> float:
        """Return Δ_T to the dense trial of the same seed, in percent.

        It is the reported one, else it is computed from that trial; NaN where there is none.
        """
        reported = self.value(trial, DELTA)
        if math.isfinite(reported):
            return reported
        dense = [s for s in self.systems if s.method == "dense" and trial.seed in s.trials]
        if len(dense) != 1 or trial.seed is None:
            return math.nan
        return self.delta(trial, dense[0].trials[trial.seed])


def read_grid(study: Study, sparsities: Sequence[float] | None = None) -> Grid:
    """Arrange the study's complete trials as systems, by sparsity and then by method.

    sparsities: only these, beside the dense systems; None for all. Raises `UserError` where no
    trial is complete or a sparsity is not in the study.
    """
    trials = [t for t in study.with_status("complete") if t.seed is not None]
    if not trials:
        raise UserError(
            f"study {study.name!r} must have a complete trial with a recorded seed, got none of "
            f"{len(study.trials)}; run or resume it first"
        )
    split = "test" if all(_has(t, "test", study.qualities) for t in trials) else "val"
    notes = list(study.notes)
    if split == "val":
        notes.append("Not every complete trial was evaluated on test: the values are on val.")
    found, doubled = _systems(trials)
    if doubled:
        notes.append(
            f"Trials left out because a later one has the same system and seed: {doubled}."
        )
    if sparsities is not None:
        found = _chosen(found, sparsities, study.name)
    return Grid(study=study, split=split, systems=found, notes=tuple(notes))


def target_sparsity(trial: Trial) -> float:
    """Return the sparsity asked for, to four digits, or else the one reached."""
    target = trial.params.get("sparsity.target")
    if isinstance(target, int | float) and not isinstance(target, bool):
        return round(float(target), 4)
    reached = trial.metrics.get("cost/sparsity")
    if reached is None and "cost/density" in trial.metrics:
        reached = 1 - trial.metrics["cost/density"]
    return 0.0 if reached is None or not math.isfinite(reached) else round(reached, 4)


def at_sparsity(sparsity: float, wanted: float) -> bool:
    """Tell whether the two are one level of a grid, to a hundredth of a percent."""
    return math.isclose(sparsity, wanted, abs_tol=1e-4)


def percent(fraction: float) -> str:
    """Write a fraction in percent, for example "90 %"."""
    return f"{100 * fraction:.4g} %"


def _has(trial: Trial, split: str, names: Iterable[str]) -> bool:
    return all(f"{split}/{report.without_split(name)}" in trial.metrics for name in names)


def _systems(trials: Sequence[Trial]) -> tuple[tuple[System, ...], int]:
    cells: dict[tuple[str, float], list[Trial]] = {}
    for trial in trials:
        cells.setdefault((trial.method, target_sparsity(trial)), []).append(trial)
    order = {name: index for index, name in enumerate(method_order(t.method for t in trials))}
    systems, doubled = [], 0
    for (method, sparsity), members in sorted(
        cells.items(), key=lambda item: (item[0][1], order[item[0][0]])
    ):
        names = _varying(members)
        variants: dict[tuple[tuple[str, str], ...], dict[int, Trial]] = {}
        for trial in sorted(members, key=lambda t: t.number):
            key = tuple((n, _text(trial.params[n])) for n in names if n in trial.params)
            by_seed = variants.setdefault(key, {})
            doubled += trial.seed in by_seed
            by_seed[int(trial.seed or 0)] = trial
        systems += [
            System(
                method=method, sparsity=sparsity, settings=key, trials=dict(sorted(by_seed.items()))
            )
            for key, by_seed in variants.items()
        ]
    return tuple(systems), doubled


def _varying(trials: Sequence[Trial]) -> list[str]:
    """Return the parameters in which trials of one method at one sparsity differ."""
    names = sorted({name for t in trials for name in t.params} - set(_NOT_SETTINGS))
    return [n for n in names if len({_text(t.params.get(n)) for t in trials}) > 1]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _chosen(
    systems: Sequence[System], sparsities: Sequence[float], name: str
) -> tuple[System, ...]:
    there = sorted({s.sparsity for s in systems if s.sparsity > 0})
    for wanted in sparsities:
        if not any(at_sparsity(known, wanted) for known in there):
            listed = ", ".join(f"{s:g}" for s in there) or "none"
            raise UserError(
                f"`--sparsity` must be one of study {name!r}, which has {listed}, got {wanted:g}; "
                "name one of those"
            )
    return tuple(
        s for s in systems if s.sparsity == 0 or any(at_sparsity(s.sparsity, w) for w in sparsities)
    )

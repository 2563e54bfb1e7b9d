"""Say why a model was chosen: in sentences, for `analysis pick` and for `search ship` alike."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.labels import admitting, losing, objective_label, task_in_words
from analysis.statistics.choice import ENOUGH_FRESH, Choice, front_named, mean_of, nearest_text
from analysis.statistics.conditions import Condition
from trainables import report

_KNEE = (
    "the knee: farthest below the line from the cheapest to the best, every objective scaled over "
    "the front and tasks averaged (Das 1999)"
)
_MAX_NAMED = 5
_ROUNDING = 1e-9  # in percent: what is left of floats that are equal


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshRuns:
    """Hold a trial's trainings at fresh seeds: metrics by seed, and how many more have failed."""

    metrics: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    num_failed: int = 0

    @property
    def num_ended(self) -> int:
        """Return how many have ended, well or not."""
        return len(self.metrics) + self.num_failed


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Hold what fresh seeds say of a choice that was made by values at selection.

    unconfirmed: members of the front without enough fresh seeds, where others have them. confirm:
    the command that trains them; "" where none lacks them. losses: by objective, in percent of the
    dense model's mean over fresh seeds, paired by seed. missed: bounds that the model's means miss.
    """

    num_members: int
    unconfirmed: tuple[str, ...]
    confirm: str
    runs: FreshRuns
    losses: Mapping[str, float]
    missed: tuple[str, ...]
    by_fresh: bool

    def sentences(self) -> list[str]:
        """Return them; nothing where fresh seeds have chosen, or where the study has none."""
        found = []
        if self.unconfirmed:
            count, named = len(self.unconfirmed), ", ".join(self.unconfirmed[:_MAX_NAMED])
            named += f" and {count - _MAX_NAMED} more" if count > _MAX_NAMED else ""
            are, them = ("is", "it") if count == 1 else ("are", "them")
            found.append(
                f"{count} of the {self.num_members} models on the front {are} not confirmed "
                f"({named}), so values at selection, each of one seed, decide; `{self.confirm}` "
                f"confirms {them}"
            )
        if self.by_fresh or not (self.unconfirmed or self.runs.num_ended):
            return found
        count, failed = len(self.runs.metrics), self.runs.num_failed
        if not self.runs.num_ended:
            return [*found, "this model is not confirmed: its own values are of one seed"]
        seeds = f"{count} fresh seed{'' if count == 1 else 's'}" if count else "fresh seeds"
        said = [f"it misses {' and '.join(self.missed)}"] * bool(self.missed)
        if self.losses:
            each = (f"{task_in_words(name)} {losing(loss)}" for name, loss in self.losses.items())
            said.insert(0, f"{', '.join(each)}, beside the dense model")
        said += [f"{failed} training{'' if failed == 1 else 's'} failed"] * bool(failed)
        return [*found, f"at {seeds}: {'; '.join(said or ['no bound is missed'])}"]

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {
            "front_unconfirmed": list(self.unconfirmed),
            "confirm": self.confirm or None,
            "at_fresh_seeds": {
                "seeds": len(self.runs.metrics),
                "failed": self.runs.num_failed,
                "loss_percent": dict(self.losses),
                "missed_bounds": list(self.missed),
            },
        }


def standing(
    choice: Choice[Any],
    objectives: Sequence[str],
    fresh: Mapping[str, FreshRuns],
    references: Collection[str],
    confirm: Callable[[int], str],
) -> Standing:
    """Return what fresh seeds say of the chosen trial, and which of the front lack them.

    fresh: by name. references: the names of dense trials; the first with fresh seeds is what others
    are compared with. confirm: gives the command that trains the front at so many fresh seeds.
    """
    counts = {t.trial: fresh[t.trial].num_ended if t.trial in fresh else 0 for t in choice.front}
    lacking = tuple(name for name, count in counts.items() if count < ENOUGH_FRESH)
    lacking = () if choice.by_fresh or not any(counts.values()) else lacking
    runs = fresh.get(choice.trial.trial, FreshRuns())
    known = (fresh.get(name, FreshRuns()) for name in references)
    dense = next((one for one in known if one.metrics), FreshRuns())
    is_dense = choice.trial.trial in references
    losses = {} if is_dense else _losses(runs, dense, objectives)
    missed = []
    for condition in choice.conditions:
        mean = mean_of(
            [m[condition.metric] for m in runs.metrics.values() if condition.metric in m]
        )
        if condition.percent is not None and condition.metric in losses:
            # Of the dense model at the same seeds, not of its value at selection.
            allowed = report.minimised(condition.metric, condition.percent - 100.0)
            is_missed = losses[condition.metric] > allowed + _ROUNDING
        else:
            is_missed = math.isfinite(mean) and not condition.is_met({condition.metric: mean})
        missed += [condition.text] * is_missed
    seeds = max(ENOUGH_FRESH, *counts.values())
    return Standing(
        num_members=len(choice.front),
        unconfirmed=lacking,
        confirm=confirm(seeds) if lacking else "",
        runs=runs,
        losses=losses,
        missed=tuple(missed),
        by_fresh=choice.by_fresh,
    )


def why(choice: Choice[Any], dataset: str) -> str:
    """Return for example "2 of the 4 models on the front meet the bounds; of these, the best …".

    dataset: the study's, whose depths have a unit.
    """
    total = len(choice.front)
    count = sum(all(c.is_met(t.metrics) for c in choice.conditions) for t in choice.front)
    front = front_named(by_fresh=choice.by_fresh)
    among = f"of the {total} models on {front}"
    best = ""
    if choice.best is not None:
        value = admitting(choice.trial.metrics[choice.best], choice.best)
        best = f"{objective_label(choice.best, dataset)}, {value}"
    if count == 1:
        said = f"the only model on {front}" if total == 1 else f"the only one {among}"
        if choice.conditions:
            said += f" {'and' if total == 1 else 'that'} meets the bounds"
        return f"{said}: {best}" if best else said
    if choice.conditions:
        among = f"{count} {among} meet the bounds; of these"
    return f"{among}, {f'the best {best}' if best else _KNEE}"


def only_dense(choice: Choice[Any], is_dense: Callable[[Any], bool]) -> str:
    """Say that the dense model alone meets the bounds, and which sparse one is nearest; else ""."""
    sparse = [trial for trial in choice.front if not is_dense(trial)]
    met = [t for t in choice.front if all(c.is_met(t.metrics) for c in choice.conditions)]
    if not sparse or not all(map(is_dense, met)):
        return ""
    return (
        "the only model that meets the bounds is the dense one; the nearest sparse one is "
        f"{nearest_text(sparse, choice.conditions)}"
    )


def bound(condition: Condition, metrics: Mapping[str, float]) -> str:
    """Return for example "segmentation/miou is 0.4412, >= 0.4406 (95 % of dense 0.4637)"."""
    value, level, *dense = condition.beside(metrics[condition.metric])
    share = f" ({condition.percent:.12g} % of dense {dense[0]})" if dense else ""
    bare = report.without_split(condition.metric)
    return f"{bare} is {value}, {condition.operator} {level}{share}"


def _losses(own: FreshRuns, dense: FreshRuns, objectives: Sequence[str]) -> dict[str, float]:
    found = {}
    for name in (n for n in objectives if not n.startswith("cost/")):
        level = abs(mean_of([m[name] for m in dense.metrics.values() if name in m]))
        gaps = [
            100 * report.minimised(name, metrics[name] - dense.metrics[seed][name]) / level
            for seed, metrics in own.metrics.items()
            if seed in dense.metrics and level > 0
        ]
        if gaps:
            found[name] = mean_of(gaps)
    return found

"""The same small search budget for every system: four variants, one seed, chosen on validation.

The variants are a system's default, half and twice its learning rate, and one of the setting that
is most its own. Their number is the same for all, so that no system is tuned more than another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from analysis.studies.trials import Trial
from benchmarks.claims.protocol import Setting
from spaces.presets import trial_config
from trainables.errors import UserError
from trainables.report import PRIMARY_METRICS, describe

NUM_VARIANTS = 4
_LEARNING_RATE = "optimiser.learning_rate"

OWN_SETTINGS: dict[str, tuple[str, Any]] = {
    "dense": ("optimiser.weight_decay", 5e-5),
    "cross-stitch": ("model.unit_rate", 10.0),
    "sluice": ("optimiser.weight_decay", 5e-5),
    "den": ("optimiser.weight_decay", 5e-5),
    "random": ("sparsity.allocation", "erk"),
    "random-pretrained": ("sparsity.allocation", "erk"),
    "snip": ("sparsity.saliency_weights", "actual"),
    "disparse-static": ("sparsity.saliency_weights", "actual"),
    "lth": ("sparsity.level_fraction", 0.5),
    "imp": ("sparsity.level_fraction", 0.5),
    "rigl": ("regrowth.fraction", 0.5),
    "disparse-dynamic": ("regrowth.fraction", 0.3),
    "disparse-pretrained": ("sparsity.score", "magnitude"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """settings: dotted names that differ from the system's default; empty for the default."""

    label: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """A system's variants, and the defaults of every setting that one of them changes."""

    defaults: Mapping[str, Any]
    variants: tuple[Variant, ...]

    def find(self, params: Mapping[str, Any]) -> int | None:
        """Which variant a trial's recorded parameters are; None for none of them.

        A record may hold all parameters or only those of the grid: one that is not there is at
        its default.
        """
        for index, variant in enumerate(self.variants):
            if all(
                _same(params.get(name, default), variant.settings.get(name, default))
                for name, default in self.defaults.items()
            ):
                return index
        return None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `from_json` takes them."""
        return asdict(self)

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Self:
        """Make it from what `to_json` gave."""
        return cls(
            defaults=known["defaults"],
            variants=tuple(Variant(**variant) for variant in known["variants"]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantResult:
    """How a variant did on the tuning seed.

    score: mean over tasks of its validation error relative to that of `relative_to`, whose own is
      1; less is better, NaN where it cannot be compared.
    relative_to: label of the default, or of the first variant that ended where the default failed.
    metrics: the primary validation metrics by task.
    """

    system: str
    variant: Variant
    status: str
    score: float
    metrics: Mapping[str, float]
    relative_to: str


def default_settings(
    system: str, setting: Setting, steps: int, overrides: Mapping[str, str]
) -> dict[str, Any]:
    """The system's default trial as dotted names, with the user's overrides in it."""
    config = trial_config(
        system,
        setting.dataset,
        setting.preset,
        tasks=setting.tasks,
        sparsity=None,
        total_steps=steps,
        overrides=overrides,
    )
    return config.flat()


def make_budget(system: str, defaults: Mapping[str, Any]) -> Budget:
    """The system's variants. `defaults`: from `default_settings`.

    Raises `UserError` where a setting of the user's makes two of them one.
    """
    rate = float(defaults[_LEARNING_RATE])
    name, value = OWN_SETTINGS[system]
    if _same(defaults[name], value):
        raise UserError(
            f"the default of {system} must differ from its variant {name}={value}, got that by "
            f"--set; leave {name} out"
        )
    return Budget(
        defaults={_LEARNING_RATE: rate, name: defaults[name]},
        variants=(
            Variant(label="default", settings={}),
            Variant(label="learning rate × 1/2", settings={_LEARNING_RATE: rate / 2}),
            Variant(label="learning rate × 2", settings={_LEARNING_RATE: rate * 2}),
            Variant(label=f"{name} = {value}", settings={name: value}),
        ),
    )


def judge(
    system: str, tasks: Sequence[str], trials: Sequence[Trial], budget: Budget
) -> tuple[VariantResult, ...]:
    """One result per variant, in the budget's order. `trials`: those of the tuning study."""
    found: dict[int, Trial] = {}
    for trial in trials:
        if trial.method == system:
            index = budget.find(trial.params)
            if index is not None:
                found[index] = trial
    ended = [index for index in sorted(found) if found[index].status == "complete"]
    first = ended[0] if ended else 0
    base = _primary(found.get(first), tasks)
    results = []
    for index, variant in enumerate(budget.variants):
        metrics = _primary(found.get(index), tasks)
        results.append(
            VariantResult(
                system=system,
                variant=variant,
                status=found[index].status if index in found else "not run",
                score=relative_error(metrics, base, tasks),
                metrics=metrics,
                relative_to=budget.variants[first].label,
            )
        )
    return tuple(results)


def relative_error(
    metrics: Mapping[str, float], base: Mapping[str, float], tasks: Sequence[str]
) -> float:
    """Mean over `tasks` of error / base's error, both of the primary metrics; may be NaN.

    The error of a fraction that is maximised is 1 minus it (1 − mIoU), as where a trial chooses
    among its own reports (docs/decisions/0004): a ratio of small mIoUs would drown the other tasks.
    """
    ratios = []
    for task in tasks:
        if task not in metrics or task not in base:
            return math.nan
        ours, default = _error(task, metrics[task]), _error(task, base[task])
        if not math.isfinite(ours) or not math.isfinite(default) or default <= 0:
            return math.nan
        ratios.append(ours / default)
    return math.fsum(ratios) / len(ratios)


def choose(results: Sequence[VariantResult]) -> VariantResult | None:
    """The variant with the least score; the earlier of equals, so the default of a tie.

    Where the default failed, scores are relative to the first variant that ended (`judge`). None
    where none did.
    """
    ended = [r for r in results if r.status == "complete"]
    measured = [r for r in ended if math.isfinite(r.score)]
    if measured:
        return min(measured, key=lambda r: r.score)
    return ended[0] if ended else None


def _error(task: str, value: float) -> float:
    maximised = describe(PRIMARY_METRICS[task]).direction == "maximize"
    return 1.0 - value if maximised else value


def _primary(trial: Trial | None, tasks: Sequence[str]) -> dict[str, float]:
    """By task, on validation: test has no part in a choice."""
    if trial is None or trial.status != "complete":
        return {}
    named = {task: f"val/{PRIMARY_METRICS[task]}" for task in tasks}
    return {task: trial.metrics[name] for task, name in named.items() if name in trial.metrics}


def _same(a: Any, b: Any) -> bool:
    try:
        return math.isclose(float(a), float(b), rel_tol=1e-9)
    except (TypeError, ValueError):  # a word
        return str(a) == str(b)

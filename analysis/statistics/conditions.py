"""Read the bounds that a chosen model must meet, `--where 'METRIC<=VALUE'`.

`choice` chooses with them. Like `choice`, this module needs NumPy at most, and of `trainables` the
names, units and directions of metrics, so that `search` may choose in the same way.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from difflib import SequenceMatcher
from operator import ge, gt, le, lt

from analysis.labels import beside_bound
from trainables import report
from trainables.errors import UserError

_COMPARE = {"<=": le, ">=": ge, "<": lt, ">": gt}
_BOUND = re.compile(
    r"\s*([^<>=\s]+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)\s*"
)
_ALIKE = 0.6  # of 1: what is likely to be meant
_EXAMPLE = "e.g. --where 'cost/density<=0.1' --where 'segmentation/miou>=95%'"
# Costs that are given relative to the dense network, which therefore has 1.
_OF_DENSE = (
    "cost/density",
    "cost/flops_fraction",
    "cost/train_flops_fraction",
    "cost/average_training_density",
    "cost/latency_fraction",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Hold one `--where`: `metric` (its full name) compared with `value` by `operator`.

    percent: as asked, where the bound was a percentage of `dense`, the dense model's value.
    of_max_loss: whether it was asked for by `--max-loss`.
    """

    metric: str
    operator: str
    value: float
    percent: float | None = None
    dense: float = math.nan
    of_max_loss: bool = False

    @property
    def text(self) -> str:
        """Return what `parse_condition` takes, for example "segmentation/miou>=95%"."""
        said = f"{self.value!r}" if self.percent is None else f"{self.percent:.12g}%"
        return f"{self.metric.removeprefix('val/')}{self.operator}{said}"

    @property
    def leaves_out_dense(self) -> bool:
        """Tell whether it is on a share of the dense network's cost that this one has too much."""
        return (
            self.metric in _OF_DENSE and "<" in self.operator and not self.is_met({self.metric: 1})
        )

    @property
    def loss_percent(self) -> Decimal:
        """Return, of a percentage, by how much a value at the bound is worse than the dense one."""
        percent = Decimal(repr(self.percent))
        return 100 - percent if ">" in self.operator else percent - 100

    def is_met(self, metrics: Mapping[str, float]) -> bool:
        """Tell whether the values meet the bound; a missing or non-finite value does not."""
        value = metrics.get(self.metric, math.nan)
        return math.isfinite(value) and bool(_COMPARE[self.operator](value, self.value))

    def miss(self, metrics: Mapping[str, float]) -> float:
        """Return the distance to the bound in the metric's unit, 0 if met, infinite if unknown."""
        value = metrics.get(self.metric, math.nan)
        if not math.isfinite(value):
            return math.inf
        return 0.0 if self.is_met(metrics) else abs(value - self.value)

    def beside(self, value: float) -> list[str]:
        """Write a value, the bound and, of a percentage, the dense value: `beside_bound`."""
        dense = None if self.percent is None else self.dense
        return beside_bound(value, self.operator, self.value, self.metric, dense)

    def admitting(self, value: float) -> "Condition":
        """Return the condition with the nearest bound of four digits that `value` meets."""
        upwards = "<" in self.operator
        context = Context(prec=4, rounding=ROUND_CEILING if upwards else ROUND_FLOOR)
        level = Decimal(repr(value))
        if self.percent is not None:
            level = 100 * level / Decimal(repr(self.dense))
        digits = context.create_decimal(level)
        while True:
            found = self._with(float(digits))
            if _COMPARE[self.operator](value, found.value):
                return found
            step = Decimal(1).scaleb(digits.adjusted() - 3)
            digits = context.create_decimal(digits + (step if upwards else -step))

    def _with(self, given: float) -> "Condition":
        if self.percent is None:
            return Condition(metric=self.metric, operator=self.operator, value=given)
        return _share(self.metric, self.operator, given, self.dense)


def metric_name(name: str, objectives: Sequence[str], known: Collection[str] = ()) -> str:
    """Return the full name that selection reads: `val/…` of a task's metric or Δ_T, `cost/…`.

    known: full names that trials of the study report, which the error lists; empty for all that
    trials of these tasks may report. Raises `UserError` for a name on test and for an unknown one.
    """
    if name.startswith("test/"):
        raise UserError(
            f"a model must be chosen on val, got {name!r}: a test that decides is no test any "
            f"more; use {report.without_split(name)}"
        )
    tasks = [report.task_of(n) for n in objectives]
    heads = (*tasks, "multitask", "cost")
    valid = [m for m in report.METRICS if m.partition("/")[0] in heads]
    bare = report.without_split(name)
    if bare not in valid or (bare.startswith("cost/") and bare != name):
        reported = {report.without_split(each) for each in known}
        raise unknown_metric(name, [m for m in valid if m in reported] or valid)
    return bare if bare.startswith("cost/") else f"val/{bare}"


def unknown_metric(name: str, valid: Collection[str], kind: str = "metric") -> UserError:
    """Return the error for a metric that a study lacks; those it has are listed, closest first."""

    def likeness(one: str) -> float:
        # "miou" is meant to be "segmentation/miou".
        ends = (one, one.rpartition("/")[2])
        return max(SequenceMatcher(None, name.lower(), end).ratio() for end in ends)

    alike = sorted((n for n in valid if likeness(n) >= _ALIKE), key=lambda n: (-likeness(n), n))
    hint = f" Did you mean {alike[0]!r}?" if alike else ""
    ordered = [*alike, *sorted(set(valid) - set(alike))]
    return UserError(
        f"unknown {kind} {name!r}.{hint} The study has {', '.join(ordered) or 'none yet'}"
    )


def parse_percent(text: str, option: str = "--max-loss") -> float:
    """Read a percentage, "5" or "5%". Raises `UserError` for anything else."""
    try:
        return float(text.strip().removesuffix("%"))
    except ValueError:
        raise UserError(
            f"`{option}` must be a percentage of the dense model's values, 0 or more, got "
            f"{text!r}; 5 allows every task to be 5 % worse"
        ) from None


def parse_condition(
    text: str,
    objectives: Sequence[str],
    dense: Mapping[str, float] | None = None,
    known: Collection[str] = (),
) -> Condition:
    """Read `METRIC<=VALUE`; VALUE is a number, or a percentage of the dense model's value.

    dense: its metrics by full name; None where the study knows none. known: as for `metric_name`.
    Raises `UserError`.
    """
    found = _BOUND.fullmatch(text)
    if found is None or not math.isfinite(float(found[3])):
        raise UserError(
            "`--where` must be a metric, one of <=, >=, < and >, and a number or a percentage of "
            f"the dense model's value, in quotes, got {text!r}; {_EXAMPLE}"
        )
    metric, operator, value = metric_name(found[1], objectives, known), found[2], float(found[3])
    if not found[4]:
        return Condition(metric=metric, operator=operator, value=value)
    bare = report.without_split(metric)
    level = 1.0 if metric in _OF_DENSE else (dense or {}).get(metric, math.nan)
    if report.describe(metric).unit == "percent" or level <= 0:
        raise UserError(
            f"a percentage must be of a positive value of the dense model, got {text!r}; "
            f"give {bare} as a number"
        )
    if not math.isfinite(level):
        raise UserError(
            f"a percentage must be of the dense model's value, got {text!r}, but no dense trial "
            f"of the study has {bare}; give it as a number"
        )
    return _share(metric, operator, value, level)


def _is_share(metric: str) -> bool:
    """Tell whether a metric is at most 1; a share of the dense model's latency may be more."""
    described = report.describe(metric)
    shares = described.direction == "maximize" or (metric in _OF_DENSE and "latency" not in metric)
    return described.unit == "fraction" and shares


def parse_conditions(
    texts: Sequence[str],
    max_loss: float | None,
    objectives: Sequence[str],
    dense: Mapping[str, float] | None = None,
    known: Collection[str] = (),
) -> list[Condition]:
    """Read every `--where`, and `--max-loss` as a bound on each task's objective.

    max_loss: by how many percent of the dense model's value a task may be worse; None for no such
    bound. known: as for `metric_name`. Raises `UserError`.
    """
    found = [parse_condition(text, objectives, dense, known) for text in texts]
    for text, one in zip(texts, found, strict=True):
        if one.value > 1.0 and _is_share(one.metric) and "%" not in text:
            bare = f"{report.without_split(one.metric)}{one.operator}"
            raise UserError(
                f"a bound on a share must be from 0 to 1, got {text!r}; write {one.value / 100:g}, "
                f"or {bare}{one.value:g}% of the dense model's value"
            )
    if max_loss is None:
        return found
    if not (math.isfinite(max_loss) and max_loss >= 0):
        raise UserError(
            "`--max-loss` must be a percentage of the dense model's values, 0 or more, got "
            f"{max_loss:g}; 5 allows every task to be 5 % worse"
        )
    for name in (n for n in objectives if not n.startswith("cost/")):
        higher = report.describe(name).direction == "maximize"
        level = 100 - Decimal(repr(max_loss)) if higher else 100 + Decimal(repr(max_loss))
        bound = f"{report.without_split(name)}{'>=' if higher else '<='}{level}%"
        found.append(replace(parse_condition(bound, objectives, dense), of_max_loss=True))
    return found


def _share(metric: str, operator: str, percent: float, dense: float) -> Condition:
    # As decimals, so that 86.4 % of 0.5 is 0.432 and not the next number above it.
    value = float(Decimal(repr(percent)) * Decimal(repr(dense)) / 100)
    return Condition(metric=metric, operator=operator, value=value, percent=percent, dense=dense)

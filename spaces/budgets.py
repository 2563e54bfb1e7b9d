"""Divides a method's steps into pre-training and training proper (docs/decisions/0009)."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.config import REWIND_FRACTIONS
from trainables.errors import UserError
from trainables.registry.methods import METHODS, MethodDescription
from trainables.sparsity.schedule import num_levels, rewind_step

# Built-in methods that take `training.pretrain_steps` first. They train the dense model that they
# prune afterwards, or (cross-stitch) the networks that they join afterwards.
PRETRAINED_METHODS = tuple(name for name, m in METHODS.items() if m.needs_pretraining)
REWINDING_METHODS = tuple(name for name, m in METHODS.items() if m.rewinds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Describes how one method divides its steps.

    levels: number of levels of a method that rewinds; each repeats most of the dense run.
    pretraining_ratio: steps of pre-training for each step of training, unless the method rewinds.
    """

    method: MethodDescription
    levels: int
    rewind_fraction: float
    pretraining_ratio: int = 1

    def pretraining_for(self, steps: int) -> int:
        """Return the steps of pre-training that belong to `steps` of training proper.

        Both have the same length, or the ratio's. A method that rewinds repeats the dense run from
        step k at every level, so its dense run is k steps longer than one level.
        """
        if not self.method.rewinds:
            return steps * self.pretraining_ratio
        level = -(-steps // self.levels)
        # A longer dense run never has fewer steps after step k.
        return (
            bisect_right(
                range(level, 2 * level + 2),
                level - 1,
                key=lambda dense: dense - rewind_step(self.rewind_fraction, dense),
            )
            + level
        )

    def split(self, total: int, pretrain: int | None) -> tuple[int, int]:
        """Return training and pre-training steps that add up to `total`.

        By default they are halves, or as `pretraining_ratio` says.

        Raises `UserError` if one of the method's phases would be empty.
        """
        if not self.method.needs_pretraining:
            if total < 1:
                raise UserError(f"`total_steps` must be at least 1, got {total}; raise it")
            return total, total
        if pretrain is None:
            pretrain = total - -(-total // (1 + self.pretraining_ratio))
            if self.method.rewinds:
                pretrain = total - bisect_right(
                    range(1, total), total, key=lambda steps: steps + self.pretraining_for(steps)
                )
        if not 1 <= pretrain < total:
            raise UserError(
                f"`total_steps` must leave steps to both pre-training and training of "
                f"{self.method.name}, got {total} with {pretrain} of pre-training; raise it"
            )
        return total - pretrain, pretrain


def retrains(method: MethodDescription) -> bool:
    """Return whether the method prunes a trained model and trains it on from there."""
    return method.needs_pretraining and method.sparse and not method.rewinds


def budget_for(
    method: MethodDescription, sparsity: Mapping[str, Any], pretraining_ratio: int = 1
) -> Budget:
    """Return the budget of a method under sparsity settings by dotted name.

    pretraining_ratio: steps of pre-training for each of training, for methods that retrain.
    Values that make no sense get an arbitrary budget here; `TrialConfig` refuses them later.
    """
    rewind = _number(sparsity["sparsity.rewind_fraction"])
    share = _number(sparsity["sparsity.level_fraction"])
    target = _number(sparsity["sparsity.target"])
    levels = 1
    if method.rewinds and method.prunes == "levels" and 0 < share < 1 and 0 <= target < 1:
        levels = num_levels(target, share)
    return Budget(
        method=method,
        levels=levels,
        rewind_fraction=rewind if rewind in REWIND_FRACTIONS else 0.0,
        pretraining_ratio=pretraining_ratio if retrains(method) else 1,
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")

"""Defines the description of a sparsity method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import UserError, unknown_name
from trainables.registry.structures import CHANNEL, STRUCTURES, WEIGHT, structure_kind

# never: a dense method. once: to the target at the start. schedule: at once or gradually, as
# `sparsity.schedule` says. levels: a fixed share of the remaining weights each time, over all of
# training.
PRUNINGS = ("never", "once", "schedule", "levels")
# Settings that only the methods obey that name them in `MethodDescription.settings`.
_READ_BY_SOME = (
    "sparsity.schedule",
    "sparsity.level_fraction",
    "sparsity.rewind_fraction",
    "sparsity.arbiter",
    "sparsity.score",
    "sparsity.saliency_weights",
    "regrowth.budget",
    "regrowth.gradient_at",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodDescription:
    """Describes one sparsity method.

    name: its name on the command line and in a study.
    summary: one line. paper: its source, e.g. "RigL, Evci et al. 2020".
    implementation: import path `package.module:Class` of a `trainables.sparsity.method.Method`.
    prunes: when `Method.prune` is called, one of `PRUNINGS`.
    needs_pretraining: it starts from a model trained densely for `training.pretrain_steps`.
    rewinds: after each pruning, training starts again from step k of that dense run.
    regrows: `Method.regrow` is called every `regrowth.interval_steps`.
    regrows_by_gradient: that call looks at a batch's gradients and replaces the optimiser's step
      (with `regrowth.gradient_at` dense it precedes the step).
    votes: tasks vote on shared weights, so `sparsity.arbiter` matters.
    reads: dotted settings that the rule reads and that are worth searching, besides those that
      the facts above imply (`settings`). A rule that ranks all layers together by default leaves
      out `sparsity.allocation`, although it obeys it if set.
    structures: what it can prune, keys of `trainables.registry.structures.STRUCTURES`. A rule that
      leaves masks to `MethodContext.structure` has all of them, unless it regrows: a channel that
      grows back starts at zero on both sides, so no gradient reaches it.
    scales: it keeps every weight of a narrower network, whose cost is that of the target.
    defaults: its settings, by dotted name, where they differ from those of all methods.
    family: group of methods that plots and tables put side by side.
    label, colour, marker, symbol: how plots draw it. `marker` is Matplotlib's name of the shape,
      `symbol` Plotly's name of the same shape. Without a colour, plots choose a look that never
      changes. `label` defaults to `name`.

    Raises `UserError` for facts that contradict each other.
    """

    name: str
    summary: str
    implementation: str
    paper: str = ""
    prunes: str = "schedule"
    needs_pretraining: bool = False
    rewinds: bool = False
    regrows: bool = False
    regrows_by_gradient: bool = False
    votes: bool = False
    reads: tuple[str, ...] = ()
    structures: tuple[str, ...] = (WEIGHT,)
    scales: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    family: str = "own"
    label: str = ""
    colour: str = ""
    marker: str = "P"
    symbol: str = "cross"

    def __post_init__(self) -> None:
        if self.prunes not in PRUNINGS:
            raise unknown_name(f"`prunes` of method {self.name!r}:", self.prunes, PRUNINGS)
        for structure in self.structures:
            if structure not in STRUCTURES:
                raise unknown_name(f"structure of method {self.name!r}:", structure, STRUCTURES)
        if self.rewinds and not self.needs_pretraining:
            raise UserError(
                f"method {self.name!r} rewinds to a dense run, so it must need pre-training, got "
                "needs_pretraining=False; set it to True"
            )
        if self.regrows_by_gradient and not self.regrows:
            raise UserError(
                f"method {self.name!r} regrows by gradient, so it must regrow, got "
                "regrows=False; set it to True"
            )

    @property
    def sparse(self) -> bool:
        """Return whether any weight is pruned; False for the dense systems."""
        return self.prunes != "never"

    @property
    def has_target(self) -> bool:
        """Return whether `sparsity.target` decides what the model costs."""
        return self.sparse or self.scales

    def require_structure(self, structure: str) -> None:
        """Raise `UserError` if the method cannot prune in that structure, e.g. "2:4"."""
        kind = structure_kind(structure)
        if not self.sparse or kind in self.structures:
            return
        why = ""
        if kind == CHANNEL and self.regrows:
            why = ": a channel that grows back starts at zero on both sides, so it cannot learn"
        raise UserError(
            f"`sparsity.structure` of {self.name} must be one of {', '.join(self.structures)}, got "
            f"{structure}{why}; `python -m trainables list structures` shows which "
            "method has which"
        )

    @property
    def settings(self) -> tuple[str, ...]:
        """Return every dotted setting of `sparsity` and `regrowth` that a search may vary."""
        implied = {
            "sparsity.target": self.has_target,
            "sparsity.schedule": self.prunes == "schedule",
            "sparsity.level_fraction": self.prunes == "levels",
            "sparsity.rewind_fraction": self.rewinds,
            "sparsity.arbiter": self.votes,
            "regrowth.fraction": self.regrows,
            "regrowth.annealing": self.regrows,
            "regrowth.interval_steps": self.regrows,
            "regrowth.end_fraction": self.regrows,
            "regrowth.budget": self.regrows and self.votes,
            "regrowth.gradient_at": self.regrows_by_gradient,
        }
        named = [name for name, holds in implied.items() if holds]
        return (*named, *(name for name in self.reads if name not in named))

    def ignores(self, setting: str) -> bool:
        """Return whether the dotted setting makes no difference to the method.

        Settings that all sparse methods obey, such as `sparsity.allocation`, are never ignored by
        one, and settings of other groups than `sparsity` and `regrowth` by none.
        """
        group = setting.partition(".")[0]
        if (group == "sparsity" and not self.has_target) or (
            group == "regrowth" and not self.regrows
        ):
            return True
        return setting in _READ_BY_SOME and setting not in self.settings

    @property
    def default_settings(self) -> dict[str, Any]:
        """Return its own default settings by dotted name, with those that its facts imply."""
        implied = {"sparsity.schedule": "levels"} if self.prunes == "levels" else {}
        return {**implied, **self.defaults}


def structure_rows(methods: Sequence[MethodDescription]) -> list[tuple[str, str]]:
    """Return every structure with its summary and the methods that have it."""
    rows = []
    for structure, summary in STRUCTURES.items():
        names = [method.name for method in methods if structure in method.structures]
        rows.append((structure, f"{summary}; {', '.join(names)}"))
    return rows

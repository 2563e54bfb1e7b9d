"""Lists the trials of `search baselines`: a grid of systems x sparsities x seeds. No torch here.

A grid is stored in `study.json` as it was resolved: a method that is added later changes no study.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from trainables.coercion import to_plain


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """Describes a method with settings of its own, typed values by dotted name."""

    method: str
    sparse: bool
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Holds systems x sparsities x seeds; dense systems x seeds.

    seeds: one after the other, so that an interrupted study compares fewer seeds.
    """

    systems: tuple[System, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]

    def params(self) -> list[dict[str, Any]]:
        """Return the trials of one seed: `dense`, the other dense systems, then by sparsity."""
        dense = [system for system in self.systems if not system.sparse]
        dense.sort(key=lambda system: system.method != "dense")  # stable: the order given otherwise
        return [{"method": s.method, **s.settings} for s in dense] + [
            {"method": s.method, "sparsity.target": sparsity, **s.settings}
            for sparsity in self.sparsities
            for s in self.systems
            if s.sparse
        ]

    def cells(self) -> tuple[tuple[dict[str, Any], int], ...]:
        """Return all trials, seed by seed: what `Plan.config` is given."""
        return tuple((params, seed) for seed in self.seeds for params in self.params())

    def dense_params(self) -> Mapping[str, Any] | None:
        """Return what the dense trial of every seed is given (its first variant), if any."""
        return next((p for p in self.params() if p["method"] == "dense"), None)

    @property
    def methods(self) -> tuple[str, ...]:
        """Each method once, in order."""
        return tuple(dict.fromkeys(system.method for system in self.systems))

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `from_json` takes them."""
        return dict(to_plain(self))

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Self:
        """Make the grid that `to_json` gave."""
        return cls(
            systems=tuple(System(**system) for system in known["systems"]),
            sparsities=tuple(known["sparsities"]),
            seeds=tuple(known["seeds"]),
        )

    def facts(self) -> dict[str, str]:
        """Return the grid in words, for the study's run in MLflow and for messages."""
        return {
            "methods": ",".join(self.methods),
            "sparsities": ",".join(f"{s:g}" for s in self.sparsities),
            "seeds": ",".join(map(str, self.seeds)),
            "method_settings": "; ".join(
                " ".join([s.method, *(f"{k}={v}" for k, v in s.settings.items())])
                for s in self.systems
                if s.settings
            ),
        }

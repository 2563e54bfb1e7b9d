"""A grid of systems x sparsities x seeds: the trials of `search baselines`. No torch here.

A grid is resolved when a study is made (which methods, which of them are sparse, every setting in
its field's type) and stored so in `study.json`: a method that is added to the catalogue later
changes no study that exists.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from trainables.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A method with settings of its own.

    sparse: False for a dense system, which no sparsity applies to.
    settings: typed values by dotted name, for this system alone.
    """

    method: str
    sparse: bool
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One trial of a grid: what `Plan.config` is given."""

    params: Mapping[str, Any]
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Systems x sparsities x seeds; dense systems x seeds.

    seeds: in the order they are run, each to its end before the next, so that an interrupted
      study is a whole comparison of fewer seeds.
    """

    systems: tuple[System, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...]

    def cells(self) -> tuple[Cell, ...]:
        """Within a seed `dense` first, the other dense systems, then sparsity by sparsity."""
        dense = sorted(
            (system for system in self.systems if not system.sparse),
            key=lambda system: system.method != "dense",  # stable: the order given otherwise
        )
        of_one_seed: list[dict[str, Any]] = [{"method": s.method, **s.settings} for s in dense]
        for sparsity in self.sparsities:
            of_one_seed += [
                {"method": s.method, "sparsity.target": sparsity, **s.settings}
                for s in self.systems
                if s.sparse
            ]
        return tuple(
            Cell(params=params, seed=seed) for seed in self.seeds for params in of_one_seed
        )

    def dense_params(self) -> Mapping[str, Any] | None:
        """What the dense trial of every seed is given (its first variant); None without one."""
        for system in self.systems:
            if system.method == "dense":
                return {"method": "dense", **system.settings}
        return None

    @property
    def methods(self) -> tuple[str, ...]:
        """Each once, in order."""
        return tuple(dict.fromkeys(system.method for system in self.systems))

    def to_json(self) -> dict[str, Any]:
        return {
            "systems": [
                {"method": s.method, "sparse": s.sparse, "settings": dict(s.settings)}
                for s in self.systems
            ],
            "sparsities": list(self.sparsities),
            "seeds": list(self.seeds),
        }

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Self:
        """Raises `UserError` for what `to_json` did not write."""
        try:
            return cls(
                systems=tuple(
                    System(
                        method=str(s["method"]),
                        sparse=bool(s["sparse"]),
                        settings=dict(s["settings"]),
                    )
                    for s in known["systems"]
                ),
                sparsities=tuple(map(float, known["sparsities"])),
                seeds=tuple(map(int, known["seeds"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the study's `grid` must hold systems, sparsities and seeds, got {known!r} "
                f"({error}); restore its study.json from a backup"
            ) from None

    def facts(self) -> dict[str, str]:
        """In words, for the study's run in MLflow and for messages."""
        own = [_named(s) for s in self.systems if s.settings]
        return {
            "methods": ",".join(self.methods),
            "sparsities": ",".join(f"{s:g}" for s in self.sparsities),
            "seeds": ",".join(map(str, self.seeds)),
            "method_settings": "; ".join(own),
        }


def difference(known: Mapping[str, Any] | None, ours: Grid | None) -> tuple[str, str, str] | None:
    """The first fact in which a recorded grid is another than `ours`: name, its value, ours.

    None where they are one grid, or neither is there.
    """
    theirs = None if known is None else Grid.from_json(known)
    if theirs is None or ours is None:
        return None if theirs is ours else ("grid", _known(theirs), _known(ours))
    if theirs.to_json() == ours.to_json():
        return None
    pairs = zip(theirs.facts().items(), ours.facts().values(), strict=True)
    return next(
        ((name, then, now) for (name, then), now in pairs if then != now),
        ("systems", str(theirs.to_json()["systems"]), str(ours.to_json()["systems"])),
    )


def _named(system: System) -> str:
    return " ".join([system.method, *(f"{k}={v}" for k, v in system.settings.items())])


def _known(grid: Grid | None) -> str:
    return "none" if grid is None else ",".join(grid.methods)

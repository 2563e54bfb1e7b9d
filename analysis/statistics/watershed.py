"""Agreement among tasks and density by layer, over seeds, beside the published curves.

The claim of DiSparse (Sun et al. 2022, figure 3) is that tasks agree on the weights
of the first shared layers and part company deeper. Here: Spearman's correlation of agreement with
a layer's place along the main path, one per trained model, and its t interval over seeds.
Projection shortcuts stand beside the path and are left out of the correlation.

Networks of different depth are compared by relative depth: 0 is the first shared convolution, 1
the last. Where our layer bears a published name (`backbone.blocks.1.0.conv2.weight` is published
as `blocks.1.0.conv2`) the tables give that layer's value as well.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.plots import style
from analysis.statistics.comparison import Interval, correlation_with_depth, mean_interval
from analysis.studies.masks import TrialMasks, read_masks
from analysis.studies.systems_by_seed import Grid, System
from analysis.tables.papers import published_agreement, published_layer
from analysis.tables.typeset import Table, mean_and_deviation
from trainables.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Values along the main path: `depth_N` from 0 to 1, `values_N` in [0, 1]."""

    depth_N: NDArray[np.float64]
    values_N: NDArray[np.float64]

    def at(self, depth: float) -> float:
        """Between two layers by linear interpolation."""
        return float(np.interp(depth, self.depth_N, self.values_N))


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthCorrelation:
    """Spearman's correlation with depth by seed, without those that have none.

    interval: Student's t of the mean, cut to [-1, 1]; infinite for one seed, NaN for none.
    """

    by_seed: Mapping[int, float]
    interval: Interval

    @property
    def mean(self) -> float:
        """NaN for none."""
        values = self.by_seed.values()
        return math.fsum(values) / len(values) if values else math.nan


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemLayers:
    """A system's masks, one per seed, and the correlation of agreement with depth, which is
    empty without votes."""

    system: System
    masks: Mapping[int, TrialMasks]
    depth: DepthCorrelation

    @property
    def votes(self) -> tuple[TrialMasks, ...]:
        return tuple(m for m in self.masks.values() if m.agreement)


def read_layers(grid: Grid) -> tuple[SystemLayers, ...]:
    """Of the sparse systems that left masks. Raises `UserError` where none did."""
    found = []
    for system in grid.systems:
        masks = {
            int(m.trial.seed or 0): m
            for m in read_masks(grid.study, system.trials.values())
            if m.density < 1.0
        }
        if not masks:
            continue
        depth = correlate({seed: m.agreement for seed, m in masks.items()})
        found.append(SystemLayers(system=system, masks=masks, depth=depth))
    if not found:
        raise UserError(
            f"study {grid.study.name!r} must have sparse trials that left a "
            f"{grid.study.directory}/trials/*/summary.json, got none; name the place of its "
            "folder by --storage, or run sparse methods"
        )
    return tuple(found)


def correlate(
    values: Mapping[int, Mapping[str, float]], confidence: float = 0.95
) -> DepthCorrelation:
    """Of values by layer, in the model's order, for each seed."""
    found = {
        seed: correlation_with_depth(list(curve(layers).values_N))
        for seed, layers in values.items()
    }
    known = {seed: rho for seed, rho in found.items() if math.isfinite(rho)}
    interval = mean_interval(list(known.values()), confidence)
    return DepthCorrelation(by_seed=known, interval=_bounded(interval))


def mean_path(values: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean over trials of values by layer, along the main path of the first."""
    trials = list(values)
    return {
        name: float(np.mean([layers[name] for layers in trials if name in layers]))
        for name in main_path(list(trials[0]) if trials else [])
    }


def main_path(names: Sequence[str]) -> list[str]:
    """Without the shortcuts, in the given order."""
    return [name for name in names if not style.is_shortcut(name)]


def curve(values: Mapping[str, float]) -> Curve:
    """Along the main path, in the order of the layers given."""
    names = main_path(list(values))
    depth_N = np.linspace(0, 1, len(names)) if len(names) > 1 else np.zeros(len(names))
    return Curve(depth_N=depth_N, values_N=np.array([values[name] for name in names]))


def published_curve(dataset: str) -> Curve:
    """The paper's, for the votes of the static method; `analysis/tables/published` says whence."""
    return curve(published_agreement(dataset))


def mean_curve(masks: Sequence[TrialMasks]) -> tuple[Curve, NDArray[np.float64]]:
    """The mean over trials of one system, and the sample deviation (N,), zeros for one trial."""
    curves = [curve(m.agreement) for m in masks]
    length = max(len(c.depth_N) for c in curves)
    stacked_SN = np.array([c.values_N for c in curves if len(c.depth_N) == length])
    deviation_N = stacked_SN.std(axis=0, ddof=1) if len(stacked_SN) > 1 else np.zeros(length)
    depth_N = next(c.depth_N for c in curves if len(c.depth_N) == length)
    return Curve(depth_N=depth_N, values_N=stacked_SN.mean(axis=0)), deviation_N


def correlation_table(layers: Sequence[SystemLayers], datasets: Sequence[str]) -> Table:
    """Spearman's correlation of agreement with depth; the published curves below ours."""
    rows = []
    for item in layers:
        if not item.depth.by_seed:
            continue
        interval = "–"
        if math.isfinite(item.depth.interval.low):
            interval = f"{item.depth.interval.low:+.3f} to {item.depth.interval.high:+.3f}"
        first, last = _ends([curve(m.agreement) for m in item.votes])
        mean, count = f"{item.depth.mean:+.3f}", str(len(item.depth.by_seed))
        rows.append([item.system.label, count, mean, interval, first, last])
    own = len(rows)
    for dataset in datasets:
        line = published_curve(dataset)
        first, last = _ends([line])
        value = f"{correlation_with_depth(list(line.values_N)):+.3f}"
        rows.append([f"published, {dataset}", "1", value, "–", first, last])
    return Table(
        title="Agreement among tasks with depth: Spearman's correlation",
        heads=["system", "n", "correlation", "95 % interval", "first layer", "last layer"],
        rows=rows,
        rules=[own] if own else [],
    )


def agreement_table(layers: Sequence[SystemLayers], dataset: str) -> Table:
    """Agreement by shared layer: published at the layer of that name and at that depth; ours."""
    published, line = published_agreement(dataset), published_curve(dataset)
    voting = [item for item in layers if item.votes]
    names = _names([m for item in voting for m in item.votes])
    depth = dict(zip(main_path(names), _places(names), strict=True))
    rows = []
    for name in sorted(names, key=style.is_shortcut):
        by_name = published.get(published_layer(name))
        cells = [published_layer(name), _fixed(depth.get(name), 2), _fixed(by_name, 3)]
        cells.append(_fixed(None if name not in depth else line.at(depth[name]), 3))
        for item in voting:
            values = [m.agreement[name] for m in item.votes if name in m.agreement]
            cells.append(mean_and_deviation(values, 3))
        rows.append(cells)
    heads = ["layer", "depth", f"published {dataset}, by name", f"published {dataset}, by depth"]
    return Table(
        title="Agreement among tasks by shared layer (intersection over union)",
        heads=[*heads, *(item.system.label for item in voting)],
        rows=rows,
    )


def density_table(layers: Sequence[SystemLayers]) -> Table:
    """Weights kept by layer, in percent, shared layers first."""
    owners: dict[str, str] = {}
    for item in layers:
        for masks in item.masks.values():
            owners.update((layer.name, layer.owner) for layer in masks.layers)
    rows = []
    for name in sorted(owners, key=lambda n: owners[n] != "shared"):
        cells = [published_layer(name), owners[name]]
        for item in layers:
            values = [
                100 * layer.density
                for masks in item.masks.values()
                for layer in masks.layers
                if layer.name == name
            ]
            cells.append(mean_and_deviation(values, 2))
        rows.append(cells)
    return Table(
        title="Weights kept by layer, %",
        heads=["layer", "owner", *(item.system.label for item in layers)],
        rows=rows,
        num_words=2,
    )


def to_table(layers: Sequence[SystemLayers]) -> pa.Table:
    """One row per system, seed and layer. `depth` and `agreement` are null where there is none."""
    rows: list[dict[str, Any]] = []
    for item in layers:
        for seed, masks in item.masks.items():
            shared = [layer.name for layer in masks.layers if layer.owner == "shared"]
            depth = dict(zip(main_path(shared), _places(shared), strict=True))
            rows += [
                {
                    "method": item.system.method,
                    "sparsity": item.system.sparsity,
                    "settings": item.system.variant,
                    "seed": seed,
                    "layer": layer.name,
                    "published_layer": published_layer(layer.name),
                    "owner": layer.owner,
                    "depth": depth.get(layer.name),
                    "kept": layer.kept,
                    "total": layer.total,
                    "density": layer.density,
                    "agreement": masks.agreement.get(layer.name),
                }
                for layer in masks.layers
            ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def to_json(layers: Sequence[SystemLayers]) -> list[dict[str, Any]]:
    """By system: the correlations and their interval."""
    return [
        {
            "method": item.system.method,
            "sparsity": item.system.sparsity,
            "settings": item.system.variant,
            "seeds": list(item.masks),
            "depth_correlation": {
                "by_seed": {str(seed): rho for seed, rho in item.depth.by_seed.items()},
                "mean": item.depth.mean,
                "low": item.depth.interval.low,
                "high": item.depth.interval.high,
            }
            if item.depth.by_seed
            else None,
        }
        for item in layers
    ]


def remarks() -> list[str]:
    """How to read the tables."""
    return [
        "Agreement is |all tasks want it| / |any task wants it|. Depth is 0 at the first shared "
        "convolution and 1 at the last; shortcuts stand beside the path and are not in the "
        "correlation, which is -1 where agreement falls from every layer to the next. Votes drawn "
        "at random from a layer with a share d of its weights agree to d / (2 - d) for two tasks, "
        "so agreement also falls where a layer is pruned harder.",
        "The published curves are single runs of the static method's votes, each task keeping "
        "7.8 % of its weights. That of taskonomy, with five tasks, counts weights that exactly two "
        "keep over those that one or two keep: another quantity than ours.",
    ]


_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("sparsity", pa.float64()),
        ("settings", pa.string()),
        ("seed", pa.int64()),
        ("layer", pa.string()),
        ("published_layer", pa.string()),
        ("owner", pa.string()),
        ("depth", pa.float64()),
        ("kept", pa.int64()),
        ("total", pa.int64()),
        ("density", pa.float64()),
        ("agreement", pa.float64()),
    ]
)


def _places(names: Sequence[str]) -> list[float]:
    count = len(main_path(names))
    return [index / (count - 1) if count > 1 else 0.0 for index in range(count)]


def _names(masks: Sequence[TrialMasks]) -> list[str]:
    names: dict[str, None] = {}
    for item in sorted(masks, key=lambda m: -len(m.agreement)):
        names.update(dict.fromkeys(item.agreement))
    return list(names)


def _ends(curves: Sequence[Curve]) -> tuple[str, str]:
    firsts = [float(c.values_N[0]) for c in curves if len(c.values_N)]
    lasts = [float(c.values_N[-1]) for c in curves if len(c.values_N)]
    return mean_and_deviation(firsts, 3), mean_and_deviation(lasts, 3)


def _bounded(interval: Interval) -> Interval:
    """A correlation lies in [-1, 1], whatever its t interval says; unbounded stays unbounded."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return interval
    return Interval(low=max(-1.0, interval.low), high=min(1.0, interval.high))


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"

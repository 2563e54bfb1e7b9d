"""Make tables of agreement among tasks and of density by layer, beside the published curves.

Where our layer bears a published name (`backbone.blocks.1.0.conv2.weight` is published as
`blocks.1.0.conv2`) the tables give that layer's value as well.
"""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from analysis.labels import is_shortcut
from analysis.statistics.comparing.comparison import correlation_with_depth
from analysis.statistics.watershed import Curve, SystemLayers, curve, main_path, places
from analysis.studies.masks import TrialMasks
from analysis.tables.papers import published_agreement, published_curve, published_layer
from analysis.tables.typeset import Table, mean_and_deviation


def correlation_table(layers: Sequence[SystemLayers], datasets: Sequence[str]) -> Table:
    """Make a table of the correlations of agreement with depth, published ones below."""
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
    """Make a table of agreement by shared layer.

    Beside ours are the published values, of the layer of that name and at that depth.
    """
    published, line = published_agreement(dataset), published_curve(dataset)
    voting = [item for item in layers if item.votes]
    names = _names([m for item in voting for m in item.votes])
    depth = dict(zip(main_path(names), places(names), strict=True))
    rows = []
    for name in sorted(names, key=is_shortcut):
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
    """Make a table of the weights kept by layer, in percent, shared layers first."""
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
    """Return one row per system, seed and layer.

    `depth` and `agreement` are null where a layer has none.
    """
    rows: list[dict[str, Any]] = []
    for item in layers:
        for seed, masks in item.masks.items():
            shared = [layer.name for layer in masks.layers if layer.owner == "shared"]
            depth = dict(zip(main_path(shared), places(shared), strict=True))
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
    """Return by system the correlations and their interval."""
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
    """Say how to read the tables."""
    return [
        "Agreement is |all tasks want it| / |any task wants it|. Depth is 0 at the first shared "
        "convolution and 1 at the last; shortcuts are beside the path and are not in the "
        "correlation, which is -1 where agreement falls from every layer to the next. Votes drawn "
        "at random from a layer with a share d of its weights agree to d / (2 - d) for two tasks, "
        "so agreement also falls where a layer is pruned harder.",
        "The published curves are single runs of the static method's votes, each task keeping "
        "7.8 % of its weights. That of taskonomy, with five tasks, counts weights that exactly two "
        "keep over those that one or two keep, which is a different quantity from ours.",
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


def _names(masks: Sequence[TrialMasks]) -> list[str]:
    names: dict[str, None] = {}
    for item in sorted(masks, key=lambda m: -len(m.agreement)):
        names.update(dict.fromkeys(item.agreement))
    return list(names)


def _ends(curves: Sequence[Curve]) -> tuple[str, str]:
    firsts = [float(c.values_N[0]) for c in curves if len(c.values_N)]
    lasts = [float(c.values_N[-1]) for c in curves if len(c.values_N)]
    return mean_and_deviation(firsts, 3), mean_and_deviation(lasts, 3)


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"

"""Draw the pictures of `python -m analysis layers`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.labels import admitting
from analysis.plots import canvas
from analysis.plots.layers import density, watershed
from analysis.statistics.watershed import SystemLayers
from analysis.studies.masks import Layer, TrialMasks
from analysis.studies.systems_by_seed import Grid


def write(
    grid: Grid, found: Sequence[SystemLayers], datasets: Sequence[str], folder: Path
) -> list[Path]:
    """Write layers-density.png and, where tasks voted, layers-agreement.png; return the paths."""
    study = grid.study
    facts = [str(study.facts[key]) for key in ("dataset", "preset") if study.facts.get(key)]
    title = f"{study.name}: where each system keeps its weights"
    rows = [pooled(item) for item in found]
    labels = {id(row): _label(item) for row, item in zip(rows, found, strict=True)}
    picture = density.draw(
        rows,
        title,
        " · ".join([*facts, "all seeds of a system together"]),
        row_label=lambda row: labels[id(row)],
    )
    paths = [canvas.save(picture, folder / "layers-density.png")]
    voting = [item for item in found if item.votes]
    if voting:
        title = f"{study.name}: do the tasks want the same weights?"
        picture = watershed.draw(voting, datasets, title, " · ".join([*facts, "mean over seeds"]))
        paths.append(canvas.save(picture, folder / "layers-agreement.png"))
    return paths


def pooled(item: SystemLayers) -> TrialMasks:
    """Return one system's layers with the counts of all its seeds added up, without agreement."""
    first, *others = item.masks.values()
    kept = {layer.name: [layer.kept, layer.total] for layer in first.layers}
    for masks in others:
        for layer in masks.layers:
            if layer.name in kept:
                kept[layer.name][0] += layer.kept
                kept[layer.name][1] += layer.total
    summed: tuple[Layer, ...] = tuple(
        replace(layer, kept=kept[layer.name][0], total=kept[layer.name][1])
        for layer in first.layers
    )
    return replace(first, layers=summed, agreement={})


def _label(item: SystemLayers) -> str:
    label = item.system.label
    seeds = len(item.masks)
    shown = label if len(label) <= 40 else f"{label[:39]}…"
    return f"{shown} · {admitting(pooled(item).density, 'cost/density')} kept · n = {seeds}"

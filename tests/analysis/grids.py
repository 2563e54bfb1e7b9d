"""Write studies as `search baselines` leaves them: systems × sparsities × seeds, by hand."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.analysis.built_studies import BuiltStudy, Row

LAYERS = ("conv1", "blocks.0.0.conv1", "blocks.0.0.conv2", "blocks.1.0.conv1", "blocks.1.0.conv2")
CONFIG: dict[str, Any] = {
    "metrics": "corrected",
    "data": {"dataset": "nyu-v2", "size": [120, 160], "crop": [112, 144], "num_train": 100}
    | {"num_test": 50, "validation_fraction": 0.15, "root": None},
    "model": {"name": "deeplab-resnet", "width": 24, "blocks": [2, 2], "head_width": 96},
    "training": {"steps": 600, "pretrain_steps": 300, "batch_size": 8},
    "optimiser": {"name": "adam", "learning_rate": 0.002, "rate_schedule": "cosine"},
}


def grid_rows(
    values: Mapping[tuple[str, float], Sequence[Mapping[str, float]]],
    splits: Sequence[str] = ("val", "test"),
    seeds: Sequence[int] = (0, 1, 2),
) -> list[Row]:
    """Return one trial per system and seed.

    values: by (method, sparsity), one mapping of metrics without split per seed. On val every value
    is 100 more, so that a value of the wrong split shows.
    """
    rows = []
    for (method, sparsity), by_seed in values.items():
        for seed, metrics in zip(seeds, by_seed, strict=False):
            params: dict[str, Any] = {"method": method, "training.steps": 600}
            if sparsity:
                params["sparsity.target"] = sparsity
            named = {"cost/density": 1 - sparsity, "cost/sparsity": sparsity}
            for split in splits:
                shift = 100.0 if split == "val" else 0.0
                named |= {f"{split}/{name}": value + shift for name, value in metrics.items()}
            rows.append(
                Row(number=len(rows), method=method, seed=seed, params=params, metrics=named)
            )
    return rows


def write_summaries(
    built: BuiltStudy, agreement: Callable[[Row, int], float], layers: Sequence[str] = LAYERS
) -> None:
    """Write summary.json of every trial.

    agreement: the value of a row's i-th layer, for DiSparse's trials.
    """
    for row in built.rows:
        density = row.metrics["cost/density"]
        names = [f"backbone.{name}.weight" for name in (*layers, "ds.1.0")]
        entries = {
            name: {"kept": round(1000 * density), "total": 1000, "owner": "shared"}
            for name in names
        }
        entries["heads.depth.branches.0.conv1.weight"] = {
            "kept": round(500 * density) + row.number % 2,
            "total": 500,
            "owner": "depth",
        }
        masks: dict[str, Any] = {"layers": entries}
        if row.method.startswith("disparse"):
            votes = {name: agreement(row, i) for i, name in enumerate(names)}
            masks["agreement"] = votes | {"backbone.ds.1.0.weight": 0.123}
        folder = Path(built.directory) / "trials" / f"{row.number:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(json.dumps({"config": CONFIG, "masks": masks}))


def change_facts(built: BuiltStudy, **facts: Any) -> None:
    """Change what study.json holds."""
    path = built.directory / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))

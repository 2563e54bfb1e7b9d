"""Build studies as `search` leaves them: the record under runs/NAME, and its copy in MLflow.

They are written by hand from the contract (column, tag and file names spelt out) and not with the
code under test, so that a drift between the two shows.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PRIMARY = {
    "segmentation": "val/segmentation/miou",
    "normals": "val/normals/mean_error_deg",
    "depth": "val/depth/absolute_error",
    "keypoints": "val/keypoints/error",
    "edges": "val/edges/error",
}
# Dense level and how much is lost by the sparsest random model.
LEVELS = {
    "segmentation": (0.46, -0.24),
    "normals": (17.5, 11.0),
    "depth": (0.41, 0.38),
    "keypoints": (0.071, 0.03),
    "edges": (0.102, 0.045),
}
METHODS = {  # share of the sparsest random model's loss
    "dense": 0.0,
    "random": 1.0,
    "snip": 0.72,
    "rigl": 0.5,
    "disparse-static": 0.52,
    "disparse-dynamic": 0.36,
    "disparse-pretrained": 0.44,
}
TRUNK = ["stem.convolution"] + [
    f"stages.{stage}.{block}.convolution{index}"
    for stage in range(4)
    for block in range(2)
    for index in (1, 2)
]


@dataclass(kw_only=True)
class Row:
    """Hold one trial as recorded."""

    number: int
    method: str
    status: str = "complete"
    seed: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    fraction: float = 1.0
    reason: str | None = None
    confirms: int | None = None


def simple_row(number: int, method: str, cost: float, *qualities: float, **changes: Any) -> Row:
    """Return a complete trial with the given values of (cost, segmentation, normals, …)."""
    metrics = {"cost/density": cost, **dict(zip(PRIMARY.values(), qualities, strict=False))}
    return Row(number=number, method=method, metrics=metrics, seed=number, **changes)


def realistic_rows(num_trials: int, tasks: Sequence[str], seed: int = 0) -> list[Row]:
    """Return trials whose loss grows with sparsity, by method, with noise; some stop or fail."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_trials):
        method = "dense" if number in (0, 9) else str(rng.choice(list(METHODS)[1:]))
        target = 0.0 if method == "dense" else float(1 - 10 ** rng.uniform(-2.1, -0.3))
        rate = float(10 ** rng.uniform(-3.4, -2.2))
        params: dict[str, Any] = {"method": method, "optimiser.learning_rate": rate}
        params |= {"optimiser.name": str(rng.choice(["adam", "sgd"])), "seed": 100 + number}
        if method != "dense":
            params |= {"sparsity.target": target}
            params["sparsity.schedule"] = str(rng.choice(["one-shot", "cubic", "linear"]))
        if method in ("rigl", "disparse-dynamic"):
            params["regrowth.fraction"] = float(rng.uniform(0.1, 0.5))
        off = abs(math.log10(rate) + 2.8) * 0.25
        metrics = {"cost/density": 1 - target, "cost/sparsity": target}
        for task in tasks:
            level, loss = LEVELS[task]
            hardness = (-math.log10(1 - target) / 2.1) ** 1.6
            damage = METHODS[method] * hardness + off * 0.3 + rng.normal(0, 0.035)
            value = level + loss * damage
            metrics[PRIMARY[task]] = value
            metrics[PRIMARY[task].replace("val/", "test/")] = value + abs(loss) * rng.normal(
                0, 0.03
            )
        row = Row(number=number, method=method, seed=100 + number, params=params, metrics=metrics)
        if number % 11 == 7:
            row.status, row.fraction = "stopped", 0.25
        if number % 17 == 13:
            row.status, row.fraction, row.reason = "failed", 0.4, "loss became NaN at step 212"
            row.metrics = {}
        rows.append(row)
    return rows


def summary(row: Row, tasks: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    """Return the `--json` object of a trial, as far as analysis reads it."""
    density = row.metrics.get("cost/density", 1.0)
    layers: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(TRUNK):
        total = 864 * 4 ** (index // 5)
        share = min(1.0, density * (2.2 - 0.1 * index) * rng.uniform(0.8, 1.2))
        layers[name] = {"kept": round(share * total), "total": total, "owner": "shared"}
    for task in tasks:
        for index in range(3):
            share = min(1.0, density * rng.uniform(0.5, 1.3))
            name = f"heads.{task}.{index}.convolution"
            layers[name] = {"kept": round(share * 9216), "total": 9216, "owner": task}
    kept = sum(layer["kept"] for layer in layers.values())
    masks: dict[str, Any] = {"layers": layers, "kept": kept}
    masks["total"] = sum(layer["total"] for layer in layers.values())
    if row.method.startswith("disparse"):
        masks["agreement"] = {
            name: float(
                np.clip(
                    0.97 - (0.5 - 0.25 * density) * (i / 16) ** 1.5 + rng.normal(0, 0.012), 0, 1
                )
            )
            for i, name in enumerate(TRUNK)
        }
    return {"command": "train", "seed": row.seed, "metrics": row.metrics, "masks": masks}


def confirming(row: Row, number: int, seed: int, shift: float) -> Row:
    """Return the same configuration at a fresh seed, with every quality moved by `shift`."""
    metrics = {
        name: value if name.startswith("cost/") else value + shift
        for name, value in row.metrics.items()
    }
    return replace(row, number=number, seed=seed, metrics=metrics, confirms=row.number)


def spend(row: Row, *, steps: int, pretraining: int, steps_per_epoch: int) -> Row:
    """Give a trial the epochs that it reports by its `fraction`, and the parameters that say so."""
    row.params |= {"training.steps": steps, "training.pretrain_steps": pretraining}
    row.metrics["training/epochs"] = (pretraining + row.fraction * steps) / steps_per_epoch
    return row


def searched_rows(num_trials: int, tasks: Sequence[str], floor: float, seed: int = 0) -> list[Row]:
    """Return trials as a search with early stopping and a floor on segmentation leaves them.

    A third is stopped, what misses the floor is infeasible, and all that trained spent epochs.
    """
    rows = realistic_rows(num_trials, tasks, seed)
    for row in rows:
        if row.status == "failed":
            continue
        row.status, row.fraction = "complete", 1.0
        if row.number % 3 == 2:
            row.status, row.fraction = "stopped", 0.25 if row.number % 2 else 0.5
            row.reason = f"stopped by the scheduler at {row.fraction:.0%} of training"
        elif row.metrics[PRIMARY["segmentation"]] < floor:
            value = row.metrics[PRIMARY["segmentation"]]
            row.status = "infeasible"
            row.reason = (
                f"constraints not met: val/segmentation/miou={value:.6g} must be >={floor!r}"
            )
        pretraining = 200 if row.method == "disparse-pretrained" else 0
        spend(row, steps=400, pretraining=pretraining, steps_per_epoch=16)
    return rows


@dataclass(kw_only=True)
class BuiltStudy:
    """Hold a study that was written, with the rows it was written from."""

    name: str
    storage: Path
    rows: list[Row]

    @property
    def directory(self) -> Path:
        """Return the study's folder."""
        return self.storage / self.name

    def trial(self, number: int) -> str:
        """Return the name of the trial with this number."""
        return f"{self.name}-{number:05d}"


def write_record(
    storage: Path,
    name: str,
    rows: list[Row],
    *,
    tasks: Sequence[str] = ("segmentation", "normals", "depth"),
    summaries: bool = False,
    tracking_uri: str | None = None,
    facts: dict[str, Any] | None = None,
) -> BuiltStudy:
    """Write runs/NAME with study.json, trials.parquet and, if asked, every trial's summary.json.

    facts: what else study.json holds.
    """
    study = BuiltStudy(name=name, storage=storage, rows=rows)
    study.directory.mkdir(parents=True, exist_ok=True)
    known = {
        "name": name,
        "recipe": "demo",
        "dataset": "scenes",
        "preset": "tiny",
        "tasks": list(tasks),
        "objectives": [*(PRIMARY[t] for t in tasks), "cost/density"],
        "created": "2025-03-01T09:00:00+00:00",
        "seed": 7,
        "tracking_uri": tracking_uri,
        **(facts or {}),
    }
    (study.directory / "study.json").write_text(json.dumps(known))
    start = datetime(2025, 3, 1, 9, tzinfo=UTC)
    columns: dict[str, Any] = {
        "trial": [study.trial(r.number) for r in rows],
        "number": pa.array([r.number for r in rows], pa.int64()),
        "method": [r.method for r in rows],
        "seed": pa.array([r.seed for r in rows], pa.int64()),
        "status": [r.status for r in rows],
        "reason": pa.array([r.reason or "" for r in rows], pa.string()),
        "confirms": pa.array([r.confirms for r in rows], pa.int64()),
        "params": [json.dumps(r.params) for r in rows],
        "metrics": [json.dumps(r.metrics) for r in rows],
        "fraction": pa.array([r.fraction for r in rows], pa.float64()),
        "started": [start + timedelta(seconds=20 * i) for i in range(len(rows))],
        "ended": [start + timedelta(seconds=20 * i + 15) for i in range(len(rows))],
    }
    for param in sorted({p for r in rows for p in r.params}):
        columns[f"params/{param}"] = _param_column([r.params.get(param) for r in rows])
    for metric in sorted({m for r in rows for m in r.metrics}):
        columns[metric] = pa.array([r.metrics.get(metric) for r in rows], pa.float64())
    table = pa.table({k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in columns.items()})
    pq.write_table(table, study.directory / "trials.parquet")
    rng = np.random.default_rng(1)
    for row in rows:
        folder = study.directory / "trials" / f"{row.number:05d}"
        if row.status == "failed" and row.reason is not None:
            folder.mkdir(parents=True)
            (folder / "error.txt").write_text(f"Traceback …\n{row.reason}\n\n")
        elif summaries and row.status == "complete":
            folder.mkdir(parents=True)
            (folder / "summary.json").write_text(json.dumps(summary(row, tasks, rng)))
    return study


def _param_column(values: list[Any]) -> pa.Array:
    """Make a column of the type that the values have in common, of text without values."""
    return pa.array(values, None if any(v is not None for v in values) else pa.string())


def log_to_mlflow(study: BuiltStudy, database: Path, **tags: str) -> str:
    """Log the study's parent run to a SQLite store, with the record as artifacts; returns its id.

    tags: of the run, beside those that every parent run has.
    """
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    found = client.get_experiment_by_name("disparse")
    artifacts = database.parent / "artifacts"
    experiment = (
        found.experiment_id
        if found
        else client.create_experiment("disparse", artifact_location=artifacts.as_uri())
    )
    every = {"disparse.study": study.name, "disparse.kind": "study"}
    parent = client.create_run(experiment, tags={**every, **tags}).info.run_id
    for name in ("study.json", "trials.parquet"):
        client.log_artifact(parent, str(study.directory / name), "record")
    client.set_terminated(parent)
    return str(parent)

"""Studies as `search baselines` leaves them, for the claims: written instead of trained.

`FakeSearch` stands in for the process: it reads the command line and the settings file it is
given and writes the record of the grid that they describe, with qualities by rule.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TASKS = ("segmentation", "normals", "depth", "keypoints", "edges")
DENSE = ("dense", "cross-stitch", "sluice", "den")
# (system, sparsity or None, seed, settings) → share of error relative to a common level, less is
# better; None for a trial that fails.
Rule = Callable[[str, float | None, int, dict[str, Any]], float | None]


def metrics_of(share: float, tasks: Sequence[str] = TASKS) -> dict[str, float]:
    """Every metric of `tasks` such that errors are `share` of the level, on val and test.

    Fractions that are maximised are 1 / share of it, so that a share of 0.9 is better too.
    """
    levels = {
        "segmentation": {"miou": (0.2, -1), "pixel_accuracy": (0.4, -1), "error": (1.5, 1)},
        "normals": {
            "mean_error_deg": (30.0, 1), "median_error_deg": (25.0, 1),
            "within_11_25": (0.2, -1), "within_22_5": (0.4, -1), "within_30": (0.5, -1),
        },
        "depth": {
            "absolute_error": (0.5, 1), "relative_error": (0.2, 1), "within_1_25": (0.5, -1),
            "within_1_25_squared": (0.7, -1), "within_1_25_cubed": (0.8, -1),
        },
        "keypoints": {"error": (0.2, 1)},
        "edges": {"error": (0.25, 1)},
    }  # fmt: skip
    found = {}
    for split in ("val", "test"):
        for task in tasks:
            for name, (level, sign) in levels[task].items():
                found[f"{split}/{task}/{name}"] = level * (share if sign > 0 else 1 / share)
    return found


class FakeSearch:
    """`runner(command)`: records the command, writes the study, returns `exit_status`.

    stop_after: write only so many trials of the grid, once, as an interruption would.
    """

    def __init__(self, rule: Rule, *, stop_after: int | None = None, exit_status: int = 0) -> None:
        self.rule = rule
        self.stop_after = stop_after
        self.exit_status = exit_status
        self.commands: list[list[str]] = []
        self.settings: list[dict[str, Any]] = []

    @property
    def studies(self) -> list[str]:
        return [command[command.index("--name") + 1] for command in self.commands]

    def __call__(self, command: Sequence[str]) -> int:
        line = list(command)
        self.commands.append(line)
        options = {
            option: value
            for option, value in itertools.pairwise(line)
            if option.startswith("--") and option != "--set"
        }
        settings = json.loads(Path(options["--settings"]).read_text())
        self.settings.append(settings)
        tasks = next(i for i in line if i.startswith("data.tasks=")).partition("=")[2].split(",")
        rows = []
        first, count = int(options["--seed"]), int(options["--seeds"])
        for seed in range(first, first + count):
            for system in options["--methods"].split(","):
                own = settings.get(system, {})
                for variant in own if isinstance(own, list) else [own]:
                    sparsities: list[float | None] = [None]
                    if system not in DENSE:
                        sparsities = [float(s) for s in options["--sparsities"].split(",")]
                    rows += [(system, s, seed, variant) for s in sparsities]
        if self.stop_after is not None:
            rows, self.stop_after = rows[: self.stop_after], None
            self._write(options, tasks, rows)
            return 1
        self._write(options, tasks, rows)
        return self.exit_status

    def _write(self, options: dict[str, str], tasks: list[str], rows: list[Any]) -> None:
        directory = Path(options["--storage"]) / options["--name"]
        directory.mkdir(parents=True, exist_ok=True)
        columns: dict[str, list[Any]] = {
            name: []
            for name in ("trial", "number", "method", "seed", "status", "reason", "params",
                         "metrics", "fraction")
        }  # fmt: skip
        for number, (system, sparsity, seed, settings) in enumerate(rows):
            share = self.rule(system, sparsity, seed, settings)
            params = {"method": system, **settings}
            if sparsity is not None:
                params["sparsity.target"] = sparsity
            metrics = {} if share is None else metrics_of(share, tasks)
            row = {
                "trial": f"{options['--name']}-{number:05d}",
                "number": number,
                "method": system,
                "seed": seed,
                "status": "failed" if share is None else "complete",
                "reason": "diverged" if share is None else "",
                "params": json.dumps(params),
                "metrics": json.dumps({**metrics, "cost/train_flops_fraction": 0.5}),
                "fraction": 1.0,
            }
            for name, value in row.items():
                columns[name].append(value)
            if share is not None and system.startswith("disparse"):
                write_summary(directory, number, [0.9, 0.8, 0.7, 0.65, 0.6])
        facts = {
            "name": options["--name"],
            "tasks": tasks,
            "objectives": ["val/segmentation/miou", "cost/density"],
            "parent_run_id": f"run-of-{options['--name']}",
        }
        (directory / "study.json").write_text(json.dumps(facts))
        pq.write_table(pa.table(columns), directory / "trials.parquet")


def write_summary(directory: Path, number: int, agreement: Sequence[float]) -> None:
    """A trial's summary.json: layers of a trunk with a shortcut that does not agree at all."""
    names = [f"backbone.blocks.{i}.0.conv1.weight" for i in range(len(agreement))]
    layers = {name: {"kept": 1, "total": 10, "owner": "shared"} for name in names}
    shortcut = "backbone.blocks.0.0.downsample.0.weight"
    layers = {names[0]: layers[names[0]], shortcut: dict(layers[names[0]]), **layers}
    folder = directory / "trials" / f"{number:05d}"
    folder.mkdir(parents=True, exist_ok=True)
    values = {**dict(zip(names, agreement, strict=True)), shortcut: 0.0}
    (folder / "summary.json").write_text(
        json.dumps({"masks": {"layers": layers, "agreement": values}})
    )

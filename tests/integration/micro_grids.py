"""A recipe whose trials take a tenth of a second, its exported grid, and that grid swept."""

import io
import json
import os
from pathlib import Path

from typer.testing import CliRunner

from search.__main__ import app
from spaces.presets import trial_config
from tests.contracts.conftest import MICRO
from trainables.data.catalogue import open_dataset
from trainables.sweep.folder import SweepFolder
from trainables.sweep.grid import read_grid
from trainables.sweep.worker import Worker
from trainables.terminal.answers import finite

METHODS = "dense,snip,imp"
# The second variant of SNIP diverges, at most seeds.
SETTINGS = {"snip": [{}, {"optimiser.learning_rate": 1e12}]}
NUM_TRIALS = 14  # of two seeds and two sparsities


def write_recipe(folder: Path) -> Path:
    lines = [
        'summary = "micro"', 'dataset = "scenes"', 'preset = "tiny"',
        'tasks = ["segmentation", "depth"]', 'methods = ["snip", "imp"]', "[settings]",
    ]  # fmt: skip
    lines += [f'"{name}" = {json.dumps(finite(value))}' for name, value in MICRO.items()]
    path = folder / "micro.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def baselines(recipe: Path, data: Path, *arguments: str) -> list[str]:
    settings = recipe.with_name("settings.json")
    settings.write_text(json.dumps(SETTINGS))
    return [
        "baselines", str(recipe), "--name", "grid", "--methods", METHODS, "--seeds", "2",
        "--sparsities", "0.5,0.75", "--steps", "6", "--data-root", str(data),
        "--settings", str(settings), *arguments,
    ]  # fmt: skip


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.output)


def sweep_here(grid: Path, out: Path) -> None:
    """Train a grid in this process, trial after trial, as a sweep's processes do."""
    listed = read_grid(grid, trial_config)
    digest = open_dataset(listed.trials[0].config.data).digest()
    folder = SweepFolder(out)
    sweep = folder.begin(listed, "cpu", [digest] * len(listed.trials))
    listening, _ = os.pipe()  # nobody ends its input
    worker = Worker(io.StringIO(), os.fdopen(listening))
    for trial in sweep.trials:
        baseline = None if trial.baseline is None else sweep.trials[trial.baseline].config
        worker.train_trial(
            {
                "number": trial.number,
                "name": trial.name,
                "config": json.dumps(trial.config),
                "baseline": baseline and json.dumps(baseline),
                "objectives": list(sweep.objectives),
                "directory": str(folder.trial(trial.number).directory),
                "dense_cache": str(folder.dense_cache),
                "command": [],
                "device": "cpu",
                "cpus": 1,
                "gpus": 0.0,
            }
        )

"""Grids of trials that take a tenth of a second."""

import json
from pathlib import Path
from typing import Any

from spaces.presets import trial_config
from tests.contracts.conftest import MICRO
from trainables.sweep.grid import GridFile, read_grid


def rows(root: Path, *, steps: int = 4, **more: Any) -> list[dict[str, Any]]:
    """A dense trial, one of SNIP compared with it, and one of IMP."""
    settings = {**MICRO, **more}
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()}
    plain["data.root"] = str(root / "store")
    common = {"dataset": "scenes", "tasks": "segmentation,depth", "steps": steps, "seed": 3}
    return [
        {**common, "method": "dense", "settings": plain},
        {**common, "method": "snip", "sparsity": 0.5, "baseline": 0, "settings": plain},
        {**common, "method": "imp", "sparsity": 0.5, "baseline": 0, "settings": plain},
    ]


def write(folder: Path, trials: list[Any], **values: Any) -> Path:
    path = folder / "grid.json"
    path.write_text(json.dumps({"version": 1, "name": "micro", "trials": trials, **values}))
    return path


def read(path: Path) -> GridFile:
    return read_grid(path, trial_config)

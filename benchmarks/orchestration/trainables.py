"""Trials that do nothing but report, for all systems the same. Imports Ray alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

NUM_REPORTS = 3


class NoOp(tune.Trainable):
    """Three reports of seven numbers, at once."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial's configuration."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial's configuration in the same process."""
        self._steps = 0
        self._density = density_of(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Report without doing anything."""
        self._steps = min(self._steps + 1, NUM_REPORTS)
        return report(self._steps, self._density)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Where a launch asks for one: the whole state of such a trial."""
        (Path(checkpoint_dir) / "state.json").write_text(json.dumps(self._steps))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Have nothing to load."""
        self._steps = json.loads((Path(str(checkpoint)) / "state.json").read_text())


def density_of(config: Mapping[str, Any]) -> float:
    """From a raw draw, of a number or from a study's space, or from a study's own configuration of
    a trial."""
    if "density" in config:
        return float(config["density"])
    if "config" in config:
        return 1.0 - float(json.loads(config["config"])["sparsity"]["target"])
    return 1.0 - float(config.get("sparsity.target", 0.0))


def report(steps: int, density: float) -> dict[str, Any]:
    """What a trial of such a density reports the `steps`-th time, without training."""
    fraction = steps / NUM_REPORTS
    quality = density**0.5 * fraction
    return {
        "val/segmentation/miou": quality,
        "val/normals/mean_error_deg": 60.0 - 20.0 * quality,
        "val/depth/absolute_error": 2.0 - quality,
        "cost/density": density,
        "training/step": 10 * steps,
        "training/fraction": fraction,
        "status": "complete" if steps == NUM_REPORTS else "running",
        "done": steps == NUM_REPORTS,
    }

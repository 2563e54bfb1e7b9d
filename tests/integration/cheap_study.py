"""A driver of a study whose trials cost nothing; run as a program, so that it can be killed.

    python tests/integration/cheap_study.py FOLDER TRIALS SECONDS_PER_REPORT [MISBEHAVE]

Misbehaving trials, by number: 1 raises, 2 returns NaN, 3 omits an objective, 4 dies with its
process, 5 reports a failure.
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from ray import tune

from search.plan import make_plan
from search.recipes import RECIPES
from search.study import Launch, run_study
from trainables.command_line import run_command_line
from trainables.training.manifest import write_manifest

NUM_REPORTS = 4


class CheapTrainable(tune.Trainable):
    """Four reports; the state is the step, and a log of every step that was really taken."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.trial = new_config
        self.steps = 0
        if new_config["restore_from"]:
            self.load_checkpoint(new_config["restore_from"])
        return True

    def step(self) -> dict[str, Any]:
        number = self.trial["number"]
        misbehaves = number if self.trial["config"]["data"]["num_train"] == 13 else 0
        time.sleep(float(os.environ.get("CHEAP_SECONDS", "0")))
        # Killed between its last checkpoint and its end, a trial gives its last report again.
        taken = self.steps < NUM_REPORTS
        self.steps += taken
        if misbehaves == 1 and self.steps == 2:
            raise RuntimeError("this trial raises")
        if misbehaves == 4 and self.steps == 2:
            os._exit(9)
        log = Path(self.trial["directory"]) / "steps.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if taken:
            with log.open("a") as file:
                file.write(f"{self.steps}\n")
        density = 1.0 - self.trial["config"]["sparsity"]["target"]
        fraction = self.steps / NUM_REPORTS
        quality = math.sqrt(density) * fraction
        last = self.steps == NUM_REPORTS
        metrics = {
            "val/segmentation/miou": quality,
            "val/normals/mean_error_deg": 60.0 - 20.0 * quality,
            "val/depth/absolute_error": 2.0 - quality,
            "cost/density": density,
        }
        if misbehaves == 2 and last:
            metrics["cost/density"] = math.nan
        if misbehaves == 3:
            del metrics["val/depth/absolute_error"]
        failed = misbehaves == 5 and last
        return {
            **metrics,
            "training/step": 10 * self.steps,
            "training/fraction": fraction,
            "status": "failed" if failed else "complete" if last else "running",
            **({"reason": "out of memory: pretended"} if failed else {}),
            "done": last,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "state.json").write_text(json.dumps({"steps": self.steps}))
        write_manifest(Path(checkpoint_dir), step=10 * self.steps)

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.steps = json.loads((Path(checkpoint) / "state.json").read_text())["steps"]


def main(folder: str, trials: str, seconds: str, misbehave: str = "") -> None:
    os.environ["CHEAP_SECONDS"] = seconds
    plan = make_plan(
        RECIPES["demo"],
        study="cheap",
        trials=int(trials),
        sampler="random",
        overrides={"data.num_train": "13" if misbehave else "32"},
    )
    end = run_study(
        plan,
        Launch(
            storage=folder,
            trainable=CheapTrainable,
            check_data=False,
            report=False,
            quiet=True,
            concurrency=2,
        ),
    )
    print(json.dumps({"finished": end.finished, "failed": end.failed, "left": end.remaining}))


if __name__ == "__main__":
    run_command_line(lambda: main(*sys.argv[1:]))

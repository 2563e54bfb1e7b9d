"""A study of four trials on a quarter of a GPU each, which is declared to Ray by hand.

    python tests/integration/programs/shared_gpu.py FOLDER

Every trial waits until all four are at work. The second asks for more memory than its share.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from search.execution.cluster.ray_cluster import set_ray_environment
from search.execution.launch_options import Launch
from search.execution.study import run_study
from search.plans.plan import Plan
from search.plans.recipe import get_recipe
from trainables.errors import Failure
from trainables.terminal.command_line import run_command_line
from trainables.training.watching.reports import Report

NUM_TRIALS = 4
_PATIENCE_SECONDS = 240.0


class Run:
    """In the place of `TrialRun`: no network, one report."""

    total_seconds = 3600.0
    epochs = 1.0
    notes: tuple[str, ...] = ()

    def __init__(self, config: Any, *, device: str, **arguments: Any) -> None:
        assert device == "cpu"  # there is no GPU here, whatever Ray was told
        self.config = config
        self.last_report: Report | None = None

    def next_report(self) -> Report | None:
        folder = Path(os.environ["SHARED_GPU_FOLDER"])
        (folder / f"at-work-{os.getpid()}").touch()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while len(list(folder.glob("at-work-*"))) < NUM_TRIALS:
            assert time.monotonic() < deadline, "the trials are not at work at once"
            time.sleep(0.05)
        if self.config.sparsity.target == 0.5:
            try:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            except torch.OutOfMemoryError as error:
                raise Failure("out of memory on cuda; lower training.batch_size") from error
        metrics = {
            "val/segmentation/miou": 0.5,
            "val/normals/mean_error_deg": 30.0,
            "val/depth/absolute_error": 1.0,
            "cost/density": 1.0 - self.config.sparsity.target,
        }
        self.last_report = Report(step=1, fraction=1.0, metrics=metrics, final=True)
        return self.last_report

    def summary(self, command: list[str]) -> dict[str, Any]:
        return {"command": command}

    def export(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("weights")


def plan_of() -> Plan:
    from search.plans.baselines import make_baselines_plan

    return make_baselines_plan(
        get_recipe("demo"),
        study="shared",
        methods=("snip",),
        sparsities=(0.3, 0.5, 0.7, 0.9),
        seeds=1,
    )


def main(folder: str) -> None:
    os.environ["SHARED_GPU_FOLDER"] = folder
    set_ray_environment()
    import ray

    start = ray.init
    ray.init = lambda **options: start(**options, num_gpus=1)
    from trainables.tune import DiSparseTrainable

    class Sharing(DiSparseTrainable):
        def setup(self, config: dict[str, Any]) -> None:
            import trainables.sweep.attempt

            trainables.sweep.attempt.TrialRun = Run
            super().setup(config)

    launch = Launch(
        storage=str(Path(folder) / "runs"),
        trainable=Sharing,
        check_data=False,
        report=False,
        quiet=True,
        gpus_per_trial=0.25,
    )
    end = run_study(plan_of(), launch)
    print(json.dumps({"finished": end.finished, "failed": end.failed, "left": end.remaining}))


if __name__ == "__main__":
    run_command_line(lambda: main(*sys.argv[1:]))

"""A driver of a study whose trials cost nothing; run as a program, so that it can be killed.

    python tests/integration/programs/cheap_study.py FOLDER TRIALS SECONDS_PER_REPORT [MISBEHAVE]

Poor trials are stopped early, by ParetoASHA. With MISBEHAVE none is, and trials do, by number:
1 raises, 2 returns NaN, 3 omits an objective, 4 dies with its process, 5 reports a failure, 6 hangs
with the interpreter's lock held, 7 allocates more than its control group has, 8 dies once and then
goes on. Other words than `misbehave` there let all trials reach their ends.
"""

import contextlib
import json
import math
import os
import re
import signal
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from ray import tune

from search.execution.launch_options import Launch
from search.execution.study import run_study
from search.plans.plan import Plan
from search.plans.recipe import get_recipe
from search.plans.resolve import make_plan
from trainables.errors import Failure
from trainables.terminal.command_line import run_command_line
from trainables.training.checkpoints.manifest import write_manifest
from trainables.training.watching.watchdog import Watchdog, silence_of

NUM_REPORTS = 4
TIME_LIMIT_SECONDS = 6.0  # of a trial that hangs; others take a hundredth of it
_MISBEHAVING = 13  # `data.num_train` of a study whose trials misbehave
_CONTROL_GROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)
_GROUP_BYTES = 64 << 20


class CheapTrainable(tune.Trainable):
    """Four reports; the state is the step, and a log of every step that was really taken."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.trial = new_config
        self.configuration = json.loads(new_config["config"])
        self.directory = Path(new_config["directory"])
        self.directory.mkdir(parents=True, exist_ok=True)
        self.steps = 0
        self.silence = silence_of(self.directory)
        self.watchdog = Watchdog(self.directory, new_config["time_limit_seconds"])
        if new_config["restore_from"]:
            self.load_checkpoint(new_config["restore_from"])
        return True

    def step(self) -> dict[str, Any]:
        if self.silence:
            return {"status": "failed", "reason": self.silence, "done": True}
        with self.watchdog.watching():
            return self.report()

    def report(self) -> dict[str, Any]:
        number = self.trial["number"]
        misbehaves = number if self.configuration["data"]["num_train"] == _MISBEHAVING else 0
        time.sleep(float(os.environ.get("CHEAP_SECONDS", "0")))
        # Killed between its last checkpoint and its end, a trial gives its last report again.
        taken = self.steps < NUM_REPORTS
        self.steps += taken
        if self.steps == 2:
            misbehave(misbehaves, self.directory)
        if taken:
            with (self.directory / "steps.log").open("a") as file:
                file.write(f"{self.steps}\n")
        last = self.steps == NUM_REPORTS
        metrics = metrics_of(self.configuration, self.steps / NUM_REPORTS)
        if misbehaves == 2 and last:
            metrics["cost/density"] = math.nan
        if misbehaves == 3:
            del metrics["val/depth/absolute_error"]
        failed = misbehaves == 5 and last
        return {
            **metrics,
            "training/step": 10 * self.steps,
            "training/fraction": self.steps / NUM_REPORTS,
            "status": "failed" if failed else "complete" if last else "running",
            **({"reason": "out of memory: pretended"} if failed else {}),
            "done": last,
            "should_checkpoint": True,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "state.json").write_text(json.dumps({"steps": self.steps}))
        ballast = int(os.environ.get("CHEAP_CHECKPOINT_BYTES", "0"))
        (Path(checkpoint_dir) / "ballast").write_bytes(os.urandom(ballast))
        write_manifest(Path(checkpoint_dir), step=10 * self.steps)

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.steps = json.loads((Path(checkpoint) / "state.json").read_text())["steps"]


def metrics_of(config: dict[str, Any], fraction: float) -> dict[str, float]:
    """Depend on the configuration and the fraction of training alone."""
    density = 1.0 - config["sparsity"]["target"]
    luck = zlib.crc32(json.dumps(config, sort_keys=True).encode()) / 2**32
    quality = math.sqrt(density) * fraction * (0.5 + luck / 2)
    return {
        "val/segmentation/miou": quality,
        "val/normals/mean_error_deg": 60.0 - 20.0 * quality,
        "val/depth/absolute_error": 2.0 - quality,
        "cost/density": density,
    }


def misbehave(kind: int, directory: Path) -> None:
    """In the middle of a trial, see above."""
    attempts = directory / "attempts.log"
    with attempts.open("a") as file:
        file.write("begun\n")
    if kind == 1:
        raise RuntimeError("this trial raises")
    if kind == 4 or (kind == 8 and attempts.read_text().count("begun") == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 6:
        re.match(r"(a*)*b", "a" * 64)  # for ever, in C: no other thread of Python gets its turn
    if kind == 7:
        with contextlib.suppress(OSError):
            join_small_group()
        bytearray(8 * _GROUP_BYTES).replace(b"\0", b"\1")
        os.kill(os.getpid(), signal.SIGKILL)  # there is no such group here: the same, pretended


def join_small_group() -> None:
    """Where the kernel's own out-of-memory killer ends whoever takes too much."""
    for root, limit in _CONTROL_GROUPS:
        if root.is_dir():
            group = root / f"disparse-test-{os.getpid()}"
            group.mkdir()
            (group / limit).write_text(str(_GROUP_BYTES))
            (group / "cgroup.procs").write_text(str(os.getpid()))
            return


def plan_of(trials: int, **arguments: Any) -> Plan:
    small = {"data.num_train": "32"}
    chosen = {"sampler": "random", "scheduler": "pareto-asha", "overrides": small, **arguments}
    return make_plan(get_recipe("demo"), study="cheap", trials=trials, **chosen)


def main(folder: str, trials: str, seconds: str, misbehave: str = "") -> None:
    os.environ["CHEAP_SECONDS"] = seconds
    wishes: dict[str, Any] = {}
    if misbehave:
        wishes["scheduler"] = "none"
    if misbehave == "misbehave":
        wishes["overrides"] = {"data.num_train": str(_MISBEHAVING)}
    hears = signal.getsignal(signal.SIGINT)
    end = run_study(
        plan_of(int(trials), **wishes),
        Launch(
            storage=folder,
            trainable=CheapTrainable,
            check_data=False,
            report=False,
            quiet=True,
            concurrency=2,
            ray_address=os.environ.get("CHEAP_RAY_ADDRESS", "local"),
            trial_time_limit=TIME_LIMIT_SECONDS if misbehave == "misbehave" else None,
        ),
    )
    if end.unwritten:
        raise Failure(end.unwritten)
    assert signal.getsignal(signal.SIGINT) is hears  # Tune leaves its own handler
    print(json.dumps({"finished": end.finished, "failed": end.failed, "left": end.remaining}))


if __name__ == "__main__":
    run_command_line(lambda: main(*sys.argv[1:]))

"""Processes that ask for the same dense model at once, the first builder killed half-way.

    python askers.py FOLDER

FOLDER/asked.json lists the trials; each is run by a process of its own with the dense cache
FOLDER/cache and leaves FOLDER/NUMBER.json (its reports). FOLDER/steps.log gets a line "PID STEP"
for every step of a dense trial. The processes are forks, so that torch is imported once.
"""

import contextlib
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import torch

from trainables.config import TrialConfig
from trainables.training.dense_runs.cache import DenseCache
from trainables.training.loop.loop import TrainingLoop
from trainables.training.trial import TrialRun

KILLED_AFTER = 6  # dense steps


def log_steps(folder: Path) -> None:
    advance = TrainingLoop.advance

    def logged(self: TrainingLoop) -> None:
        if self.config.method != "dense":
            return advance(self)
        if self.step == KILLED_AFTER:
            with contextlib.suppress(FileExistsError):
                (folder / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        with (folder / "steps.log").open("a") as log:
            log.write(f"{os.getpid()} {self.step}\n")
        return advance(self)

    TrainingLoop.advance = logged  # type: ignore[method-assign]


def ask(folder: Path, number: int, config: TrialConfig) -> None:
    run = TrialRun(config, device="cpu", dense_cache=DenseCache(folder / "cache", "cpu"))
    reports = []
    while (report := run.next_report()) is not None:
        reports.append(dataclasses.asdict(report))
    (folder / f"{number}.json").write_text(json.dumps(reports))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    log_steps(folder)
    asked = json.loads((folder / "asked.json").read_text())
    children = []
    for number, values in enumerate(asked):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                ask(folder, number, TrialConfig.from_dict(values))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

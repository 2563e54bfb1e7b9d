"""Whole trials in processes that share one device: how many an hour.

    python -m benchmarks.sharing FOLDER PRESET DEVICE SHARE STEPS

is one of the processes. It trains and evaluates one trial for every line that it reads, as the
processes of a search do, which are used again: Python's own start is not counted.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
import torch

from benchmarks.frames import noise_trial
from trainables.training.trial import TrialRun

_ROOT = Path(__file__).resolve().parent.parent


def timed(
    folder: str, preset: str, number: int, device: str, steps: int | None, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds of `number` trials at once, and of one alone, by round.

    The rounds alternate, after one of each that is not counted. folder: holds the store.
    """
    share = 0.9 / (number + 1)  # the one that runs alone keeps its memory meanwhile
    arguments = [folder, preset, device, str(share), str(steps or 0)]
    processes = [_started(arguments) for _ in range(number + 1)]
    try:
        together: list[float] = []
        alone: list[float] = []
        for _ in range(rounds + 1):
            together.append(_round(processes[:number]))
            alone.append(_round(processes[number:]))
    finally:
        for process in processes:
            process.communicate()  # the end of its input ends it
    return np.array(together[1:]), np.array(alone[1:])


def _started(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sharing", *arguments],
        cwd=_ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _round(processes: list[subprocess.Popen[str]]) -> float:
    start = time.perf_counter()
    for process in processes:
        _pipe(process.stdin).write("go\n")
        _pipe(process.stdin).flush()
    for process in processes:
        if _pipe(process.stdout).readline() != "done\n":
            raise RuntimeError(f"a trial ended with exit code {process.wait()}; see above")
    return time.perf_counter() - start


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def main(folder: str, preset: str, device: str, share: str, steps: str) -> None:
    """Train a trial for every line of standard input, and answer "done" to each."""
    torch.set_num_threads(1)
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(float(share))
    config = noise_trial(Path(folder), preset, "random", 0)
    if int(steps):
        config = config.replace({"training.steps": int(steps), "training.num_reports": 1})
    for seed, _ in enumerate(sys.stdin):
        run = TrialRun(config.replace({"seed": seed}), device=device)
        while run.next_report() is not None:
            pass
        run.loop.source.close()
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

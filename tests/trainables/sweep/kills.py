"""Kills a sweep at random moments, and says what was lost or doubled: nothing may be.

    python -m tests.trainables.sweep.kills [--kills 10] [--seed 0]

Every other time the command's processes are killed with it; otherwise they are left to notice that
it is gone, while the next command is at work already. Trials train two at once, on one thread each.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import REPOSITORY
from tests.trainables.sweep.grids import rows, write
from trainables.integrity.checksums import read_sealed
from trainables.sweep.folder import SweepFolder

NUM_TRIALS = 5
NUM_REPORTS = 40
STEPS = 400
_MAX_DELAY_SECONDS = 3.0  # of a kill, after a trial has begun


def make_grid(folder: Path) -> Path:
    dense, snip, imp = rows(folder, steps=STEPS, **{"training.num_reports": NUM_REPORTS})
    return write(
        folder, [dense, snip, imp, {**snip, "seed": 3, "sparsity": 0.9}, {**snip, "sparsity": 0.7}]
    )


class Kills:
    """A sweep that is killed, and what was seen of it before each kill."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draws = random.Random(seed)
        self.grid = make_grid(folder)
        self.out = folder / "out"
        self.violations: list[str] = []
        self.num_kills = 0
        self.num_at_work = 0  # kills while a trial was at work
        self.results: dict[int, bytes] = {}
        self.reports: dict[int, bytes] = {}

    def start(self, out: Path) -> psutil.Popen:
        line = [sys.executable, "-m", "trainables", "sweep", str(self.grid), "--out", str(out)]
        return psutil.Popen(
            [*line, "--at-once", "2", "--device", "cpu", "--quiet"],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_once(self) -> None:
        process = self.start(self.out)
        moment = self.draws.uniform(0.0, _MAX_DELAY_SECONDS)
        while process.poll() is None and not any(self.out.glob("trials/*")):
            time.sleep(0.02)
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() - begun < moment:
            time.sleep(0.02)
        if process.poll() is None:
            family = process.children(recursive=True)
            self.num_kills += 1
            self.num_at_work += len(list(self.out.glob("trials/*/result.json"))) < NUM_TRIALS
            process.send_signal(signal.SIGKILL)
            if self.draws.random() < 0.5:
                for child in family:
                    child.kill()
                psutil.wait_procs(family)
        process.communicate()
        self.look()

    def look(self) -> None:
        """What was there stays as it was: results whole, reports as the beginning of more."""
        for number in range(NUM_TRIALS):
            folder = SweepFolder(self.out).trial(number)
            for name, known in (("result.json", self.results), ("reports.jsonl", self.reports)):
                now = (folder / name).read_bytes() if (folder / name).exists() else b""
                before = known.get(number, b"")
                if not now.startswith(before) or (
                    name == "result.json" and before not in (b"", now)
                ):
                    self.violations.append(f"{name} of trial {number} was changed")
                known[number] = now

    def finish(self, out: Path) -> None:
        process = self.start(out)
        _, errors = process.communicate(timeout=300)
        if process.returncode:
            self.violations.append(f"the last command exited {process.returncode}: {errors}")

    def compare(self, undisturbed: Path) -> None:
        """Every trial has ended once, as without kills: to the bit, on one thread."""
        for number in range(NUM_TRIALS):
            ours, theirs = (SweepFolder(out).trial(number) for out in (self.out, undisturbed))
            steps = [row["step"] for row in ours.reports()]
            if steps != [row["step"] for row in theirs.reports()]:
                self.violations.append(f"trial {number} reported at {steps}")
            pairs = zip(ours.reports(), theirs.reports(), strict=False)
            if any(timeless(a["metrics"]) != timeless(b["metrics"]) for a, b in pairs):
                self.violations.append(f"trial {number} reported other values")
            found, wanted = (read_sealed(t.result_file)["result"] for t in (ours, theirs))
            if timeless(found) != timeless(wanted):
                self.violations.append(f"trial {number} ended otherwise")
            if list(ours.directory.glob("*checkpoint*")):
                self.violations.append(f"trial {number} left a checkpoint")
            found = read_sealed(ours.result_file)
            ours.check_files(found)


def timeless(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name != "training/gpu_hours"}


def kill_sweep(folder: Path, *, kills: int, seed: int = 0) -> dict[str, Any]:
    """Run it all in `folder`; what was found is in `violations`."""
    began = time.monotonic()
    sweep = Kills(folder, seed)
    for _ in range(kills):
        sweep.kill_once()
    sweep.finish(sweep.out)
    sweep.look()
    sweep.finish(folder / "undisturbed")
    sweep.compare(folder / "undisturbed")
    return {
        "kills": sweep.num_kills,
        "with_trials_at_work": sweep.num_at_work,
        "seconds": round(time.monotonic() - began, 1),
        "violations": sweep.violations,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        found = kill_sweep(Path(folder), kills=wishes.kills, seed=wishes.seed)
    print(json.dumps(found, indent=2))
    return bool(found["violations"])


if __name__ == "__main__":
    sys.exit(main())

"""`make soak`: kills a study's driver at random moments until the study is finished, and checks
that nothing is lost, doubled or left running.

    python -m tests.integration.soak [--kills 30] [--trials 32] [--seed 0] [--real] [--json FILE]

Every driver is started by the same command and SIGKILLed with all of its processes, its local
Ray included, at a moment drawn from the seed; half of the times the projector, a session of its
own, is spared, as it is where the driver alone dies. Then the command runs to the end, and the
study is compared with one that nobody disturbed: draws are random, so that they depend on the
seed and a trial's number alone. Prints a summary; exits 1 where anything is wrong.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from search.record.files.study_folder import StudyFiles, read_json_lines, study_files
from tests.integration.records import REPOSITORY, check_everything, environment, optuna_study
from tests.integration.soak_checks import (
    STUDY,
    check_front,
    check_processes,
    check_same_trials,
    check_scheduler,
)
from trainables.training.checkpoints.manifest import MANIFEST, valid_checkpoint

STEPS = (10, 20, 30, 40)
_REAL_STEPS = (2, 4, 6, 8)
_CHECKPOINT_BYTES = 8 << 20  # long enough in writing to be killed in between
_SECONDS_PER_REPORT = 0.3
_POLL_SECONDS = 0.005
_LAUNCH_SECONDS = 300.0

MOMENTS = ("start-up", "before the first ask", "reports", "checkpoint", "end of a trial")
CLOSING = "closing"  # all trials have ended


class Soak:
    """One study in `folder`, and what befell its drivers."""

    def __init__(self, folder: Path, trials: int, seed: int, real: bool) -> None:
        self.folder = folder
        self.trials = trials
        self.files: StudyFiles = study_files(str(folder), STUDY)
        self.draws = random.Random(seed)
        self.real = real
        self.steps = _REAL_STEPS if real else STEPS
        self.kills: list[dict[str, Any]] = []
        self._waits: dict[str, Callable[[psutil.Popen], bool]] = {
            "start-up": lambda _: self._pause(6.0),
            "before the first ask": self._until_described,
            "reports": self._until_reports,
            "checkpoint": self._until_checkpoint,
            "end of a trial": self._until_an_end,
            CLOSING: self._until_closing,
        }

    def command(self, folder: Path) -> list[str]:
        if not self.real:
            program = str(Path(__file__).with_name("programs") / "cheap_study.py")
            return [
                sys.executable,
                program,
                str(folder),
                str(self.trials),
                str(_SECONDS_PER_REPORT),
            ]
        settings = {
            "training.steps": self.steps[-1], "training.num_reports": len(self.steps),
            "sparsity.saliency_batches": 1, "data.num_train": 16, "data.num_test": 4,
            "training.evaluation_batch_size": 4,
        }  # fmt: skip
        wishes = [w for k, v in settings.items() for w in ("--set", f"{k}={v}")]
        return [
            sys.executable, "-m", "search", "run", "demo", "--name", STUDY, "--sampler", "random",
            "--trials", str(self.trials), "--storage", str(folder), "--no-report", "--quiet",
            *wishes,
        ]  # fmt: skip

    def start(self, folder: Path, log: Path) -> psutil.Popen:
        with log.open("a") as output:
            return psutil.Popen(
                self.command(folder),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment(), "CHEAP_CHECKPOINT_BYTES": str(_CHECKPOINT_BYTES)},
                cwd=REPOSITORY,
                start_new_session=True,
            )

    def run_to_the_end(self, folder: Path) -> float:
        """Undisturbed; returns the seconds it took. Raises `AssertionError` where it fails."""
        log = self.folder / f"{folder.name}.log"
        began = time.monotonic()
        driver = self.start(folder, log)
        code = driver.wait(timeout=1200)
        assert code == 0, f"the command exited {code}: {log.read_text()[-2000:]}"
        return time.monotonic() - began

    def kill_once(self, moment: str) -> None:
        """Start a driver, wait for the moment, and end all that belongs to it."""
        began = time.monotonic()
        before = self._num_reports()
        driver = self.start(self.folder, self.folder / "drivers.log")
        hit = self._waits[moment](driver)
        spared = self.draws.random() < 0.5
        alive = driver.poll() is None
        kill_tree(driver, spare=("multiprocessing.spawn",) if spared else ())
        self.kills.append(
            {
                "moment": moment,
                "alive": alive,  # else it had finished the study before
                "hit": hit and alive,
                "projector_spared": spared,
                "seconds": round(time.monotonic() - began, 2),
                "reports": self._num_reports() - before,
                "ended": self.num_ended(),
                "torn_checkpoints": self._num_torn(),
            }
        )
        print(json.dumps(self.kills[-1]), flush=True)

    def num_ended(self) -> int:
        """Trials that Optuna has as ended."""
        if not (self.files.directory / "optuna.journal").is_file():
            return 0
        try:
            trials = optuna_study(self.folder, self.files.study).get_trials(deepcopy=False)
        except KeyError:  # the study is being made
            return 0
        return sum(trial.state.is_finished() for trial in trials)

    # ------------------------------------------------------------------ moments

    def _pause(self, longest: float) -> bool:
        time.sleep(self.draws.uniform(0, longest))
        return True

    def _until(self, driver: psutil.Popen, condition: Callable[[], object]) -> bool:
        """Whether it came true while the driver was at work."""
        deadline = time.monotonic() + _LAUNCH_SECONDS
        while driver.poll() is None and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _until_described(self, driver: psutil.Popen) -> bool:
        """The study's files are there, Ray is not yet, or just so."""
        holder = self.files.directory / "driver.json"
        found = self._until(driver, lambda: holder.is_file() and holder.read_text().strip())
        return found and self._pause(8.0)

    def _until_reports(self, driver: psutil.Popen) -> bool:
        wanted = self._num_reports() + self.draws.randint(1, 4)
        found = self._until(driver, lambda: self._num_reports() >= wanted)
        return found and self._pause(_SECONDS_PER_REPORT)

    def _until_checkpoint(self, driver: psutil.Popen) -> bool:
        """One has begun to appear, by its manifest not whole."""
        known = set(self._checkpoints())
        wanted = self.draws.randint(0, 2)
        seen: set[Path] = set()

        def appears() -> bool:
            new = set(self._checkpoints()) - known - seen
            writing = [path for path in new if not (path / MANIFEST).is_file()]
            seen.update(new)
            # On a busy machine none may be seen half written: then right after one is.
            return len(seen) > wanted and (bool(writing) or len(seen) > wanted + 2)

        return self._until(driver, appears)

    def _until_an_end(self, driver: psutil.Popen) -> bool:
        wanted = self.num_ended() + 1
        found = self._until(driver, lambda: self.num_ended() >= wanted)
        return found and self._pause(0.1)

    def _until_closing(self, driver: psutil.Popen) -> bool:
        """All trials have ended: the tables, MLflow's runs and Ray are being closed."""
        found = self._until(driver, lambda: self.num_ended() >= self.trials)
        return found and self._pause(6.0)

    def _num_reports(self) -> int:
        paths = self.files.directory.glob("trials/*/reports.jsonl")
        return sum(len(read_json_lines(path)) for path in paths)

    def _checkpoints(self) -> list[Path]:
        return list(self.files.launches.glob("launch-*/*/checkpoint_*"))

    def _num_torn(self) -> int:
        return sum(valid_checkpoint(path) is None for path in self._checkpoints())


def kill_tree(driver: psutil.Popen, spare: Iterable[str] = ()) -> None:
    """SIGKILL of a process and all that descend from it, apart from modules named in `spare`."""
    if driver.poll() is None:
        driver.suspend()  # so that it starts nothing more
        tree = [driver, *driver.children(recursive=True)]
        for process in tree:
            try:
                if not any(name in process.cmdline() for name in spare):
                    process.kill()
            except psutil.NoSuchProcess:
                continue
    driver.wait()


def soak(folder: Path, *, kills: int, trials: int, seed: int, real: bool) -> dict[str, Any]:
    """Run it all in `folder`; what was found is in `violations`."""
    began = time.monotonic()
    study = Soak(folder, trials, seed, real)
    num_closing = max(1, kills // 6)
    moments = [MOMENTS[i % len(MOMENTS)] for i in range(kills - num_closing)]
    study.draws.shuffle(moments)
    for moment in [*moments, *[CLOSING] * num_closing]:
        ended = study.num_ended() >= trials
        study.kill_once(CLOSING if ended else moment)
    last = study.run_to_the_end(folder)
    undisturbed = folder / "undisturbed"
    alone = study.run_to_the_end(undisturbed)
    found: dict[str, Any] = {}
    violations = []
    checks: dict[str, Callable[[], Any]] = {
        "records": lambda: len(check_everything(folder, STUDY, trials, study.steps)),
        "trials": lambda: check_scheduler(folder),
        "complete_in_both": lambda: check_same_trials(folder, undisturbed),
        "front": lambda: check_front(folder),
        "processes": lambda: check_processes(folder),
    }
    for name, check in checks.items():
        try:
            found[name] = check()
        except AssertionError as error:
            violations.append(f"{name}: {error or 'see the traceback'}")
            sys.excepthook(type(error), error, error.__traceback__)
    return {
        "kills": len(study.kills),
        "by_moment": dict(Counter(k["moment"] for k in study.kills if k["hit"])),
        "missed": sum(not k["hit"] for k in study.kills),
        "projectors_spared": sum(k["projector_spared"] for k in study.kills),
        "with_torn_checkpoints": sum(k["torn_checkpoints"] > 0 for k in study.kills),
        "launches_of_ray": len(list(study.files.launches.glob("launch-*"))),
        "seconds_of_last_run": round(last, 1),
        "seconds_undisturbed": round(alone, 1),
        "seconds": round(time.monotonic() - began, 1),
        **found,
        "violations": violations,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="train real, tiny networks")
    parser.add_argument("--json", type=Path, help="write the summary there")
    wishes = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    found = soak(
        folder, kills=wishes.kills, trials=wishes.trials, seed=wishes.seed, real=wishes.real
    )
    text = json.dumps(found, indent=2)
    print(text)
    if wishes.json:
        wishes.json.write_text(text + "\n")
    if found["violations"]:
        print(f"{len(found['violations'])} violations; what was left is in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

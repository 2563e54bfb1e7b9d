"""Dense runs by content: whoever needs one, it is trained once.

A file lock decides who builds, and the kernel frees the lock of a killed builder. Hosts that
share the cache need a file system that carries locks between them, as NFS does.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainables.config import REWIND_FRACTIONS, TrialConfig
from trainables.sparsity.schedule import rewind_step
from trainables.training.checkpoints.best import on_cpu
from trainables.training.checkpoints.checkpoint import checkpoint_config
from trainables.training.dense import BEST_STEP, DenseRun, Weights
from trainables.training.dense_runs import entry
from trainables.training.dense_runs.key import entry_key
from trainables.training.device import resolve_device
from trainables.training.loop.loop import Diverged
from trainables.training.reports import Progress, Report
from trainables.training.trial import TrialRun

POLL_SECONDS = 0.5
CHECKPOINT_SECONDS = 60.0  # between a builder's checkpoints beyond those at reports
PROGRESS_SECONDS = 1.0  # between two notes of a builder on how far it is
WAITING = "waiting for the dense model"


class DenseCache:
    """The dense runs kept in `directory`, which processes may share.

    device: of the training, "auto", "cpu" or "cuda". deterministic: as in `TrialRun`.
    say: is told of damage, and once if the folder cannot be used; standard error by default.
    """

    def __init__(
        self,
        directory: Path,
        device: str,
        *,
        deterministic: bool = False,
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        self.directory = directory
        self.device = resolve_device(device)
        self.say = say
        self._how: dict[str, Any] = {"device": self.device, "deterministic": deterministic}
        self._said = False

    def get(
        self, config: TrialConfig, on_progress: Progress | None = None, *, steps: Sequence[int] = ()
    ) -> DenseRun:
        """Return the dense trial `config`: from the cache, or trained here, or waited for.

        on_progress: is called with phase "training", or `WAITING` and how far the builder is.
        steps: whose weights are needed. Kept are those of `BEST_STEP`, of the last step, and of
          `rewind_step` for `REWIND_FRACTIONS`.
        Raises `Diverged` if the loss diverges, here or before in another process: the same trial
        would do so again. Raises `Failure` if memory runs out here; others still try themselves.
        A folder that cannot be used costs no more than itself: the run is then trained for this
        asker alone. Damaged files are noticed when they are read, and the run is trained again.
        """
        folder = self.directory / entry_key(config, **self._how)
        lock = FileLock(folder / "lock", timeout=0, fallback_to_soft=False)
        try:
            # It may be finished between a look and the lock, so look once more with the lock.
            while (found := entry.read_entry(folder, steps)) is None and not lock.is_locked:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    lock.acquire()
                except Timeout:
                    if on_progress is not None:
                        on_progress(WAITING, entry.read_progress(folder), config.training.steps)
                    time.sleep(POLL_SECONDS)
                except OSError as error:
                    self._cannot_use(error)
                    return self._train(config, None, on_progress)
            if found is None and (folder / "run").exists():
                self.say(f"the dense run {folder / 'run'} is damaged; training it again")
            try:
                return found or self._train(config, folder, on_progress)
            except Diverged as error:
                entry.write_failure(folder, error)
                raise
        finally:
            lock.release()

    def _train(
        self, config: TrialConfig, folder: Path | None, on_progress: Progress | None
    ) -> DenseRun:
        """Train the run into `folder`; for this asker alone without one or where it fails."""
        last = config.training.steps
        kept = {rewind_step(fraction, last) for fraction in REWIND_FRACTIONS} | {last}
        run, reports, weights = self._open(config, folder)
        saved, told = time.monotonic(), 0.0

        def write(action: Callable[[Path], object]) -> None:
            nonlocal folder
            if folder is None:
                return
            try:
                action(folder)
            except (OSError, RuntimeError) as error:
                self._cannot_use(error)
                entry.discard_building(folder)
                folder = None

        def save() -> None:
            nonlocal saved
            so_far = DenseRun(reports=tuple(reports), timing={}, weights=weights)
            write(lambda into: entry.write_run(into / "building", so_far, run.write))
            saved = time.monotonic()

        def on_step(phase: str, done: int, total: int) -> None:
            nonlocal told
            if done in kept:
                weights[done] = on_cpu(run.model.state_dict())
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                save()
            if time.monotonic() - told > PROGRESS_SECONDS:
                write(lambda into: (into / "lock").write_text(str(done)))
                told = time.monotonic()
            if on_progress is not None:
                on_progress(phase, done, total)

        run.on_progress = on_step
        try:
            if run.loop.step == 0:
                weights[0] = on_cpu(run.model.state_dict())
            while (report := run.next_report()) is not None:
                reports.append(report)
                save()
            timing = run.summary([])["timing"]
            trained = DenseRun(reports=tuple(reports), timing=timing, weights=weights)
            # In place since the final report.
            weights[trained.best_step] = on_cpu(run.model.state_dict())
        finally:
            run.loop.source.close()
        write(lambda into: entry.write_run(into / "run", trained))
        write(entry.discard_building)
        best = {BEST_STEP: weights[trained.best_step]}
        return dataclasses.replace(trained, weights={**weights, **best})

    def _open(
        self, config: TrialConfig, folder: Path | None
    ) -> tuple[TrialRun, list[Report], dict[int, Weights]]:
        """Return a killed builder's run, reports and weights; a new run where there are none."""
        # Whatever is wrong with what a builder left costs its work and nothing else.
        with contextlib.suppress(Exception):
            if folder and (found := entry.read_run(folder / "building")):
                checkpoint = folder / "building" / "checkpoint"
                saved = checkpoint_config(checkpoint).replace({"data.root": config.data.root})
                run = TrialRun.resume(checkpoint, saved, **self._how)
                return run, list(found.reports), dict(found.weights)
        return TrialRun(config, **self._how), [], {}

    def _cannot_use(self, error: Exception) -> None:
        if not self._said:
            reason = str(error).partition("\n")[0] or type(error).__name__
            self.say(
                f"the dense cache {self.directory} cannot be used ({reason}); training without it"
            )
        self._said = True

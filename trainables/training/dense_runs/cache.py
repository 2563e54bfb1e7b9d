"""Caches dense runs by content, so that each is trained only once.

A file lock decides which process builds a run, and the kernel frees the lock of a killed builder.
Hosts that share the cache need a file system with locks across hosts, such as NFS.
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
from trainables.training.dense import BEST_STEP, DenseRun
from trainables.training.dense_runs import entry
from trainables.training.dense_runs.key import entry_key
from trainables.training.device import resolve_device
from trainables.training.loop.loop import Diverged
from trainables.training.trial import TrialRun
from trainables.training.watching.reports import Progress

POLL_SECONDS = 0.5
CHECKPOINT_SECONDS = 60.0  # between a builder's checkpoints, besides those at reports
PROGRESS_SECONDS = 1.0  # between a builder's notes on its progress
WAITING = "waiting for the dense model"


class DenseCache:
    """Keeps dense runs in `directory`, which several processes may share.

    device: of the training, "auto", "cpu" or "cuda". deterministic: as in `TrialRun`.
    say: called with messages about unusable files; prints to standard error by default.
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
        self.say, self._said = say, False
        device = resolve_device(device)
        self._how: dict[str, Any] = {"device": device, "deterministic": deterministic}

    def get(
        self, config: TrialConfig, on_progress: Progress | None = None, *, steps: Sequence[int] = ()
    ) -> DenseRun:
        """Return the dense trial `config` from the cache; train it, or wait for it, if missing.

        on_progress: is called with phase "training", or with `WAITING` and the builder's progress.
        steps: the steps whose weights are needed, as in `DenseRuns.get`.
        Raises `Diverged` if the loss diverges, or did so in another process: it would do so again.
        Raises `Failure` if memory runs out; other processes still try. If the folder cannot be
        used, the run is trained only for this caller. If files are damaged, it is trained again.
        """
        folder = self.directory / entry_key(config, **self._how)
        lock = FileLock(folder / "lock", timeout=0, fallback_to_soft=False)
        try:
            # Another process may have finished the run before the lock was acquired, so look again.
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

    def _train(self, config: TrialConfig, folder: Path | None, tell: Progress | None) -> DenseRun:
        """Train the run and keep it in `folder`, or only return it if that is None or unusable."""
        kept = {rewind_step(share, config.training.steps) for share in (*REWIND_FRACTIONS, 1.0)}
        run, found = self._open(config, folder)
        reports, weights = list(found.reports), dict(found.weights)
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
            if tell is not None:
                tell(phase, done, total)

        run.on_progress = on_step
        with contextlib.closing(run.loop.source):
            weights.setdefault(0, on_cpu(run.model.state_dict()))  # a continued run has them
            while (report := run.next_report()) is not None:
                reports.append(report)
                save()
            timing = run.summary([])["timing"]
            trained = DenseRun(reports=tuple(reports), timing=timing, weights=weights)
            # The final report has put the best weights in place.
            weights[trained.best_step] = best = on_cpu(run.model.state_dict())
        write(lambda into: entry.write_run(into / "run", trained))
        write(entry.discard_building)
        return dataclasses.replace(trained, weights={**weights, BEST_STEP: best})

    def _open(self, config: TrialConfig, folder: Path | None) -> tuple[TrialRun, DenseRun]:
        """Return a killed builder's trial and what it kept, or a new trial if it left none."""
        for name in ("building", ".building.previous"):
            # If a builder left anything damaged, its work is lost but the run is trained anew.
            with contextlib.suppress(Exception):
                if folder and (found := entry.read_run(folder / name)):
                    checkpoint = folder / name / "checkpoint"
                    saved = checkpoint_config(checkpoint).replace({"data.root": config.data.root})
                    return TrialRun.resume(checkpoint, saved, **self._how), found
        return TrialRun(config, **self._how), DenseRun(reports=(), timing={}, weights={})

    def _cannot_use(self, error: Exception) -> None:
        reason = str(error).partition("\n")[0] or type(error).__name__
        text = f"the dense cache {self.directory} cannot be used ({reason}); training without it"
        if not self._said:
            self.say(text)
        self._said = True

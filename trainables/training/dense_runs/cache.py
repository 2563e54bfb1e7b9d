"""Dense runs by content: whoever needs one, on any host, it is trained once.

A folder per run, named by `dense_key.entry_key`:
  run/       the entry, complete or absent: `run.json` (reports, timing), `STEP.pt` (weights and
             buffers after so many steps) and a manifest with their checksums;
  building/  what its builder has so far, from which the next one goes on if it dies;
  failure.json  why there is no run, where training diverges: it would again;
  lease      who builds now. damaged/ is an entry that was found broken.
"""

import contextlib
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from trainables.config import REWIND_FRACTIONS, TrialConfig
from trainables.errors import UserError
from trainables.sparsity.schedule import rewind_step
from trainables.training.dense_runs.entry import Building, DenseRun, read_run
from trainables.training.dense_runs.key import entry_key, normalised
from trainables.training.dense_runs.lease import Lease, read_holder
from trainables.training.device import resolve_device
from trainables.training.loop import Diverged
from trainables.training.trial import Progress, Report, TrialRun

POLL_SECONDS = 0.5
CHECKPOINT_SECONDS = 60.0  # between a builder's checkpoints beyond those at reports
SAY_AFTER_SECONDS = 60.0  # without a step of the builder
WAITING = "waiting for the dense model"


class DenseCache:
    """The dense runs kept in `directory`, which processes on several hosts may share.

    device: of the training, "cpu" or "cuda". deterministic: as in `TrialRun`. say: is told once
    where the folder cannot be used, of damage, and of a builder that does not get on.
    """

    def __init__(
        self,
        directory: Path,
        device: str,
        *,
        deterministic: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.directory = directory
        self.device = resolve_device(device)
        self._deterministic = deterministic
        self.say = say if say is not None else _warn
        self._said = False

    def get(self, config: TrialConfig, on_progress: Progress | None = None) -> DenseRun:
        """The dense trial `config`, trained here if nobody has and nobody does; else waits.

        on_progress: is called with phase "training", or `WAITING` and how far the builder is.
        Raises `Diverged` where the loss does, here or for whoever asked before: the same trial
        diverges again. Raises `Failure` where memory runs out here; that is the affair of this
        asker alone, and those who wait or come later try themselves. A folder that cannot be used
        costs no more than itself: the run is then trained for this asker alone.
        """
        return self._get(normalised(config), on_progress, thorough=False)

    def _get(
        self, config: TrialConfig, on_progress: Progress | None, *, thorough: bool
    ) -> DenseRun:
        """thorough: every file is summed before the entry is believed; of one that is damaged."""
        folder = self.directory / entry_key(config, self.device, deterministic=self._deterministic)
        lease, watch = Lease(folder / "lease"), _Watch(self.say)
        while True:
            if (found := _known(folder, thorough)) is not None:
                return self._mended(found, config, on_progress, thorough)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held = lease.acquire()
            except OSError as error:
                self._cannot_use(error)
                return self._train(config, None, None, on_progress)
            if held:
                try:
                    found = self._build(config, folder, lease, on_progress, thorough)
                    return self._mended(found, config, on_progress, thorough)
                finally:
                    lease.release()
            holder = read_holder(lease.path)
            watch.see(holder, config.training.steps)
            if on_progress is not None:
                on_progress(WAITING, int(holder.get("done", 0)), config.training.steps)
            time.sleep(POLL_SECONDS)

    def _mended(
        self, run: DenseRun, config: TrialConfig, on_progress: Progress | None, thorough: bool
    ) -> DenseRun:
        """The run, which looks for another where a file of it is damaged: first in the cache,
        and where a file is damaged once more, for this asker alone."""

        def again() -> DenseRun:
            if not thorough:
                return self._get(config, on_progress, thorough=True)
            return self._train(config, None, None, on_progress)

        return dataclasses.replace(run, again=again)

    def _build(
        self,
        config: TrialConfig,
        folder: Path,
        lease: Lease,
        on_progress: Progress | None,
        thorough: bool,
    ) -> DenseRun:
        """With the lease held."""
        if (found := _known(folder, thorough)) is not None:
            return found  # published between our look and our lease
        if (folder / "run").exists():
            self._set_aside(folder)
        building = Building(folder, self._cannot_use)
        try:
            return self._train(config, building, lease, on_progress)
        except Diverged as error:
            building.clear()
            _write_failure(folder, error)
            raise

    def _train(
        self,
        config: TrialConfig,
        building: Building | None,
        lease: Lease | None,
        on_progress: Progress | None,
    ) -> DenseRun:
        building = building if building is not None else Building(None, self._cannot_use)
        steps = config.training.steps
        wanted = {rewind_step(fraction, steps) for fraction in REWIND_FRACTIONS} | {steps}
        run, reports = self._open(config, building, wanted)
        saved = time.monotonic()

        def on_step(phase: str, done: int, total: int) -> None:
            nonlocal saved
            if done in wanted:
                building.keep(done, run.model.state_dict())
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                building.save(run, reports)
                saved = time.monotonic()
            if lease is not None:
                lease.say(done=done)
            if on_progress is not None:
                on_progress(phase, done, total)

        run.on_progress = on_step
        try:
            if run.loop.step == 0:
                building.keep(0, run.model.state_dict())
            while (report := run.next_report()) is not None:
                reports.append(report)
                building.save(run, reports)
                saved = time.monotonic()
            best = int(reports[-1].metrics["training/best_step"])
            if best not in wanted:
                building.keep(best, run.model.state_dict())  # in place since the final report
                wanted.add(best)
            timing = run.summary([])["timing"]
        finally:
            run.loop.source.close()
        found = building.publish(config, reports, timing, wanted)
        if wanted <= found.stored.keys():
            return found
        return self._train(config, None, None, on_progress)

    def _open(
        self, config: TrialConfig, building: Building, wanted: Iterable[int]
    ) -> tuple[TrialRun, list[Report]]:
        """The killed builder's run and its reports, or a new run."""
        arguments: dict[str, Any] = {"device": self.device, "deterministic": self._deterministic}
        if building.has_checkpoint():
            try:
                run = TrialRun.resume(building.checkpoint, config, **arguments)
                reports = building.reports_until(run.last_report)
                if building.holds(step for step in wanted if step <= run.loop.step):
                    return run, reports
            except (UserError, OSError, ValueError, KeyError, TypeError):
                pass  # nothing to go on from, or damaged
        building.clear()
        return TrialRun(config, **arguments), []

    def _set_aside(self, folder: Path) -> None:
        damaged = folder / "damaged"
        self.say(f"the dense run {folder / 'run'} is damaged; moved to {damaged}, training again")
        with contextlib.suppress(OSError):
            shutil.rmtree(damaged, ignore_errors=True)
            (folder / "run").rename(damaged)

    def _cannot_use(self, error: Exception) -> None:
        if not self._said:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.say(
                f"the dense cache {self.directory} cannot be used ({reason}); training without it"
            )
        self._said = True


class _Watch:
    """Says once whom we wait for, where that one has got no further for a while.

    A process that is stopped keeps its lease, so we wait for as long as it takes.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._seen: tuple[object, object] | None = None  # a builder and its step, since when:
        self._since = 0.0
        self._said = False

    def see(self, holder: Mapping[str, Any], total: int) -> None:
        seen, now = (holder.get("token"), holder.get("done")), time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        if self._said or now - self._since < SAY_AFTER_SECONDS:
            return
        self._said = True
        self._say(
            f"waiting for the dense model that process {holder.get('pid', 'unknown')} on host "
            f"{holder.get('host', 'unknown')} trains: still at step {holder.get('done', 0)} of "
            f"{total} after {SAY_AFTER_SECONDS:.0f} s; if it is stopped, continue or end it, and "
            "another goes on from its last checkpoint"
        )


def _known(folder: Path, thorough: bool) -> DenseRun | None:
    """The run in `folder`. Raises `Diverged` where it is known that there will be none."""
    if (found := read_run(folder, thorough=thorough)) is not None:
        return found
    try:
        message = str(json.loads((folder / "failure.json").read_text())["diverged"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    raise Diverged(message)


def _write_failure(folder: Path, error: Diverged) -> None:
    with contextlib.suppress(OSError):
        partial = folder / ".failure.partial"
        partial.write_text(json.dumps({"diverged": str(error)}))
        partial.replace(folder / "failure.json")


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

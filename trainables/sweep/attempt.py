"""Trains one trial and makes a result of whatever happens to it, for Ray and for sweeps alike.

An error inside a trial (a diverged loss, no memory, a refused setting) becomes a result with
`status: failed` and a reason, never an exception, so that nobody retries it or stops for it. A full
disk is not the trial's fault. It is raised.
"""

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainables.config import TrialConfig
from trainables.errors import Failure, UserError, is_full_disk, is_out_of_memory
from trainables.report import non_finite
from trainables.shipping.trial_costs import deployment_costs
from trainables.sweep.share import Share
from trainables.training.checkpoints.manifest import valid_checkpoint, write_manifest
from trainables.training.dense_runs.cache import DenseCache
from trainables.training.test_frames import FILE, save_predictions
from trainables.training.trial import TrialRun
from trainables.training.watching.reports import Progress, Report
from trainables.training.watching.watchdog import Watchdog, silence_of
from trainables.user_code import SEE_TRACEBACK, bug


class Attempt:
    """Trains one trial from report to report.

    trial: plain JSON:
      name: the trial's identity, `demo-00003`.
      config: `TrialConfig.to_dict()` as JSON text, because Tune copies, flattens and writes
        every leaf of a dict many times for every trial.
      objectives: metrics that must be finite for the trial to be useful.
      directory: the folder of `summary.json`, `model.pt` and `predictions.npz`.
      import_folder: the folder of the user's own modules, or None (or absent).
      restore_from: a checkpoint to go on from, or None.
      dense_cache: the folder of dense runs that trials share, or None (or absent).
      time_limit_seconds: how long one report, the first one included, or one checkpoint may
        take; None (or absent) for no limit. Beyond it the process ends itself; the next
        process that gets the trial reports the reason.
      baseline: the dense trial to compare with, in the form of `config`, or None (or absent);
        needs `dense_cache`.
    share: how much of the machine it may use; asked for when training begins.
    command: the command line that `summary.json` names.
    say: is told what the trial survives.
    on_progress: is called after every step; what it raises beside `Exception` ends the attempt.

    The run itself is built in the first `next_result`, so that even an error in its construction is
    a result, and a process that is used again holds one trial's memory at a time.
    """

    def __init__(
        self,
        trial: Mapping[str, Any],
        *,
        share: Callable[[], Share],
        command: Sequence[str],
        say: Callable[[str], None] = lambda text: print(text, flush=True),
        on_progress: Progress | None = None,
    ) -> None:
        folder = trial.get("import_folder")
        if folder and folder not in sys.path:
            sys.path.append(folder)
        self.run: TrialRun | None = None
        self._trial = dict(trial)
        self._share = share
        self._command = list(command)
        self._say = say
        self._on_progress = on_progress
        self._checkpoint = trial.get("restore_from")
        self._failure: dict[str, Any] | None = None
        # Do not repeat an attempt that hung.
        self._silence = silence_of(self._directory)
        self._watchdog = Watchdog(self._directory, trial.get("time_limit_seconds"))

    def next_result(self) -> dict[str, Any]:
        """Train to the next report and return it as a flat result, or the reason for a failure.

        A result holds the metrics, `training/…`, `status` ("running", "complete" or "failed"),
        `done`, and the `reason` of a failure. Raises only errors that are not the trial's fault,
        such as a full disk.
        """
        if self._silence:
            return self._fail(self._silence)
        with self._watchdog.watching():
            return self._next_result()

    def _next_result(self) -> dict[str, Any]:
        try:
            run = self.run if self.run is not None else self._open()
            self.run = run
            report = run.next_report() or run.last_report
            if report is None:
                return self._fail("the trial ended without a report")
            bad = non_finite(report.metrics, self._trial.get("objectives", ()))
            if not bad:
                return self._result(run, report)
            said = ", ".join(f"{n}={report.metrics.get(n, 'missing')}" for n in bad)
            return self._fail(f"objectives missing or not finite at step {report.step}: {said}")
        except (UserError, Failure) as error:
            # Of a user's own code; `--debug` of the driver cannot show what happened here.
            reason = str(error).replace(SEE_TRACEBACK, "the trial's summary.json has the traceback")
            cause = error.__cause__
            if cause is not None and is_out_of_memory(cause):
                reason += self._share().explain()
            return self._fail(reason, traceback.format_exc() if cause else "")
        except (torch.OutOfMemoryError, MemoryError) as error:
            said = f"out of memory: {error or type(error).__name__}"
            return self._fail(said + self._share().explain())
        except Exception as error:
            if is_full_disk(error):
                raise
            return self._fail(bug(error), traceback.format_exc())

    def _open(self) -> TrialRun:
        """Return the trial from its checkpoint, or a new run if that cannot be read."""
        device = self._share().prepare()
        config = _configuration(self._trial["config"])
        arguments = {**self._dense_arguments(device), "deployment": deployment_costs(config)}
        if self._on_progress is not None:
            arguments["on_progress"] = self._on_progress
        if self._checkpoint is not None:
            try:
                return TrialRun.resume(Path(self._checkpoint), config, device=device, **arguments)
            except UserError as error:
                self._say(f"{self._trial['name']} starts again: {error}")
        return TrialRun(config, device=device, **arguments)

    def _dense_arguments(self, device: str) -> dict[str, Any]:
        folder, baseline = self._trial.get("dense_cache"), self._trial.get("baseline")
        if folder is None:
            return {}
        return {
            "dense_cache": DenseCache(Path(folder), device),
            "baseline_config": None if baseline is None else _configuration(baseline),
        }

    def _result(self, run: TrialRun, report: Report) -> dict[str, Any]:
        if report.final:
            self._export(run)
            summary = run.summary(self._command)
            self._write_summary({**summary, "trial": self._trial["name"], "status": "complete"})
        return {
            **report.metrics,
            "training/step": report.step,
            "training/fraction": report.fraction,
            **self._used(run),
            "status": "complete" if report.final else "running",
            "notes": list(run.notes),
            "done": report.final,
        }

    def _used(self, run: TrialRun) -> dict[str, float]:
        """Return how much of a study's budget this trial has used since its first start."""
        hours = run.total_seconds / 3600
        return {
            "training/epochs": run.epochs,
            "training/gpu_hours": hours * self._share().gpus,
        }

    def _fail(self, reason: str, details: str = "") -> dict[str, Any]:
        last = self.run.last_report if self.run is not None else None
        metrics = dict(last.metrics) if last is not None else {}
        used = self._used(self.run) if self.run is not None else {}
        config = json.loads(self._trial["config"])
        self._write_summary(
            {
                "trial": self._trial["name"],
                "status": "failed",
                "reason": reason,
                "traceback": details,
                "config": config,
                "seed": config.get("seed"),
                "metrics": {k: v for k, v in metrics.items() if not non_finite(metrics, (k,))},
            }
        )
        loop = getattr(self.run, "loop", None)  # of a run that was built
        if self.run is not None and loop and loop.step >= self.run.config.training.steps:
            try:
                self._export(self.run)  # what failed is the last report, not the training
            except Exception as error:
                if is_full_disk(error):
                    raise
                self._say(f"the model of {self._trial['name']} is not kept: {error}")
        self._failure = {"reason": reason}
        self.close()
        return {
            **metrics,
            "training/step": last.step if last is not None else 0,
            "training/fraction": last.fraction if last is not None else 0.0,
            **used,
            "status": "failed",
            "reason": reason,
            "done": True,
        }

    def _export(self, run: TrialRun) -> None:
        """Write `model.pt` and `predictions.npz`; a failure does not lose the trial's result."""
        path = self._directory / "model.pt"
        try:
            run.export(path)
        except OSError as error:
            if is_full_disk(error):
                raise
            self._say(f"cannot write {path}: {error}")
        try:
            save_predictions(path.with_name(FILE), run)
        except Exception as error:  # pictures are not worth a trial
            if is_full_disk(error):
                raise
            self._say(f"cannot write {path.with_name(FILE)}: {error}")

    def _write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`, complete or absent. A failure to write does not end the trial."""
        directory = self._directory
        partial = directory / f".summary.{os.getpid()}.partial"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(summary, indent=2, default=str))
            partial.replace(directory / "summary.json")
        except OSError as error:
            if is_full_disk(error):
                raise
            self._say(f"cannot write {directory / 'summary.json'}: {error}")

    def write(self, directory: Path) -> None:
        """Write the run and then a manifest of its files, which reveals an incomplete copy."""
        if self.run is None or self._failure is not None:
            (directory / "failed.json").write_text(json.dumps(self._failure))
            return
        report = self.run.last_report
        with self._watchdog.watching():
            self.run.write(directory)
            write_manifest(directory, step=report.step if report else 0)

    def load(self, directory: Path) -> None:
        """Go on from a checkpoint, which is read at once: its folder may be gone later."""
        self.close()
        if self._silence:
            return  # it may hang again
        if valid_checkpoint(directory) is None:
            return  # start again from `restore_from`, or from the beginning
        self._checkpoint = str(directory)
        try:
            with self._watchdog.watching():
                self.run = self._open()
        except Exception as error:  # `next_result` tries again and turns an error into a result
            self._say(f"{self._trial['name']} cannot resume: {error}")

    def close(self) -> None:
        """Free the trial's memory before the process takes another trial or ends."""
        self.run = None
        if not self._silence:
            self._watchdog.close()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def _directory(self) -> Path:
        return Path(self._trial["directory"])


def _configuration(text: str) -> TrialConfig:
    return TrialConfig.from_dict(json.loads(text))

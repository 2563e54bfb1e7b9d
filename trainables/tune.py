"""Defines the Ray Tune trainable; this is the only file of the package that imports ray.

An error inside a trial (a diverged loss, no memory, a refused setting) becomes a result with
`status: failed` and a reason, never an exception, so that Ray neither retries it nor stops. A
full disk is not the trial's fault. It is raised, so that the driver ends the launch.
"""

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.experiment.trial import _TrialInfo

from trainables.config import TrialConfig
from trainables.errors import Failure, UserError, is_full_disk
from trainables.report import non_finite
from trainables.shipping.trial_costs import deployment_costs
from trainables.training.checkpoints.manifest import valid_checkpoint, write_manifest
from trainables.training.dense_runs.cache import DenseCache
from trainables.training.reports import Report
from trainables.training.test_frames import FILE, save_predictions
from trainables.training.trial import TrialRun
from trainables.training.watchdog import Watchdog, silence_of
from trainables.user_code import SEE_TRACEBACK, bug


class DiSparseTrainable(tune.Trainable):
    """Runs one trial as an actor; `step` trains to the next report.

    The configuration is plain JSON, as `search.execution.launch` builds it:
      name: the trial's identity, `demo-00003`.
      config: `TrialConfig.to_dict()` as JSON text, because Tune copies, flattens and writes
        every leaf of a dict many times for every trial.
      objectives: metrics that must be finite for the trial to be useful.
      directory: the folder of `summary.json`, `model.pt` and `predictions.npz`.
      import_folder: the folder of the user's own modules, or None.
      restore_from: a checkpoint of an earlier launch, or None.
      dense_cache: the folder of dense runs that trials share, or None (or absent).
      time_limit_seconds: how long one report, the first one included, or one checkpoint may
        take; None (or absent) for no limit. Beyond it the process ends itself; the next
        process that gets the trial reports the reason.
      reference, final_density: only for the scheduler, see `search.schedulers.study_scheduler`.
      baseline: the dense trial to compare with, in the form of `config`, or None (or absent);
        needs `dense_cache`.

    The run itself is built in the first `step`, so that even an error in its construction is a
    result, and a reused actor holds one trial's memory at a time.
    """

    _run: TrialRun | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Set the first trial's configuration; Ray calls this once per process."""
        self._use(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Set another trial's configuration in the same process; this is always possible."""
        self.cleanup()
        self._use(new_config)
        return True

    def _use(self, config: dict[str, Any]) -> None:
        folder = config.get("import_folder")
        if folder and folder not in sys.path:
            sys.path.append(folder)
        self._trial = dict(config)
        self._run = None
        self._checkpoint = config.get("restore_from")
        self._started = time.time()
        self._failure: dict[str, Any] | None = None
        # Do not repeat an attempt that hung.
        self._silence = silence_of(Path(config["directory"]))
        self._watchdog = Watchdog(Path(config["directory"]), config.get("time_limit_seconds"))

    def step(self) -> dict[str, Any]:
        """Train to the next report and return it as Tune's result, or the reason for a failure.

        Raises only errors that are not the trial's fault, such as a full disk.
        """
        if self._silence:
            return self._fail(self._silence)
        with self._watchdog.watching():
            return self._next_result()

    def _next_result(self) -> dict[str, Any]:
        try:
            run = self._run if self._run is not None else self._open()
            self._run = run
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
            return self._fail(reason, traceback.format_exc() if error.__cause__ else "")
        except (torch.OutOfMemoryError, MemoryError) as error:
            return self._fail(f"out of memory: {error or type(error).__name__}")
        except Exception as error:
            if is_full_disk(error):
                raise
            return self._fail(bug(error), traceback.format_exc())

    def _open(self) -> TrialRun:
        """Return the trial from its checkpoint, or a new run if that cannot be read."""
        device = self._prepare_process()
        config = _configuration(self._trial["config"])
        arguments = {**self._dense_arguments(device), "deployment": deployment_costs(config)}
        if self._checkpoint is not None:
            try:
                return TrialRun.resume(Path(self._checkpoint), config, device=device, **arguments)
            except UserError as error:
                print(f"{self._trial['name']} starts again: {error}", flush=True)
        return TrialRun(config, device=device, **arguments)

    def _dense_arguments(self, device: str) -> dict[str, Any]:
        folder, baseline = self._trial.get("dense_cache"), self._trial.get("baseline")
        if folder is None:
            return {}
        return {
            "dense_cache": DenseCache(Path(folder), device),
            "baseline_config": None if baseline is None else _configuration(baseline),
        }

    def _prepare_process(self) -> str:
        """Limit the process to the trial's share of the machine and return the device."""
        resources = _required_resources(self._trial_info)
        torch.set_num_threads(max(1, int(resources.get("CPU", 1))))
        num_gpus = _num_gpus(self._trial_info)
        if not num_gpus or not torch.cuda.is_available():
            return "cpu"
        if num_gpus < 1:
            # Ray does not enforce fractions of a GPU; with this limit a greedy trial fails alone.
            torch.cuda.set_per_process_memory_fraction(float(num_gpus))
        return "cuda"

    def _result(self, run: TrialRun, report: Report) -> dict[str, Any]:
        if report.final:
            self._export(run)
            study = str(self._trial["name"]).rpartition("-")[0]
            summary = run.summary(["python", "-m", "search", "resume", study])
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
            "training/gpu_hours": hours * _num_gpus(self._trial_info),
        }

    def _fail(self, reason: str, details: str = "") -> dict[str, Any]:
        last = self._run.last_report if self._run is not None else None
        metrics = dict(last.metrics) if last is not None else {}
        used = self._used(self._run) if self._run is not None else {}
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
        loop = getattr(self._run, "loop", None)  # of a run that was built
        if self._run is not None and loop and loop.step >= self._run.config.training.steps:
            try:
                self._export(self._run)  # what failed is the last report, not the training
            except Exception as error:
                if is_full_disk(error):
                    raise
                print(f"the model of {self._trial['name']} is not kept: {error}", flush=True)
        self._failure = {"reason": reason}
        self.cleanup()
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
        path = Path(self._trial["directory"]) / "model.pt"
        try:
            run.export(path)
        except OSError as error:
            if is_full_disk(error):
                raise
            print(f"cannot write {path}: {error}", flush=True)
        try:
            save_predictions(path.with_name(FILE), run)
        except Exception as error:  # pictures are not worth a trial
            if is_full_disk(error):
                raise
            print(f"cannot write {path.with_name(FILE)}: {error}", flush=True)

    def _write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`, complete or absent. A failure to write does not end the trial."""
        directory = Path(self._trial["directory"])
        partial = directory / f".summary.{os.getpid()}.partial"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(summary, indent=2, default=str))
            partial.replace(directory / "summary.json")
        except OSError as error:
            if is_full_disk(error):
                raise
            print(f"cannot write {directory / 'summary.json'}: {error}", flush=True)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the run and then a manifest of its files, which reveals an incomplete copy."""
        directory = Path(checkpoint_dir)
        if self._run is None or self._failure is not None:
            (directory / "failed.json").write_text(json.dumps(self._failure))
            return
        report = self._run.last_report
        with self._watchdog.watching():
            self._run.write(directory)
            write_manifest(directory, step=report.step if report else 0)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume from `checkpoint`; Ray calls this when it moves a trial.

        The checkpoint is read at once, because its folder may be gone before `step` runs.
        """
        self.cleanup()
        directory = Path(str(checkpoint))
        if self._silence:
            return  # it may hang again
        if valid_checkpoint(directory) is None:
            return  # start again from `restore_from`, or from the beginning
        self._checkpoint = str(directory)
        try:
            with self._watchdog.watching():
                self._run = self._open()
        except Exception as error:  # `step` tries again and turns an error into a result
            print(f"{self._trial['name']} cannot resume: {error}", flush=True)

    def cleanup(self) -> None:
        """Free the trial's memory before the process takes another trial or ends."""
        self._run = None
        if not self._silence:
            self._watchdog.close()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _configuration(text: str) -> TrialConfig:
    return TrialConfig.from_dict(json.loads(text))


def _num_gpus(info: _TrialInfo | None) -> float:
    return float(_required_resources(info).get("GPU", 0.0))


def _required_resources(info: _TrialInfo | None) -> Mapping[str, float]:
    if info is None or info.trial_resources is None:
        return {}
    return dict(info.trial_resources.required_resources)

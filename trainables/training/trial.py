"""Runs one trial from configuration to final evaluation, in steps that a scheduler can watch."""

import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from trainables.config import TrialConfig
from trainables.report import SPLITS
from trainables.sparsity.schedule import prune_steps, rewind_step
from trainables.training.assembly import assemble
from trainables.training.checkpoints.best import BestWeights
from trainables.training.checkpoints.checkpoint import (
    damaged,
    load_checkpoint,
    save_checkpoint,
    write_checkpoint,
)
from trainables.training.dense import (
    BEST_STEP,
    Baseline,
    DenseRun,
    DenseRuns,
    dense_config,
    starts_from_dense_trial,
)
from trainables.training.deployment import Deployment, DeploymentCosts
from trainables.training.device import (
    explained_memory,
    prepare_device,
    resolve_device,
)
from trainables.training.evaluation import Evaluator
from trainables.training.export import save_model
from trainables.training.loop.phases import report_steps
from trainables.training.summary import dense_notes, few_frames, summarise
from trainables.training.watching.reports import Progress, Report
from trainables.user_code import running


class TrialRun:
    """Trains one `TrialConfig`.

    Call `next_report` until a final report comes. `save` and `resume` continue a run bit for
    bit on one CPU.

    device: "auto", "cpu" or "cuda". deterministic: use repeatable, slower kernels on CUDA.
    baseline: the dense model's final metrics by full name; with them `multitask/delta_percent`
      is reported.
    baseline_config: the dense trial to take the baseline's metrics from; needs `dense_cache`
      (else `ValueError`). If its training fails, this trial continues without the comparison.
    dense_cache: where dense runs are kept. A `dense` trial and the dense pre-training of other
      methods are then trained only once, by the first trial that needs them, with the same result.
    latency: measure `cost/latency_ms` for the final report.
    deployment: measures what the model costs where it will run, for every report; given the
      model, its registry, the configuration and the channels of each task's prediction.
    on_progress: is called after every step.

    Raises `UserError` for a configuration that cannot be trained.
    """

    def __init__(
        self,
        config: TrialConfig,
        *,
        device: str = "auto",
        baseline: Mapping[str, float] | None = None,
        baseline_config: TrialConfig | None = None,
        dense_cache: DenseRuns | None = None,
        deterministic: bool = False,
        latency: bool = False,
        deployment: DeploymentCosts | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self._started = time.perf_counter()
        self.config = config
        self.device = resolve_device(device)
        prepare_device(self.device, deterministic=deterministic)
        self._dense_cache = dense_cache
        self._baseline = Baseline(
            baseline, baseline_config, dense_cache, self._dense_progress("dense baseline")
        )
        self._dense: DenseRun | None = None  # the cached run that this one replays
        self._latency = latency
        self._deployment = Deployment(deployment)
        self._owners: dict[str, object] = {}  # what may be a user's own, by name
        self.on_progress = on_progress
        self._best = BestWeights(config.data.tasks)
        self.last_report: Report | None = None
        self._train_seconds = 0.0
        self._earlier_seconds = 0.0  # seconds of the runs that this one resumes
        with explained_memory(config, self.device), running(self._owners):
            parts = assemble(config, self.device, self._owners)
        self.dataset, self.tasks = parts.dataset, parts.tasks
        self.model, self.registry = parts.model, parts.registry
        self.loop = parts.loop
        self._cost = parts.cost
        self._deployed = self._deployment.of(self.model, self.registry, config, parts.num_channels)
        self._evaluator = Evaluator(
            config, dataset=self.dataset, loop=self.loop, cost=self._cost, baseline=self._baseline
        )

    def next_report(self) -> Report | None:
        """Train to the next report and return it; None once the final report has been given.

        Raises `Diverged` for a NaN loss and `Failure` when memory runs out.
        """
        if self.last_report is not None and self.last_report.final:
            return None
        with explained_memory(self.config, self.device), running(self._owners):
            if self._dense_cache is not None:
                # A dense trial that started without a cache is not replaced half-way.
                if self.config.method == "dense" and self.loop.step == 0:
                    return self._replay(self._dense_cache)
                at_start = self.loop.in_pretraining and self.loop.pretrain_step == 0
                if at_start and starts_from_dense_trial(self.loop.method, self.model):
                    self._take_pretraining(self._dense_cache)
            return self._train_to_report()

    def save(self, directory: Path) -> None:
        """Replace the checkpoint in `directory`; after a kill it is the old or the new one."""
        save_checkpoint(directory, self.config, self._state())

    def write(self, directory: Path) -> None:
        """Write a checkpoint into a folder; the caller must make the folder appear atomically."""
        write_checkpoint(directory, self.config, self._state())

    def export(self, path: Path) -> None:
        """Write the current model (the best one after the final report) for `load_model`."""
        save_model(path, self.config, self.model, self.registry, self.dataset)

    @classmethod
    def resume(cls, directory: Path, config: TrialConfig, **arguments: Any) -> Self:
        """Return the run saved in `directory`; arguments as for the constructor.

        Raises `UserError` if it is missing, damaged or of another configuration.
        """
        run = cls(config, **arguments)
        state = load_checkpoint(directory, config, run.device)
        try:
            run._load_state(state)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(directory, error) from None
        return run

    def summary(self, command: list[str]) -> dict[str, Any]:
        """Return the `--json` object. Raises `RuntimeError` before the final report.

        command: the command line that the object names.
        """
        report = self.last_report
        if report is None or not report.final:
            raise RuntimeError(
                "summary() is of a finished run; call next_report() until it is final"
            )
        train_steps = self.config.training.steps + self.loop.pretrain_steps
        memory = torch.cuda.max_memory_allocated
        peak = {"peak_memory_bytes": memory()} if self.device == "cuda" else {}
        return summarise(
            command,
            self.config,
            report.metrics,
            self.registry,
            self._cost,
            self.loop.ballots(),
            {**self.registry.prunable.left_out, **self.loop.structure.left_dense},
            timing={
                "train_seconds": self._train_seconds,
                "total_seconds": self.total_seconds,
                "seconds_per_step": self._train_seconds / train_steps,
                "device": self.device,
                **peak,
            },
        )

    @functools.cached_property
    def notes(self) -> list[str]:
        """Return what a user should know: what is never pruned, and why; batches of few frames."""
        found = dense_notes(self.model, self.registry, self.loop.structure)
        few = few_frames(self.config, self.dataset.train.num_frames)
        return [*found, few] if few else found

    @property
    def epochs(self) -> float:
        """Return the passes over the training split up to the last report.

        Pre-training is included, whether it was trained here or taken from the cache.
        """
        steps = self.loop.pretrain_steps + self._reported_step
        return steps / self.loop.source.steps_per_epoch

    @property
    def total_seconds(self) -> float:
        """Return the seconds that the run has taken so far, with the runs that it resumes."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def _replay(self, cache: DenseRuns) -> Report:
        """Return the next report of this trial's run in the cache; at the end load its model."""
        if self._dense is None:
            progress = self._dense_progress("training")
            self._dense = cache.get(self.config, progress, steps=(BEST_STEP,))
        dense = self._dense
        found = next(report for report in dense.reports if report.step > self._reported_step)
        metrics = dict(found.metrics)
        if found.final:
            self.model.load_state_dict(dense.weights[BEST_STEP])
            self.loop.step = found.step
            self._train_seconds += dense.timing["train_seconds"]
            if self._latency:
                name = "cost/latency_ms"
                metrics[name] = self._evaluator.costs(latency=True)[name]
        for split in SPLITS:
            metrics |= self._baseline.delta(split, metrics)
        metrics |= self._deployed()
        self.last_report = dataclasses.replace(found, metrics=metrics)
        return self.last_report

    def _take_pretraining(self, cache: DenseRuns) -> None:
        last = self.loop.pretrain_steps
        rewind = rewind_step(self.config.sparsity.rewind_fraction, last)
        steps = (last, rewind) if self.loop.method.rewinds else (last,)
        progress = self._dense_progress("pre-training")
        dense = cache.get(dense_config(self.config), progress, steps=steps)
        self.loop.finish_pretraining(dense.weights[last], dense.weights.get(rewind))
        self._train_seconds += dense.timing["train_seconds"]

    def _dense_progress(self, phase: str) -> Progress:
        def on_progress(said: str, done: int, total: int) -> None:
            if self.on_progress is not None:
                self.on_progress(phase if said == "training" else said, done, total)

        return on_progress

    def _train_to_report(self) -> Report:
        due = report_steps(self.config.training)
        for step in due:
            # It was replayed from a cache that no longer exists: train up to it again.
            if self.loop.step < step <= self._reported_step:
                self._train_to(step)
                self.loop.mean_loss()
                self.loop.forget_losses()
                self._remember_if_best(self._evaluator.quality("val"))
        # A checkpoint may have been written at this very step, before its report.
        self._train_to(next(step for step in due if step > self._reported_step))
        training_loss = self.loop.mean_loss()
        metrics = self._evaluator.quality("val") | self._evaluator.costs()
        metrics |= self._deployed()
        self._remember_if_best(metrics)
        step, steps = self.loop.step, self.config.training.steps
        if final := step >= steps:
            metrics = self._finish(metrics)
        self.loop.forget_losses()  # not earlier: a metric that raises must not lose them
        metrics["training/loss"] = training_loss
        self.last_report = Report(step=step, fraction=step / steps, metrics=metrics, final=final)
        return self.last_report

    def _train_to(self, report_step: int) -> None:
        while self.loop.step < report_step:
            started = time.perf_counter()
            self.loop.advance()
            self._train_seconds += time.perf_counter() - started
            if self.on_progress is not None:
                if (loop := self.loop).in_pretraining:
                    self.on_progress("pre-training", loop.pretrain_step, loop.pretrain_steps)
                else:
                    self.on_progress("training", loop.step, self.config.training.steps)
        started = time.perf_counter()
        if self.device == "cuda":
            torch.cuda.synchronize()  # the steps above are only queued
        self._train_seconds += time.perf_counter() - started

    @property
    def _reported_step(self) -> int:
        return 0 if self.last_report is None else self.last_report.step

    def _remember_if_best(self, metrics: Mapping[str, float]) -> None:
        """Keep the weights if validation improved at the final sparsity."""
        last_pruning = prune_steps(self.config.sparsity, self.config.training.steps)[-1]
        eligible = self.loop.step > last_pruning or not self.loop.method.sparse
        self._best.offer(metrics, self.loop.step, self.model, self.registry, eligible=eligible)

    def _finish(self, last: Mapping[str, float]) -> dict[str, float]:
        """Put the best weights in place and evaluate them on test."""
        metrics = dict(last)
        best_step = self.loop.step
        if self._best.step is not None:
            best_step = self._best.step
            self._best.restore(self.model, self.registry)
            metrics |= self._best.metrics
        metrics |= self._evaluator.costs(latency=self._latency) | self._deployed()
        metrics |= self._evaluator.quality("test")
        metrics["training/best_step"] = float(best_step)
        return metrics

    def _state(self) -> dict[str, Any]:
        report = self.last_report
        return {
            "loop": self.loop.state_dict(),
            "best": self._best.state_dict(),
            "report": None if report is None else dataclasses.asdict(report),
            "train_seconds": self._train_seconds,
            "total_seconds": self.total_seconds,
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.loop.load_state_dict(state["loop"])
        self._best.load_state_dict(state["best"])
        report = state["report"]
        self.last_report = None if report is None else Report(**report)
        self._train_seconds = state["train_seconds"]
        self._earlier_seconds = state["total_seconds"]

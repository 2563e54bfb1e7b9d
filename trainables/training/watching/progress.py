"""Shows the progress of a run: a live line on a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from trainables.report import PRIMARY_METRICS
from trainables.training.watching.reports import Report

_PLAIN_LINE_FRACTION = 0.1  # without a terminal, one progress line per tenth of a phase


class TrialProgress:
    """Shows phases and reports on stderr, or nothing with `quiet`."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title = title
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._next_plain = 0.0

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, phase: str, done: int, total: int) -> None:
        """Show that `done` of the `total` steps of `phase` are done."""
        if self._quiet:
            return
        if self._live is not None:
            if phase != self._phase or self._task is None:
                if self._task is not None:
                    self._live.remove_task(self._task)
                self._task = self._live.add_task(f"{self._title} · {phase}", total=total)
                self._phase = phase
            self._live.update(self._task, completed=done)
            return
        if phase != self._phase:
            self._phase, self._next_plain = phase, _PLAIN_LINE_FRACTION
        if done / total >= self._next_plain:
            self._next_plain = done / total + _PLAIN_LINE_FRACTION
            print(f"{self._title} {phase} {done}/{total}", file=sys.stderr, flush=True)

    def report(self, report: Report) -> None:
        """Print a report's density and the tasks' primary metrics on validation as one line."""
        if self._quiet:
            return
        names = [f"val/{name}" for name in PRIMARY_METRICS.values()]
        shown = "  ".join(
            f"{name.split('/', 1)[1]} {report.metrics[name]:.3f}"
            for name in names
            if name in report.metrics
        )
        density = report.metrics["cost/density"]
        if report.final:  # its metrics are those of the best weights; see `Report`
            shown += f"  (best: step {report.metrics['training/best_step']:.0f})"
        self._console.print(
            f"{self._title}  {report.fraction:4.0%}  density {density:.4f}  {shown}",
            soft_wrap=True,
            markup=False,
        )


class ConversionProgress(TrialProgress):
    """Shows how many frames of a data set have been converted."""

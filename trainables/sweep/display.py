"""What the user sees while many trials run: live bars on a terminal, plain lines without one."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import rich.progress
from rich.console import Console

from trainables.report import without_split


def preparation(
    of: str, say: Callable[[str], None] = lambda text: print(text, flush=True)
) -> Callable[[str, int, int], None]:
    """Return what says how far a split's frames are generated or converted, at each quarter.

    of: whose data they are, e.g. "study demo".
    """
    shown: dict[str, int] = {}

    def step(split: str, done: int, total: int) -> None:
        quarter = 4 * done // max(total, 1)
        if quarter > shown.get(split, 0):
            shown[split] = quarter
            say(f"{of}: preparing {split}, {done} of {total} frames")

    return step


class Progress:
    """Shows trials that run: quiet, live or line by line. Never raises into the caller.

    trials: how many there are; None where a study's budget is counted otherwise.
    finished: how many of them ended before.
    objectives: the metrics that lines show.
    stderr: where the lines go; standard output otherwise.
    """

    def __init__(
        self,
        *,
        trials: int | None,
        finished: int,
        objectives: tuple[str, ...],
        quiet: bool,
        stderr: bool = False,
    ) -> None:
        self._console = Console(stderr=stderr)
        self._trials = trials
        self._finished = finished
        self._objectives = objectives
        self._quiet = quiet
        self._bars = rich.progress.Progress(
            "{task.description}",
            rich.progress.BarColumn(),
            rich.progress.TimeElapsedColumn(),
            "{task.fields[said]}",
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
        )
        self._began: float | None = None  # of the first trial: what comes before is no pace
        self._all = self._bars.add_task("trials", total=trials, completed=finished, said="")
        self._running: dict[str, tuple[rich.progress.TaskID, str, float]] = {}
        # Of the running trials: at their first report here, which may be of an earlier launch's
        # work, and at the last.
        self._fractions: dict[str, tuple[float, float]] = {}
        self._done_here = 0.0  # in trials; a resumed one counts by what was left of it
        self._noted: set[str] = set()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print a line for people; nothing with --quiet."""
        if not self._quiet:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print what a trial's user should know; once, however many trials say the same."""
        if text not in self._noted:
            self._noted.add(text)
            self.say(f"note: {text}")

    def more(self, count: int) -> None:
        """Expect so many trials more."""
        if self._trials is not None:
            self._trials += count
            self._bars.update(self._all, total=self._trials)

    def started(self, name: str, what: str, fraction: float | None = None) -> None:
        """Show a trial that begins, or goes on after a fraction of its training.

        what: its method, or whatever says what it is. fraction: None where the first report tells.
        """
        bar = self._bars.add_task(f"{name} {what}", total=1.0, said="")
        self._bars.update(bar, completed=fraction or 0.0)
        self._running[name] = (bar, what, time.monotonic())
        if fraction is not None:
            self._fractions[name] = (fraction, fraction)
        self._began = self._began or time.monotonic()

    def reported(self, name: str, fraction: float, metrics: Mapping[str, float]) -> None:
        """Show how far a trial has come."""
        if name in self._running:
            said = self._values(metrics)
            self._bars.update(self._running[name][0], completed=fraction, said=said)
            first, _ = self._fractions.get(name, (fraction, fraction))
            self._fractions[name] = (first, fraction)

    def dropped(self, name: str) -> None:
        """Show a trial no longer, which has not ended."""
        bar, _, _ = self._running.pop(name, (None, "", 0.0))
        self._fractions.pop(name, None)
        if bar is not None:
            self._bars.remove_task(bar)

    def ended(self, name: str, status: str, reason: str, metrics: Mapping[str, float]) -> None:
        """Print what became of a trial."""
        bar, what, began = self._running.pop(name, (None, "", time.monotonic()))
        self._done_here += 1.0 - self._fractions.pop(name, (0.0, 0.0))[0]
        if bar is not None:
            self._bars.remove_task(bar)
        self._finished += 1
        width = len(str(self._trials or ""))
        total = "" if self._trials is None else f"/{self._trials}"
        left = self._left()
        self._bars.update(self._all, advance=1, said=f"{self._finished}{total} ended{left}")
        line = (
            f"[{self._finished:{width}d}{total}] {name} {what:17s} "
            f"{self._values(metrics)} {status} {time.monotonic() - began:.0f} s{left}"
        )
        self.say(f"{line} ({reason.splitlines()[0][:400]})" if reason else line)

    def _left(self) -> str:
        """Write how long the rest will take at the pace of this launch; "" where nobody knows."""
        if self._trials is None or self._finished >= self._trials:
            return ""
        now = time.monotonic()
        done = self._done_here + sum(last - first for first, last in self._fractions.values())
        to_go = self._trials - self._finished - sum(last for _, last in self._fractions.values())
        if done <= 0.0:
            return ""
        seconds = (now - (self._began or now)) / done * to_go
        return f", about {f'{seconds / 60:.0f} min' if seconds >= 90 else f'{seconds:.0f} s'} left"

    def _values(self, metrics: Mapping[str, float]) -> str:
        return "  ".join(
            f"{without_split(name)} {metrics[name]:.4g}"
            for name in self._objectives
            if name in metrics
        )

"""What the user sees while a study runs: a live table on a terminal, plain lines without one."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainables.report import without_split

_STYLES = {"complete": "green", "stopped": "yellow", "failed": "red", "infeasible": "yellow"}


class Progress:
    """Quiet, live or line by line. Never raises into the study."""

    def __init__(
        self, *, trials: int | None, finished: int, objectives: tuple[str, ...], quiet: bool
    ) -> None:
        self._console = Console()
        self._trials = trials
        self._finished = finished
        self._failed = 0
        self._objectives = objectives
        self._quiet = quiet
        self._running: dict[str, tuple[str, float, Mapping[str, float], float]] = {}
        self._began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        if not self._quiet and self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._render, refresh_per_second=4
            )
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """A line for people; nothing with --quiet."""
        if not self._quiet:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def started(self, name: str, method: str) -> None:
        self._running[name] = (method, 0.0, {}, time.monotonic())

    def reported(self, name: str, fraction: float, metrics: Mapping[str, float]) -> None:
        method, _, _, began = self._running.get(name, ("", 0.0, {}, time.monotonic()))
        self._running[name] = (method, fraction, metrics, began)

    def ended(self, name: str, status: str, reason: str, metrics: Mapping[str, float]) -> None:
        method, _, _, began = self._running.pop(name, ("", 0.0, {}, time.monotonic()))
        self._finished += 1
        self._failed += status == "failed"
        width = len(str(self._trials or ""))
        total = "" if self._trials is None else f"/{self._trials}"
        line = (
            f"[{self._finished:{width}d}{total}] {name} {method:17s} "
            f"{self._values(metrics)} {status} {time.monotonic() - began:.0f} s"
        )
        self.say(f"{line} ({reason.splitlines()[0][:160]})" if reason else line)

    def _values(self, metrics: Mapping[str, float]) -> str:
        return "  ".join(
            f"{without_split(name)} {metrics[name]:.4g}"
            for name in self._objectives
            if name in metrics
        )

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in ("trial", "method", "trained", "seconds", "last report"):
            table.add_column(heading)
        for name, (method, fraction, metrics, began) in list(self._running.items()):
            table.add_row(
                name,
                method,
                f"{fraction:.0%}",
                f"{time.monotonic() - began:.0f}",
                self._values(metrics),
            )
        total = "" if self._trials is None else f" of {self._trials}"
        done = Text(
            f"{self._finished}{total} trials, {self._failed} failed, "
            f"{time.monotonic() - self._began:.0f} s"
        )
        bar = ProgressBar(total=self._trials, completed=self._finished, width=48)
        return Group(table, bar, done)

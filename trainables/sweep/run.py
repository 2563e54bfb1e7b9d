"""Gives the trials of a sweep to processes, and reads how each has ended."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.report import non_finite, objective_names
from trainables.sweep.crew import Crew, Place
from trainables.sweep.display import Progress
from trainables.sweep.folder import Sweep, SweepFolder, SweepTrial

MAX_DEATHS = 1  # of a trial's process in one run, after which the trial is tried again


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOptions:
    """Holds how a sweep is run; nothing here changes a result, the device aside.

    at_once: trials side by side; None for one on each GPU, or one on the CPU.
    device: "auto", "cpu" or "cuda". data_root: in place of the grid's own.
    time_limit: seconds within which a trial has to report, or None.
    """

    at_once: int | None = None
    device: str = "auto"
    data_root: str | None = None
    dense_cache: Path | None = None
    time_limit: float | None = None
    retry_failed: bool = False
    quiet: bool = False
    command: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepEnd:
    """Holds what a sweep came to.

    trials: how each ended: `number`, `name`, `method`, `seed`, `status`, `reason`, `metrics`.
    damaged: what is wrong with the results that cannot be read.
    """

    sweep: Sweep
    trials: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many trials ended with each status."""
        return dict(Counter(trial["status"] for trial in self.trials))


class SweepRun:
    """Does one command's work on a sweep."""

    def __init__(
        self, folder: SweepFolder, sweep: Sweep, options: SweepOptions, places: Sequence[Place]
    ) -> None:
        """Read what has ended; places: where trials run, one at a time each."""
        self._folder = folder
        self._sweep = sweep
        self._options = options
        self._places = places
        self._damaged: dict[int, str] = {}
        self._deaths: Counter[int] = Counter()
        self._results: dict[int, Mapping[str, Any]] = {}
        for trial in sweep.trials:
            self._read(trial.number)
            if options.retry_failed and self._status(trial.number) == "failed":
                shutil.rmtree(folder.trial(trial.number).directory)
                del self._results[trial.number]

    def _status(self, number: int) -> str:
        found = self._results.get(number)
        return "" if found is None else str(found["result"]["status"])

    def _read(self, number: int) -> None:
        folder = self._folder.trial(number)
        try:
            found = folder.result()
        except UserError as error:
            self._damaged[number] = f"{error}, or delete it to have the trial trained again"
            return
        if found is None:
            return
        folder.clear()  # killed before that
        self._results[number] = found

    def to_the_end(self) -> SweepEnd:
        """Train what is left, and return how every trial ended.

        Raises `Failure` for processes that cannot start, and what interrupts it.
        """
        sweep = self._sweep
        known = {*self._results, *self._damaged}
        pending = [t for t in sweep.trials if t.number not in known]
        names = dict.fromkeys(n for t in sweep.trials for n in _objectives(sweep, t))
        progress = Progress(
            trials=len(sweep.trials),
            finished=len(known),
            objectives=tuple(names),
            quiet=self._options.quiet,
            stderr=True,
        )
        progress.say(self._heading(len(pending)))
        if pending:
            with progress, Crew(self._folder, self._places) as crew:
                try:
                    self._train(pending, crew, progress)
                except KeyboardInterrupt:
                    progress.say(f"stopping; trials that are saved first: {len(crew.at_work())}")
                    raise
        return SweepEnd(
            sweep=sweep,
            trials=[_row(sweep.trials[n], self._results[n]) for n in sorted(self._results)],
            damaged=[self._damaged[number] for number in sorted(self._damaged)],
        )

    def _heading(self, left: int) -> str:
        sweep, at_once = self._sweep, min(len(self._places), left)
        done = len(sweep.trials) - left
        begun = f"resumes with {done} of {len(sweep.trials)} trials ended" if done else "starts"
        if not left:
            return f"sweep {sweep.name}: all {len(sweep.trials)} trials have ended"
        what = f"{left} to go" if done else f"{left} trials"
        share = self._places[0].gpus
        part = f", each with {share:g} of a GPU" if 0 < share < 1 else ""
        return f"sweep {sweep.name} {begun}: {what}, {at_once} at once on {sweep.device}{part}"

    def _train(self, pending: list[SweepTrial], crew: Crew, progress: Progress) -> None:
        while pending or crew.at_work():
            for place in crew.idle():
                if pending:
                    trial = pending.pop(0)
                    progress.started(trial.name, trial.config["method"])
                    crew.give(place, self._given(trial))
            number, event = crew.next_event()
            if number is None:
                continue
            trial = self._sweep.trials[number]
            match event["event"]:
                case "note":
                    progress.note(event["text"])
                case "progress":
                    progress.reported(trial.name, event["fraction"], {})
                case "report":
                    progress.reported(trial.name, event["fraction"], _finite(event["metrics"]))
                case "damaged":
                    self._damaged[number] = event["reason"]
                    progress.dropped(trial.name)
                case "ended":
                    self._ended(trial, progress)
                case "died":
                    self._deaths[number] += 1
                    if self._deaths[number] <= MAX_DEATHS:
                        progress.say(
                            f"note: the process of {trial.name} died ({event['reason']}); it is "
                            "tried again"
                        )
                        progress.dropped(trial.name)
                        pending.insert(0, trial)
                    else:
                        self._crashed(trial, event["reason"])
                        self._ended(trial, progress)

    def _ended(self, trial: SweepTrial, progress: Progress) -> None:
        self._read(trial.number)
        if trial.number not in self._results:  # damaged already
            progress.dropped(trial.name)
            return
        found = self._results[trial.number]["result"]
        metrics = _finite(found)
        progress.ended(trial.name, found["status"], str(found.get("reason") or ""), metrics)

    def _crashed(self, trial: SweepTrial, reason: str) -> None:
        """Record a trial whose process died more often than it is tried again."""
        folder = self._folder.trial(trial.number)
        folder.directory.mkdir(parents=True, exist_ok=True)
        last = (folder.reports() or [{"metrics": {}}])[-1]["metrics"]
        said = (
            "the trial's process died, killed (out of memory, perhaps) or by a crash of its own: "
            f"{reason}"
        )
        nothing = {"training/step": 0, "training/fraction": 0.0}
        result = {**nothing, **last, "status": "failed", "reason": said, "done": True}
        named = {"number": trial.number, "name": trial.name, "config": trial.config}
        folder.end({**named, "device": self._sweep.device}, result, crash=said)

    def _given(self, trial: SweepTrial) -> dict[str, Any]:
        """Return what a process is given: what `Attempt` takes, and what the worker adds to it."""
        options, sweep = self._options, self._sweep
        root = options.data_root
        config = _config(trial, root)
        baseline = None
        if trial.baseline is not None:
            baseline = _config(sweep.trials[trial.baseline], root)
        return {
            "number": trial.number,
            "name": trial.name,
            "config": config,
            "baseline": baseline,
            "objectives": list(_objectives(sweep, trial)),
            "directory": str(self._folder.trial(trial.number).directory),
            "dense_cache": str(options.dense_cache or self._folder.dense_cache),
            "time_limit_seconds": options.time_limit,
            "command": list(options.command),
            "device": sweep.device,
        }


def config_at(config: TrialConfig, root: str) -> TrialConfig:
    """Return the trial with its data in another folder or at another address."""
    here = root if "://" in root else str(Path(root).expanduser().absolute())
    return config.replace({"data.root": here})


def _config(trial: SweepTrial, root: str | None) -> str:
    config = TrialConfig.from_dict(trial.config)
    if root is not None:  # the same data, moved since the sweep began
        config = config_at(config, root)
    return json.dumps(config.to_dict())


def _objectives(sweep: Sweep, trial: SweepTrial) -> tuple[str, ...]:
    return sweep.objectives or objective_names(trial.config["data"]["tasks"])


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {n: v for n, v in values.items() if isinstance(v, float)}
    return {n: v for n, v in numbers.items() if not non_finite(numbers, (n,))}


def _row(trial: SweepTrial, found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": trial.number,
        "name": trial.name,
        "method": trial.config["method"],
        "seed": trial.config["seed"],
        "status": found["result"]["status"],
        "reason": found["result"].get("reason", ""),
        "metrics": _finite(found["result"]),
    }

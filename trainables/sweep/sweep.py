"""Trains the trials of a grid, N at once, and can be killed and started again at any moment."""

import contextlib
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainables.config import TrialConfig
from trainables.errors import Failure, UserError
from trainables.report import non_finite, objective_names
from trainables.sweep.crew import Crew, Place, make_places
from trainables.sweep.display import Progress, preparation
from trainables.sweep.folder import Sweep, SweepFolder, SweepTrial
from trainables.sweep.grid import GridFile, GridTrial
from trainables.training.watchdog import check_time_limit

MAX_DEATHS = 1  # of a trial's process in one run, after which the trial is tried again
_PATIENCE_SECONDS = 1.0


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


class Terminated(KeyboardInterrupt):
    """SIGTERM was heard."""


def run_sweep(grid: GridFile, out: Path, options: SweepOptions) -> SweepEnd:
    """Train what of the grid has not ended in `out`, and return how all of it ended.

    Raises `UserError` for mistakes in the options, for a folder of another sweep and while another
    command is at work there; `Failure` for a full disk and processes that cannot start; and
    `KeyboardInterrupt` or `Terminated`, after every trial at work was saved.
    """
    from trainables.training.device import resolve_device  # loads torch

    if options.at_once is not None and options.at_once < 1:
        raise UserError(f"`--at-once` must be at least 1, got {options.at_once}; raise it")
    check_time_limit(options.time_limit)
    device = resolve_device(options.device)
    grid = _placed(grid, options.data_root)
    folder = SweepFolder(out)
    with _locked(folder), _terminable():
        sweep = folder.begin(grid, device, _data(folder, grid, options))
        places = make_places(*_machine(options.at_once, device))
        return _Run(folder, sweep, options, places).to_the_end()


def _placed(grid: GridFile, root: str | None) -> GridFile:
    """Return the grid with its data in another place."""
    if root is None:
        return grid
    trials = tuple(GridTrial(config=_at(t.config, root), baseline=t.baseline) for t in grid.trials)
    return GridFile(name=grid.name, trials=trials, objectives=grid.objectives, study=grid.study)


def _data(folder: SweepFolder, grid: GridFile, options: SweepOptions) -> list[str]:
    """Open each trial's data once, before any is trained; return their digests.

    Where all trials have ended, the data need not be there any more. Raises `UserError`: the data's
    faults are the user's, in every trial.
    """
    from trainables.data.catalogue import open_dataset

    places = range(len(grid.trials))
    if all(folder.trial(place).result_file.exists() for place in places):
        begun = folder.read().trials
        if len(begun) == len(grid.trials):
            return [trial.data for trial in begun]
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    tell = None if options.quiet else preparation(f"sweep {grid.name}", say)
    known: dict[str, str] = {}
    digests = []
    for trial in grid.trials:
        key = repr(trial.config.data)
        if key not in known:
            known[key] = open_dataset(trial.config.data, tell).digest()
        digests.append(known[key])
    return digests


def _machine(at_once: int | None, device: str) -> tuple[int, int, list[str]]:
    """Return the trials at once, the CPUs, and the GPUs as CUDA_VISIBLE_DEVICES names them."""
    import torch

    num_cpus = len(os.sched_getaffinity(0))
    if device == "cpu":
        return at_once or 1, num_cpus, []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in visible.split(",") if name.strip()]
    gpus = named or [str(index) for index in range(torch.cuda.device_count())]
    return at_once or len(gpus), num_cpus, gpus


@contextlib.contextmanager
def _locked(folder: SweepFolder) -> Iterator[None]:
    lock = FileLock(folder.lock, timeout=_PATIENCE_SECONDS, fallback_to_soft=False)
    try:
        folder.directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"a sweep can have one command at a time, and another one is at work in "
            f"{str(folder.directory)!r}; wait for it, stop it, or name another --out"
        ) from None
    except (NotImplementedError, OSError) as error:
        raise UserError(
            f"`--out` must be a writable folder with file locks, got {str(folder.directory)!r} "
            f"({error}); choose another one"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM be an exception, as Ctrl-C is."""

    def heard(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, heard)
    except ValueError:  # not the main thread, which alone hears signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run:
    """One command's work on a sweep."""

    def __init__(
        self, folder: SweepFolder, sweep: Sweep, options: SweepOptions, places: Sequence[Place]
    ) -> None:
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
        """Train what is left."""
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


def _config(trial: SweepTrial, root: str | None) -> str:
    config = TrialConfig.from_dict(trial.config)
    if root is not None:  # the same data, moved since the sweep began
        config = _at(config, root)
    return json.dumps(config.to_dict())


def _at(config: TrialConfig, root: str) -> TrialConfig:
    here = root if "://" in root else str(Path(root).expanduser().absolute())
    return config.replace({"data.root": here})


def _objectives(sweep: Sweep, trial: SweepTrial) -> tuple[str, ...]:
    return sweep.objectives or objective_names(trial.config["data"]["tasks"])


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {n: v for n, v in values.items() if isinstance(v, float) and not isinstance(v, bool)}
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


def check_complete(end: SweepEnd) -> None:
    """Raise `Failure` where results are damaged, or no trial is complete."""
    if end.damaged:
        raise Failure("; ".join(end.damaged))
    if not end.counts.get("complete"):
        reasons = Counter(trial["reason"] for trial in end.trials)
        most = reasons.most_common(1)[0][0] if reasons else ""
        raise Failure(f"no trial of {end.sweep.name} is complete; most often: {most}")

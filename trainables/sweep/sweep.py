"""Begins a sweep or goes on with it, whose command can be killed and given again at any moment."""

import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from trainables.errors import Failure, UserError
from trainables.sweep.crew import make_places
from trainables.sweep.display import preparation
from trainables.sweep.folder import SweepFolder
from trainables.sweep.grid import GridFile, GridTrial
from trainables.sweep.run import SweepEnd, SweepOptions, SweepRun, config_at
from trainables.training.watching.watchdog import check_time_limit

_PATIENCE_SECONDS = 1.0


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
        return SweepRun(folder, sweep, options, places).to_the_end()


def _placed(grid: GridFile, root: str | None) -> GridFile:
    """Return the grid with its data in another place."""
    if root is None:
        return grid
    trials = tuple(
        GridTrial(config=config_at(t.config, root), baseline=t.baseline) for t in grid.trials
    )
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


def check_complete(end: SweepEnd) -> None:
    """Raise `Failure` where results are damaged, or no trial is complete."""
    if end.damaged:
        raise Failure("; ".join(end.damaged))
    if not end.counts.get("complete"):
        reasons = Counter(trial["reason"] for trial in end.trials)
        most = reasons.most_common(1)[0][0] if reasons else ""
        raise Failure(f"no trial of {end.sweep.name} is complete; most often: {most}")

"""Reads and writes the files of one dense run, which has its own folder.

run/          the finished run: `run.json` (reports, timing), `STEP.pt` (the model's state after
              that many steps), and a manifest with their checksums
building/     the same for an unfinished run, and a checkpoint to continue from
failure.json  why there is no run: training diverges, and would diverge again
lock          held by the building process, which writes the number of steps done into it
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from trainables.training.checkpoints.manifest import file_crc32, listed_files, write_manifest
from trainables.training.dense import BEST_STEP, DenseRun
from trainables.training.loop.loop import Diverged
from trainables.training.watching.reports import Report


def read_entry(folder: Path, steps: Iterable[int]) -> DenseRun | None:
    """Return the finished run with its weights after `steps`; None if it is absent or damaged.

    Raises `Diverged` if the run is known to diverge.
    """
    if (found := read_run(folder / "run", steps)) is not None:
        return found
    try:
        message = str(json.loads((folder / "failure.json").read_text())["diverged"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    raise Diverged(message)


def write_failure(folder: Path, error: Diverged) -> None:
    """Record that this run diverges; if writing fails, the next caller trains it again."""
    discard_building(folder)
    with contextlib.suppress(OSError):
        (folder / ".failure.partial").write_text(json.dumps({"diverged": str(error)}))
        (folder / ".failure.partial").replace(folder / "failure.json")


def write_run(
    directory: Path, run: DenseRun, write_checkpoint: Callable[[Path], None] | None = None
) -> None:
    """Replace the folder `directory`; a kill leaves the old one there or as `.NAME.previous`.

    write_checkpoint: writes the folder `checkpoint` of an unfinished run.
    Raises `OSError` or `RuntimeError` (from `torch.save`) if writing fails.
    """
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for step, state in run.weights.items():
        torch.save(dict(state), partial / f"{step}.pt")
    reports = [dataclasses.asdict(report) for report in run.reports]
    (partial / "run.json").write_text(json.dumps({"reports": reports, "timing": dict(run.timing)}))
    if write_checkpoint is not None:
        write_checkpoint(partial / "checkpoint")
    write_manifest(partial, step=len(reports) and run.reports[-1].step)
    previous = directory.with_name(f".{directory.name}.previous")
    if directory.exists():  # otherwise keep `previous`, all that a killed process left
        shutil.rmtree(previous, ignore_errors=True)
        directory.rename(previous)
    partial.rename(directory)
    shutil.rmtree(previous, ignore_errors=True)


def read_run(directory: Path, steps: Iterable[int] | None = None) -> DenseRun | None:
    """Return what `write_run` wrote, with the weights after `steps`; all of them by default.

    Returns None if a file is missing or has another size, or if one read here is damaged.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        listed = listed_files(directory) or {}

        def intact(name: str) -> Path:
            if file_crc32(directory / name) != listed[directory / name]:
                raise ValueError(f"{directory / name} is damaged")
            return directory / name

        described = json.loads(intact("run.json").read_text())
        reports = tuple(Report(**report) for report in described["reports"])
        run = DenseRun(reports=reports, timing=described["timing"], weights={})
        weights = {}
        stored = [int(path.stem) for path in listed if path.stem.isdigit()]
        for step in stored if steps is None else steps:
            path = intact(f"{run.best_step if step == BEST_STEP else step}.pt")
            weights[step] = torch.load(path, map_location="cpu", weights_only=True)
        return dataclasses.replace(run, weights=weights)
    return None


def discard_building(folder: Path) -> None:
    """Delete the files of an unfinished run."""
    names = ("building", ".building.previous", ".building.partial", ".run.previous", ".run.partial")
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)


def read_progress(folder: Path) -> int:
    """Return how many steps the builder has done; 0 before it has written the number."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / "lock").read_text())
    return 0

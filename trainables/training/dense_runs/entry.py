"""The files of one dense run in the cache: the finished entry, and what its builder has so far."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.training.checkpoints.manifest import file_crc32, listed_files, write_manifest
from trainables.training.trial import Report, TrialRun

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredWeights:
    """A file of an entry, and the CRC-32 that it was written with."""

    path: Path
    crc32: int

    def read(self) -> Weights | None:
        """None where it is damaged or gone."""
        try:
            return _read_weights(self.path) if file_crc32(self.path) == self.crc32 else None
        except OSError:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseRun:
    """A finished dense trial.

    reports: all of them, in order; the last is final and speaks of the weights of `best_step`.
    timing: as in `TrialRun.summary`, of whoever trained it.
    stored: by step, a file or the weights themselves.
    again: gives the run where a file of `stored` turns out to be damaged.
    """

    reports: tuple[Report, ...]
    timing: Mapping[str, Any]
    stored: Mapping[int, StoredWeights | Weights]
    again: "Callable[[], DenseRun] | None" = field(default=None, compare=False, repr=False)

    @property
    def steps(self) -> int:
        return self.reports[-1].step

    @property
    def best_step(self) -> int:
        """Of the weights that did best on validation."""
        return int(self.reports[-1].metrics["training/best_step"])

    @property
    def metrics(self) -> dict[str, float]:
        """The finite metrics of the final report: what other trials are compared with."""
        found = self.reports[-1].metrics
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def weights(self, step: int) -> Weights:
        """The model's `state_dict` after `step` steps, on the CPU: of the last step, of the best,
        and of `rewind_step` for every one of `REWIND_FRACTIONS`. Damage shows here, and costs
        another training."""
        found = self.stored[step]
        weights = found.read() if isinstance(found, StoredWeights) else found
        if weights is not None:
            return weights
        assert self.again is not None, found
        other = self.again()
        # Another step may be its best one where training does not repeat itself to the bit.
        return other.weights(step if step in other.stored else other.best_step)


def read_run(folder: Path, *, thorough: bool = False) -> DenseRun | None:
    """The entry in `folder`, if all its files are there and its reports intact.

    Weights are summed where they are read (2 GB at the papers' size); here only if `thorough`.
    """
    directory = folder / "run"
    listed = listed_files(directory)
    if listed is None:
        return None
    try:
        described_path = directory / "run.json"
        for path, crc in listed.items():
            if (thorough or path == described_path) and file_crc32(path) != crc:
                return None
        described = json.loads(described_path.read_text())
        return DenseRun(
            reports=tuple(Report(**report) for report in described["reports"]),
            timing=described["timing"],
            stored={
                int(path.stem): StoredWeights(path=path, crc32=crc)
                for path, crc in listed.items()
                if path.suffix == ".pt"
            },
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_weights(directory: Path, step: int, state: Mapping[str, Tensor]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f".{step}.partial"
    with partial.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(directory / f"{step}.pt")


def _read_weights(path: Path) -> Weights:
    return dict(torch.load(path, map_location="cpu", weights_only=True))


class Building:
    """What a builder has so far: on disk, or in memory from where the disk fails it."""

    def __init__(self, folder: Path | None, cannot_use: Callable[[Exception], None]) -> None:
        self._folder = folder
        self._cannot_use = cannot_use
        self._disk_works = folder is not None
        self._held: dict[int, Weights] = {}

    @property
    def _directory(self) -> Path:
        assert self._folder is not None
        return self._folder / "building"

    @property
    def _entry(self) -> Path:
        return self._directory / "run"

    @property
    def checkpoint(self) -> Path:
        return self._directory / "checkpoint"

    def has_checkpoint(self) -> bool:
        return self._folder is not None and self._directory.is_dir()

    def holds(self, steps: Iterable[int]) -> bool:
        """Whether the weights after each of `steps` are there."""
        return all(s in self._held or (self._entry / f"{s}.pt").is_file() for s in steps)

    def clear(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def keep(self, step: int, state: Mapping[str, Tensor]) -> None:
        """The weights after `step` steps."""
        if not self._write(lambda: _write_weights(self._entry, step, state)):
            self._held[step] = {n: t.detach().to("cpu", copy=True) for n, t in state.items()}

    def save(self, run: TrialRun, reports: list[Report]) -> None:
        """A checkpoint to go on from. The reports go first: it may be older than they are."""

        def write() -> None:
            described = json.dumps([dataclasses.asdict(report) for report in reports])
            partial = self._directory / ".reports.partial"
            partial.write_text(described)
            partial.replace(self._directory / "reports.json")
            run.save(self.checkpoint)

        self._write(write)

    def reports_until(self, last: Report | None) -> list[Report]:
        """Of a run that reported `last`. Raises `ValueError` where it is not among them."""
        stored = json.loads((self._directory / "reports.json").read_text())
        reports = [Report(**report) for report in stored]
        given = [report for report in reports if last is not None and report.step <= last.step]
        if last is not None and (not given or given[-1].step != last.step):
            raise ValueError("reports are missing")
        return given

    def publish(
        self,
        config: TrialConfig,
        reports: list[Report],
        timing: Mapping[str, Any],
        wanted: Iterable[int],
    ) -> DenseRun:
        """The run, and where the disk lets us, its entry.

        Weights of `wanted` may be missing where somebody deleted the folder meanwhile.
        """

        def write() -> None:
            if not self.holds(wanted):
                raise FileNotFoundError("files were deleted from it during training")
            for step, state in self._held.items():
                _write_weights(self._entry, step, state)
            described = {
                "config": config.to_dict(),
                "reports": [dataclasses.asdict(report) for report in reports],
                "timing": dict(timing),
            }
            (self._entry / "run.json").write_text(json.dumps(described, indent=2))
            write_manifest(self._entry, step=reports[-1].step)
            assert self._folder is not None
            self._entry.rename(self._folder / "run")

        self._disk_works = self._folder is not None  # again: there may be room by now
        if self._write(write):
            assert self._folder is not None
            self.clear()
            (self._folder / "failure.json").unlink(missing_ok=True)
            if (found := read_run(self._folder)) is not None:
                return found
        return DenseRun(reports=tuple(reports), timing=timing, stored=self._held)

    def _write(self, write: Callable[[], None]) -> bool:
        """Whether it is on disk. Where it is not, what is there comes into memory, and the disk
        is given its room back."""
        if not self._disk_works:
            return False
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            write()
            return True
        except torch.OutOfMemoryError:
            raise
        except (OSError, RuntimeError) as error:  # torch.save makes the one of the other
            self._cannot_use(error)
        self._disk_works = False
        for path in self._entry.glob("*.pt"):
            self._held.setdefault(int(path.stem), _read_weights(path))
        self.clear()
        return False

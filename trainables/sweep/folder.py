"""The folder of a sweep: what it trains, and what every trial left.

sweep.json          the grid as it was resolved, where it began and on which data
lock                held by the command at work
trials/00003/       of one trial: result.json (written last: how it ended), summary.json, model.pt,
                    predictions.npz, reports.jsonl (a line for each), and while it is at work
                    checkpoint/ and lock
.dense/             dense models, trained once for all trials
worker-0.log        what the processes print

JSON files and lines carry checksums; `result.json` has those of the trial's other files.
"""

import datetime
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from trainables.config import TrialConfig, flatten
from trainables.errors import UserError
from trainables.integrity.checksums import read_line, read_sealed, sealed, sealed_line
from trainables.integrity.code_digest import code_commit
from trainables.sweep.grid import GridFile
from trainables.terminal.answers import write_json
from trainables.training.checkpoints.manifest import file_crc32
from trainables.training.files import write_file

SWEEP_VERSION = 1
SUMMARY, MODEL, PREDICTIONS, REPORTS = (
    "summary.json",
    "model.pt",
    "predictions.npz",
    "reports.jsonl",
)
# Large, and not needed to know how a trial ended: they may be left out of a copy.
OPTIONAL = (MODEL, PREDICTIONS)
_MAX_DIFFERENCES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTrial:
    """Describes one trial of a sweep that has begun.

    config: nested plain values. baseline: as of `GridTrial`. data: the digest of its data.
    """

    number: int
    name: str
    config: Mapping[str, Any]
    baseline: int | None
    data: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Holds what `sweep.json` says."""

    name: str
    device: str
    objectives: tuple[str, ...]
    study: Mapping[str, Any] | None
    trials: tuple[SweepTrial, ...]


class SweepFolder:
    """Reads and writes the folder of a sweep."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.description = directory / "sweep.json"
        self.lock = directory / "lock"
        self.dense_cache = directory / ".dense"

    def trial(self, number: int) -> "TrialFolder":
        """Return the folder of one trial."""
        return TrialFolder(self.directory / "trials" / f"{number:05d}")

    def log(self, slot: int) -> Path:
        """Return the file for what the process in that place prints."""
        return self.directory / f"worker-{slot}.log"

    def read(self) -> Sweep:
        """Return what the folder trains. Raises `UserError` where it is no sweep or damaged."""
        try:
            known = read_sealed(self.description)
        except OSError as error:
            raise UserError(
                f"{str(self.directory)!r} must be the folder of a sweep, got no readable sweep.json"
                f" in it ({error.strerror}); name the --out of `python -m trainables sweep`"
            ) from None
        if known.get("version") != SWEEP_VERSION:
            raise UserError(
                f"{str(self.description)!r} must be of version {SWEEP_VERSION}, got "
                f"{known.get('version')!r}; use the release that wrote it"
            )
        return Sweep(
            name=known["name"],
            device=known["device"],
            objectives=tuple(known["objectives"]),
            study=known["study"],
            trials=tuple(
                SweepTrial(number=number, name=trial_name(known["name"], number), **row)
                for number, row in enumerate(known["trials"])
            ),
        )

    def begin(self, grid: GridFile, device: str, data: Sequence[str]) -> Sweep:
        """Write what is trained, or check that it is what was begun here, and return it.

        data: the digest of each trial's data. Raises `UserError` for another sweep.
        """
        rows = [
            {"config": t.config.to_dict(), "baseline": t.baseline, "data": digest}
            for t, digest in zip(grid.trials, data, strict=True)
        ]
        if self.description.exists():
            known = self.read()
            self._check_same(known, grid, device, rows)
            return known
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        values = {**grid.to_json(), "version": SWEEP_VERSION, "trials": rows}
        values |= {"device": device, "created": now, "commit": code_commit()}
        values |= {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        write_json(self.description, sealed(values))
        return self.read()

    def _check_same(
        self, known: Sweep, grid: GridFile, device: str, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        remedy = "train the new grid with another --out"
        found = []
        if known.device != device:
            found.append(f"the device was {known.device}, is now {device}")
            remedy = f"use --device {known.device}, or {remedy}"
        if known.name != grid.name:
            found.append(f"the name was {known.name}, is now {grid.name}")
        if known.objectives != grid.objectives:
            found.append(f"the objectives were {known.objectives}, are now {grid.objectives}")
        if len(known.trials) != len(rows):
            found.append(f"the trials were {len(known.trials)}, are now {len(rows)}")
        for trial, row in zip(known.trials, rows, strict=False):
            found += [
                f"trial {trial.number}: {d}" for d in differences(trial.config, row["config"])
            ]
            if trial.baseline != row["baseline"]:
                found.append(f"baseline of trial {trial.number} was {trial.baseline}, is now "
                             f"{row['baseline']}")  # fmt: skip
            if trial.data != row["data"]:
                found.append(f"the data of trial {trial.number} were others")
        if found:
            raise UserError(
                f"the sweep in {str(self.directory)!r} was begun with another grid: "
                f"{'; '.join(found[:_MAX_DIFFERENCES])}; {remedy}"
            )


class TrialFolder:
    """Reads and writes the folder of one trial."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.result_file = directory / "result.json"
        self.checkpoint = directory / "checkpoint"
        self.lock = directory / "lock"

    def result(self) -> dict[str, Any] | None:
        """Return how the trial ended; None before that. Raises `UserError` for a damaged file."""
        try:
            return read_sealed(self.result_file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(
                f"{str(self.result_file)!r} must be a file to read ({error.strerror}); check its "
                "permissions"
            ) from None

    def end(self, trial: Mapping[str, Any], result: Mapping[str, Any], *, crash: str = "") -> None:
        """Write how a trial ended, and delete what only a trial at work needs.

        trial: its `number`, `name`, `config` (nested), `device`, and `gpu` by name.
        result: the last one of its attempt. crash: why its process died, if it did.
        """
        files = {
            name: file_crc32(self.directory / name)
            for name in (SUMMARY, MODEL, PREDICTIONS, REPORTS)
            if (self.directory / name).is_file()
        }
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        values = {
            "version": SWEEP_VERSION,
            **{name: trial[name] for name in ("number", "name", "config", "device")},
            "gpu": trial.get("gpu"),
            "result": dict(result),
            "crash": crash,
            "ended": now,
            "files": files,
        }
        write_json(self.result_file, sealed(values))
        self.clear()

    def clear(self) -> None:
        """Delete the checkpoints of a trial that has ended."""
        for path in (self.checkpoint, *self.directory.glob(".checkpoint.*")):
            shutil.rmtree(path, ignore_errors=True)

    def reports(self) -> list[dict[str, Any]]:
        """Return the recorded reports. Raises `UserError` for a damaged line, by its number."""
        path = self.directory / REPORTS
        rows = []
        for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else ()):
            try:
                rows.append(read_line(line))
            except ValueError as error:
                raise UserError(
                    f"line {number + 1} of {str(path)!r} is damaged ({error}); restore the file "
                    "from a copy, or delete the trial's folder and it is trained again"
                ) from None
        return rows

    def write_reports(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the recorded reports, complete or not at all."""
        write_file(self.directory / REPORTS, b"".join(map(sealed_line, rows)))

    def check_files(self, result: Mapping[str, Any]) -> list[str]:
        """Return which optional files are missing beside a result.

        Raises `UserError` for one that is damaged, or missing and needed.
        """
        missing = []
        for name, crc in result["files"].items():
            path = self.directory / name
            if not path.is_file():
                if name not in OPTIONAL:
                    raise UserError(
                        f"{str(path)!r} must lie beside its result, got no such file; copy the "
                        "trial's folder again"
                    )
                missing.append(name)
            elif file_crc32(path) != crc:
                raise UserError(
                    f"{str(path)!r} must be as it was written, got another checksum; restore it "
                    "from a copy"
                )
        return missing

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    @classmethod
    def of(cls, directory: str) -> Self:
        """Return the trial folder at a path."""
        return cls(Path(directory))


def trial_name(sweep: str, number: int) -> str:
    """Return the name of a trial, as a study of the same name has it."""
    return f"{sweep}-{number:05d}"


def trial_number(text: str, study: str) -> int:
    """Read `--trial`: a number, or a trial's name in the study. Raises `UserError`."""
    digits = text.strip().removeprefix(f"{study}-")
    if not digits.isdecimal():
        raise UserError(
            f"`--trial` must be a number or a name of study {study!r}, got {text!r}; "
            f"e.g. 3, or {trial_name(study, 3)}"
        )
    return int(digits)


def differences(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in which settings two nested configurations differ, the place of the data aside."""
    ours, theirs = (flatten(_plain(config)) for config in (now, known))
    # A record may lack a setting that is younger than it.
    younger = TrialConfig.younger_settings()
    names = [name for name in (theirs | ours) if name != "data.root"]
    return [
        f"{name} was {a}, is now {b}"
        for name in names
        if (a := theirs.get(name, younger.get(name))) != (b := ours.get(name, younger.get(name)))
    ]


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(config)))

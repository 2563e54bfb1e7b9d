"""Writes and reads checkpoints, folders that are complete or absent and resume bit for bit."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.training.checkpoints.manifest import file_crc32

_STATE_FILE = "state.pt"
_CONFIG_FILE = "config.json"
CHECKPOINT_VERSION = 4


def save_checkpoint(directory: Path, config: TrialConfig, state: dict[str, Any]) -> None:
    """Replace the checkpoint in `directory`.

    It is written to a folder beside it, flushed to disk and renamed, so that a kill at any moment
    leaves the old or the new checkpoint for `find_checkpoint`. Raises `OSError` if writing fails.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    for stale in directory.parent.glob(f".{directory.name}.*.partial"):
        shutil.rmtree(stale, ignore_errors=True)  # left by a process that was killed while writing
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    try:
        write_checkpoint(partial, config, state)
        previous = directory.with_name(f".{directory.name}.previous")
        if directory.exists():  # otherwise keep `previous`, all that a killed process left
            shutil.rmtree(previous, ignore_errors=True)
            directory.rename(previous)
        partial.rename(directory)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_checkpoint(directory: Path, config: TrialConfig, state: dict[str, Any]) -> None:
    """Write a checkpoint's files; the caller must make the folder appear atomically."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _STATE_FILE).open("wb") as file:
        torch.save({"version": CHECKPOINT_VERSION, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    described = {"config": config.to_dict(), "state_crc32": file_crc32(directory / _STATE_FILE)}
    (directory / _CONFIG_FILE).write_text(json.dumps(described, indent=2))


def find_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint at `directory`, or the one a killed `save_checkpoint` was replacing.

    Returns None if there is neither.
    """
    for candidate in (directory, directory.with_name(f".{directory.name}.previous")):
        if (candidate / _STATE_FILE).is_file() and (candidate / _CONFIG_FILE).is_file():
            return candidate
    return None


def checkpoint_config(directory: Path) -> TrialConfig:
    """Return the configuration of the checkpoint in `directory`.

    Raises an exception of any kind if it cannot be read.
    """
    return TrialConfig.from_dict(json.loads((directory / _CONFIG_FILE).read_text())["config"])


def load_checkpoint(directory: Path, config: TrialConfig, device: str) -> dict[str, Any]:
    """Return the state that was saved for exactly this configuration, on `device`.

    Raises `UserError` if there is none, if it is damaged, or if it belongs to another
    configuration; the message names the settings that differ.
    """
    found = find_checkpoint(directory)
    if found is None:
        raise UserError(f"no checkpoint in {str(directory)!r}; start without --resume")
    try:
        described = json.loads((found / _CONFIG_FILE).read_text())
        saved = TrialConfig.from_dict(described["config"])
        if described["state_crc32"] != file_crc32(found / _STATE_FILE):
            raise ValueError(f"the checksum of {_STATE_FILE} does not match")
        state = torch.load(found / _STATE_FILE, map_location=device, weights_only=True)
        version = state.pop("version")
    except Exception as error:
        raise damaged(found, error) from None
    if version != CHECKPOINT_VERSION:
        raise UserError(
            f"the checkpoint {str(found)!r} has version {version}, this release reads "
            f"{CHECKPOINT_VERSION}; start again"
        )
    theirs, ours = saved.flat(), config.flat()
    # The same data may have moved; another size or data set differs in other settings.
    theirs["data.root"] = ours["data.root"]
    if theirs != ours:
        differing = [
            f"{name}={theirs.get(name)!r} there, {ours.get(name)!r} here"
            for name in sorted(theirs.keys() | ours.keys())
            if theirs.get(name) != ours.get(name)
        ]
        raise UserError(
            f"the checkpoint {str(found)!r} belongs to another configuration "
            f"({'; '.join(differing)}); resume with the same settings or choose another folder"
        )
    return dict(state)


def damaged(directory: Path, error: Exception) -> UserError:
    """Return the error for a checkpoint that cannot be read."""
    said = (str(error).strip().splitlines() or ["no details"])[0]
    return UserError(
        f"the checkpoint {str(directory)!r} is damaged ({type(error).__name__}: {said}); "
        "delete the folder and start again"
    )

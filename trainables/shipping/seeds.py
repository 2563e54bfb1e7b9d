"""Trains a model's configuration again at other seeds, for the intervals of its card."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.terminal.answers import write_json
from trainables.training.attended import train_to_end
from trainables.training.checkpoints.checkpoint import find_checkpoint
from trainables.training.dense_runs.cache import DenseCache
from trainables.training.trial import TrialRun
from trainables.training.watching.progress import TrialProgress


def metrics_of_seeds(
    config: TrialConfig,
    seeds: Sequence[int],
    folder: Path,
    *,
    command: Sequence[str],
    dense_cache: Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> list[dict[str, float]]:
    """Return the final metrics of `config` at each of the seeds, trained one after the other.

    folder: holds a `seed-N/summary.json` of each that has ended, which is reused, and the
      checkpoint of one that was interrupted, which is continued.
    command: the command line that a summary names. dense_cache: where dense runs are kept.

    Raises `UserError` while another process trains in the folder.
    """
    if not seeds:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0, fallback_to_soft=False):
            runs = []
            for seed in seeds:
                of_seed = config.replace({"seed": seed})
                own = folder / f"seed-{seed}"
                run = _finished(own, of_seed)
                if run is None:
                    cache = dense_cache and DenseCache(dense_cache, device)
                    arguments = {"device": device, "dense_cache": cache}
                    run = _train(own, of_seed, arguments, list(command), quiet=quiet)
                runs.append(dict(run["metrics"]))
            return runs
    except Timeout:
        raise UserError(
            f"one process at a time may train in {str(folder)!r}, and another does; wait for it"
        ) from None


def _finished(folder: Path, config: TrialConfig) -> dict[str, Any] | None:
    """Return the summary of exactly this configuration; the data may have moved since."""
    try:
        run: dict[str, Any] = json.loads((folder / "summary.json").read_text())
        theirs = TrialConfig.from_dict(run["config"]).replace({"data.root": config.data.root})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if theirs == config else None


def _train(
    folder: Path, config: TrialConfig, arguments: dict[str, Any], command: list[str], *, quiet: bool
) -> dict[str, Any]:
    checkpoint = folder / "checkpoint"
    with TrialProgress(f"seed {config.seed}", quiet=quiet) as progress:
        run = _open(checkpoint, config, arguments)
        train_to_end(run, progress, checkpoint)
    summary = run.summary(command)
    write_json(folder / "summary.json", summary)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return summary


def _open(checkpoint: Path, config: TrialConfig, arguments: dict[str, Any]) -> TrialRun:
    """Return the interrupted run; a new one where none can be continued."""
    if find_checkpoint(checkpoint) is not None:
        try:
            return TrialRun.resume(checkpoint, config, **arguments)
        except UserError as error:
            print(f"seed {config.seed} starts again: {error}", flush=True)
    return TrialRun(config, **arguments)

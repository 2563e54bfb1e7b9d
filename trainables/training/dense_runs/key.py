"""Computes the name of a run's folder in the cache, equal for equal dense trials.

It depends on the settings that a dense trial reads, the content of the data, torch's version, and
the code that trains: this package's own and a user's (model, task, data set), without comments,
docstrings and layout. It does not depend on what a user's code uses outside its package or folder,
on other libraries, drivers and hardware. If these change, delete the cache by hand.
"""

import functools
import json
from pathlib import Path

import torch

from trainables.code_digest import digest, digest_files, digest_import
from trainables.config import TrialConfig
from trainables.data.catalogue import open_dataset
from trainables.registry.lookup import DATASET, MODEL, TASK
from trainables.training.device import resolve_precision

ENTRY_VERSION = 2  # raise it when entries hold other files than before

# The code of this package that determines a dense trial's weights and reports.
_PACKAGE = Path(__file__).parents[2]
_MODULES = (
    *("checks.py", "config.py", "coercion.py", "report.py", "seeds.py"),
    *("registry/datasets.py", "registry/lookup.py", "registry/tasks.py"),
)
_FOLDERS = ("cost", "data", "models", "tasks", "training", "sparsity")


def entry_key(config: TrialConfig, device: str, *, deterministic: bool = False) -> str:
    """Return the hash of everything that determines a dense trial's result on a type of device.

    deterministic: as in `TrialRun`. Raises `UserError` if the data cannot be opened.
    """
    dataset = open_dataset(config.data)
    own = [DATASET.path(name) for name in [config.data.dataset] if name not in DATASET.built_in]
    own += [MODEL.path(name) for name in [config.model.name] if name not in MODEL.built_in]
    own += [TASK.path(name) for name in config.data.own_tasks]
    facts = {
        "config": _settings_read(config, device),
        "data": [view.split.meta.to_json().decode() for view in (dataset.train, dataset.test)],
        "code": package_digest(),
        "own_code": [digest_import(path) for path in own],
        "device": device,
        "deterministic": deterministic and device == "cuda",
        "torch": torch.__version__,
        "version": ENTRY_VERSION,
    }
    return digest(json.dumps(facts, sort_keys=True).encode())


def _settings_read(config: TrialConfig, device: str) -> dict[str, object]:
    """Return the settings that a dense trial reads, with the data's content for its folder."""
    assert config.method == "dense", config.method
    unread = {"data.root", "training.pretrain_steps"}
    if config.optimiser.name != "sgd":
        unread.add("optimiser.momentum")
    if config.optimiser.rate_schedule != "halving":
        unread.add("optimiser.halve_every_fraction")
    groups = ("sparsity.", "regrowth.")
    flat = config.flat() | {
        "training.precision": resolve_precision(config.training.precision, device)
    }
    return {n: v for n, v in flat.items() if n not in unread and not n.startswith(groups)}


@functools.cache
def package_digest(package: Path = _PACKAGE) -> str:
    """Return the digest of the code that determines a dense trial; a process reads it once."""
    found = [package / name for name in _MODULES]
    found += [path for name in _FOLDERS for path in (package / name).rglob("*.py")]
    return digest_files(package, found)

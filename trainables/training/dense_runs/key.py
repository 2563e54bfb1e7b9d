"""Computes the name of a run's folder in the cache, equal for equal dense trials.

It depends on the settings that a dense trial reads, the content of the data, torch's version, and
the code that trains: this package's own and a user's (model, task, data set), without comments,
docstrings and layout. It does not depend on what a user's code uses outside its package or folder,
on other libraries, drivers and hardware. If these change, delete the cache by hand.
"""

import functools
import json
from pathlib import Path
from typing import Any

import torch

from trainables.config import TrialConfig
from trainables.data.catalogue import open_dataset
from trainables.integrity.code_digest import digest, digest_files, digest_import
from trainables.registry.lookup import DATASET, MODEL, TASK, Kind
from trainables.training.device import resolve_precision

ENTRY_VERSION = 2  # raise it when entries hold other files than before

# The code of this package that determines a dense trial's weights and reports.
_PACKAGE = Path(__file__).parents[2]
_CODE = (
    *("checks.py", "config.py", "sparsity_config.py", "coercion.py", "report.py", "seeds.py"),
    *(f"registry/{name}.py" for name in ("datasets", "lookup", "models", "tasks")),
    *("cost", "data", "models", "tasks", "training", "sparsity"),
)
_OURS = f"{_PACKAGE.name}."  # `package_digest` covers what it holds
_NAMING_CODE = ("implementation", "open_source", "generate")  # the fields of descriptions that do


def entry_key(config: TrialConfig, device: str, *, deterministic: bool = False) -> str:
    """Return the hash of everything that determines a dense trial's result on a type of device.

    deterministic: as in `TrialRun`. Raises `UserError` if the data cannot be opened.
    """
    dataset = open_dataset(config.data)
    facts = {
        "config": _settings_read(config, device),
        "data": [view.split.meta.to_json().decode() for view in (dataset.train, dataset.test)],
        "code": package_digest(),
        "own_code": [digest_import(path) for path in _own_code(config)],
        "device": device,
        "deterministic": deterministic and device == "cuda",
        "torch": torch.__version__,
        "version": ENTRY_VERSION,
    }
    return digest(json.dumps(facts, sort_keys=True).encode())


def _own_code(config: TrialConfig) -> list[str]:
    """Return the import paths of a user's own descriptions, and of the code that they name."""
    used: list[tuple[Kind[Any], str]] = [(TASK, path) for path in config.data.own_tasks]
    used += [(DATASET, config.data.dataset), (MODEL, config.model.name)]
    own = [(kind.path(name), kind.find(name)) for kind, name in used if name not in kind.built_in]
    named = [getattr(described, field, None) for _, described in own for field in _NAMING_CODE]
    theirs = [path for path in named if isinstance(path, str) and not path.startswith(_OURS)]
    return [*(path for path, _ in own), *theirs]


def _settings_read(config: TrialConfig, device: str) -> dict[str, object]:
    """Return the settings that a dense trial reads, with the data's content for its folder."""
    assert config.method == "dense", config.method
    unread = ["sparsity.", "regrowth.", "deployment.", "data.root", "training.pretrain_steps"]
    # The last two change no result: a recorded step does what the step does.
    unread += ["optimiser.retraining_rate", "training.prediction_frames", "training.graph"]
    if config.optimiser.name != "sgd":
        unread.append("optimiser.momentum")
    if config.optimiser.rate_schedule != "halving":
        unread += ["optimiser.halve_every_fraction", "optimiser.decay_factor"]
    precision = resolve_precision(config.training.precision, device)
    flat = config.flat() | {"training.precision": precision}
    return {name: value for name, value in flat.items() if not name.startswith(tuple(unread))}


@functools.cache
def package_digest(package: Path = _PACKAGE) -> str:
    """Return the digest of the code that determines a dense trial; a process reads it once."""
    found = [package / name for name in _CODE]
    return digest_files(package, found + [file for path in found for file in path.rglob("*.py")])

"""Which dense trials are the same one: the name of an entry of the dense cache.

Part of it is the code that trains, so that a change there is never answered with a model of
before. Covered are this package's own files, torch's version and a user's model (`model_digest`).
Not covered, and a reason to delete the cache by hand: what a user's model imports from outside
its package or folder, or reads at run time, and other libraries, drivers and hardware.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path

import torch

from trainables.config import TrialConfig
from trainables.data.catalogue import open_dataset
from trainables.sparsity.method import Method
from trainables.training.device import resolve_precision

# Raise it when entries hold other files than before.
ENTRY_VERSION = 1

# What decides a dense trial's weights and reports, in this package.
_PACKAGE = Path(__file__).parents[2]
_MODULES = ("config.py", "coercion.py", "cost.py", "report.py", "seeds.py")
_FOLDERS = ("data", "models", "tasks", "training", "sparsity")

# What no dense trial reads, with the values that stand for "whatever was there".
_UNREAD = {
    "sparsity.target": 0.0,
    "sparsity.allocation": "global",
    "sparsity.schedule": "one-shot",
    "sparsity.start_fraction": 0.0,
    "sparsity.end_fraction": 0.0,
    "sparsity.interval_steps": 1,
    "sparsity.level_fraction": 0.5,
    "sparsity.rewind_fraction": 0.0,
    "sparsity.score": "magnitude",
    "sparsity.saliency_batches": 1,
    "sparsity.saliency_weights": "actual",
    "sparsity.arbiter": "unanimous",
    "regrowth.fraction": 0.0,
    "regrowth.annealing": "constant",
    "regrowth.interval_steps": 1,
    "regrowth.end_fraction": 0.0,
    "regrowth.budget": "exact",
    "training.pretrain_steps": 0,
}


def dense_config(config: TrialConfig) -> TrialConfig:
    """The dense trial whose trained model `config` starts from: as long as its pre-training.

    It reports as often as `config` does, so that methods of one study share it.
    """
    steps = config.training.pretrain_steps
    return normalised(
        config.replace(
            {
                "method": "dense",
                "training.steps": steps,
                "training.reference_steps": steps,
                "training.num_reports": min(config.training.num_reports, steps),
            }
        )
    )


def normalised(config: TrialConfig) -> TrialConfig:
    """A dense trial with everything that it does not read set to one value."""
    assert config.method == "dense", config.method
    unread = dict(_UNREAD)
    if config.optimiser.name != "sgd":
        unread["optimiser.momentum"] = 0.0
    if config.optimiser.rate_schedule != "halving":
        unread["optimiser.halve_every_fraction"] = 1.0
    return config.replace(unread)


def starts_from_dense_trial(method: Method, model: torch.nn.Module) -> bool:
    """Whether pre-training is an ordinary dense trial.

    It is not where the model behaves otherwise in that phase (Cross-Stitch trains single-task
    networks then), nor for a dense method, which would be pre-training for itself.
    """
    own_phases = hasattr(model, "start_step") or hasattr(model, "auxiliary_loss")
    return method.needs_pretraining and method.sparse and not own_phases


def entry_key(config: TrialConfig, device: str, *, deterministic: bool = False) -> str:
    """The hash of all that decides what a normalised dense trial gives on a type of device.

    Data count by content, not by the folder they lie in; code by its source.
    Raises `UserError` where the data cannot be opened.
    """
    dataset = open_dataset(config.data)
    described = config.flat()
    del described["data.root"]
    described["training.precision"] = resolve_precision(config.training.precision, device)
    facts = {
        "config": described,
        "data": [view.split.meta.to_json().decode() for view in (dataset.train, dataset.test)],
        "source": package_digest(),
        "model_source": model_digest(config.model.name),
        "device": device,
        "deterministic": deterministic and device == "cuda",
        "torch": torch.__version__,
        "version": ENTRY_VERSION,
    }
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@functools.cache
def package_digest(package: Path = _PACKAGE) -> str:
    """Of the sources that decide a dense trial; looked at once by a process."""
    found = [package / name for name in _MODULES]
    found += [path for name in _FOLDERS for path in (package / name).rglob("*.py")]
    return _digest(package, found)


@functools.cache
def model_digest(name: str) -> str | None:
    """Of the code behind an import path; None for a registered model. Once by a process.

    All files of its top-level package, or for a module that is in none, the `.py` files beside
    it: what it imports from there counts too.
    """
    module, separator, _ = name.partition(":")
    spec = None
    if separator:
        with contextlib.suppress(ImportError, ValueError):  # building the model says it better
            spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is None:
        return None
    if spec.submodule_search_locations is not None:
        folders = [Path(place) for place in spec.submodule_search_locations]
        return ",".join(_digest(folder, _files(folder)) for folder in folders)
    if spec.origin is None or not spec.has_location:
        return None
    folder = Path(spec.origin).parent
    return _digest(folder, folder.glob("*.py"))


def _files(folder: Path) -> Iterable[Path]:
    """All but what Python makes of them, and hidden ones."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(p.startswith(".") or p == "__pycache__" for p in parts):
            yield path


def _digest(folder: Path, paths: Iterable[Path]) -> str:
    """Of names and contents, wherever the folder lies."""
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        with contextlib.suppress(OSError):  # gone meanwhile: as if it had not been there
            content = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
            total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()

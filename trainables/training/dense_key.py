"""Which dense trials are the same one: the name of an entry of the dense cache."""

import contextlib
import hashlib
import importlib.util
import json
from pathlib import Path

import torch

import trainables
from trainables.config import TrialConfig
from trainables.data.catalogue import open_dataset
from trainables.sparsity.method import Method
from trainables.training.device import resolve_precision

# Raise it when dense training gives other numbers than before, or entries other files.
ENTRY_VERSION = 1

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

    Data count by content, not by the folder they lie in; a user's model by its source.
    Raises `UserError` where the data cannot be opened.
    """
    dataset = open_dataset(config.data)
    described = config.flat()
    del described["data.root"]
    described["training.precision"] = resolve_precision(config.training.precision, device)
    facts = {
        "config": described,
        "data": [view.split.meta.to_json().decode() for view in (dataset.train, dataset.test)],
        "model_source": _source_digest(config.model.name),
        "device": device,
        "deterministic": deterministic and device == "cuda",
        "torch": torch.__version__,
        "package": trainables.__version__,
        "version": ENTRY_VERSION,
    }
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _source_digest(name: str) -> str | None:
    """Of the module behind an import path; None for a registered model."""
    module, separator, _ = name.partition(":")
    spec = None
    if separator:
        with contextlib.suppress(ImportError, ValueError):  # building the model says it better
            spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    return hashlib.blake2b(Path(spec.origin).read_bytes(), digest_size=16).hexdigest()

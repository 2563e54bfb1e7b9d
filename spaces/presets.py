"""Defines the defaults of every method, data set and size; models hold no such numbers.

`paper` is the released protocol of each data set (DiSparse, Sun et al. 2022; docs/released.md says
what it does not take over); `small` and `tiny` scale it down for two cores. This module does not
import optuna, because `python -m trainables` reads it on hosts that have only torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spaces.budgets import budget_for, retrains
from spaces.contradictions import require_sense
from spaces.dataset_defaults import DATASET_DEFAULTS, defaults_for
from spaces.task_names import resolve_tasks
from trainables.coercion import whole_number
from trainables.config import TrialConfig
from trainables.data.store.meta import stored_size
from trainables.errors import UserError, unknown_name
from trainables.registry.lookup import METHOD, MODEL
from trainables.registry.methods import METHODS
from trainables.registry.models import MODELS
from trainables.registry.structures import CHANNEL, WEIGHT, group_sizes

__all__ = ["DATASET_DEFAULTS", "DENSE_METHODS", "PRESETS", "trial_config", "without_effect"]

PRESETS = ("tiny", "small", "paper")
DENSE_METHODS = tuple(name for name, method in METHODS.items() if not method.sparse)


_MODELS: dict[str, dict[str, Any]] = {
    "tiny": {
        "name": "deeplab-resnet",
        # Four branches, and a head no smaller than the trunk, as in `paper`: methods differ a lot
        # in which of the two they prune less. The dilations fit feature maps of 8×8.
        "width": 8,
        "blocks": (1, 1, 1, 1),
        "strides": (1, 2, 1, 1),
        "dilations": (1, 1, 1, 2),
        "head_width": 64,
        "head_dilations": (1, 2, 3, 4),
        "unit_rate": 100.0,
    },
    "small": {
        "name": "deeplab-resnet",
        "width": 24,
        "blocks": (2, 2, 2, 2),
        "strides": (1, 2, 1, 1),
        "dilations": (1, 1, 2, 4),
        "head_width": 96,
        "head_dilations": (2, 4, 6, 8),
        "unit_rate": 100.0,
    },
    "paper": {
        "name": "deeplab-resnet",
        "width": 64,
        "blocks": (3, 4, 6, 3),
        "strides": (1, 2, 1, 1),
        "dilations": (1, 1, 2, 4),
        "head_width": 1024,
        "head_dilations": (6, 12, 18, 24),
        "unit_rate": 100.0,
    },
}

_TRAINING: dict[str, dict[str, Any]] = {
    "tiny": {"steps": 400, "batch_size": 8, "evaluation_batch_size": 32, "num_reports": 5},
    "small": {"steps": 600, "batch_size": 8, "evaluation_batch_size": 16, "num_reports": 6},
    # Steps, updates and rates of `paper` are the data set's (`ReleasedProtocol`).
    "paper": {"batch_size": 16, "evaluation_batch_size": 16, "num_reports": 20},
}

# Between two prunings of a gradual schedule and, except in `paper`, between two drops and growths.
# Shorter runs have fewer of these than the papers, so that a grown weight has time to learn.
_INTERVAL_FRACTION = {"tiny": 0.04, "small": 0.03, "paper": 0.005}
# Blocks of channels that CPU kernels like; the layers of `tiny` have few.
_ROUND_TO = {"tiny": 8, "small": 16, "paper": 16}
_SALIENCY_BATCHES = {"tiny": 25, "small": 16, "paper": 50}

_LEVEL_FRACTION, _REWIND_FRACTION = 0.2, 0.05

_LOSS_WEIGHTS = "training.loss_weights"


def trial_config(
    method: str,
    dataset: str,
    preset: str,
    *,
    tasks: str | Sequence[str] | None = None,
    sparsity: float | None = None,
    seed: int = 0,
    root: str | None = None,
    steps: int | None = None,
    total_steps: int | None = None,
    metrics: str = "corrected",
    overrides: Mapping[str, Any] | None = None,
) -> TrialConfig:
    """Return the default trial of a method on a data set at a size.

    method, dataset: a built-in name, a name from an installed package, or an import path.
    tasks: names or import paths (`spaces.task_names.resolve_tasks`).

    `steps` counts training proper; pre-training, where the method needs it, is added to it.
    `total_steps`, given instead, covers both, so that methods are compared at equal budgets.

    `overrides` are dotted names (`sparsity.schedule`) and win over everything else; intervals
    in steps scale with `steps` unless overridden. In preset `paper`, methods that prune a trained
    model retrain it for a fraction of its steps, at a rate of their own (`ReleasedProtocol`).
    `metrics` "published" takes the published grid of features with it (`model.pool_rounding`).
    Dense systems ignore `sparsity`, so that one grid of methods × sparsities serves all. Raises
    `UserError` for names that do not exist and settings that contradict each other.
    """
    described = METHOD.find(method)
    defaults = defaults_for(dataset)
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    overrides = dict(overrides or {})
    asked = overrides.pop("data.tasks", tasks)
    chosen, own_tasks = resolve_tasks(
        dataset, defaults, asked, overrides.pop("data.own_tasks", None) or ()
    )
    released = defaults.released if preset == "paper" else None
    training = dict(_TRAINING[preset])
    if released is not None:
        training["steps"] = released.steps
    # A rate of none asks for a second training like the first.
    like_the_first = str(overrides.get("optimiser.retraining_rate", "")).lower() == "none"
    retraining = released if retrains(described) and not like_the_first else None
    given = _num_steps(steps, overrides.pop("training.steps", None))
    structure = overrides.get("sparsity.structure") or described.defaults.get(
        "sparsity.structure", WEIGHT
    )
    target = _default_target(structure) if sparsity is None else sparsity
    levelled = {
        "sparsity.target": target,
        "sparsity.level_fraction": _LEVEL_FRACTION,
        "sparsity.rewind_fraction": _REWIND_FRACTION,
    }
    budget = budget_for(
        described,
        {n: overrides.get(n, value) for n, value in levelled.items()},
        1 if retraining is None else retraining.steps // retraining.retraining_steps,
    )
    pretrain = overrides.pop("training.pretrain_steps", None)
    pretrain = None if pretrain is None else whole_number("training.pretrain_steps", pretrain)
    if total_steps is None:
        if given is not None:
            training["steps"] = given
        elif retraining is not None:
            training["steps"] = retraining.retraining_steps
        if pretrain is None:
            pretrain = budget.pretraining_for(training["steps"])
    elif given is not None:
        raise UserError(
            f"`total_steps` holds pre-training and training, got {total_steps} beside "
            f"`training.steps` = {given}; give one of them"
        )
    else:
        total_steps = whole_number("total_steps", total_steps)
        training["steps"], pretrain = budget.split(total_steps, pretrain)
    training["reference_steps"] = training["steps"] if total_steps is None else total_steps
    if retraining is not None and total_steps is None:
        training["reference_steps"] = pretrain  # the dense run
    training["num_reports"] = min(training["num_reports"], max(1, training["steps"]))
    interval = max(1, round(_INTERVAL_FRACTION[preset] * training["steps"]))
    update_interval = interval
    if released is not None:
        update_fraction = released.update_every_steps / released.steps
        update_interval = max(1, round(update_fraction * training["steps"]))
    # Frames that lie in a store have the size they have; the crop keeps its share of them.
    size, crop = defaults.size[preset], defaults.crop[preset]
    stored = None if "data.size" in overrides else stored_size(root)
    if stored is not None and stored != size:
        height, width = (
            max(1, round(pixels * part / whole))
            for pixels, part, whole in zip(stored, crop, size, strict=True)
        )
        size, crop = stored, (height, width)
    values = {
        "method": method,
        "seed": seed,
        "metrics": metrics,
        "data": {
            "dataset": dataset,
            "root": root,
            "tasks": chosen,
            "own_tasks": own_tasks,
            "size": size,
            "crop": crop,
            "scale_range": (0.5, 1.5) if preset == "paper" else (0.8, 1.25),
            "mirror": True,
            "validation_fraction": 0.15,
            "split_seed": 0,
            "num_train": defaults.num_train[preset],
            "num_test": defaults.num_test[preset],
        },
        "model": {**_MODELS[preset], "pool_rounding": _pool_rounding(overrides, metrics)},
        "sparsity": {
            "structure": structure,
            "target": target,
            "counts": "parameters",
            "round_to": _ROUND_TO[preset],
            "allocation": "global",
            "schedule": "one-shot",
            "start_fraction": 0.0,
            "end_fraction": 0.5,
            "interval_steps": interval,
            "level_fraction": _LEVEL_FRACTION,
            "rewind_fraction": _REWIND_FRACTION,
            "score": "taylor",
            "saliency_batches": _SALIENCY_BATCHES[preset],
            "saliency_weights": "actual",
            "arbiter": "unanimous",
        },
        "regrowth": {
            "fraction": 0.3,
            "annealing": "cosine",
            "interval_steps": update_interval,
            "end_fraction": 0.75,
            "budget": "exact",
            "gradient_at": "sparse",
        },
        "optimiser": {
            "name": "adam",
            "learning_rate": defaults.learning_rate[preset],
            "weight_decay": 5e-4,
            "momentum": 0.9,
            "rate_schedule": "cosine" if released is None else "halving",
            "halve_every_fraction": (
                0.2 if released is None else released.decay_every_steps / released.steps
            ),
            "decay_factor": 0.5 if released is None else released.decay_factor,
            "retraining_rate": None if retraining is None else retraining.retraining_rate,
            "clip_norm": 10.0 if released is None else None,
        },
        "training": {
            **training,
            "pretrain_steps": pretrain,
            "accumulation": 1,
            "loss_weights": {task: defaults.loss_weights.get(task, 1.0) for task in chosen},
            "precision": "auto",
            "channels_last": True,
            "graph": "auto",
            "loss_resolution": "full",
        },
        "deployment": {
            "measure": False,
            "runtime": "onnxruntime",
            "device": "cpu",
            "threads": 1,
        },
    }
    config = TrialConfig.from_dict(values)
    if not described.has_target:
        config = config.replace({"sparsity.target": 0.0})
    for name in overrides:  # any task's name would do for the configuration
        part, _, task = name.rpartition(".")
        if part == _LOSS_WEIGHTS and task not in {*defaults.loss_weights, *chosen}:
            raise unknown_name("setting", name, config.flat())
    config = config.replace({**described.default_settings, **overrides})
    require_sense(config)
    return config


def _default_target(structure: Any) -> float:
    """Return the target of a trial that names none; N:M sets it."""
    sizes = group_sizes(str(structure))
    return 0.9 if sizes is None else 1 - sizes[0] / sizes[1]


def _pool_rounding(overrides: Mapping[str, Any], metrics: str) -> str:
    """Return the rounding of a trial that names none: published metrics are of the published grid.

    Otherwise it is down (`trainables.models.deeplab_resnet` has the reason).
    """
    return "up" if overrides.get("metrics", metrics) == "published" else "down"


def _num_steps(steps: Any, setting: Any) -> int | None:
    """Return the training steps from the argument or the override `training.steps`, if any.

    Raises `UserError` for two different values: intervals scale with the steps and could not fit
    both.
    """
    given = {whole_number("training.steps", n) for n in (steps, setting) if n is not None}
    if len(given) > 1:
        raise UserError(
            f"`--steps` and `training.steps` are one setting, got {steps} and {setting}; "
            "give one of them"
        )
    for number in given:
        if number < 1:
            raise UserError(f"`training.steps` must be at least 1, got {number}; raise it")
    return min(given, default=None)


def without_effect(config: TrialConfig, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the dotted `names` that a trial of this method does not read."""
    method, schedule = METHOD.find(config.method), config.sparsity.schedule
    unread = {
        "regrowth.": not method.regrows,
        "regrowth.gradient_at": not method.regrows_by_gradient,
        "sparsity.arbiter": not method.votes,
        "sparsity.level_fraction": schedule != "levels",
        "sparsity.rewind_fraction": not method.rewinds,
        "sparsity.interval_steps": schedule in ("one-shot", "levels"),
        "sparsity.end_fraction": schedule in ("one-shot", "levels"),
        "sparsity.": not method.sparse,
        "sparsity.allocation": group_sizes(config.sparsity.structure) is not None,
        "sparsity.round_to": config.sparsity.structure != CHANNEL,
        "sparsity.counts": config.sparsity.structure != CHANNEL,
        "training.pretrain_steps": not method.needs_pretraining,
        "optimiser.retraining_rate": not method.needs_pretraining,
        **{
            name: name not in MODEL.find(config.model.name).reads
            for model in MODELS.values()
            for name in model.reads
        },
    }
    unread |= {
        name: name.rpartition(".")[2] not in config.data.tasks
        for name in config.flat()
        if name.startswith(f"{_LOSS_WEIGHTS}.")
    }
    dead = tuple(prefix for prefix, holds in unread.items() if holds)
    read = {*method.reads, *(("sparsity.target", "sparsity.counts") if method.scales else ())}
    return tuple(name for name in names if name.startswith(dead) and name not in read)

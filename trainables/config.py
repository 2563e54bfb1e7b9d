"""Describes one trial by frozen dataclasses that are validated on construction.

Dicts from Optuna, Ray Tune, JSON or the command line become a `TrialConfig` at the boundary
(`TrialConfig.from_dict`, `TrialConfig.replace`); code behind it sees no dicts. Fields that
affect a result have no defaults here; their defaults are in `spaces.presets`. The few that have one
are younger than the first records: it is what trials did that were recorded without the field.
"""

import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Self

from trainables.checks import at_least, choice, fraction, positive, require
from trainables.coercion import build, to_plain
from trainables.errors import unknown_name
from trainables.registry.lookup import TASK
from trainables.report import add_task
from trainables.sparsity_config import (
    ALLOCATIONS,
    ANNEALINGS,
    ARBITERS,
    GRADIENTS_AT,
    REGROW_BUDGETS,
    REWIND_FRACTIONS,
    SALIENCY_WEIGHTS,
    SCORES,
    SPARSITY_SCHEDULES,
    RegrowthConfig,
    SparsityConfig,
)

__all__ = [
    "ALLOCATIONS",
    "ANNEALINGS",
    "ARBITERS",
    "GRADIENTS_AT",
    "GRAPHS",
    "LOSS_RESOLUTIONS",
    "METRIC_DEFINITIONS",
    "OPTIMISERS",
    "POOL_ROUNDINGS",
    "RATE_SCHEDULES",
    "REGROW_BUDGETS",
    "REWIND_FRACTIONS",
    "RUNTIMES",
    "SALIENCY_WEIGHTS",
    "SCORES",
    "SPARSITY_SCHEDULES",
    "DataConfig",
    "DeploymentConfig",
    "ModelConfig",
    "OptimiserConfig",
    "RegrowthConfig",
    "SparsityConfig",
    "TrainingConfig",
    "TrialConfig",
    "flatten",
]

OPTIMISERS = ("sgd", "adam", "adamw")
RATE_SCHEDULES = ("constant", "halving", "cosine")
RUNTIMES = ("onnxruntime", "torch")
METRIC_DEFINITIONS = ("corrected", "published")
POOL_ROUNDINGS = ("down", "up")
LOSS_RESOLUTIONS = ("full", "logits")
GRAPHS = ("auto", "on", "off")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Describes the images of a trial; sizes are (height, width) in pixels.

    Constructing one makes the tasks of `own_tasks` and their metrics known in this process.
    """

    dataset: str
    tasks: tuple[str, ...]
    size: tuple[int, int]  # as stored and as evaluated
    crop: tuple[int, int]  # as trained
    scale_range: tuple[float, float]  # of the random resize before the crop; (1, 1) = none
    mirror: bool
    validation_fraction: float  # of train; split off by whole scenes or blocks
    split_seed: int
    root: str | None = None  # the store or the raw data; None = the dataset's own cache
    num_train: int | None = None  # scenes to generate, or a cap on a stored split; None = all
    num_test: int | None = None
    own_tasks: tuple[str, ...] = ()  # import paths of those `tasks` that are not built in

    def __post_init__(self) -> None:
        for path in self.own_tasks:
            add_task(TASK.find(path))
        require(len(self.tasks) > 0, "`data.tasks` must name a task", self.tasks, "name one")
        require(
            len(set(self.tasks)) == len(self.tasks),
            "`data.tasks` must not repeat",
            self.tasks,
            "name each task once",
        )
        for name in ("size", "crop"):
            for side in getattr(self, name):
                at_least(f"data.{name}", side, 16)
        low, high = self.scale_range
        require(
            0.1 <= low <= high <= 10,
            "`data.scale_range` must hold 0.1 <= low <= high <= 10",
            self.scale_range,
            "the papers use (0.5, 1.5)",
        )
        require(
            0 < self.validation_fraction <= 0.5,
            "`data.validation_fraction` must be in (0, 0.5]",
            self.validation_fraction,
            "0.1 carves a tenth of train",
        )
        for name in ("num_train", "num_test"):
            if getattr(self, name) is not None:
                at_least(f"data.{name}", getattr(self, name), 2)

    def __reduce__(self) -> tuple[Callable[..., "DataConfig"], tuple[dict[str, Any]]]:
        """Pickle as the arguments, so that `own_tasks` become known in another process too."""
        return _data_config, ({f.name: getattr(self, f.name) for f in fields(self)},)


def _data_config(values: dict[str, Any]) -> DataConfig:
    return DataConfig(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Describes the network; `name` is a registered model or `package.module:factory`."""

    name: str
    width: int  # channels of the stem and of the first stage; doubled per stage
    blocks: tuple[int, ...]  # residual blocks per stage
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    head_width: int
    head_dilations: tuple[int, ...]  # one parallel head each
    unit_rate: float  # learning rate of Cross-Stitch units, relative to that of weights
    pool_rounding: str = "down"  # of the max-pool's size; "up" is the published `ceil_mode`

    def __post_init__(self) -> None:
        for name in ("width", "head_width"):
            at_least(f"model.{name}", getattr(self, name), 1)
        require(
            len(self.blocks) == len(self.strides) == len(self.dilations) > 0,
            "`model.blocks`, `strides` and `dilations` must have one entry per stage",
            (self.blocks, self.strides, self.dilations),
            "the paper has four stages",
        )
        positive("model.unit_rate", self.unit_rate)
        choice("`model.pool_rounding`", self.pool_rounding, POOL_ROUNDINGS)
        require(len(self.head_dilations) > 0, "`model.head_dilations` is empty", (), "name one")
        for name in ("blocks", "strides", "dilations", "head_dilations"):
            entries = getattr(self, name)
            require(
                min(entries) >= 1,
                f"every entry of `model.{name}` must be at least 1",
                entries,
                "1 leaves a stage plain" if name != "blocks" else "list one stage fewer instead",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserConfig:
    """Describes how weights are updated and how the learning rate falls."""

    name: str
    learning_rate: float
    weight_decay: float
    momentum: float  # SGD only
    rate_schedule: str
    halve_every_fraction: float  # of training; "halving" only
    clip_norm: float | None  # of the masked gradient; None = no clipping
    decay_factor: float = 0.5  # what "halving" multiplies the rate by; Taskonomy's protocol has 0.3
    retraining_rate: float | None = None  # after pre-training, constant; None = as from scratch

    def __post_init__(self) -> None:
        choice("optimiser", self.name, OPTIMISERS)
        choice("rate schedule", self.rate_schedule, RATE_SCHEDULES)
        positive("optimiser.learning_rate", self.learning_rate)
        at_least("optimiser.weight_decay", self.weight_decay, 0.0)
        fraction("optimiser.momentum", self.momentum, closed_above=False)
        positive("optimiser.halve_every_fraction", self.halve_every_fraction)
        require(
            0 < self.decay_factor <= 1,
            "`optimiser.decay_factor` must be in (0, 1]",
            self.decay_factor,
            "0.5 halves the rate",
        )
        if self.retraining_rate is not None:
            positive("optimiser.retraining_rate", self.retraining_rate)
        if self.clip_norm is not None:
            positive("optimiser.clip_norm", self.clip_norm)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Describes one training run; `steps` does not include pre-training."""

    steps: int
    pretrain_steps: int  # of the dense model, for the methods that start from a trained one
    reference_steps: int  # of the dense training that `cost/train_flops_fraction` compares with
    batch_size: int
    accumulation: int  # micro-batches per step; must divide `batch_size`
    evaluation_batch_size: int
    num_reports: int  # evenly spaced in training; the last one is at the end
    loss_weights: Mapping[str, float]  # by task
    precision: str  # "auto" = bf16 on CUDA, else fp32
    channels_last: bool
    graph: str  # record the step as a CUDA graph: "auto" where that can be, "on", "off"
    loss_resolution: str = "full"  # of the targets; "logits" = sampled down to the predictions
    # Test frames whose predictions are kept at the end, for pictures; 0 = none. It changes no
    # result, and studies and models from before it have no entry for it.
    prediction_frames: int = 4

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "reference_steps",
            "batch_size",
            "accumulation",
            "evaluation_batch_size",
            "num_reports",
        ):
            at_least(f"training.{name}", getattr(self, name), 1)
        at_least("training.pretrain_steps", self.pretrain_steps, 0)
        at_least("training.prediction_frames", self.prediction_frames, 0)
        require(
            self.batch_size % self.accumulation == 0,
            "`training.accumulation` must divide `training.batch_size`",
            (self.accumulation, self.batch_size),
            "e.g. 4 and 16",
        )
        require(
            self.num_reports <= self.steps,
            "`training.num_reports` must not exceed `training.steps`",
            (self.num_reports, self.steps),
            "report less often or train longer",
        )
        choice("precision", self.precision, ("auto", "fp32", "bf16", "fp16"))
        choice("`training.graph`", self.graph, GRAPHS)
        choice("`training.loss_resolution`", self.loss_resolution, LOSS_RESOLUTIONS)
        for task, weight in self.loss_weights.items():
            positive(f"training.loss_weights.{task}", weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeploymentConfig:
    """Describes where the model will run, if a trial is to report what it costs there.

    The costs are those of the model as shipped: `cost/latency_fraction`, `cost/latency_ms`,
    `cost/latency_spread` and `cost/model_bytes`, for one image of `data.size`.
    """

    measure: bool  # at every report after the masks have changed
    runtime: str  # "onnxruntime" | "torch"
    device: str  # "cpu" | "cuda"
    threads: int

    def __post_init__(self) -> None:
        choice("runtime", self.runtime, RUNTIMES)
        choice("device", self.device, ("cpu", "cuda"))
        at_least("deployment.threads", self.threads, 1)


def flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dotted names and values of a nested configuration, as `TrialConfig.flat` does."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialConfig:
    """Holds everything that decides a trial's result, except the device it runs on."""

    method: str
    seed: int
    metrics: str  # "corrected" | "published"
    data: DataConfig
    model: ModelConfig
    sparsity: SparsityConfig
    regrowth: RegrowthConfig
    optimiser: OptimiserConfig
    training: TrainingConfig
    deployment: DeploymentConfig

    def __post_init__(self) -> None:
        choice("metric definition", self.metrics, METRIC_DEFINITIONS)
        at_least("seed", self.seed, 0)
        missing = [t for t in self.data.tasks if t not in self.training.loss_weights]
        require(
            not missing,
            "`training.loss_weights` must weigh every task",
            missing,
            "add training.loss_weights.TASK",
        )

    @classmethod
    def younger_settings(cls) -> dict[str, Any]:
        """Return the settings that a record may lack, by dotted name, with what that means."""
        parts = {name: t for name, t in typing.get_type_hints(cls).items() if is_dataclass(t)}
        return {
            f"{part}.{f.name}": f.default
            for part, kind in parts.items()
            for f in fields(kind)
            if f.default is not MISSING
        }

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, ready for JSON; the inverse of `from_dict`."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a trial from what `to_dict` returns. Raises `UserError` for anything else."""
        return typing.cast(Self, build(cls, values, prefix=""))

    def flat(self) -> dict[str, Any]:
        """Return `{"sparsity.target": 0.9, …}`: dotted names, as `--set` and MLflow use them."""
        return flatten(self.to_dict())

    def replace(self, overrides: Mapping[str, Any]) -> Self:
        """Return a copy with dotted names changed; strings are parsed to the field's type.

        Raises `UserError` for an unknown name or a value that does not fit.
        """
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in overrides.items():
            *parents, leaf = name.split(".")
            if parents and is_dataclass(values.get(parents[0])):  # the others stay as they are
                values[parents[0]] = to_plain(values[parents[0]])
            node: Any = values
            for parent in parents:
                node = node.get(parent) if isinstance(node, dict) else None
            known = isinstance(node, dict) and (leaf in node or parents[-1:] == ["loss_weights"])
            if not known or isinstance(node.get(leaf), dict) or is_dataclass(node.get(leaf)):
                raise unknown_name("setting", name, self.flat())
            node[leaf] = value
        return type(self).from_dict(values)

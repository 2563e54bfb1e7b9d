"""Describes one trial by frozen dataclasses that are validated on construction.

Dicts from Optuna, Ray Tune, JSON or the command line become a `TrialConfig` at the boundary
(`TrialConfig.from_dict`, `TrialConfig.replace`); code behind it sees no dicts. Fields that
affect a result have no defaults here; their defaults are in `spaces.presets`.
"""

import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Self

from trainables.checks import at_least, choice, fraction, positive, require
from trainables.coercion import build, to_plain
from trainables.errors import unknown_name
from trainables.registry.lookup import TASK
from trainables.registry.structures import group_sizes
from trainables.report import add_task

ALLOCATIONS = ("uniform", "er", "erk", "global")
COUNTS = ("parameters", "flops")
SPARSITY_SCHEDULES = ("one-shot", "linear", "cubic", "cosine", "exponential", "levels")
REWIND_FRACTIONS = (0.0, 0.01, 0.05, 0.1, 0.2)
ANNEALINGS = ("constant", "linear", "cosine", "inverse-power")
ARBITERS = ("unanimous", "majority", "intersection")
SALIENCY_WEIGHTS = ("actual", "xavier")
REGROW_BUDGETS = ("exact", "published")
SCORES = ("taylor", "magnitude", "published")
OPTIMISERS = ("sgd", "adam", "adamw")
RATE_SCHEDULES = ("constant", "halving", "cosine")
METRIC_DEFINITIONS = ("corrected", "published")


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
class SparsityConfig:
    """Describes how sparse the network becomes, in which layers and when."""

    structure: str  # what is pruned together: "weight", "channel", or N:M, e.g. "2:4"
    target: float  # fraction of the prunable weights that ends at zero; for channels, of `counts`
    counts: str  # "channel" only: what the target is a fraction of, "parameters" or "flops"
    round_to: int  # "channel" only: layers keep multiples of it, or all of their channels
    allocation: str  # of the kept weights over layers; "global" = by score
    schedule: str  # from dense to target; "one-shot" = in one step at `start_fraction`,
    # "levels" = a fixed share of the remaining weights each time, over all of training
    start_fraction: float  # of training
    end_fraction: float
    interval_steps: int  # between the prunings of a gradual schedule
    level_fraction: float  # "levels" only: share of the remaining weights pruned at each level
    rewind_fraction: float  # of pre-training, to which `lth` rewinds
    score: str
    saliency_batches: int
    saliency_weights: str  # "actual" | "xavier": what the initial saliency is taken on
    arbiter: str

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.target) and 0.0 <= self.target < 1.0,
            "`sparsity.target` must be in [0, 1)",
            self.target,
            "0.9 keeps a tenth of the weights",
        )
        _require_structure(self.structure, self.target)
        choice("counted cost", self.counts, COUNTS)
        at_least("sparsity.round_to", self.round_to, 1)
        choice("allocation", self.allocation, ALLOCATIONS)
        choice("schedule", self.schedule, SPARSITY_SCHEDULES)
        choice("score", self.score, SCORES)
        choice("arbiter", self.arbiter, ARBITERS)
        choice("saliency_weights", self.saliency_weights, SALIENCY_WEIGHTS)
        fraction("sparsity.start_fraction", self.start_fraction)
        fraction("sparsity.end_fraction", self.end_fraction)
        require(
            self.start_fraction <= self.end_fraction,
            "`sparsity.start_fraction` <= `sparsity.end_fraction` must hold",
            (self.start_fraction, self.end_fraction),
            "swap them",
        )
        at_least("sparsity.interval_steps", self.interval_steps, 1)
        require(
            0.001 <= self.level_fraction < 1.0,
            "`sparsity.level_fraction` must be in [0.001, 1)",
            self.level_fraction,
            "0.2 prunes a fifth of the remaining weights at each level",
        )
        require(
            self.rewind_fraction in REWIND_FRACTIONS,
            f"`sparsity.rewind_fraction` must be one of {REWIND_FRACTIONS}",
            self.rewind_fraction,
            "the dense run is kept at these points only",
        )
        at_least("sparsity.saliency_batches", self.saliency_batches, 1)


def _require_structure(structure: str, target: float) -> None:
    sizes = group_sizes(structure)
    if sizes is None or target == 0:
        return
    share = 1 - sizes[0] / sizes[1]
    require(
        math.isclose(target, share, abs_tol=1e-9),
        f"`sparsity.target` must be {share:g} for structure {structure}, which sets it",
        target,
        "leave it out",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RegrowthConfig:
    """Describes drop and grow (RigL, DiSparse dynamic); methods that never regrow ignore it."""

    fraction: float  # alpha_0: share of a layer's kept weights replaced at the first update
    annealing: str
    interval_steps: int  # delta_T
    end_fraction: float  # T_end as a fraction of training
    budget: str  # "exact" keeps every layer's count; "published" lets the union overshoot

    def __post_init__(self) -> None:
        fraction("regrowth.fraction", self.fraction)
        choice("annealing", self.annealing, ANNEALINGS)
        choice("regrowth budget", self.budget, REGROW_BUDGETS)
        fraction("regrowth.end_fraction", self.end_fraction)
        at_least("regrowth.interval_steps", self.interval_steps, 1)


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

    def __post_init__(self) -> None:
        choice("optimiser", self.name, OPTIMISERS)
        choice("rate schedule", self.rate_schedule, RATE_SCHEDULES)
        positive("optimiser.learning_rate", self.learning_rate)
        at_least("optimiser.weight_decay", self.weight_decay, 0.0)
        fraction("optimiser.momentum", self.momentum, closed_above=False)
        positive("optimiser.halve_every_fraction", self.halve_every_fraction)
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
    compile: bool

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
        for task, weight in self.loss_weights.items():
            positive(f"training.loss_weights.{task}", weight)


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

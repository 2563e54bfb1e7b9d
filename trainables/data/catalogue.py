"""Opening a data set: its parts, what they offer, and whether they are what is asked for."""

from dataclasses import dataclass

from trainables.config import DataConfig
from trainables.data.roots import ANOTHER_FOLDER, GENERATE_AGAIN, generation, store_root
from trainables.data.sources.source import SPLITS
from trainables.data.splits import carve_validation, spread
from trainables.data.store.building import Progress, split_file
from trainables.data.store.split_file import CONVERT_AGAIN, Split
from trainables.data.view import View
from trainables.errors import UserError, unknown_name
from trainables.registry.datasets import DatasetDescription
from trainables.registry.lookup import DATASET
from trainables.registry.tasks import known_task, known_tasks

__all__ = ["Dataset", "DatasetSpec", "dataset_spec", "open_dataset", "store_root"]

# The name under which a user's own data set is written (README).
DatasetSpec = DatasetDescription


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """An opened data set. `train` and `val` share no scene; `test` is for the final evaluation.

    image_mean, image_std: per channel of train, of pixel values in [0, 1].
    available_tasks: the tasks known in this process whose target is stored.
    """

    name: str
    train: View
    val: View
    test: View
    num_classes: int
    depth_kind: str
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    available_tasks: tuple[str, ...]

    def num_channels(self, task: str) -> int:
        """Of the prediction for `task`. Raises `UserError` for a task without ground truth."""
        if task not in self.available_tasks:
            raise unknown_name(f"task of {self.name}", task, self.available_tasks)
        channels = known_task(task).channels
        return self.num_classes if channels == "classes" else channels


def dataset_spec(name: str) -> DatasetDescription:
    """The description of a data set: built in, of an installed package, or by import path.

    Raises `UserError` as `trainables.registry.lookup.Kind.find` does.
    """
    return DATASET.find(name)


def open_dataset(config: DataConfig, progress: Progress | None = None) -> Dataset:
    """Open (and, for a procedural data set, generate on first use) what `config` names.

    Raises `UserError` for an unknown data set or task, a root that is missing, empty, raw, of
    another data set or of another size, one that another configuration generated, and for
    damaged files.
    """
    root = store_root(config, progress)
    generated = dataset_spec(config.dataset).generate is not None
    remedy = GENERATE_AGAIN if generated else CONVERT_AGAIN
    splits = {split: Split(split_file(root, split), remedy=remedy) for split in SPLITS}
    for split in splits.values():
        _require_match(split, splits["train"], config, generated)
    train, test = splits["train"], splits["test"]
    available = [name for name, t in known_tasks().items() if t.target in train.modalities]
    kept = spread(train.num_frames, config.num_train)
    scenes = [train.scenes[i] for i in kept.tolist()]
    train_part, val_part = carve_validation(scenes, config.validation_fraction, config.split_seed)
    assert train.meta.image_mean is not None
    assert train.meta.image_std is not None
    dataset = Dataset(
        name=config.dataset,
        train=View(split=train, indices=kept[train_part]),
        val=View(split=train, indices=kept[val_part]),
        test=View(split=test, indices=spread(test.num_frames, config.num_test)),
        num_classes=train.meta.num_classes,
        depth_kind=train.meta.depth_kind,
        image_mean=train.meta.image_mean,
        image_std=train.meta.image_std,
        available_tasks=tuple(available),
    )
    for task in config.tasks:
        dataset.num_channels(task)
    return dataset


def _require_match(split: Split, train: Split, config: DataConfig, generated: bool) -> None:
    meta = split.meta
    if meta.dataset != config.dataset:
        raise UserError(
            f"{split.location} must hold {config.dataset}, got {meta.dataset}; "
            f"pass `--dataset {meta.dataset}` or another data root"
        )
    if meta.size != config.size:
        stored = f"{meta.size[0]}x{meta.size[1]}"
        asked = f"{config.size[0]}x{config.size[1]}"
        raise UserError(
            f"`data.size` must be the size of the stored frames, got {asked} for {stored} in "
            f"{split.location}; set data.size={stored}, or "
            + (ANOTHER_FOLDER if generated else f"write a store with `--size {asked}`")
        )
    if generated:
        _require_own_generation(split, config)
    if _targets(split) != _targets(train):
        raise UserError(
            f"train and test must hold the same targets, got {train.location} and "
            f"{split.location} from different conversions; convert both again"
        )


def _require_own_generation(split: Split, config: DataConfig) -> None:
    """A store that other settings generated holds other frames than those that are asked for."""
    wanted, found = generation(config), split.meta.generation
    if found == wanted:
        return
    counts = ("num_train", "num_test")
    if found is None or all(found.get(name) == wanted[name] for name in counts):
        raise UserError(
            f"{config.dataset} must come from this version of its generator, got frames of "
            f"another in {split.location}; {GENERATE_AGAIN}"
        )
    asked = ", ".join(f"data.{name}={wanted[name]}" for name in counts)
    held = ", ".join(f"data.{name}={found.get(name)}" for name in counts)
    raise UserError(
        f"{config.dataset} must be generated with the configured {asked}, got {split.location} "
        f"generated with {held}; set those, or {ANOTHER_FOLDER}"
    )


def _targets(split: Split) -> tuple[object, ...]:
    """What two splits of one data set must have in common."""
    meta = split.meta
    return meta.num_classes, meta.depth_kind, split.modalities, dict(meta.own_kinds)

"""The data sets by name, and opening one: stores, views, and what they offer."""

import functools
import hashlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainables.code_digest import digest_files
from trainables.config import DataConfig
from trainables.data.frame import TARGETS, Frame
from trainables.data.scenes.scenes import NUM_CLASSES as NUM_SCENE_CLASSES
from trainables.data.scenes.scenes import VIEWS_PER_SCENE, render_scenes
from trainables.data.sources import cityscapes, nyu_v2, taskonomy
from trainables.data.sources.source import SPLITS, OpenSource, Source
from trainables.data.splits import carve_validation, spread
from trainables.data.store.building import Progress, split_file, write_store
from trainables.data.store.location import building, writing
from trainables.data.store.meta import SplitMeta
from trainables.data.store.split_file import CONVERT_AGAIN, Split
from trainables.data.view import View
from trainables.errors import UserError, unknown_name

GENERATED_ROOT = Path("runs") / "data"
SCENES_SEED = 0  # of the rooms; a trial's seed never changes the data
SCENES_NUM_TRAIN = 960  # where the configuration does not say
SCENES_NUM_TEST = 240
_FIRST_TEST_SCENE = 1_000_000  # test rooms stay the same however many train frames there are
_ANOTHER_FOLDER = "name another folder for the frames to be generated in"
_GENERATE_AGAIN = f"delete its folder to have it generated again, or {_ANOTHER_FOLDER}"
_THREADED_PIXELS = 128 * 128  # smaller frames are drawn faster by one thread


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """What is known of a data set before any file is opened.

    depth_kind: "metric" (metres) or "disparity".
    open_source: opens the raw data for `convert`; None where there is none to convert.
    generate: makes frames where the data set is procedural, by (num_train, num_test).
    layouts: of the raw data, for messages.
    unknown_responses: whether keypoints and edges may have unknown pixels.
    """

    summary: str
    tasks: tuple[str, ...]
    num_classes: int
    depth_kind: str
    open_source: OpenSource | None = None
    generate: Callable[[int, int], Source] | None = None
    layouts: str = ""
    unknown_responses: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenesSource:
    """The procedural frames as a source; rooms of train and test are disjoint."""

    counts: dict[str, int]
    native_size: tuple[int, int] = (120, 160)

    def num_frames(self, split: str) -> int:
        return self.counts[split]

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        first = 0 if split == "train" else _FIRST_TEST_SCENE * VIEWS_PER_SCENE
        return next(iter(render_scenes(SCENES_SEED, [first + position], size)))


DATASETS: dict[str, DatasetSpec] = {
    "scenes": DatasetSpec(
        summary="procedural indoor scenes, generated on first use; five tasks",
        tasks=TARGETS,
        num_classes=NUM_SCENE_CLASSES,
        depth_kind="metric",
        generate=lambda num_train, num_test: ScenesSource(
            counts={"train": num_train, "test": num_test}
        ),
    ),
    "nyu-v2": DatasetSpec(
        summary="NYU-Depth-v2, 40 classes, with normals and depth; convert it first",
        tasks=("segmentation", "normals", "depth"),
        num_classes=nyu_v2.NUM_CLASSES,
        depth_kind="metric",
        open_source=nyu_v2.open_source,
        layouts=nyu_v2.LAYOUTS,
    ),
    "cityscapes": DatasetSpec(
        summary="Cityscapes, 19 classes, with disparity as depth; convert it first",
        tasks=("segmentation", "depth"),
        num_classes=cityscapes.NUM_CLASSES,
        depth_kind="disparity",
        open_source=cityscapes.open_source,
        layouts=cityscapes.LAYOUTS,
    ),
    "cityscapes-metric": DatasetSpec(
        summary="Cityscapes, 19 classes, with depth in metres; convert it first",
        tasks=("segmentation", "depth"),
        num_classes=cityscapes.NUM_CLASSES,
        depth_kind="metric",
        open_source=cityscapes.open_metric_source,
        layouts=cityscapes.METRIC_LAYOUTS,
    ),
    "taskonomy": DatasetSpec(
        summary="Tiny-Taskonomy, indoor, 17 classes; five tasks; convert it first",
        tasks=TARGETS,
        num_classes=taskonomy.NUM_CLASSES,
        depth_kind="metric",
        open_source=taskonomy.open_source,
        layouts=taskonomy.LAYOUTS,
        unknown_responses=True,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """An opened data set. `train` and `val` share no scene; `test` is for the final evaluation.

    image_mean, image_std: per channel of train, of pixel values in [0, 1].
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
        return {"segmentation": self.num_classes, "normals": 3}.get(task, 1)


def dataset_spec(name: str) -> DatasetSpec:
    """The registered data set, or a user's own by import path `package.module:SPEC`."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise UserError(
                f"a data set's import path must be package.module:SPEC, got {name!r} ({error}); "
                "check the spelling and PYTHONPATH"
            ) from None
        if not isinstance(found, DatasetSpec):
            raise UserError(
                f"{name!r} must be a trainables.data.catalogue.DatasetSpec, "
                f"got {type(found).__name__}; see DATASETS for examples"
            )
        return found
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    return DATASETS[name]


def open_dataset(config: DataConfig, progress: Progress | None = None) -> Dataset:
    """Open (and, for a procedural data set, generate on first use) what `config` names.

    Raises `UserError` for an unknown data set or task, a root that is missing, empty, raw, of
    another data set or of another size, one that another configuration generated, and for
    damaged files.
    """
    root = store_root(config, progress)
    generated = dataset_spec(config.dataset).generate is not None
    remedy = _GENERATE_AGAIN if generated else CONVERT_AGAIN
    splits = {split: Split(split_file(root, split), remedy=remedy) for split in SPLITS}
    for split in splits.values():
        _require_match(split, splits["train"], config, generated)
    train, test = splits["train"], splits["test"]
    available = tuple(m for m in train.modalities if m != "image")
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
        available_tasks=available,
    )
    for task in config.tasks:
        dataset.num_channels(task)
    return dataset


def store_root(config: DataConfig, progress: Progress | None = None) -> str:
    """The store folder (absolute) or URI behind `config`, generated or converted when it must be.

    Raw data are converted once for every size, into a folder named after where they lie and what
    their top folder looks like.

    Trials that run in other working directories need it resolved once: pass it as `data.root`.
    """
    spec = dataset_spec(config.dataset)
    for task in config.tasks:
        if task not in spec.tasks:
            raise unknown_name(f"task of {config.dataset}", task, spec.tasks)
    if config.root is not None and "://" in config.root:
        return config.root
    if spec.generate is not None:
        folder = Path(config.root) if config.root is not None else _generated_folder(config)
        folder = folder.absolute()
        if not _holds_store(folder):
            _generate(config, spec, folder, progress)
        return str(folder)
    if config.root is None:
        raise UserError(
            f"{config.dataset} must be given its store's folder, got no data root; run "
            f"`python -m trainables convert {config.dataset} SOURCE DESTINATION` and pass "
            "`--data-root DESTINATION`"
        )
    folder = Path(config.root).absolute()
    if not _holds_store(folder):
        require_folder(folder, "the data root")
        return str(_converted(config, spec, folder, progress))
    return str(folder)


def require_folder(folder: Path, what: str) -> None:
    """Raises `UserError` unless `folder` is a readable folder with something in it."""
    try:
        empty = not any(folder.iterdir())
    except FileNotFoundError:
        raise UserError(
            f"{what} must exist, got {folder}, which does not; check the path"
        ) from None
    except OSError as error:
        raise UserError(
            f"{what} must be a readable folder, got {folder} ({os.strerror(error.errno or 0)}); "
            "check the path and its permissions"
        ) from None
    if empty:
        raise UserError(f"{what} must hold data, got the empty folder {folder}; check the path")


def _holds_store(folder: Path) -> bool:
    # Not Path.exists, which raises below a folder that may not be searched.
    return any(os.path.exists(split_file(folder, split)) for split in SPLITS)


def _converted(config: DataConfig, spec: DatasetSpec, raw: Path, progress: Progress | None) -> Path:
    """The store of the raw data in a folder. Raises `UserError` where they are not of `spec`."""
    try:
        if spec.open_source is None:
            raise UserError("not a data set that can be converted")
        spec.open_source(raw)
    except UserError as error:
        raise UserError(
            f"the data root must be a store of {config.dataset} (train.arrow, test.arrow) or its "
            f"raw data, got {raw}, which is neither ({error}); pass the folder that `python -m "
            f"trainables convert {config.dataset}` wrote. It reads {spec.layouts or 'nothing'}"
        ) from None
    with os.scandir(raw) as entries:
        listed = sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries)
    folder = _cache_folder(config, (str(raw.resolve()), listed, config.size)).absolute()
    if not _holds_store(folder):
        from trainables.data.store.convert import convert  # which reads this catalogue

        convert(config.dataset, raw, folder, config.size, progress, keep=True)
    return folder


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
            + (_ANOTHER_FOLDER if generated else f"write a store with `--size {asked}`")
        )
    if generated:
        _require_own_generation(split, config)
    same = (meta.num_classes, meta.depth_kind, split.modalities)
    if same != (train.meta.num_classes, train.meta.depth_kind, train.modalities):
        raise UserError(
            f"train and test must hold the same targets, got {train.location} and "
            f"{split.location} from different conversions; convert both again"
        )


def _require_own_generation(split: Split, config: DataConfig) -> None:
    """A store that other settings generated holds other frames than those that are asked for."""
    wanted, found = _generation(config), split.meta.generation
    if found == wanted:
        return
    counts = ("num_train", "num_test")
    if found is None or all(found.get(name) == wanted[name] for name in counts):
        raise UserError(
            f"{config.dataset} must come from this version of its generator, got frames of "
            f"another in {split.location}; {_GENERATE_AGAIN}"
        )
    asked = ", ".join(f"data.{name}={wanted[name]}" for name in counts)
    held = ", ".join(f"data.{name}={found.get(name)}" for name in counts)
    raise UserError(
        f"{config.dataset} must be generated with the configured {asked}, got {split.location} "
        f"generated with {held}; set those, or {_ANOTHER_FOLDER}"
    )


def _generated_folder(config: DataConfig) -> Path:
    """Named by everything that shapes the frames."""
    return _cache_folder(config, (config.size, sorted(_generation(config).items())))


def _cache_folder(config: DataConfig, key: object) -> Path:
    """Of the store that `key` decides."""
    name = config.dataset.replace(":", "-").replace("/", "-")
    digest = hashlib.blake2b(repr(key).encode(), digest_size=6).hexdigest()
    return GENERATED_ROOT / f"{name}-{digest}"


def _generation(config: DataConfig) -> dict[str, str | int]:
    """What decides the frames besides their size, the generator's own code included."""
    num_train, num_test = _generated_counts(config)
    return {
        "num_train": num_train,
        "num_test": num_test,
        "seed": SCENES_SEED,
        "source": "" if ":" in config.dataset else _scenes_code(),
    }


@functools.cache
def _scenes_code() -> str:
    """Return the digest of the generator's code."""
    folder = Path(__file__).parent / "scenes"
    return digest_files(folder, folder.glob("*.py"))


def _generated_counts(config: DataConfig) -> tuple[int, int]:
    return config.num_train or SCENES_NUM_TRAIN, config.num_test or SCENES_NUM_TEST


def _generate(
    config: DataConfig, spec: DatasetSpec, folder: Path, progress: Progress | None
) -> None:
    assert spec.generate is not None
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(
            f"the data root must be a folder, got the file {folder}; "
            f"name a new or empty folder for {config.dataset} to be generated in"
        )
    with writing(folder):
        empty = not os.path.isdir(folder) or not os.listdir(folder)
    if not empty:
        raise UserError(
            f"the data root must be a store, or a new or empty folder for {config.dataset} to be "
            f"generated in, got {folder} with other files; choose another folder"
        )
    with building(folder) as scratch:
        if _holds_store(folder):
            return  # another process generated it while this one waited
        meta = SplitMeta(
            dataset=config.dataset,
            size=config.size,
            depth_kind=spec.depth_kind,
            num_classes=spec.num_classes,
            generation=_generation(config),
        )
        large = config.size[0] * config.size[1] >= _THREADED_PIXELS
        write_store(
            spec.generate(*_generated_counts(config)),
            scratch,
            meta,
            progress=progress,
            num_threads=(os.cpu_count() or 1) if large else 1,
        )

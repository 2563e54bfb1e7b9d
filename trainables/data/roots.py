"""Finds the store of a data set, and generates or converts it on first use."""

import functools
import hashlib
import logging
import os
from pathlib import Path

from trainables.config import DataConfig
from trainables.data.sources.listing import is_litter
from trainables.data.sources.scenes import SCENES_SEED
from trainables.data.sources.source import SPLITS
from trainables.data.store.building import Progress, open_source, split_file, write_store
from trainables.data.store.convert import convert
from trainables.data.store.location import building, require_folder, writing
from trainables.data.store.meta import SplitMeta
from trainables.data.targets import own_classes_of, own_kinds_of
from trainables.errors import UserError, unknown_name
from trainables.integrity.code_digest import digest_files, digest_import
from trainables.registry.datasets import DATASETS, DatasetDescription
from trainables.registry.lookup import DATASET, implementation, tasks_of
from trainables.registry.tasks import known_tasks

GENERATED_ROOT = Path("runs") / "data"
SCENES_NUM_TRAIN = 960  # where the configuration does not say
SCENES_NUM_TEST = 240
ANOTHER_FOLDER = "name another folder for the frames to be generated in"
GENERATE_AGAIN = f"delete its folder to have it generated again, or {ANOTHER_FOLDER}"
_THREADED_PIXELS = 128 * 128  # one thread draws smaller frames faster


logger = logging.getLogger(__name__)


def store_root(config: DataConfig, progress: Progress | None = None) -> str:
    """Return the store's absolute folder or URI; generate or convert the store if it is missing.

    Raw data are converted once for every size, into a folder whose name depends on their path, on
    the names and times in their top folder, and on the code of a data set of the user's own.

    For trials that run in other working directories, call this once and pass the result as
    `data.root`. Raises `UserError` for a root that is missing, empty, or not of this data set.
    """
    spec = DATASET.find(config.dataset)
    _require_targets(config, spec)
    if config.root is not None and "://" in config.root:
        return config.root
    if spec.generate is not None:
        folder = Path(config.root) if config.root is not None else _generated_folder(config)
        folder = folder.absolute()
        if not _holds_store(folder):
            if config.root is not None:
                _check_new_folder(config, folder, quiet=progress is None)
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


def _require_targets(config: DataConfig, spec: DatasetDescription) -> None:
    """Raise `UserError` for a task whose target the data set does not have."""
    targets = {task.target for task in tasks_of(spec).values()}
    valid = [name for name, task in known_tasks().items() if task.target in targets]
    for task in config.tasks:
        if task not in valid:
            raise unknown_name(f"task of {config.dataset}", task, valid)


def _holds_store(folder: Path) -> bool:
    # Not Path.exists, which raises in a folder without permission to search.
    return any(os.path.exists(split_file(folder, split)) for split in SPLITS)


def _converted(
    config: DataConfig, spec: DatasetDescription, raw: Path, progress: Progress | None
) -> Path:
    """Return the store of the raw data in a folder. Raises `UserError` for data of another set."""
    try:
        if spec.open_source is None:
            raise UserError("not a data set that can be converted")
        open_source(config.dataset, implementation(spec.open_source, DATASET.noun), raw)
    except UserError as error:
        raise UserError(
            f"the data root must be a store of {config.dataset} (train.arrow, test.arrow) or its "
            f"raw data, got {raw}, which is neither ({error}); pass the folder that "
            f"`python -m trainables convert {config.dataset}` wrote. It reads "
            f"{spec.layouts or 'nothing'}"
        ) from error
    with os.scandir(raw) as entries:
        listed = sorted(
            (entry.name, entry.stat().st_mtime_ns) for entry in entries if not is_litter(entry.name)
        )
    code = [digest_import(path) for path in _own_code(config.dataset, spec)]
    key = (str(raw.resolve()), listed, config.size, *code)
    folder = _cache_folder(config, key).absolute()
    if not _holds_store(folder):
        converted = convert(config.dataset, raw, folder, config.size, progress, keep=True)
        for note in converted.notes:
            logger.warning("note: %s", note)
    return folder


def _own_code(dataset: str, spec: DatasetDescription) -> list[str]:
    """Return the import paths of a user's own data set; none for a built-in one."""
    if dataset in DATASETS:
        return []
    source = [spec.open_source] if isinstance(spec.open_source, str) else []
    return [DATASET.path(dataset), *source]


def _generated_folder(config: DataConfig) -> Path:
    """Return the cache folder, named by everything that determines the frames."""
    return _cache_folder(config, (config.size, sorted(generation(config).items())))


def _cache_folder(config: DataConfig, key: object) -> Path:
    """Return the cache folder of the store that `key` identifies."""
    name = config.dataset.replace(":", "-").replace("/", "-")
    digest = hashlib.blake2b(repr(key).encode(), digest_size=6).hexdigest()
    return GENERATED_ROOT / f"{name}-{digest}"


def generation(config: DataConfig) -> dict[str, str | int]:
    """Return what determines the frames besides their size, including the generator's code."""
    num_train, num_test = _generated_counts(config)
    return {
        "num_train": num_train,
        "num_test": num_test,
        "seed": SCENES_SEED,
        "source": _scenes_code() if config.dataset in DATASETS else "",
    }


@functools.cache
def _scenes_code() -> str:
    """Return the digest of the generator's code."""
    folder = Path(__file__).parent / "scenes"
    return digest_files(folder, folder.glob("*.py"))


def _generated_counts(config: DataConfig) -> tuple[int, int]:
    return config.num_train or SCENES_NUM_TRAIN, config.num_test or SCENES_NUM_TEST


def _check_new_folder(config: DataConfig, folder: Path, *, quiet: bool) -> None:
    """Say that a folder is made, since its name may be a typing error.

    Raises `UserError` where the folder that would hold it is not there either.
    """
    if os.path.lexists(folder):
        return
    if not os.path.lexists(folder.parent):
        raise UserError(
            f"the data root must be a folder, or a new one in a folder that exists, for "
            f"{config.dataset} to be generated in, got {folder}, but there is no {folder.parent}; "
            "check the path, or make that folder"
        )
    if not quiet:
        logger.warning(
            "%s is new: %s is generated in it; if that is a typing error, press Ctrl-C and correct "
            "--data-root",
            folder,
            config.dataset,
        )


def _generate(
    config: DataConfig, spec: DatasetDescription, folder: Path, progress: Progress | None
) -> None:
    assert spec.generate is not None
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(
            f"the data root must be a folder, got the file {folder}; "
            f"name a new or empty folder for {config.dataset} to be generated in"
        )
    with writing(folder):
        empty = not os.path.isdir(folder) or all(map(is_litter, os.listdir(folder)))
    if not empty:
        raise UserError(
            f"the data root must be a store, or a new or empty folder for {config.dataset} to be "
            f"generated in, got {folder} with other files; choose another folder"
        )
    with building(folder) as scratch:
        if _holds_store(folder):
            return  # another process generated it in the meantime
        meta = SplitMeta(
            dataset=config.dataset,
            size=config.size,
            depth_kind=spec.depth_kind,
            num_classes=spec.num_classes,
            unknown_responses=spec.unknown_responses,
            own_kinds=own_kinds_of(spec),
            generation=generation(config),
        )
        large = config.size[0] * config.size[1] >= _THREADED_PIXELS
        write_store(
            open_source(
                config.dataset,
                implementation(spec.generate, DATASET.noun),
                *_generated_counts(config),
            ),
            scratch,
            meta,
            progress=progress,
            num_threads=(os.cpu_count() or 1) if large else 1,
            num_classes=own_classes_of(spec),
        )

"""Converts raw data of any supported layout into the columnar store."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.sources.listing import is_litter
from trainables.data.sources.source import SPLITS
from trainables.data.store.building import Progress, open_source, split_file, write_store
from trainables.data.store.location import building, require_folder, writing
from trainables.data.store.meta import SplitMeta
from trainables.data.store.split_file import Split
from trainables.data.targets import own_classes_of, own_kinds_of
from trainables.errors import UserError
from trainables.registry.datasets import DATASETS
from trainables.registry.lookup import DATASET, implementation
from trainables.user_code import calling, is_ours

_SMALLEST_SIDE = 16  # pixels, as in `DataConfig`
_MAX_THREADS = 16
_FAR_METRES = 100.0  # beyond which cameras at hand see nothing
_LOOKED_AT = 16  # frames of a split


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversionSummary:
    """Describes what `convert` wrote.

    num_frames: by split. num_bytes: on disk. size: (height, width) in pixels.
    notes: sentences for the user on what the source left out; empty if nothing was.
    """

    dataset: str
    destination: Path
    size: tuple[int, int]
    num_frames: dict[str, int]
    num_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


def convert(
    dataset: str,
    source: Path | str,
    destination: Path | str,
    size: tuple[int, int] | None = None,
    progress: Progress | None = None,
    *,
    keep: bool = False,
    allow_outside: bool = False,
) -> ConversionSummary:
    """Write the store of `dataset` from the raw data at `source`; `size` None keeps its own.

    `destination` appears, or replaces an earlier store, when everything is written and checked. A
    killed conversion does not change it. keep: an existing store stays, also one that another
    process wrote while this call waited. allow_outside: files that a built-in data set names, and
    that lie outside `source`, are read. Raises `UserError` for anything wrong with the names, the
    source's files or the destination.
    """
    started = time.perf_counter()
    spec = DATASET.find(dataset)
    if spec.open_source is None:
        convertible = [name for name, known in DATASETS.items() if known.open_source is not None]
        raise UserError(
            f"only raw data can be converted, got {dataset!r}, which is generated on first use; "
            f"train with `--dataset {dataset}`, or convert one of {', '.join(convertible)}"
        )
    if "://" in str(destination):
        raise UserError(
            f"convert must write to a local folder, got {destination}; write locally and upload "
            "the folder; reading stores from a URI works"
        )
    source, destination = Path(source), Path(destination)
    require_folder(source, "the source")
    with writing(destination):
        _require_destination(source, destination)
    opened = implementation(spec.open_source, DATASET.noun)
    # A user's own source reads what it likes, and need not know the option.
    options = {"allow_outside": True} if allow_outside and spec.name else {}
    raw = open_source(dataset, opened, source, **options)
    if size is None:
        with calling(f"native_size of source {type(raw).__name__}", raw):
            native: object = raw.native_size
        size = _require_native(native, type(raw).__name__)
    if min(size) < _SMALLEST_SIDE:
        raise UserError(
            f"`--size` must be at least {_SMALLEST_SIDE}x{_SMALLEST_SIDE}, "
            f"got {size[0]}x{size[1]}; 120x160 trains quickly"
        )
    meta = SplitMeta(
        dataset=dataset,
        size=size,
        depth_kind=spec.depth_kind,
        num_classes=spec.num_classes,
        unknown_responses=spec.unknown_responses,
        own_kinds=own_kinds_of(spec),
    )
    with building(destination) as scratch:
        kept = keep and all(os.path.exists(split_file(destination, split)) for split in SPLITS)
        if not kept:
            write_store(
                raw,
                scratch,
                meta,
                progress=progress,
                num_threads=min(os.cpu_count() or 1, _MAX_THREADS),
                num_classes=own_classes_of(spec),
            )
        num_frames, num_bytes = {}, 0
        scenes: dict[str, set[str]] = {}
        far: tuple[str, ...] = ()
        for split in SPLITS:
            written = Split(split_file(destination if kept else scratch, split))
            written.verify()
            num_frames[split] = written.num_frames
            num_bytes += written.path.stat().st_size
            scenes[split] = set(written.scenes)
            far = far or _far_away(written)
        # Before the store is put in place: a source's own may be amiss.
        notes = (*_notes(raw), *_scenes_of_both(raw, scenes), *far)
    return ConversionSummary(
        dataset=dataset,
        destination=destination,
        size=size,
        num_frames=num_frames,
        num_bytes=num_bytes,
        seconds=time.perf_counter() - started,
        notes=notes,
    )


def _notes(raw: object) -> tuple[str, ...]:
    """Return what a source says of itself, sentence by sentence."""
    rule = f"notes of source {type(raw).__name__}"
    with calling(rule, raw):
        notes: object = getattr(raw, "notes", ()) or ()
        said = [notes] if isinstance(notes, str) else None
        if said is None and isinstance(notes, Iterable):
            said = list(notes)
    if said is None or not all(isinstance(note, str) for note in said):
        raise UserError(f"{rule} must be sentences, got {notes!r}; give a list of text, or none")
    return tuple(said)


def _scenes_of_both(raw: object, scenes: Mapping[str, set[str]]) -> tuple[str, ...]:
    """Return the note on scenes of a user's own data that train and test have by the same name.

    The sources of ours name scenes within a split, and know what belongs together.
    """
    both = sorted(set.intersection(*scenes.values()))
    if not both or is_ours(raw):
        return ()
    more = f" and {len(both) - 1} more are" if len(both) > 1 else " is"
    return (
        f"scene {both[0]!r}{more} in {' and in '.join(scenes)}; if that is one place, move its "
        "frames to one of them, because a model is not tested by what it was trained on, else "
        "give the scenes other names",
    )


def _far_away(split: Split) -> tuple[str, ...]:
    """Return the note on depths, in a few frames of a split, that can hardly be metres."""
    if split.meta.depth_kind != "metric" or "depth" not in split.modalities:
        return ()
    depths = split.column("depth")
    looked_at = range(0, split.num_frames, -(-split.num_frames // _LOOKED_AT))
    known = [frame[frame > 0] for frame in (depths[index] for index in looked_at)]
    nearest = min((float(frame.min()) for frame in known if frame.size), default=0.0)
    if nearest < _FAR_METRES:
        return ()
    return (
        f"no depth is below {nearest:g} metres in the {len(known)} frames looked at; if the "
        "values are millimetres, divide them by 1000 and convert the data again",
    )


def _require_native(size: object, source: str) -> tuple[int, int]:
    """Return (height, width) of a source's frames. Raises `UserError` for anything else."""
    if (
        isinstance(size, (tuple, list))
        and len(size) == 2
        and all(isinstance(side, (int, np.integer)) for side in size)
    ):
        return int(size[0]), int(size[1])
    raise UserError(
        f"`native_size` of source {source} must be (height, width) in pixels, got {size!r}; give "
        "two integers, e.g. (240, 320)"
    )


def _require_destination(source: Path, destination: Path) -> None:
    """Raise `UserError` unless the destination, which is replaced, is new, empty or a store."""
    if not destination.exists():
        return
    if not destination.is_dir():
        raise UserError(
            f"the destination must be a folder, got the file {destination}; choose another"
        )
    stores = {Path(split_file(destination, split)).name for split in SPLITS}
    found = {path.name for path in destination.iterdir() if not is_litter(path.name)}
    foreign = sorted(found - stores)
    if foreign or source.resolve() == destination.resolve():
        raise UserError(
            f"the destination must be new, empty or an earlier store, got {destination} with "
            f"{', '.join(foreign[:3]) or 'the source in it'}; choose another folder"
        )

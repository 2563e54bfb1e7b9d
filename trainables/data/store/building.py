"""Writes a store folder from a source: both splits, in order, with several threads."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.frame import Frame
from trainables.data.sources.source import SPLITS, Source
from trainables.data.store.meta import SplitMeta
from trainables.data.store.once import Once
from trainables.data.store.split_writer import write_split
from trainables.errors import UserError
from trainables.user_code import SEE_TRACEBACK, calling, is_interruption, is_ours, told

SUFFIX = ".arrow"
Progress = Callable[[str, int, int], None]  # (split, frames done, frames in all)


def split_file(folder: Path | str, split: str) -> str:
    """Return where a split lies in a store folder; `folder` may be a URI with a query string."""
    base, mark, query = str(folder).partition("?")
    return f"{base.rstrip('/')}/{split}{SUFFIX}{mark}{query}"


def open_source(
    dataset: str, build: Callable[..., Any], *arguments: object, **options: object
) -> Source:
    """Return the raw data of a data set. Raises `UserError` for whatever a source raises.

    build: the source's class. arguments: the folder of the raw data, or how many frames to make.
    options: of the class itself.
    """
    given = ", ".join(map(str, arguments))
    try:
        source: Source = build(*arguments, **options)
    except (UserError, MemoryError):
        raise
    except OSError as error:  # of ours, too: a folder in the raw data that cannot be read
        raise UserError(
            f"the raw data of {dataset!r} must be readable, got {told(error)} for {given}; check "
            f"the file that is named, and its permissions; {SEE_TRACEBACK}"
        ) from error
    except BaseException as error:
        if is_ours(build) or is_interruption(error):
            raise
        raise UserError(
            f"the source of data set {dataset!r} must open {given}, got {told(error)}; "
            f"mend it there; {SEE_TRACEBACK}"
        ) from error
    return source


def write_store(
    source: Source,
    folder: Path,
    meta: SplitMeta,
    *,
    progress: Progress | None = None,
    num_threads: int = 1,
    num_classes: Mapping[str, int] | None = None,
) -> dict[str, SplitMeta]:
    """Write train and test into `folder`; test gets the image statistics of train.

    num_classes: as in `write_split`. Raises `UserError` as that does, for a frame that is in both
    splits, or twice in one, and for splits with different targets.
    """
    written: dict[str, SplitMeta] = {}
    once = Once()
    for split in SPLITS:
        frames = once.passed(split, _load(source, split, meta.size, progress, num_threads))
        written[split] = write_split(
            split_file(folder, split), frames, meta, num_classes=num_classes
        )
        first = next(iter(written))
        if set(written[split].encodings) != set(written[first].encodings):
            held = {name: ", ".join(meta.encodings) for name, meta in written.items()}
            raise UserError(
                f"the splits of a data set must hold the same targets, got {held[first]} in "
                f"{first} and {held[split]} in {split}; give every frame all of them, NaN or 255 "
                "where a value is unknown"
            )
        meta = dataclasses.replace(
            meta, image_mean=written[split].image_mean, image_std=written[split].image_std
        )
    return written


def _load_one(source: Source, split: str, position: int, size: tuple[int, int]) -> Frame:
    """Load a frame. Raises `UserError` that names it for whatever a source raises.

    A full disk is no exception: it is the source's here, not the destination's.
    """
    try:
        frame: object = source.load(split, position, size)
    except UserError as error:
        if is_ours(source) or str(error).startswith("frame "):
            raise
        raise UserError(f"frame {position} of {split}: {error}") from error
    except MemoryError:
        raise
    except BaseException as error:
        if is_interruption(error):
            raise
        raise UserError(
            f"frame {position} of {split} must load, got {told(error)} from "
            f"{type(source).__name__}; fix its source or leave the frame out; {SEE_TRACEBACK}"
        ) from error
    if not isinstance(frame, Frame):
        raise UserError(
            f"frame {position} of {split} must be a trainables.data.frame.Frame, got "
            f"{type(frame).__name__} from {type(source).__name__}; return one from load()"
        )
    return frame


def _load(
    source: Source,
    split: str,
    size: tuple[int, int],
    progress: Progress | None,
    num_threads: int,
) -> Iterator[Frame]:
    """Yield all frames in order; at most two per thread are held."""
    with calling(f"num_frames({split!r}) of source {type(source).__name__}", source):
        count = source.num_frames(split)
    if not isinstance(count, (int, np.integer)) or count < 1:
        raise UserError(
            f"source {type(source).__name__} must have frames of {split}, got "
            f"num_frames({split!r}) = {count!r}; every data set has train and test, and their "
            "numbers are integers"
        )
    with ThreadPoolExecutor(num_threads, thread_name_prefix="convert") as pool:
        pending: deque[Future[Frame]] = deque()
        try:
            for position in range(count + 2 * num_threads):
                if position < count:
                    pending.append(pool.submit(_load_one, source, split, position, size))
                if position >= 2 * num_threads and pending:
                    yield pending.popleft().result()
                    if progress is not None:
                        progress(split, position - 2 * num_threads + 1, count)
        finally:
            for future in pending:
                future.cancel()

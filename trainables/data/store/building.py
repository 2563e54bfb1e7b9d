"""Writes a store folder from a source: both splits, in order, with several threads."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from trainables.data.frame import Frame
from trainables.data.sources.source import SPLITS, Source
from trainables.data.store.meta import SplitMeta
from trainables.data.store.split_file import write_split
from trainables.errors import UserError, is_full_disk
from trainables.user_code import told

SUFFIX = ".arrow"
Progress = Callable[[str, int, int], None]  # (split, frames done, frames in all)


def split_file(folder: Path | str, split: str) -> str:
    """Return where a split lies in a store folder; `folder` may be a URI with a query string."""
    base, mark, query = str(folder).partition("?")
    return f"{base.rstrip('/')}/{split}{SUFFIX}{mark}{query}"


def write_store(
    source: Source,
    folder: Path,
    meta: SplitMeta,
    *,
    progress: Progress | None = None,
    num_threads: int = 1,
) -> dict[str, SplitMeta]:
    """Write train and test into `folder`; test gets the image statistics of train."""
    written: dict[str, SplitMeta] = {}
    for split in SPLITS:
        frames = _load(source, split, meta.size, progress, num_threads)
        written[split] = write_split(split_file(folder, split), frames, meta)
        meta = dataclasses.replace(
            meta, image_mean=written[split].image_mean, image_std=written[split].image_std
        )
    return written


def _load_one(source: Source, split: str, position: int, size: tuple[int, int]) -> Frame:
    """Load a frame. Raises `UserError` that names it for whatever a source raises."""
    try:
        return source.load(split, position, size)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if is_full_disk(error):
            raise
        raise UserError(
            f"frame {position} of {split} must load, got {told(error)} from "
            f"{type(source).__name__}; fix its source or leave the frame out"
        ) from error


def _load(
    source: Source,
    split: str,
    size: tuple[int, int],
    progress: Progress | None,
    num_threads: int,
) -> Iterator[Frame]:
    """Yield all frames in order; at most two per thread are held."""
    count = source.num_frames(split)
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

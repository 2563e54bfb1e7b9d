"""Writes a split file of the columnar store, frame by frame (`split_file` has its format)."""

import contextlib
import dataclasses
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.data.frame import Frame
from trainables.data.store.encoding import (
    STORED_DTYPES,
    TRAILING_SHAPE,
    compress,
    has_known,
    to_stored,
)
from trainables.data.store.location import writing
from trainables.data.store.meta import METADATA_KEY, SplitMeta, column_digest
from trainables.errors import UserError


def write_split(
    path: str | os.PathLike[str],
    frames: Iterable[Frame],
    meta: SplitMeta,
    *,
    encodings: Mapping[str, str] | None = None,
    num_classes: Mapping[str, int] | None = None,
) -> SplitMeta:
    """Write one split and return its metadata as written (statistics, checksums).

    The file appears complete or not at all: it is built under a temporary name next to `path`
    and renamed. Frames are streamed, so memory holds one at a time. Every frame must have the
    same modalities and `meta.size`. `encodings` names the columns that are not raw, `num_classes`
    has the number of classes of label columns of own tasks.
    Raises `UserError` without frames, for frames that differ, values that a column's kind does not
    have, a target that is known nowhere, images darker than any, and for a full or unwritable
    destination.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            columns = _Columns(Path(scratch), path.stem, meta, encodings or {}, num_classes or {})
            temporary = Path(scratch) / path.name
            with columns.open_files:
                for frame in frames:
                    columns.append(frame)
                written, batch = columns.finish(str(path))
                with (
                    pa.OSFile(str(temporary), "wb") as sink,
                    pa.ipc.new_file(sink, batch.schema) as out,
                ):
                    out.write_batch(batch)
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    return written


class _Columns:
    """Collects columns in files while a split is written, so that it need not fit in memory."""

    def __init__(
        self,
        scratch: Path,
        split: str,
        meta: SplitMeta,
        encodings: Mapping[str, str],
        num_classes: Mapping[str, int],
    ) -> None:
        self.scratch, self.split, self.meta = scratch, split, meta
        self.num_classes = {"segmentation": meta.num_classes or None, **num_classes}
        self.names: list[tuple[str, str]] = []
        self.modalities: tuple[str, ...] = ()
        self.asked = dict(encodings)
        dataclasses.replace(meta, encodings=self.asked)  # validates the names
        self.lengths: dict[str, list[int]] = {}
        self.spills: dict[str, Any] = {}
        self.open_files = contextlib.ExitStack()
        self.sums = np.zeros((2, 3))
        self.unknown: set[str] = set()  # so far, and in every frame
        self.brightest = 0

    def append(self, frame: Frame) -> None:
        arrays = dict(frame.arrays())
        if not self.names:
            self.modalities = tuple(arrays)
            self.unknown = {column for column in arrays if column != "image"}
            stray = [name for name in arrays if name not in self.meta.columns]
            if stray:
                raise UserError(
                    f"frame {frame.name!r} must have targets that a task of the data set reads, "
                    f"got {stray[0]!r}; name that task in the description's `tasks`"
                )
            self.lengths = {m: [] for m in arrays}
            for modality in arrays:
                spill = open(self.scratch / f"{modality}.column", "wb")  # noqa: SIM115
                self.spills[modality] = self.open_files.enter_context(spill)
        if tuple(arrays) != self.modalities or frame.size != self.meta.size:
            raise UserError(
                f"frame {frame.name!r} must have {', '.join(self.modalities)} at "
                f"{self.meta.size[0]}x{self.meta.size[1]} like the rest of its split, got "
                f"{', '.join(arrays)} at {frame.size[0]}x{frame.size[1]}; "
                "resize it, or write the odd frames to a store of their own"
            )
        for modality, array in arrays.items():
            kind = self.meta.kind(modality)
            frame.require(modality, kind)
            stored = to_stored(
                modality,
                array,
                f"{frame.name!r} of {self.split}",
                kind=kind,
                unknown_responses=self.meta.unknown_responses,
                num_classes=self.num_classes.get(modality),
            )
            if modality in self.unknown and has_known(
                stored, kind, unknown_responses=self.meta.unknown_responses
            ):
                self.unknown.remove(modality)
            encoding = self.asked.get(modality, "raw")
            data = stored.tobytes() if encoding == "raw" else compress(stored, encoding)
            self.spills[modality].write(data)
            self.lengths[modality].append(len(data))
        self.brightest = max(self.brightest, int(frame.image.max()))
        pixels = frame.image.reshape(-1, 3) / 255.0
        self.sums += np.stack([pixels.mean(0), np.square(pixels).mean(0)])
        self.names.append((frame.name, frame.scene))

    def finish(self, destination: str) -> tuple[SplitMeta, pa.RecordBatch]:
        if not self.names:
            raise UserError(
                f"a split must hold at least one frame, got none for {destination}; "
                "check the source's list of frames"
            )
        arrays: dict[str, pa.Array] = {
            "frame": pa.array([name for name, _ in self.names], pa.large_string()),
            "scene": pa.array([scene for _, scene in self.names], pa.large_string()),
        }
        counts = Counter(name for name, _ in self.names)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise UserError(
                f"frame names must be unique within a split, got {twice[0]!r} {counts[twice[0]]} "
                f"times in {self.split}; remove the doubled entries from the source's list, or "
                "name frames of several folders with their folder"
            )
        if self.brightest <= 1:
            raise UserError(
                f"images must have values 0-255, got none above {self.brightest} in {self.split}; "
                "multiply values in [0, 1] by 255 before they become bytes"
            )
        for modality in sorted(self.unknown):
            raise UserError(
                f"{self.split} must have a known value of {modality}, got none in its "
                f"{len(self.names)} frames; leave {modality} out of all frames of the data set"
            )
        for modality in self.modalities:
            self.spills[modality].close()
            arrays[modality] = self._column(modality)
        mean, square = self.sums / len(self.names)
        # A constant channel must not divide by zero.
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-6))
        bare = pa.record_batch(arrays)
        meta = dataclasses.replace(
            self.meta,
            image_mean=self.meta.image_mean or tuple(mean.tolist()),
            image_std=self.meta.image_std or tuple(deviation.tolist()),
            encodings={m: self.asked.get(m, "raw") for m in self.modalities},
            checksums={name: column_digest(bare, name) for name in arrays},
        )
        return meta, bare.replace_schema_metadata({METADATA_KEY: meta.to_json()})

    def _column(self, modality: str) -> pa.Array:
        spilled = pa.memory_map(str(self.scratch / f"{modality}.column"))
        self.open_files.enter_context(spilled)
        values = spilled.read_buffer()
        if self.asked.get(modality, "raw") != "raw":
            offsets = np.concatenate([[0], np.cumsum(self.lengths[modality])]).astype(np.int64)
            buffers = [None, pa.py_buffer(offsets), values]
            return pa.Array.from_buffers(pa.large_binary(), len(self.names), buffers)
        kind = self.meta.kind(modality)
        shape = (*self.meta.size, *TRAILING_SHAPE[kind])
        stored = pa.from_numpy_dtype(STORED_DTYPES[kind])
        tensor = pa.fixed_shape_tensor(stored, shape)
        count = len(self.names) * int(np.prod(shape))
        flat = pa.Array.from_buffers(stored, count, [None, values])
        listed = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape)))
        return pa.ExtensionArray.from_storage(tensor, listed)

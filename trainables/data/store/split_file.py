"""Reads and writes the columnar store: one Arrow IPC file per split, memory-mapped.

A file holds one record batch, so that every raw column is one contiguous block: `Split.column`
is a zero-copy NumPy view of a whole split, and all readers on a node share the page cache.
The schema's metadata (key `disparse`, JSON) carries `SplitMeta`: schema version, size,
encodings, a checksum per column, and the image statistics.

Column types by modality, N frames of H x W pixels:
  image uint8 (N, H, W, 3); segmentation uint8 (N, H, W), 255 unlabelled;
  normals int8 (N, H, W, 3), round(127 n), all zero where unknown;
  depth float16 (N, H, W), 0 where unknown; keypoints, edges uint8 (N, H, W), round(255 r), or
  round(254 r) and 255 where unknown, if the data set has such pixels (`unknown_responses`);
  targets of a user's own tasks, by kind: labels, vectors, depth and responses as above; values
  float32 (N, H, W), NaN where unknown.
Encoded columns (PNG, or JPEG for the image) hold one compressed frame per row; they are
decoded once, on first use, into memory of the process.
"""

import contextlib
import dataclasses
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.data.frame import Frame
from trainables.data.store.encoding import (
    STORED_DTYPES,
    TRAILING_SHAPE,
    compress,
    decompress,
    has_known,
    to_stored,
)
from trainables.data.store.location import first_line, local_path, writing
from trainables.data.store.meta import METADATA_KEY, SplitMeta, digest
from trainables.errors import UserError, unknown_name

CONVERT_AGAIN = "write the store again (`python -m trainables convert`) or copy it again"


class Split:
    """Reads a split file; opening it is cheap and may be repeated.

    location: a path or a URI that `pyarrow.fs` understands (s3://, gs://, file://); a remote file
    is fetched once into a cache on this node. Raises `UserError` for a file that is missing,
    truncated, foreign or of another schema version; the message ends in `remedy`. Only `verify`
    checks the contents.
    """

    def __init__(self, location: str | os.PathLike[str], *, remedy: str = CONVERT_AGAIN) -> None:
        self.location, self.remedy = str(location), remedy
        self.path = local_path(self.location)
        try:
            self._batch, self.meta = _open(self.path)
        except FileNotFoundError:
            raise UserError(
                f"the store must hold the file {self.location}, got no such file; {remedy}"
            ) from None
        except (
            *(pa.ArrowException, ValueError, KeyError, TypeError, OSError),
            *(AttributeError, OverflowError, RecursionError),
        ) as error:
            raise UserError(
                f"{self.location} must be a complete store file, got {first_line(error)}; {remedy}"
            ) from None
        self.num_frames: int = self._batch.num_rows
        self.modalities = tuple(m for m in self.meta.columns if m in self._batch.schema.names)
        self.frames: tuple[str, ...] = tuple(self._batch.column("frame").to_pylist())
        self.scenes: tuple[str, ...] = tuple(self._batch.column("scene").to_pylist())
        self._decoded: dict[str, np.ndarray] = {}

    def __reduce__(self) -> tuple[Callable[[str, str], "Split"], tuple[str, str]]:
        """Pickle as the location only, so that another process maps the same pages."""
        return _reopen, (self.location, self.remedy)

    def column(self, modality: str) -> np.ndarray:
        """Return the stored values of all frames, read-only; a view of the file if they are raw."""
        if modality not in self.modalities:
            raise unknown_name(f"modality in {self.location}", modality, self.modalities)
        if modality not in self._decoded:
            column = self._batch.column(modality)
            shape = (self.num_frames, *self.meta.size, *TRAILING_SHAPE[self.meta.kind(modality)])
            if self.meta.encodings[modality] == "raw":
                array = column.to_numpy_ndarray().reshape(shape)
            else:
                array = self._decode(modality, shape)
            array.flags.writeable = False
            self._decoded[modality] = array
        return self._decoded[modality]

    def _decode(self, modality: str, shape: tuple[int, ...]) -> np.ndarray:
        kind = self.meta.kind(modality)
        needed = math.prod(shape) * STORED_DTYPES[kind].itemsize
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > memory:
            raise UserError(
                f"{self.location}: {modality} must fit into this machine's {memory >> 20} MiB of "
                f"memory, got {needed >> 20} MiB when it is decoded; convert it at a smaller size"
            )
        array = np.empty(shape, STORED_DTYPES[kind])
        for index, value in enumerate(self._batch.column(modality)):
            try:
                array[index] = decompress(value.as_buffer(), kind, self.meta.size)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"{self.location}: {modality} of frame {self.frames[index]!r} must be an image "
                    f"of {shape[1]}x{shape[2]} pixels, got {first_line(error)}; {self.remedy}"
                ) from None
        return array

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return copies of the frames at `indices`, by modality, in the stored types."""
        return {modality: self.column(modality)[indices] for modality in self.modalities}

    def verify(self) -> None:
        """Read the whole file and compare checksums. Raises `UserError` naming the column."""
        for name, expected in self.meta.checksums.items():
            if (
                name not in self._batch.schema.names
                or _column_digest(self._batch, name) != expected
            ):
                raise UserError(
                    f"{self.location}: column {name!r} must match its checksum {expected}, "
                    f"got other bytes (damaged since it was written); {self.remedy}"
                )


def _reopen(location: str, remedy: str) -> Split:
    return Split(location, remedy=remedy)


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
            checksums={name: _column_digest(bare, name) for name in arrays},
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


def _open(path: Path) -> tuple[pa.RecordBatch, SplitMeta]:
    if path.stat().st_size == 0:
        raise ValueError("an empty file")
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        metadata = reader.schema.metadata or {}
        if METADATA_KEY not in metadata:
            raise ValueError("an Arrow file that another program wrote")
        meta = SplitMeta.from_json(metadata[METADATA_KEY])
        if reader.num_record_batches != 1:
            raise ValueError(f"{reader.num_record_batches} record batches, not 1")
        batch = reader.get_batch(0)
    # Check only structure and names, which reads no image data.
    batch.validate()
    if set(batch.schema.names) != set(meta.checksums):
        raise ValueError(f"columns {batch.schema.names}, not {sorted(meta.checksums)}")
    for name in ("frame", "scene"):
        if batch.schema.field(name).type != pa.large_string():
            raise ValueError(f"column {name!r} of type {batch.schema.field(name).type}")
        # Check offsets first: reading with a damaged one would leave the file.
        batch.column(name).validate(full=True)
        if _column_digest(batch, name) != meta.checksums[name]:
            raise ValueError(f"column {name!r} does not match its checksum")
    if {*meta.encodings} != {*batch.schema.names} - {"frame", "scene"}:
        raise ValueError(f"encodings of {sorted(meta.encodings)}")
    for modality, encoding in meta.encodings.items():
        shape = [*meta.size, *TRAILING_SHAPE[meta.kind(modality)]]
        kind = batch.schema.field(modality).type
        stored = pa.from_numpy_dtype(STORED_DTYPES[meta.kind(modality)])
        expected = pa.fixed_shape_tensor(stored, shape) if encoding == "raw" else pa.large_binary()
        if kind != expected:
            raise ValueError(f"column {modality!r} of type {kind}, not {expected}")
        if encoding != "raw":
            batch.column(modality).validate(full=True)
        if batch.column(modality).null_count:
            raise ValueError(f"column {modality!r} with frames missing")
    return batch, meta


def _column_digest(batch: pa.RecordBatch, name: str) -> str:
    column = batch.column(name)
    if isinstance(column, pa.ExtensionArray):
        return digest([column.storage.flatten().buffers()[1]])
    offsets = np.frombuffer(column.buffers()[1], np.int64, len(column) + 1)
    return digest([offsets.tobytes(), column.buffers()[2] or b""])

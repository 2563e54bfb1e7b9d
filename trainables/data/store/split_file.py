"""Reads the columnar store: one Arrow IPC file per split, memory-mapped.

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

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from trainables.addresses import first_line
from trainables.data.limits import memory_bytes
from trainables.data.store.encoding import STORED_DTYPES, TRAILING_SHAPE, decompress
from trainables.data.store.location import local_path
from trainables.data.store.meta import METADATA_KEY, SplitMeta, column_digest
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
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
                raise UserError(
                    f"{self.location} must be readable, got {os.strerror(error.errno)!r}; check "
                    "its permissions, and those of its folder"
                ) from None
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
        memory = memory_bytes()
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
            if name not in self._batch.schema.names or column_digest(self._batch, name) != expected:
                raise UserError(
                    f"{self.location}: column {name!r} must match its checksum {expected}, "
                    f"got other bytes (damaged since it was written); {self.remedy}"
                )


def _reopen(location: str, remedy: str) -> Split:
    return Split(location, remedy=remedy)


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
        if column_digest(batch, name) != meta.checksums[name]:
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

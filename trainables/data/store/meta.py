"""Defines the metadata of a split file."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.data.limits import LARGEST_FRAME
from trainables.data.store.encoding import ENCODINGS
from trainables.data.targets import COLUMNS, kind_of
from trainables.errors import UserError, unknown_name
from trainables.registry.datasets import DEPTH_KINDS
from trainables.registry.tasks import TARGET_KINDS

METADATA_KEY = b"disparse"  # of a split file's schema
SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)  # 1: without columns of a user's own tasks


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitMeta:
    """Holds the metadata of a split file; size is (height, width) in pixels.

    image_mean, image_std: per channel, of pixel values in [0, 1]; `None` until measured
      (`write_split` measures them; a test split gets those of train).
    checksums: BLAKE2b of each column's bytes, by column. encodings: by modality.
    unknown_responses: keypoints and edges may be unknown, and their encoding has a mark for it.
    own_kinds: by column, the kinds of those that a user's own tasks read.
    generation: what determines the frames of a procedural data set besides their size; `None`
      for converted data.
    """

    dataset: str
    size: tuple[int, int]
    depth_kind: str
    num_classes: int
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    encodings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    checksums: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unknown_responses: bool = False
    own_kinds: Mapping[str, str] = dataclasses.field(default_factory=dict)
    generation: Mapping[str, Any] | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if min(self.size) < 1 or self.size[0] * self.size[1] > LARGEST_FRAME:
            raise UserError(
                f"a frame must have 1 to {LARGEST_FRAME} pixels, got {self.size[0]}x{self.size[1]}"
                "; choose a smaller `--size`"
            )
        if not 0 <= self.num_classes <= 255:
            raise UserError(f"`num_classes` must be 0 to 255, got {self.num_classes}; name fewer")
        if self.depth_kind not in DEPTH_KINDS:
            raise unknown_name("depth kind", self.depth_kind, DEPTH_KINDS)
        for column, kind in self.own_kinds.items():
            if kind not in TARGET_KINDS or column in COLUMNS:
                raise unknown_name(f"kind of {column}:", kind, TARGET_KINDS)
        for modality, encoding in self.encodings.items():
            if modality not in self.columns:
                raise unknown_name("modality", modality, self.columns)
            if encoding not in ENCODINGS or (encoding == "jpeg" and modality != "image"):
                raise UserError(
                    f"`encodings.{modality}` must be raw or png (or jpeg, image only), "
                    f"got {encoding!r}; choose one of those"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """Return all columns that a frame of this split may have, in the store's order."""
        return (*COLUMNS, *self.own_kinds)

    def kind(self, column: str) -> str:
        """Return the kind of a column, which determines how it is stored."""
        return kind_of(column, self.own_kinds)

    def to_json(self) -> bytes:
        """Return JSON with its own checksum, so that opening detects damage to it."""
        fields = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return json.dumps({"fields": fields, "checksum": digest([fields.encode()])}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "SplitMeta":
        """Read the JSON of `to_json`. Raises `ValueError` or `KeyError` for anything else."""
        envelope = json.loads(text)
        if digest([envelope["fields"].encode()]) != envelope["checksum"]:
            raise ValueError("its metadata does not match their checksum")
        values = json.loads(envelope["fields"])
        if values["schema_version"] not in READABLE_VERSIONS:
            raise ValueError(
                f"its schema version is {values['schema_version']!r}, this program reads "
                f"versions {' and '.join(map(str, READABLE_VERSIONS))}"
            )
        for name in ("size", "image_mean", "image_std"):
            values[name] = tuple(values[name])
        return cls(**values)


def stored_size(root: str | None) -> tuple[int, int] | None:
    """Return the (height, width) of the frames in a store's folder, from its metadata alone.

    None where there is no store, or none that can be read: opening it says what is wrong.
    """
    path = Path(root or "") / "train.arrow"
    if root is None or not os.path.isfile(path):
        return None
    try:
        with pa.memory_map(str(path)) as source:
            metadata = pa.ipc.open_file(source).schema.metadata or {}
        return SplitMeta.from_json(metadata[METADATA_KEY]).size
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None


def digest(parts: Iterable[Any]) -> str:
    """Return the BLAKE2b hash of some bytes in hexadecimal."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.hexdigest()


def column_digest(batch: pa.RecordBatch, name: str) -> str:
    """Return the checksum of a column of a split file: that of its bytes, offsets included."""
    column = batch.column(name)
    if isinstance(column, pa.ExtensionArray):
        return digest([column.storage.flatten().buffers()[1]])
    offsets = np.frombuffer(column.buffers()[1], np.int64, len(column) + 1)
    return digest([offsets.tobytes(), column.buffers()[2] or b""])

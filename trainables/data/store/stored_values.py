"""Checks what a store holds before it is trained on; earlier programs did not check all of it.

Opening a store reads hardly any of its content, but a label that is no class, or a target that is
unknown in all of a part's frames, would be noticed only when a training is at its end.
"""

import numpy as np

from trainables.data.batch import IGNORE_LABEL
from trainables.data.store.encoding import NORMAL_SCALE, has_known
from trainables.data.store.split_file import Split
from trainables.errors import UserError

_AT_ONCE = 16  # frames; what is read stays in the processor's cache
_LOOKED_AT = 16  # frames of a split
# Vectors whose bytes wrapped around have any length; a mean of unit vectors is somewhat short.
_SHORTEST, _LONGEST, _MOSTLY = 0.5, 1.5, 0.99


def require_classes(split: Split, column: str, num_classes: int) -> None:
    """Raise `UserError`, naming the frame, for a label that is neither a class nor "unlabelled".

    All labels are read: a gigabyte of them in less than a second.
    """
    labels = split.column(column)
    for start in range(0, split.num_frames, _AT_ONCE):
        part = labels[start : start + _AT_ONCE]
        # 255, "unlabelled", becomes 0; everything else is one more than the class.
        if int((part + np.uint8(1)).max()) <= num_classes:
            continue
        wrong = (part >= num_classes) & (part != IGNORE_LABEL)
        frame = start + int(wrong.any(axis=(1, 2)).argmax())
        raise UserError(
            f"{split.location}: {column} of frame {split.frames[frame]!r} must be a class "
            f"0-{num_classes - 1}, or {IGNORE_LABEL} where unlabelled, got {part[wrong].max()}; "
            f"map the labels to the classes and {split.remedy}"
        )


def require_directions(split: Split, column: str) -> None:
    """Raise `UserError` if vectors of a few frames, spread over the split, are no unit vectors."""
    vectors = split.column(column)
    for frame in range(0, split.num_frames, -(-split.num_frames // _LOOKED_AT)):
        lengths = np.linalg.norm(vectors[frame].astype(np.float32) / NORMAL_SCALE, axis=-1)
        known = lengths[lengths > 0]
        right = (known >= _SHORTEST) & (known <= _LONGEST)
        if known.size and right.mean() < _MOSTLY:
            raise UserError(
                f"{split.location}: {column} of frame {split.frames[frame]!r} must be unit "
                f"vectors, got lengths from {known.min():.2f} to {known.max():.2f}; "
                f"give the source unit vectors and {split.remedy}"
            )


def require_known(split: Split, indices: np.ndarray, column: str, part: str) -> None:
    """Raise `UserError` unless a pixel of a column is known in the frames at `indices`.

    part: what these frames are for, in the message. The first frame decides nearly always.
    """
    values, kind = split.column(column), split.meta.kind(column)
    unknown_responses = split.meta.unknown_responses
    for index in indices.tolist():
        if has_known(values[index], kind, unknown_responses=unknown_responses):
            return
    raise UserError(
        f"{part} must have a known value of {column}, got none in its {len(indices)} frames of "
        f"{split.location}; leave out the tasks that read {column}, or add frames that have it"
    )

"""Derives named random streams from the trial's seed.

Adding a stream never shifts another, so results stay comparable between versions.
"""

import hashlib
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:  # so that a search driver can derive seeds without loading torch
    import torch

Stream = Literal[
    "init",
    "data",
    "augmentation",
    "masks",
    "scores",
    "sampler",
    "scenes",
    "dropout",
    "confirmations",
    "stopping",
]
STREAMS: tuple[str, ...] = get_args(Stream)


def derive_seed(seed: int, stream: Stream, index: int = 0) -> int:
    """Return a 63-bit seed that depends only on (`seed`, `stream`, `index`)."""
    assert stream in STREAMS, stream
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, stream: Stream, index: int = 0) -> "torch.Generator":
    """Return a CPU generator of the named stream."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, stream, index))

"""Describes the structures of sparsity, and says which methods have them."""

import re

from trainables.errors import UserError

WEIGHT, N_OF_M, CHANNEL = "weight", "N:M", "channel"

STRUCTURES: dict[str, str] = {
    WEIGHT: "each weight alone",
    N_OF_M: "at most N of every M consecutive weights along the input dimension, e.g. 2:4",
    CHANNEL: "whole channels with everything that reads them; they can be taken out",
}

_GROUPED = re.compile(r"([1-9]\d*):([1-9]\d*)")


def group_sizes(structure: str) -> tuple[int, int] | None:
    """Return (N, M) of a structure N:M, None for the others.

    Raises `UserError` for a name that is no structure, and unless N < M.
    """
    if structure in (WEIGHT, CHANNEL):
        return None
    match = _GROUPED.fullmatch(structure)
    if match is None:
        raise UserError(
            f"`sparsity.structure` must be weight, channel or N:M, got {structure!r}; "
            "2:4 keeps two of every four consecutive weights"
        )
    n, m = int(match[1]), int(match[2])
    if not n < m <= 64:
        raise UserError(
            f"`sparsity.structure` N:M must hold 1 <= N < M <= 64, got {structure}; "
            "2:4 keeps two of every four consecutive weights"
        )
    return n, m


def structure_kind(structure: str) -> str:
    """Return the key in `STRUCTURES` of a structure; "N:M" for 2:4. Raises as `group_sizes`."""
    return structure if group_sizes(structure) is None else N_OF_M


def require_channel_allocation(allocation: str) -> None:
    """Raise `UserError` for an allocation that structure channel does not have."""
    if allocation not in ("global", "uniform"):
        raise UserError(
            "`sparsity.allocation` must be global or uniform for structure channel, got "
            f"{allocation}; er and erk divide weights, not channels, among layers"
        )

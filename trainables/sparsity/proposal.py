"""Defines what a rule takes and returns: scores and masks, by parameter name."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Masks = dict[str, Tensor]  # bool, in the parameter's shape and on its device; True = kept
Scores = dict[str, Tensor]  # in the parameter's shape; higher is better


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """Holds new masks and, if the method lets tasks vote, what each task voted for.

    votes: by task, then by parameter name; a task votes on the shared tensors and its own. They
      say what a task would keep (from `prune`) or would grow (from `regrow`).
    """

    masks: Masks
    votes: Mapping[str, Masks] | None = None

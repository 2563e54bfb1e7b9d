"""Keeps the values that pruned weights had, outside of the network (`regrowth.gradient_at=dense`).

The released DiSparse code (Sun et al. 2022, `dynamic_prune.py`) multiplies dense weights by their
masks in the forward pass. A pruned weight so keeps a value, which the optimiser goes on to move by
its moments and by weight decay, and resumes it when it is grown. Here the network itself holds
exact zeros, and the values are in tensors of their own.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class PrunedValues:
    """Holds a value for every pruned weight, by parameter name; it is 0 at kept weights.

    The tensors stay the same ones, so that a recorded step can read and write them.

    weights: the prunable parameters; while training they are exactly 0 where pruned.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self.values = {name: torch.zeros_like(w.detach()) for name, w in weights.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Fill the pruned weights with their values; they are zeros again afterwards."""
        self._put_in()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._weights.items():
                    weight.sub_(self.values[name])

    @torch.no_grad()
    def settle(self, masks: Mapping[str, Tensor]) -> None:
        """Follow a change of masks: a dropped weight's value is kept, a grown one resumes its own.

        masks: by name, 0/1 in the weight's shape, as they are from now on.
        """
        self._put_in()
        self._take_out(masks)

    def attach(
        self, optimiser: torch.optim.Optimizer, masks: Callable[[], Mapping[str, Tensor]]
    ) -> None:
        """Let every step of `optimiser` move the values as well, as its moments and decay say.

        masks: returns the present masks, as for `settle`.
        """
        optimiser.register_step_pre_hook(lambda *_: self._put_in())
        optimiser.register_step_post_hook(lambda *_: self._take_out(masks()))

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Restore `values`. Raises `KeyError` for a tensor that is missing."""
        for name, held in self.values.items():
            held.copy_(values[name])

    @torch.no_grad()
    def _put_in(self) -> None:
        for name, weight in self._weights.items():
            weight.add_(self.values[name])

    @torch.no_grad()
    def _take_out(self, masks: Mapping[str, Tensor]) -> None:
        """Move what stands at pruned weights from the network to `values`, and leave zeros."""
        for name, weight in self._weights.items():
            pruned = masks[name] == 0
            self.values[name].copy_(torch.where(pruned, weight, 0.0))
            weight.masked_fill_(pruned, 0.0)

"""Clears what an optimiser remembers of pruned weights."""

import torch
from torch import Tensor

from trainables.errors import unknown_name

# Per-weight state that moves a weight even when its gradient is zero. A missing name would let a
# pruned weight become non-zero again, so an optimiser that is not listed is refused.
# Adam's `step` counts steps of the tensor, not of a weight, and is not cleared.
MOMENTS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.Adam: ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
}


def moment_names(optimiser: torch.optim.Optimizer) -> tuple[str, ...]:
    """Return the names of the moments `optimiser` may hold for a weight (fused or not).

    Raises `UserError` for any other class, subclasses included: they may keep more.
    """
    try:
        return MOMENTS[type(optimiser)]
    except KeyError:
        raise unknown_name(
            "optimiser for sparse training", type(optimiser).__name__, (t.__name__ for t in MOMENTS)
        ) from None


@torch.no_grad()
def clear_moments(optimiser: torch.optim.Optimizer, weight: Tensor, lost: Tensor) -> None:
    """Set every moment of `weight` to 0 where `lost` (bool, the weight's shape).

    It fills instead of multiplying, because 0 · inf is NaN.
    """
    state = optimiser.state.get(weight, {})
    for name in moment_names(optimiser):
        moment = state.get(name)
        if isinstance(moment, Tensor):
            moment.masked_fill_(lost, 0.0)

"""Compute the agreement among tasks that random votes of the same densities would have."""

import math

from analysis.studies.masks import TrialMasks


def chance_agreement(kept: float, agreement: float, num_tasks: int) -> float:
    """Return the agreement that random votes of the same density would have on one layer.

    kept: the share of the layer that any task wants, in (0, 1]. agreement: |∩| / |∪| of the votes.

    T independent votes of density d agree to d^T / (1 − (1 − d)^T). Only the union and the
    intersection of the votes are recorded. So d is their mean density, on the assumption that half
    of the tasks want a weight that some want and others do not: d = kept (1 + agreement) / 2. That
    is exact for two tasks; votes p ≠ q of the same mean agree by chance to less, namely
    p q / (p + q − p q).
    """
    density = kept * (1 + agreement) / 2
    either = 1 - (1 - density) ** num_tasks
    return density**num_tasks / either if either > 0 else math.nan


def chance_by_layer(masks: TrialMasks, num_tasks: int) -> dict[str, float]:
    """Return `chance_agreement` by shared layer, for masks that are the union of the votes.

    That is so for a method that prunes once, and only what all tasks want pruned.
    """
    kept = {layer.name: layer.density for layer in masks.layers}
    found = {
        name: chance_agreement(kept[name], value, num_tasks)
        for name, value in masks.agreement.items()
        if name in kept
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}

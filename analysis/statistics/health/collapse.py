"""Find layers that lost all of their weights, and trials that did not reach their ends."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from analysis.studies.masks import Layer, TrialMasks
from analysis.studies.trials import RUNNING, Study

# What training says of a loss or a score that left the numbers.
_DIVERGED = re.compile(r"\b(nan|inf|infinite|infinity)\b|not finite|diverge", re.IGNORECASE)


def collapsed_layers(masks: Iterable[TrialMasks]) -> dict[str, tuple[Layer, ...]]:
    """Return by trial the layers that have weights, all of them pruned; trials without any aside.

    The output of such a layer is constant (its bias, normalised), so what depends on nothing else
    is cut off from the image.
    """
    found = {
        item.trial.trial: tuple(lay for lay in item.layers if lay.total and not lay.kept)
        for item in masks
    }
    return {trial: layers for trial, layers in found.items() if layers}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """Hold how a study's trials ended. diverged: those of the failed whose reason says so."""

    total: int
    counts: Mapping[str, int]  # by status
    diverged: int
    commonest: str  # reason among failed trials; "" without any

    def share(self, status: str) -> float:
        """Return the share of the trials that ended so; 0 where none has ended."""
        return self.counts.get(status, 0) / self.total if self.total else 0.0


def ends(study: Study, reasons: Mapping[str, str]) -> Ends:
    """Count the ends of the trials that ended, confirmations aside.

    reasons: by trial, why those that failed did.
    """
    ended = [trial for trial in study.trials if trial.status != RUNNING]
    said = [reasons.get(trial.trial, "") for trial in ended if trial.status == "failed"]
    return Ends(
        total=len(ended),
        counts=Counter(trial.status for trial in ended),
        diverged=sum(bool(_DIVERGED.search(reason)) for reason in said),
        commonest=Counter(said).most_common(1)[0][0] if said else "",
    )

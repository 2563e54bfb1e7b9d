"""Says when a search has reached a plateau: what the rest of its budget would add is not worth it.

The rest of the budget is counted in trials that run to their end, at the price so far. What they
would add to the hypervolume is the sampler's estimate (`search.samplers.further_gain`).
"""

from collections.abc import Mapping
from typing import Any

from trainables.errors import UserError

PLATEAU = "plateau"
DEFAULT_SHARE = 0.02
_LEAST_USED = (
    0.25  # of the budget; before, what is believed of the rest is hardly more than a guess
)
_MIN_COMPLETE = 8


def parse_until(text: str) -> float:
    """Return the share of the hypervolume of `plateau` or `plateau=SHARE`; raise `UserError`."""
    word, separator, share = text.partition("=")
    try:
        value = float(share) if separator else DEFAULT_SHARE
    except ValueError:
        value = -1.0
    if word.strip() != PLATEAU or not 0 < value < 1:
        raise UserError(
            f"`--until` must be {PLATEAU}, or {PLATEAU}=SHARE with a share in (0, 1), got "
            f"{text!r}; {PLATEAU}={DEFAULT_SHARE:g} ends a study whose rest would add less than "
            f"{100 * DEFAULT_SHARE:g} % to its hypervolume"
        )
    return value


def trials_left(amount: float, used: float, num_complete: int) -> int | None:
    """Return how many trials at full length the rest of a budget is worth, at least 1.

    amount, used: of the budget, in its unit; used by the trials that ended, of which
    `num_complete` ran to their end. None as long as it is too early to judge.
    """
    if used < _LEAST_USED * amount or num_complete < _MIN_COMPLETE:
        return None
    return max(1, round(num_complete * max(0.0, amount - used) / used))


def plateau_text(found: Mapping[str, Any]) -> str:
    """Return what `study.json` says of a plateau that a study has reached, in a sentence."""
    return (
        f"at a plateau: with {found['used']:g} used, the rest of the budget (worth "
        f"{found['trials']} trials at full length) was thought to add "
        f"{100 * found['gain']:.2g} % to the hypervolume"
    )

"""Put a study's terms in words: its budget, scheduler, constraints and warm start; what it spent.

The terms are those of `study.json`; what a study of an older release does not record is left out.
"""

import math
from collections.abc import Mapping
from typing import Any

from analysis.labels import number
from analysis.studies.constraints import read_bounds
from analysis.studies.effort import Epochs

BUDGET_UNITS = {"trials": "trials", "epochs": "epochs", "gpu_hours": "GPU hours"}
_MAX_MILESTONES = 6


def terms(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and sentences for the page."""
    found = [
        ("budget", _budget(facts)),
        ("scheduler", _scheduler(facts)),
        ("constraints", _constraints(facts)),
        ("warm start", _warm_start(facts)),
        ("prior", _prior(facts)),
    ]
    return [(name, text) for name, text in found if text]


def rungs(facts: Mapping[str, Any]) -> list[float]:
    """Return the shares of training at which trials are compared; none without a scheduler."""
    try:
        return _milestones(facts["scheduler"])
    except (KeyError, TypeError, ValueError):
        return []


def trials_text(count: int) -> str:
    """Return for example "3 trials" or "1 trial"."""
    return f"{count} {'trial' if count == 1 else 'trials'}"


def further_text(facts: Mapping[str, Any]) -> str:
    """Return what a search believes that more trials would add; empty where it is not recorded."""
    known = facts.get("further")
    if not known:
        return ""
    count, gain = int(known["trials"]), float(known["gain"])
    trials = f"{count} more {'trial' if count == 1 else 'trials'} at full length"
    if gain > 1:
        return (
            f"What {trials} would add is not known: the search's model knows too little of untried "
            "settings to say."
        )
    return (
        f"Estimated by the search, more likely too high than too low: {trials} could add up to "
        f"{few_percent(gain)} to the hypervolume, supposing that they find the best of many "
        "untried settings."
    )


def few_percent(share: float) -> str:
    """Write a share of at most 1 in percent, with two digits and never in powers of ten."""
    percent = 100 * share
    return "less than 0.01 %" if 0 < percent < 0.01 else f"{float(f'{percent:.2g}'):g} %"


def saved_text(epochs: Epochs) -> str:
    """Return the saved epochs, for example "17.14", or "≤ 17.14" for an upper bound."""
    return f"{'' if epochs.exact else '≤ '}{number(epochs.saved)}"


def effort_text(epochs: Epochs, num_stopped: int) -> str:
    """Say how many epochs were spent, and how many stopping early has saved."""
    text = f"The trials that ended spent {number(epochs.spent)} epochs in all."
    if num_stopped:
        most = "" if epochs.exact else "at most "
        stopped = "one trial" if num_stopped == 1 else f"{num_stopped} trials"
        ends = "its end" if num_stopped == 1 else "their ends"
        text += (
            f" Running the {stopped} stopped early to {ends} would have taken {most}"
            f"{number(epochs.saved)} more."
        )
    if epochs.num_unknown:
        are = "is" if epochs.num_unknown == 1 else "are"
        text += (
            f" {trials_text(epochs.num_unknown)} failed without epochs on record and {are} "
            "not counted."
        )
    return text


def _budget(facts: Mapping[str, Any]) -> str:
    """Return for example "14 trials" or "20 trials, extended from 14 trials"."""
    now, first = _amount(facts.get("budget")), _amount(facts.get("first_budget"))
    if not now or not first or now == first:
        return now
    return f"{now}, extended from {first}"


def _amount(value: Any) -> str:
    units = dict(value) if isinstance(value, Mapping) else {}
    plateau = units.pop("plateau", None)
    said = ", ".join(f"{amount:g} {_unit(unit, amount)}" for unit, amount in units.items())
    if plateau is None:
        return said
    return f"{said} or until the rest would add less than {100 * plateau:g} % to the hypervolume"


def _unit(unit: str, amount: float) -> str:
    words = BUDGET_UNITS.get(unit, unit)
    return words.removesuffix("s") if amount == 1 else words


def _scheduler(facts: Mapping[str, Any]) -> str:
    if "scheduler" not in facts:
        return ""
    known = facts["scheduler"]
    if known in (None, "none"):
        return "none: every trial is trained to its end"
    if not isinstance(known, Mapping):
        return str(known)
    words = "ParetoASHA"
    try:
        places = [f"{100 * m:.3g} %" for m in _milestones(known)]
        factor = f"{float(known['reduction_factor']):g}"
    except (KeyError, TypeError, ValueError):
        return f"{words}: {dict(known)}"
    if not places:
        return f"{words}, without a milestone before the end: every trial is trained to its end"
    if len(places) > _MAX_MILESTONES:
        places = [*places[: _MAX_MILESTONES - 1], "…", places[-1]]
    at = f"{', '.join(places[:-1])} and {places[-1]}" if len(places) > 1 else places[0]
    words += f": trials are compared at {at} of training and about one in {factor} continues"
    return words


def _milestones(known: Mapping[str, Any]) -> list[float]:
    """Return grace·factor^k below the full length, as shares of it."""
    grace, maximum = float(known["grace"]), float(known.get("maximum", 1.0))
    factor = float(known["reduction_factor"])
    if not (grace > 0 and factor > 1 and maximum < math.inf):
        raise ValueError("no milestones")
    found: list[float] = []
    while grace < maximum * (1 - 1e-9) and len(found) < 1000:
        found.append(grace / maximum)
        grace *= factor
    return found


def _constraints(facts: Mapping[str, Any]) -> str:
    if "constraints" not in facts:
        return ""
    return "; ".join(bound.text for bound in read_bounds(facts)) or "none"


def _warm_start(facts: Mapping[str, Any]) -> str:
    if "warm_start" not in facts:
        return ""
    sources = facts["warm_start"] or []
    names = [sources] if isinstance(sources, str) else [str(source) for source in sources]
    return f"from the trials of {', '.join(names)}" if names else "none"


def _prior(facts: Mapping[str, Any]) -> str:
    known = facts.get("prior") or {}
    values = [f"{name} near {value}" for name, value in known.get("values", {}).items()]
    fronts = [f"like the front of {study}" for study in known.get("studies", [])]
    if not values and not fronts:
        return ""
    return f"good settings were thought to be {', '.join([*fronts, *values])}"

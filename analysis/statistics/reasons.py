"""Say why a model was chosen: in sentences, for `analysis pick` and for `search ship` alike."""

from collections.abc import Mapping
from typing import Any

from analysis.labels import admitting, admitting_numbers, objective_label
from analysis.statistics.choice import Choice, front_named
from analysis.statistics.conditions import Condition
from trainables import report

_KNEE = (
    "the knee: farthest below the line from the cheapest to the best, every objective scaled over "
    "the front and tasks averaged (Das 1999)"
)


def why(choice: Choice[Any]) -> str:
    """Return for example "2 of the 4 models on the front meet the bounds; of these, the best …"."""
    total, count = len(choice.front), len(choice.admitted)
    front = front_named(by_fresh=choice.by_fresh)
    among = f"of the {total} models on {front}" if total > 1 else f"of {front}, one model,"
    if choice.conditions:
        meet = "meets" if count == 1 else "meet"
        among = f"{count} of the {total} models on {front} {meet} the bounds; of these"
    rule = _KNEE
    if choice.best is not None:
        value = admitting(choice.trial.metrics[choice.best], choice.best)
        rule = f"the best {objective_label(choice.best)}, {value}"
    return f"{among.rstrip(',')}, {rule}"


def bound(condition: Condition, metrics: Mapping[str, float]) -> str:
    """Return for example "segmentation/miou is 0.4412, >= 0.4405 (95 % of dense 0.4637)"."""
    shown = [metrics[condition.metric], condition.value]
    if condition.percent is not None:
        shown.append(condition.dense)
    value, level, *dense = admitting_numbers(shown, condition.metric)
    share = f" ({condition.percent:.12g} % of dense {dense[0]})" if dense else ""
    bare = report.without_split(condition.metric)
    return f"{bare} is {value}, {condition.operator} {level}{share}"

"""Say why a model was chosen: in sentences, for `analysis pick` and for `search ship` alike."""

from collections.abc import Mapping
from typing import Any

from analysis.labels import admitting, objective_label
from analysis.statistics.choice import Choice, front_named
from analysis.statistics.conditions import Condition
from trainables import report

_KNEE = (
    "the knee: farthest below the line from the cheapest to the best, every objective scaled over "
    "the front and tasks averaged (Das 1999)"
)


def why(choice: Choice[Any], dataset: str) -> str:
    """Return for example "2 of the 4 models on the front meet the bounds; of these, the best …".

    dataset: the study's, whose depths have a unit.
    """
    total = len(choice.front)
    count = sum(all(c.is_met(t.metrics) for c in choice.conditions) for t in choice.front)
    front = front_named(by_fresh=choice.by_fresh)
    among = f"of the {total} models on {front}"
    best = ""
    if choice.best is not None:
        value = admitting(choice.trial.metrics[choice.best], choice.best)
        best = f"{objective_label(choice.best, dataset)}, {value}"
    if count == 1:
        said = f"the only model on {front}" if total == 1 else f"the only one {among}"
        if choice.conditions:
            said += f" {'and' if total == 1 else 'that'} meets the bounds"
        return f"{said}: {best}" if best else said
    if choice.conditions:
        among = f"{count} {among} meet the bounds; of these"
    return f"{among}, {f'the best {best}' if best else _KNEE}"


def bound(condition: Condition, metrics: Mapping[str, float]) -> str:
    """Return for example "segmentation/miou is 0.4412, >= 0.4406 (95 % of dense 0.4637)"."""
    value, level, *dense = condition.beside(metrics[condition.metric])
    share = f" ({condition.percent:.12g} % of dense {dense[0]})" if dense else ""
    bare = report.without_split(condition.metric)
    return f"{bare} is {value}, {condition.operator} {level}{share}"

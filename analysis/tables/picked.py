"""Say which model was picked, why, what it costs and what it gives up: as text and for JSON."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.labels import (
    DELTA_MEANS,
    admitting,
    admitting_numbers,
    difference,
    losing,
    metric_label,
    objective_label,
)
from analysis.methods import method_style
from analysis.statistics import reasons
from analysis.statistics.choice import Choice
from analysis.studies.masks import read_masks
from analysis.studies.systems_by_seed import DELTA
from analysis.studies.trials import Study, Trial, is_value
from analysis.tables.typeset import Table, plain
from trainables import report
from trainables.terminal.as_typed import study_command

_NOT_SETTINGS = ("method", "seed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """Hold a study's choice. dense: mean metrics of its dense trials, empty without any.

    standing: what fresh seeds say of it; None where that is said elsewhere.
    """

    study: Study
    choice: Choice[Trial]
    dense: Mapping[str, float]
    standing: reasons.Standing | None = None

    @property
    def trial(self) -> Trial:
        """Return the chosen trial."""
        return self.choice.trial

    @property
    def only_dense(self) -> str:
        """Say so where no sparse model of the front meets the bounds, and which is nearest."""
        return reasons.only_dense(self.choice, lambda trial: trial.method == "dense")

    @property
    def model(self) -> Path:
        """Return the file of the trained model, which need not exist."""
        return self.study.directory / "trials" / f"{self.trial.number:05d}" / "model.pt"

    @property
    def load(self) -> str:
        """Return the Python line that loads the model."""
        return (
            "from trainables.training.export import load_model; "
            f"model = load_model({str(self.model)!r}).model"
        )

    @property
    def ship(self) -> str:
        """Return the command that makes the model ready to take home."""
        words = ["--trial", str(self.trial.number), "--out", f"shipped/{self.trial.trial}"]
        return study_command("search ship", self.study.name, self.study.directory.parent, *words)

    @property
    def delta_percent(self) -> float:
        """Return Δ_T on val: the reported one, else that to the study's dense trials, else NaN."""
        reported = self.trial.metrics.get(f"val/{DELTA}", math.nan)
        if math.isfinite(reported) or not self.dense:
            return reported
        names = [
            name
            for quality in self.study.qualities
            for name in report.task_metrics(report.task_of(quality))
            if not report.non_finite(self.trial.metrics, [f"val/{name}"])
        ]
        return report.delta_percent(
            {name: self.trial.metrics[f"val/{name}"] for name in names},
            {name: self.dense[f"val/{name}"] for name in names if f"val/{name}" in self.dense},
        )

    @property
    def weights(self) -> tuple[int, int] | None:
        """Return how many prunable weights are kept, and of how many; None without a summary."""
        found = read_masks(self.study, [self.trial])
        if not found:
            return None
        layers = found[0].layers
        return sum(layer.kept for layer in layers), sum(layer.total for layer in layers)

    @property
    def settings(self) -> dict[str, Any]:
        """Return what was drawn or given for this trial."""
        params = self.trial.params.items()
        return {n: v for n, v in params if n not in _NOT_SETTINGS and is_value(n, v)}

    def price(self, name: str) -> float | None:
        """Return by how much the objective is worse than the dense model's, None if unknown."""
        if name not in self.dense:
            return None
        return report.minimised(name, self.trial.metrics[name] - self.dense[name])

    def gives_up(self, name: str) -> float:
        """Return by how much the objective is worse than the best of the front; never negative."""
        best = self.choice.leader(name).metrics[name]
        return report.minimised(name, self.trial.metrics[name] - best)


def text(pick: Pick) -> str:
    """Write the answer for a terminal."""
    trial = pick.trial
    settings = settings_text(pick)
    lines = [
        f"{trial.trial}: {method_style(trial.method).label}",
        *(f"  {word:<9}{said}" for word, said in _reasons(pick)),
        "",
        plain(table(pick)),
        "",
        *(f"  {word:<9}{said}" for word, said in _costs(pick)),
        f"  settings {settings or 'none beside the method'}",
    ]
    if pick.model.is_file():
        lines += [f"  model    {pick.model}", f"  load     {pick.load}"]
    else:
        lines.append(f"  model    {pick.model}, which is not there")
    return "\n".join([*lines, f"  ship     {pick.ship}"])


def of_trial(
    study: Study, trial: Trial, front: Iterable[Trial], dense: Mapping[str, float]
) -> Pick:
    """Return a member of the front as one that was picked by its number."""
    members = tuple(front)
    choice = Choice(
        trial=trial, front=members, admitted=members, conditions=(), best=None, depth=math.nan
    )
    return Pick(study=study, choice=choice, dense=dense)


def settings_text(pick: Pick) -> str:
    """Write what was drawn or given for the trial, for example "sparsity.target=0.9, …"."""
    return ", ".join(f"{name}={_setting(value)}" for name, value in pick.settings.items())


def table(pick: Pick) -> Table:
    """Tabulate every objective beside the dense model and the best of the front."""
    rows = []
    for name in pick.study.objectives:
        leader = pick.choice.leader(name)
        shown = [pick.trial.metrics[name], leader.metrics[name]]
        bounds = [c.value for c in pick.choice.conditions if c.metric == name]
        dense = [pick.dense[name]] if name in pick.dense else []
        value, best, *others = admitting_numbers([*shown, *dense, *bounds], name)
        is_leader = leader.metrics[name] == pick.trial.metrics[name]
        given = difference(pick.gives_up(name), name)
        cells = [objective_label(name), value, others[0] if dense else "–", _price(pick, name)]
        cells += [best, leader.trial, "nothing" if is_leader else given]
        rows.append(cells)
    return Table(
        title="objectives on val",
        heads=["val", "value", "dense", "price", "best of front", "of trial", "given up"],
        rows=rows,
    )


def to_json(pick: Pick) -> dict[str, Any]:
    """Return the answer as plain values, in the metrics' own units."""
    trial, choice = pick.trial, pick.choice
    objectives = {}
    for name in pick.study.objectives:
        price, dense = pick.price(name), pick.dense.get(name)
        leader = choice.leader(name)
        objectives[name] = {
            "value": trial.metrics[name],
            "dense": dense,
            "price": price,
            "price_percent": None if price is None or not dense else 100 * price / abs(dense),
            "best_of_front": leader.metrics[name],
            "best_trial": leader.trial,
            "gives_up": pick.gives_up(name),
        }
    weights, delta = pick.weights, pick.delta_percent
    return {
        "trial": trial.trial,
        "number": trial.number,
        "method": trial.method,
        "seed": trial.seed,
        "settings": pick.settings,
        "rule": "knee" if choice.best is None else "best",
        "best": choice.best,
        "knee_depth": choice.depth,
        "bounds": [
            {
                "where": condition.text,
                "metric": condition.metric,
                "operator": condition.operator,
                "bound": condition.value,
                "value": trial.metrics[condition.metric],
            }
            for condition in choice.conditions
        ],
        "only_dense": pick.only_dense or None,
        "chosen_by_fresh_seeds": choice.by_fresh,
        **({} if pick.standing is None else pick.standing.to_json()),
        "front": [member.trial for member in choice.front],
        "admitted": [member.trial for member in choice.admitted],
        "objectives": objectives,
        "delta_percent": delta if math.isfinite(delta) else None,
        "weights": None if weights is None else dict(zip(("kept", "total"), weights, strict=True)),
        "metrics": {name: v for name, v in trial.metrics.items() if math.isfinite(v)},
        "model": str(pick.model),
        "model_exists": pick.model.is_file(),
        "load": pick.load,
        "ship": pick.ship,
    }


def _reasons(pick: Pick) -> Iterable[tuple[str, str]]:
    yield "why", reasons.why(pick.choice, str(pick.study.facts.get("dataset")))
    for condition in pick.choice.conditions:
        yield "bound", reasons.bound(condition, pick.trial.metrics)
    if pick.only_dense:
        yield "but", pick.only_dense
    for said in () if pick.standing is None else pick.standing.sentences():
        yield "but", said


def _costs(pick: Pick) -> Iterable[tuple[str, str]]:
    if math.isfinite(pick.delta_percent):
        delta = admitting(pick.delta_percent, f"val/{DELTA}")
        yield "Δ_T", f"{delta} %: {DELTA_MEANS}"
    if pick.weights is not None:
        kept, total = pick.weights
        yield "weights", f"{kept:,} of {total:,} prunable ones kept"
    found = [
        f"{metric_label(name)} {admitting(value, name)}"
        for name in report.METRICS
        if name.startswith("cost/")
        and name not in ("cost/sparsity", pick.study.cost)
        and math.isfinite(value := pick.trial.metrics.get(name, math.nan))
    ]
    if found:
        yield "costs", ", ".join(found)


def _price(pick: Pick, name: str) -> str:
    """Write for example "0.0225 worse (4.9 %)"; "–" for a cost, which is no price."""
    price, dense = pick.price(name), pick.dense.get(name)
    if price is None or dense is None or name.startswith("cost/"):
        return "–"
    if difference(price, name) == difference(0.0, name):
        return "none"
    share = f" ({losing(100 * price / abs(dense)).rpartition(' ')[0]})" if dense else ""
    return f"{difference(price, name)} {'worse' if price > 0 else 'better'}{share}"


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

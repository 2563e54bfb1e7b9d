"""Turn a study into files: front.png, front.parquet and the report's figures.

Only this module decides which figures a study can have. What it cannot show (no trial with votes,
no summary, nothing complete) is left out, and the report says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.labels import admitting, metric_label, number, task_label
from analysis.methods import may_vote, method_style
from analysis.plots import canvas, hypervolume, importance, parallel
from analysis.plots.fronts import front
from analysis.plots.layers import agreement, density
from analysis.report import predictions
from analysis.report.grid import GridFindings, find_grid, write_pictures
from analysis.statistics.candidates import candidates
from analysis.statistics.choice import front_members
from analysis.statistics.comparing.system_means import SystemMeans, system_means
from analysis.statistics.eligible import eligible, infeasible
from analysis.statistics.fronts import (
    TaskFront,
    joint_front,
    minimised_values,
    shown_costs,
    task_fronts,
)
from analysis.statistics.importance import Importances, measure, to_table
from analysis.statistics.indicators import Normalisation, hypervolume_trajectory
from analysis.statistics.uncertainty.confirmed import (
    Confirmed,
    seeds_text,
    ties,
)
from analysis.studies.constraints import Bound, misses, read_bounds
from analysis.studies.effort import Course, Epochs, by_epochs, by_time, by_trials, count_epochs
from analysis.studies.masks import TrialMasks, read_masks
from analysis.studies.trials import Study, Trial
from analysis.tables.plain_choices import PlainChoice, choices
from analysis.tables.typeset import write_parquet
from trainables import report

MAX_ROWS = 24  # of the density map; MAX_LINES of the agreement plot
MAX_LINES = 30
_HOVER_LINES = 17
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """Hold what the figures show, computed once."""

    study: Study
    means: SystemMeans  # what is compared: of a grid, its systems by their means
    fronts: tuple[TaskFront, ...]
    members: tuple[Trial, ...]  # the joint front, cheapest first
    ended: tuple[Trial, ...]  # eligible, in the order they ended
    infeasible: tuple[Trial, ...]  # ran to the end and missed a constraint, by number
    bounds: tuple[Bound, ...]  # the constraints
    courses: tuple[Course, ...]  # places of `ended`: by epochs, or without them by trials; by time
    epochs: Epochs | None  # None where not every trial that trained has them on record
    share_N: NDArray[np.float64]  # hypervolume after each of `ended`
    normalisation: Normalisation | None  # None without an eligible trial
    layers: tuple[TrialMasks, ...]  # of front members, sparsest first
    votes: tuple[TrialMasks, ...]  # of trials whose tasks voted
    importances: Importances  # of the drawn parameters
    confirmed: Mapping[str, Confirmed]  # what was trained again at fresh seeds, by trial
    fresh_front: tuple[Trial, ...]  # by means over fresh seeds, where these choose; else empty
    ties: Mapping[str, tuple[int, ...]]  # of members of either front, by trial
    predictions: Mapping[str, bytes]  # by task, as PNGs: of what `predictions` chooses
    plainly: tuple[PlainChoice, ...]  # what to take under plain conditions; of a search
    grid: GridFindings | None  # None for a search

    @property
    def member_names(self) -> frozenset[str]:
        """Return the names of the joint front's trials."""
        return frozenset(t.trial for t in self.members)


def find(
    study: Study,
    *,
    with_masks: bool = True,
    with_importances: bool = True,
    with_predictions: bool = True,
    with_choices: bool = True,
) -> Findings:
    """Compute everything that the figures need."""
    means = system_means(study)
    ended = tuple(sorted(eligible(study), key=lambda t: (t.ended or _LATEST, t.number)))
    missed = infeasible(study)
    members = joint_front(means.study)
    share_N, normalisation = np.empty(0), None
    if ended and not study.is_grid:  # the course of a grid is the order of its list
        values_NM = minimised_values(ended, study.objectives)
        normalisation = Normalisation.of(values_NM)
        share_N = hypervolume_trajectory(values_NM, normalisation)
    names = {member.trial for member in members}
    trained = tuple(t for t in study.trials if t.trial in names)  # with values of their own
    sparse = tuple(t for t in members if t.method != "dense")
    voters = tuple(t for t in eligible(study) if may_vote(t.method))
    read = read_masks(study, voters) if with_masks else ()
    among = candidates(study)
    plainly = choices(study, among) if with_choices and not study.is_grid else ()
    taken = {one.pick.trial.trial for one in plainly if one.pick is not None}
    fresh_front = front_members(among.trials, study.objectives) if among.seeds else ()
    either = list({trial.trial: trial for trial in (*members, *fresh_front)}.values())
    known = among.known
    courses = (by_epochs(study, ended) or by_trials(ended), by_time(study, ended))
    return Findings(
        study=study,
        means=means,
        fronts=task_fronts(means.study),
        members=members,
        ended=ended,
        infeasible=missed,
        bounds=read_bounds(study.facts),
        courses=tuple(course for course in courses if course is not None),
        epochs=count_epochs(study),
        share_N=share_N,
        normalisation=normalisation,
        layers=spread(read_masks(study, sparse) if with_masks else (), MAX_ROWS),
        votes=spread([m for m in read if m.agreement], MAX_LINES),
        importances=measure(study, (*ended, *missed) if with_importances else ()),
        confirmed=known,
        fresh_front=fresh_front,
        ties=ties(either, known, study.qualities),
        predictions=predictions.pictures(study, trained, taken) if with_predictions else {},
        plainly=plainly,
        grid=find_grid(study),
    )


def spread(masks: Sequence[TrialMasks], limit: int) -> tuple[TrialMasks, ...]:
    """Return at most `limit` of the masks, evenly over their densities, the sparsest first."""
    ordered = sorted(masks, key=lambda m: (m.density, m.trial.number))
    if len(ordered) <= limit:
        return tuple(ordered)
    return tuple(ordered[round(i * (len(ordered) - 1) / (limit - 1))] for i in range(limit))


def write_front(found: Findings, out: Path, suffix: str = "") -> list[Path]:
    """Write front.png and front.parquet under `out` and return their paths.

    suffix: put behind the files' names. Raises `UserError` where the folder is not writable.
    """
    members = with_means(found, with_intervals(found, front_rows(found)))
    rows = write_parquet(out / f"front{suffix}.parquet", members)
    picture = front.draw(
        found.fronts, found.member_names, front_title(found), front_subtitle(found)
    )
    return [canvas.save(picture, out / f"front{suffix}.png"), rows]


def front_rows(found: Findings) -> pa.Table:
    """Return the rows of `trials.parquet` that are on the joint front, in their order there."""
    names = found.study.table["trial"].to_pylist()
    rows = [place for place, name in enumerate(names) if name in found.member_names]
    return found.study.table.take(pa.array(rows, type=pa.int64()))


def with_intervals(found: Findings, rows: pa.Table) -> pa.Table:
    """Return the rows with what fresh seeds tell of each, null where it was not confirmed.

    Added are `fresh/seeds`, how many, and `fresh/failed`, at how many more the training failed; for
    every objective `fresh/NAME/mean`, `/low` and `/high`, Student's t interval of 95 %; and
    `tied_with`, the numbers of the members that no quality tells apart. Without confirmations the
    rows stay as they are.
    """
    if not found.confirmed:
        return rows
    known = [found.confirmed.get(name) for name in rows["trial"].to_pylist()]
    columns = {
        "fresh/seeds": pa.array([one and len(one.runs) for one in known], pa.int64()),
        "fresh/failed": pa.array([one and len(one.failed) for one in known], pa.int64()),
    }
    known = [one if one and one.runs else None for one in known]
    for name in found.study.objectives:
        intervals = [one and one.interval(name) for one in known]
        values = {
            "mean": [one and one.mean(name) for one in known],
            "low": [i and i.low for i in intervals],
            "high": [i and i.high for i in intervals],
        }
        columns |= {f"fresh/{name}/{n}": pa.array(v, pa.float64()) for n, v in values.items()}
    tied = [found.ties.get(name) for name in rows["trial"].to_pylist()]
    columns["tied_with"] = pa.array(tied, pa.list_(pa.int64()))
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows


def with_means(found: Findings, rows: pa.Table) -> pa.Table:
    """Return the rows of a grid's front with what it was compared by; others stay as they are.

    A row is the trial of a system's first seed. Added are `mean/seeds`, over how many seeds the
    system's means are, and for every objective `mean/NAME`.
    """
    if not found.means.seeds:
        return rows
    by_name = {member.trial: member for member in found.members}
    names = rows["trial"].to_pylist()
    counts = [len(found.means.seeds[name]) for name in names]
    rows = rows.append_column("mean/seeds", pa.array(counts, pa.int64()))
    for objective in found.study.objectives:
        values = [by_name[name].metrics[objective] for name in names]
        rows = rows.append_column(f"mean/{objective}", pa.array(values, pa.float64()))
    return rows


def members_text(found: Findings) -> str:
    """Return for example "9 on the joint front", of a grid "9 of 24 systems on the front of …"."""
    seeds = found.means.seeds
    if not seeds:
        return f"{len(found.members)} on the joint front"
    most = found.means.most_seeds
    over = f"means over {most} seeds" if most > 1 else "one seed"
    return f"{len(found.members)} of {len(seeds)} systems on the joint front, by {over}"


def write_figures(found: Findings, out: Path) -> list[Path]:
    """Write the other pictures that the study can have and return their paths."""
    study = found.study
    about = subtitle(found)
    paths = [] if found.grid is None else write_pictures(found.grid, out)
    if found.ended and found.grid is None:
        title = f"{study.name}: hypervolume over the search"
        picture = hypervolume.draw(found.ended, found.share_N, found.courses, title, about)
        paths.append(canvas.save(picture, out / "hypervolume.png"))
        title = f"{study.name}: what was tried, and what came of it"
        turned = f"{about} · cost and qualities turned so that better is up · front in full colour"
        shown = (*found.ended, *found.infeasible)
        picture = parallel.draw(shown, study.objectives, found.member_names, title, turned)
        paths.append(canvas.save(picture, out / "parallel.png"))
    if found.importances.items and found.grid is None:
        picture = importance.draw(
            found.importances,
            f"{study.name}: which parameters decide each objective",
            importance_subtitle(found),
        )
        paths.append(canvas.save(picture, out / "importance.png"))
        paths.append(write_parquet(out / "importance.parquet", to_table(found.importances)))
    if found.votes:
        title = f"{study.name}: do the tasks want the same weights?"
        paths.append(canvas.save(agreement.draw(found.votes, title, about), out / "agreement.png"))
    if found.layers and found.grid is None:
        title = f"{study.name}: where the front keeps its weights"
        paths.append(canvas.save(density.draw(found.layers, title, about), out / "layers.png"))
    for task, contents in found.predictions.items():
        paths.append(canvas.write_png(contents, out / f"predictions-{task}.png"))
    return paths


def front_title(found: Findings) -> str:
    """Return the title of front.png."""
    return f"{found.study.name}: quality against {metric_label(found.study.cost)}"


def subtitle(found: Findings) -> str:
    """Return a line such as "scenes · tiny · 24 complete trials, 9 on the joint front · …"."""
    study = found.study
    facts = [str(study.facts[key]) for key in ("dataset", "preset") if study.facts.get(key)]
    count = len(found.ended)
    facts.append(f"{count} complete {'trial' if count == 1 else 'trials'}, {members_text(found)}")
    return " · ".join([*facts, "validation split"])


def importance_subtitle(found: Findings) -> str:
    """Return "scenes · tiny · PED-ANOVA over 34 trials that ran to the end · …"."""
    facts = [str(found.study.facts[k]) for k in ("dataset", "preset") if found.study.facts.get(k)]
    about = f"PED-ANOVA over {found.importances.num_trials} trials that ran to the end"
    return " · ".join([*facts, about, "validation split"])


def front_subtitle(found: Findings) -> str:
    """Return the `subtitle` with the number of trials stopped early, which are not drawn."""
    num_stopped = len(found.study.with_status("stopped"))
    about = subtitle(found).removesuffix(" split")
    said = [about, *([f"{num_stopped} stopped early"] if num_stopped else [])]
    members = [found.confirmed[t.trial] for t in found.members if t.trial in found.confirmed]
    if seeds := seeds_text(members):
        said.append(f"confirmed at {seeds}")
    return " · ".join(said)


def hover_texts(study: Study, seeds: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, str]:
    """Return by trial what hovering over it shows, as escaped HTML.

    That is its name, its costs, its objectives with test beside val, and its parameters, as far as
    a narrow panel has room for them. seeds: by trial, those that its values are means over.
    """
    params = parallel.varying_params(study.trials)
    bounds = read_bounds(study.facts)
    return {
        trial.trial: _hover(study, trial, params, bounds, len((seeds or {}).get(trial.trial, ())))
        for trial in study.trials
    }


def _hover(
    study: Study, trial: Trial, params: Sequence[str], bounds: Sequence[Bound], num_seeds: int
) -> str:
    lines = canvas.folded(f"{trial.trial} {method_style(trial.method).label}", "<b>{}</b>")
    for name in (*shown_costs(study.cost, [trial]), *study.qualities):
        if name in trial.metrics:
            label = metric_label(name)
            if name in study.qualities:
                label = f"{task_label(report.without_split(name).split('/')[0])}, {label}"
            lines += canvas.folded(
                f"{label}: {admitting(trial.metrics[name], name)}{_test(trial, name)}"
            )
    if trial.status == "infeasible":
        for miss in misses(bounds, trial.metrics):
            lines += canvas.folded(miss, "<b>{}</b>")
    if num_seeds > 1:
        lines.append(f"means of {num_seeds} seeds, named by the first")
    elif trial.seed is not None:
        lines.append(f"seed: {trial.seed}")
    for name in params:
        value = trial.params.get(name)
        if value is not None:
            text = str(value)
            if isinstance(value, float):
                target = name == "sparsity.target"
                text = admitting(value, "cost/sparsity") if target else number(value)
            lines += canvas.folded(f"{name}: {text[:60]}")
    if len(lines) > _HOVER_LINES:
        lines = [*lines[: _HOVER_LINES - 1], "… all are in trials.parquet"]
    return "<br>".join(lines)


def _test(trial: Trial, name: str) -> str:
    value = trial.metrics.get(test_name(name))
    return "" if value is None or name.startswith("cost/") else f" (test {admitting(value, name)})"


def test_name(name: str) -> str:
    """Return the test metric beside a val one. It is shown, but never used to select."""
    return f"test/{report.without_split(name)}"

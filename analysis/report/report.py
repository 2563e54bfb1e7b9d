"""Fill the template `page.html`: the self-contained HTML report of a study.

Plotly is inlined once and nothing is fetched. Jinja2 escapes all text; only what is `Markup` below
goes into the page as it is.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from analysis.labels import better, metric_label, number, task_label
from analysis.plots import canvas, hypervolume, importance, parallel, style
from analysis.plots.fronts import bounds, front, front_page, uncertainty
from analysis.plots.layers import agreement, density
from analysis.plots.systems import curves, forest
from analysis.report.figures import Findings, hover_texts
from analysis.report.sections import confirmed_tables, health, take, trial_tables
from analysis.report.versions import versions
from analysis.statistics.importance import explanation
from analysis.studies.terms import effort_text, further_text, saved_text, terms, trials_text
from analysis.studies.trials import RUNNING, Study, Trial
from analysis.tables.typeset import write_text
from trainables import report
from trainables.terminal.command_line import masked

if TYPE_CHECKING:
    import plotly.graph_objects as go

# The statuses beside `complete`, in the order of the summary.
_COUNTED = {
    "stopped": "stopped early",
    "infeasible": "infeasible",
    "failed": "failed",
    RUNNING: "still running",
}
# What the page explains only where it is drawn, by the name of its traces.
_DRAWN = {
    front.DENSE_LEVEL: "dense",
    front.RANDOM_FRONT: "random",
    bounds.CONSTRAINT: "bound",
    bounds.MISSED: "missed",
    uncertainty.ATTAINED: "attained",
}
_QUOTED = re.compile(r"`([^`]+)`")
_FACTS = ("recipe", "dataset", "preset", "tasks", "seed", "created", "commit", "sampler")


def write_report(found: Findings, out: Path, command: str) -> Path:
    """Write report.html under `out` and return its path.

    command: the command line that makes the report. Raises `UserError` where the folder is not
    writable.
    """
    return write_text(out / "report.html", render(found, command))


def render(found: Findings, command: str) -> str:
    """Render the page as one string. `command` is the command line that makes it."""
    study = found.study
    environment = Environment(
        loader=PackageLoader("analysis.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"with_code": _with_code, "unbroken": _unbroken}
    missed, failures = trial_tables.missed(found), trial_tables.failures(study)
    return environment.get_template("page.html").render(
        study=study,
        found=found,
        data=" ".join(str(study.facts[k]) for k in ("dataset", "preset") if study.facts.get(k)),
        tasks=", ".join(task_label(f.task).lower() for f in found.fronts),
        cost=metric_label(study.cost),
        summary=_summary(found),
        links=_links(found, bool(missed.rows)),
        take=take.view(found),
        nothing=None if found.ended else _nothing(study),
        num_stopped=len(study.with_status("stopped")),
        members=trial_tables.members(found),
        measured=trial_tables.every_metric(found),
        confirmed={
            "state": confirmed_tables.state(found),
            "table": confirmed_tables.curse(found),
            "text": confirmed_tables.curse_text(found),
        },
        health=health.check(found),
        missed=missed,
        failures=failures,
        made=_made(found),
        command=masked(command),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        plotly=Markup(get_plotlyjs()),
        ring=Markup(canvas.ring_svg(style.INK)),
        **_figures(found),
    )


def _with_code(text: str) -> Markup:
    """Escape a text, and set in the type of code what stands between backquotes."""
    return Markup(_QUOTED.sub(r"<code>\1</code>", str(escape(text))))


def _unbroken(text: str) -> str:
    """Return the text with no line broken between a number and its percent sign."""
    return text.replace(" %", "\u00a0%")


def _links(found: Findings, has_missed: bool) -> dict[str, str]:
    """The anchors of the page's sections, with what the links at its top say."""
    of_ended = {
        "parallel": "Choices",
        "members": "Front members",
        "confirmed": "Fresh seeds",
        "hypervolume": "Progress",
        "importance": "Importance",
        "agreement": "Agreement",
        "layers": "Layers",
        "predictions": "Predictions",
    }
    without: tuple[str, ...] = () if found.importances.reason is None else ("importance",)
    first = {"front": "Fronts"}
    if found.grid is not None:
        without = ("parallel", "members", "confirmed", "hypervolume", "importance", "layers")
        first = {"curves": "Curves", "comparisons": "Comparisons"}
    return {
        **({"take": "What to take"} if found.ended and found.grid is None else {}),
        **first,
        **{k: v for k, v in of_ended.items() if found.ended and k not in without},
        "health": "Health",
        **({"missed": "Missed constraints"} if has_missed else {}),
        "failures": "Failures",
        "made": "How it was made",
    }


def _summary(found: Findings) -> list[tuple[object, str]]:
    """The numbers at the top of the page and what they count."""
    study = found.study
    counts = {s: len(study.with_status(s)) for s in (*report.STATUSES, RUNNING)}
    facts: list[tuple[object, str]] = [
        (len(study.trials), "trial" if len(study.trials) == 1 else "trials"),
        (counts["complete"], "complete"),
        *((counts[status], word) for status, word in _COUNTED.items() if counts[status]),
        *(_front_facts(found) if found.grid is None else []),
        (len({trial.method for trial in found.ended}), "methods compared"),
    ]
    if found.grid is not None:
        facts.append((found.grid.num_seeds, "seeds at most"))
    elif len(found.share_N):
        facts.append((f"{found.share_N[-1]:.3f}", "hypervolume (0 to 1)"))
    if found.epochs is not None and counts["stopped"]:
        facts.append((saved_text(found.epochs), "epochs saved by stopping early"))
    return facts


def _front_facts(found: Findings) -> list[tuple[object, str]]:
    """How many are on the front, and which front that is where there are two."""
    fresh = found.fresh_front
    if not fresh:
        return [(len(found.members), "on the joint front")]
    return [
        (len(found.members), "on the search's front"),
        (len(fresh), "on the front by fresh seeds"),
    ]


def _nothing(study: Study) -> str:
    """Why there is no front."""
    if not study.trials:
        return "The study has no trials yet."
    complete = len(study.with_status("complete"))
    if complete:
        return (
            f"None of the {complete} complete trials has finite values for all objectives; "
            "see Failures."
        )
    counts = {word: len(study.with_status(s)) for s, word in _COUNTED.items()}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"None of the {trials_text(len(study.trials))} is complete: {said}."


def _figures(found: Findings) -> dict[str, Any]:
    """The interactive figures, as far as the study has what they show."""
    hover = hover_texts(found.means.study, found.means.seeds)
    fronts = found.fronts if (found.ended or found.infeasible) and found.grid is None else ()
    legend = front_page.legend(fronts) if fronts else []
    figures: dict[str, Any] = {
        "fronts": {
            "panels": [
                _markup(front_page.interactive(f, found.member_names, hover)) for f in fronts
            ],
            "columns": front.grid(len(found.fronts))[1],
            "legend": _legend(legend),
            "drawn": {_DRAWN[name] for name, _ in legend if name in _DRAWN},
        },
        "agreement": [_markup(panel) for panel in agreement.interactive(found.votes)],
        "agreement_width": agreement.page_width(found.votes),
        "layers": _markup(density.interactive(found.layers)) if found.layers else None,
        "layers_width": density.page_width(found.layers),
        "predictions": [
            (task_label(task), _embedded(contents)) for task, contents in found.predictions.items()
        ],
    }
    if found.grid is not None:
        rows = found.grid.rows
        by_measure = [[r for r in rows if r.measure == m] for m in forest.measures(rows)]
        figures["curves"] = [_markup(curves.interactive(one)) for one in found.grid.curves]
        figures["curves_legend"] = _legend(curves.legend(found.grid.curves))
        figures["forests"] = [_markup(forest.interactive(one)) for one in by_measure]
    if not found.ended or found.grid is not None:
        return figures
    lines = (*found.ended, *found.infeasible)
    told = found.importances
    num_stopped = len(found.study.with_status("stopped"))
    return figures | {
        "progress": {
            "figure": _markup(
                hypervolume.interactive(found.ended, found.share_N, found.courses, hover)
            ),
            "num_courses": len(found.courses),
            "legend": _legend(hypervolume.legend(found.ended, found.share_N)),
            "effort": "" if found.epochs is None else effort_text(found.epochs, num_stopped),
            "further": further_text(found.study.facts),
        },
        "choices": _markup(parallel.interactive(lines, found.study.objectives)),
        "choices_width": parallel.page_width(lines, found.study.objectives),
        "importance": {
            "text": explanation(told),
            "figure": _markup(importance.interactive(told)),
            "width": importance.page_width(told),
            "legend": _legend(importance.legend()),
        }
        if told.reason is None
        else None,
    }


def _markup(figure: "go.Figure") -> Markup:
    """The figure as part of a page that has Plotly already; as wide as its place."""
    return Markup(
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            default_width="100%",
            config=canvas.PAGE_CONFIG,
        )
    )


def _embedded(contents: bytes) -> str:
    """A PNG as the address of an image, which holds it."""
    return "data:image/png;base64," + base64.b64encode(contents).decode()


def _legend(entries: Iterable[tuple[str, str]]) -> list[tuple[str, Markup]]:
    """Names of traces and their look as SVG, which is ours and goes in as it is."""
    return [(name, Markup(look)) for name, look in entries]


def _made(found: Findings) -> list[tuple[str, str]]:
    """The facts of the study, for whoever wants to repeat it."""
    study = found.study
    server = masked(study.tracking_uri or "none")
    source = f"{server}, run {study.parent_run_id}" if study.source == "mlflow" else "its folder"
    items = [
        ("study", study.name),
        *((key, _plain(study.facts[key])) for key in _FACTS if study.facts.get(key) is not None),
        *((key, masked(said)) for key, said in terms(study.facts)),
        ("objectives", ", ".join(f"{n} ({better(n)})" for n in study.objectives)),
        ("trials' seeds", _seeds(study.trials)),
        *([("fresh seeds", _seeds(study.confirmations))] if study.confirmations else []),
        ("read from", source),
        ("MLflow", server),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]
    if found.normalisation is not None:
        scale = found.normalisation.to_dict(study.objectives)
        items.append(("hypervolume scale", "; ".join(_scale(n, v) for n, v in scale.items())))
    return items


def _plain(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return masked(text)


def _seeds(trials: Sequence[Trial]) -> str:
    seeds = sorted({t.seed for t in trials if t.seed is not None})
    if len(seeds) > 12:
        return f"{len(seeds)} seeds, {seeds[0]} to {seeds[-1]}; each is in trials.parquet"
    return ", ".join(map(str, seeds)) or "not recorded"


def _scale(name: str, bounds: Mapping[str, float]) -> str:
    sign = report.describe(name).sign
    best, worst = sign * bounds["ideal"], sign * bounds["nadir"]
    return f"{name} {number(best)} (best) to {number(worst)} (worst)"

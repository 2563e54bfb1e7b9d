"""The self-contained HTML report of a study: Plotly inlined once, nothing fetched."""

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plotly.offline import get_plotlyjs

from analysis.labels import better, metric_label, number, task_label, unit_label
from analysis.methods import method_style
from analysis.plots import (
    agreement,
    canvas,
    front,
    hypervolume,
    importance,
    layers,
    parallel,
    style,
)
from analysis.report import page
from analysis.report.figures import Findings, hover_texts, test_name
from analysis.report.versions import versions
from analysis.statistics.fronts import ineligible_reason
from analysis.statistics.importance import SUMMARY, explanation
from analysis.studies.constraints import misses
from analysis.studies.masks import failure_reason
from analysis.studies.terms import effort_text, saved_text, terms, trials_text
from analysis.studies.trials import RUNNING, Study, Trial
from trainables import report
from trainables.command_line import masked
from trainables.errors import UserError

if TYPE_CHECKING:
    import plotly.graph_objects as go


def write_report(found: Findings, out: Path, command: str) -> Path:
    """report.html under `out`; `command` is the line that made it."""
    path = out / "report.html"
    partial = path.with_name(".report.html.partial")
    try:
        out.mkdir(parents=True, exist_ok=True)
        partial.write_text(render(found, command), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; name another folder by --out"
        ) from None
    return path


def render(found: Findings, command: str) -> str:
    """The page as text."""
    sections = [("front", "Fronts", _front(found))]
    if found.ended:
        sections += [
            ("members", "Front members", _members(found)),
            ("hypervolume", "Progress", _hypervolume(found)),
            ("parallel", "Choices", _parallel(found)),
            ("importance", "Importance", _importance(found)),
            ("agreement", "Agreement", _agreement(found)),
            ("layers", "Layers", _layers(found)),
        ]
    if found.study.with_status("infeasible"):
        sections.append(("missed", "Missed constraints", _missed(found)))
    sections.append(("failures", "Failures", _failures(found.study)))
    sections.append(("made", "How it was made", _made(found, command)))
    links = " ".join(f'<a href="#{anchor}">{label}</a>' for anchor, label, _ in sections)
    body = "".join(text for _, _, text in sections)
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    body += f"<footer>Written {stamp}. This page is complete in itself and loads nothing.</footer>"
    title = f"{found.study.name}: sparsity study"
    return page.document(title, _header(found, links), body, get_plotlyjs())


def _header(found: Findings, links: str) -> str:
    study = found.study
    tasks = ", ".join(task_label(f.task).lower() for f in found.fronts)
    data = " ".join(str(study.facts[k]) for k in ("dataset", "preset") if study.facts.get(k))
    lead = f"Which sparse models nobody should ignore{' on ' + data if data else ''}: {tasks}."
    counts = {s: len(study.with_status(s)) for s in (*report.STATUSES, RUNNING)}
    facts = [page.fact(len(study.trials), "trials"), page.fact(counts["complete"], "complete")]
    facts += [page.fact(counts[s], word) for s, word in _COUNTED.items() if counts[s]]
    facts.append(page.fact(len(found.members), "on the joint front"))
    facts.append(page.fact(len({t.method for t in found.ended}), "methods compared"))
    if len(found.share_N):
        facts.append(page.fact(f"{found.share_N[-1]:.3f}", "hypervolume (0 to 1)"))
    if found.epochs is not None and counts["stopped"]:
        facts.append(page.fact(saved_text(found.epochs), "epochs saved by stopping early"))
    notes = "".join(page.note(text) for text in study.notes)
    return (
        f"<h1>{html.escape(study.name)}</h1><p class='lead'>{html.escape(lead)}</p>"
        f"<div class='facts'>{''.join(facts)}</div>{notes}<nav>{links}</nav>"
    )


def _figure(figure: "go.Figure", min_width_pixels: int = 640) -> str:
    """The figure's markup; a window narrower than `min_width_pixels` scrolls it sideways,
    with 0 the figure becomes as narrow as its place."""
    markup = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        default_width="100%",
        config={
            "displaylogo": False,
            "showSendToCloud": False,  # no button that gives the study away
            "responsive": True,
            "modeBarButtonsToRemove": [
                "select2d",
                "lasso2d",
                "zoomIn2d",
                "zoomOut2d",
                "autoScale2d",
            ],
        },
    )
    if not min_width_pixels:
        return f"{markup}\n"
    return f'<div class="scroll"><div style="min-width:{min_width_pixels}px">{markup}</div></div>\n'


def _front(found: Findings) -> str:
    cost = metric_label(found.study.cost)
    text = (
        f"Every dot is one trained model that ran to the end: what it costs ({cost}, further left "
        "is cheaper) against how well it does one task on the validation split. The staircase is "
        "the best quality anyone attained at that cost or less; models on it are non-dominated "
        "for that task. Outlined dots are on the joint front: no other trial is at least as good "
        "in every task and the cost, and better in one. The dashed line is the dense model, the "
        "dotted staircase is what random masks alone attain. Hover for a trial's parameters, click "
        "a name in the legend to hide or show it."
    )
    num_stopped = len(found.study.with_status("stopped"))
    if num_stopped:
        are = "is" if num_stopped == 1 else "are"
        text += (
            f" The {trials_text(num_stopped)} stopped early {are} not drawn: the values of less "
            "training compare with none of these."
        )
    if found.bounds:
        asked = html.escape("; ".join(bound.text for bound in found.bounds))
        text += (
            f"</p><p class='quiet'>The study asks for {asked}. A red line is such a "
            "bound on an axis, its forbidden side shaded; hollow grey marks are models that ran to "
            "the end and missed a bound, and are on no front."
        )
    if not (found.ended or found.infeasible):
        return page.section("front", "Quality against cost", "", _nothing(found.study))
    hover = hover_texts(found.study)
    figures = [front.interactive(f, found.member_names, hover) for f in found.fronts]
    panels = [_figure(figure, 0) for figure in figures]
    content = page.panels(panels, front.grid(len(panels))[1])
    content += page.legend(
        front.legend(found.fronts), f"{canvas.ring_svg(style.INK)}on the joint front"
    )
    if not found.ended:
        content = _nothing(found.study) + content
    return page.section("front", "Quality against cost", text, content)


def _nothing(study: Study) -> str:
    if not study.trials:
        return page.note("The study has no trials yet.")
    complete = len(study.with_status("complete"))
    if complete:
        return page.note(
            f"None of the {complete} complete trials has finite values for all objectives; "
            "see Failures."
        )
    counts = {word: len(study.with_status(s)) for s, word in _COUNTED.items()}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return page.note(f"None of the {trials_text(len(study.trials))} is complete: {said}.")


def _members(found: Findings) -> str:
    study = found.study
    text = (
        "The joint front over all tasks and the cost, cheapest first. Members were chosen by their "
        "<b>val</b> values alone, and the best of many is partly the luckiest: expect the "
        "<i>test</i> values beside them to be a little worse. Test played no part in the choice."
    )
    heads = [("trial", "text"), ("method", "text"), (_head(study.cost), "")]
    for name in study.qualities:
        heads += [(_head(name), "wide"), ("test", "test")]
    heads.append(("seed", ""))
    rows = []
    for trial in found.members:
        look = method_style(trial.method)
        row = [html.escape(trial.trial), page.swatch(look.colour, look.label)]
        row.append(number(trial.metrics[study.cost], study.cost))
        for name in study.qualities:
            test = trial.metrics.get(test_name(name))
            row += [_digits(trial.metrics[name]), "–" if test is None else _digits(test)]
        rows.append([*row, "–" if trial.seed is None else str(trial.seed)])
    return page.section("members", "Members of the joint front", text, page.table(heads, rows))


def _head(name: str) -> str:
    arrow = "↑" if report.describe(name).direction == "maximize" else "↓"
    label = html.escape(metric_label(name))
    if name.startswith("cost/"):
        return f"{label} {arrow}"
    task = task_label(report.without_split(name).partition("/")[0])
    unit = unit_label(name)
    measured = f"{label} ({unit})" if unit == "°" else label
    return f"{html.escape(task)}<br>{measured}\u00a0{arrow}<br>val"


def _digits(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _hypervolume(found: Findings) -> str:
    text = (
        "One number for how good the whole front is: the share of the box between the best values "
        "seen and a reference point that some trial dominates. Each objective is scaled by its "
        "best and worst value on the final front; the reference point lies 10 % beyond the worst. "
        "A long flat end means that more trials found little; markers are trials that improved it. "
        "Compare the number only within this study: its scale is the study's own."
    )
    if found.epochs is not None:
        text += f" {effort_text(found.epochs, len(found.study.with_status('stopped')))}"
    if found.courses[1:]:
        text += " Time is that of the clock, with all pauses of the study."
    hover = hover_texts(found.study)
    panels = [
        _figure(hypervolume.interactive(found.ended, found.share_N, course, hover), 0)
        for course in found.courses
    ]
    content = page.panels(panels, len(panels))
    content += page.legend(hypervolume.legend(found.ended, found.share_N), "")
    return page.section("hypervolume", "Progress of the search", text, content)


def _parallel(found: Findings) -> str:
    text = (
        "Every line is one trial that ran to the end, from the choices that differed between "
        "trials (left) to its cost and its quality on each task (right; turned so that up is "
        "better). Drag along an axis to keep only the lines through that range, drag an axis's "
        "name to move it."
    )
    shown = (*found.ended, *found.infeasible)
    content = _figure(parallel.interactive(shown, found.study.objectives), 900)
    return page.section("parallel", "Choices and outcomes", text, content)


def _importance(found: Findings) -> str:
    title, found_here = "Which parameters decide", found.importances
    if found_here.reason is not None:
        return page.section("importance", title, SUMMARY, page.note(found_here.reason))
    content = _figure(importance.interactive(found_here), 900)
    content += page.legend(importance.legend(), "lines: ± one standard deviation")
    return page.section("importance", title, explanation(found_here), content)


def _agreement(found: Findings) -> str:
    title = "Do the tasks want the same weights?"
    text = (
        "DiSparse asks every task alone which of the shared weights it would keep. Each line is "
        "one trial and gives, layer by layer, how far the answers overlap (intersection over "
        "union: 1 is full agreement, 0 none), coloured by the density of the whole model. "
        "Where the lines fall away the tasks part company, which is where sharing begins to cost."
    )
    if not found.votes:
        tried = any(t.method.startswith("disparse") for t in found.study.trials)
        why = (
            "No DiSparse trial of this study left a record of its tasks' votes."
            if tried
            else "The study has no DiSparse trial, and other methods take no vote among tasks."
        )
        return page.section("agreement", title, text, page.note(why))
    return page.section("agreement", title, text, _figure(agreement.interactive(found.votes)))


def _layers(found: Findings) -> str:
    text = (
        "How much of every layer the sparse members of the front kept, one row each, sparsest at "
        "the top; bright layers were kept nearly whole. First come the layers that all tasks "
        "share, then each task's own."
    )
    if not found.layers:
        why = page.note("No sparse member of the front left a record of its layers.")
        return page.section("layers", "Density by layer", text, why)
    content = _figure(layers.interactive(found.layers))
    return page.section("layers", "Density by layer", text, content)


def _missed(found: Findings) -> str:
    study = found.study
    text = (
        "Trials that ran to the end with values of their own and missed a constraint of the study. "
        "They are no members of any front, and no failures: the search learns from them where not "
        "to look."
    )
    heads = [("trial", "text"), ("method", "text")]
    heads += [
        (_head(name), "wide" if name in study.qualities else "") for name in _cost_first(study)
    ]
    heads.append(("missed", "text wrap"))
    rows = []
    for trial in study.with_status("infeasible"):
        look = method_style(trial.method)
        row = [html.escape(trial.trial), page.swatch(look.colour, look.label)]
        for name in _cost_first(study):
            value = trial.metrics.get(name)
            shown = number if name == study.cost else lambda v, _: _digits(v)
            row.append("–" if value is None else shown(value, name))
        said = "; ".join(misses(found.bounds, trial.metrics)) or failure_reason(study, trial)
        rows.append([*row, html.escape(said)])
    return page.section("missed", "Missed constraints", text, page.table(heads, rows))


def _cost_first(study: Study) -> tuple[str, ...]:
    return (study.cost, *study.qualities)


def _failures(study: Study) -> str:
    text = (
        "Trials that cannot be compared, with the reason on record. They are part of the result: a "
        "setting that diverges or runs out of memory is one to avoid. Trials that the scheduler "
        "stopped early are no failures and not listed."
    )
    listed: list[tuple[Trial, str]] = []
    for trial in study.trials:
        reason = ineligible_reason(trial, study.objectives)
        if trial.status == "failed":
            reason = failure_reason(study, trial)
        if reason is not None:
            listed.append((trial, reason))
    if not listed:
        return page.section("failures", "Failed trials", text, "<p>None failed.</p>")
    heads = [("trial", "text"), ("method", "text"), ("status", "text"), ("trained", "")]
    heads.append(("reason", "text wrap"))
    rows = []
    for trial, reason in listed:
        look = method_style(trial.method)
        reached = f"{100 * trial.fraction:.0f} %" if trial.fraction == trial.fraction else "–"
        rows.append(
            [
                html.escape(trial.trial),
                page.swatch(look.colour, look.label),
                trial.status,
                reached,
                html.escape(reason),
            ]
        )
    return page.section("failures", "Failed trials", text, page.table(heads, rows))


def _made(found: Findings, command: str) -> str:
    study = found.study
    source = (
        f"MLflow at {masked(study.tracking_uri or '')}"
        if study.source == "mlflow"
        else "trials.parquet"
    )
    items: list[tuple[str, object]] = [
        ("study", study.name),
        *((key, _plain(study.facts[key])) for key in _FACTS if study.facts.get(key) is not None),
        *((key, masked(said)) for key, said in terms(study.facts)),
        ("objectives", ", ".join(f"{n} ({better(n)})" for n in study.objectives)),
        ("trials' seeds", _seeds(study.trials)),
        ("read from", source),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]
    if found.normalisation is not None:
        scale = found.normalisation.to_dict(study.objectives)
        items.append(("hypervolume scale", "; ".join(_scale(n, v) for n, v in scale.items())))
    content = f"<pre>{html.escape(masked(command))}</pre>{page.definitions(items)}"
    text = "This page was written by the command below; run it again to bring it up to date."
    return page.section("made", "How it was made", text, content)


# Beside complete ones; in the order of the summary.
_COUNTED = {
    "stopped": "stopped early",
    "infeasible": "infeasible",
    "failed": "failed",
    RUNNING: "still running",
}
_FACTS = ("recipe", "dataset", "preset", "tasks", "seed", "created", "command", "sampler")


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

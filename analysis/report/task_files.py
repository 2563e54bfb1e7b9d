"""Write each task's front as files of its own: fronts/TASK.png, .html and .csv.

The page is interactive and complete in itself (it holds Plotly, 5 MB), so that it opens wherever
the file goes. The table has a row for each trial that the picture shows.
"""

import html
from pathlib import Path

import pyarrow as pa

from analysis.labels import metric_label, task_label
from analysis.plots import canvas
from analysis.plots.fronts import front, front_page
from analysis.report.figures import Findings, front_subtitle, hover_texts
from analysis.statistics.fronts import TaskFront
from analysis.statistics.uncertainty.confirmed import ties
from analysis.tables.typeset import write_csv, write_text
from trainables import report

FOLDER = "fronts"


def write(found: Findings, out: Path, suffix: str = "") -> list[Path]:
    """Write the files under `out` and return their paths; none before a trial ran to its end.

    suffix: put behind the files' names. Raises `UserError` where the folder is not writable.
    """
    if not (found.ended or found.infeasible):
        return []
    hover, about = hover_texts(found.means.study, found.means.seeds), front_subtitle(found)
    paths = []
    for shown in found.fronts:
        stem = f"{shown.task}{suffix}"
        title = _title(found, shown)
        picture = front.draw([shown], found.member_names, title, about)
        if shown.attainment:
            paths.append(write_csv(out / FOLDER / f"{stem}-attainment.csv", surfaces(shown)))
        paths += [
            canvas.save(picture, out / FOLDER / f"{stem}.png"),
            write_text(out / FOLDER / f"{stem}.html", _page(found, shown, hover, title, about)),
            write_csv(out / FOLDER / f"{stem}.csv", rows(found, shown)),
        ]
    return paths


def rows(found: Findings, shown: TaskFront) -> pa.Table:
    """Return the trials of the picture, cheapest first, with the task's metrics and all costs.

    on_front: on this task's front; on_joint_front: on that of all tasks and the cost. Where trials
    were confirmed: the mean at fresh seeds with its interval, and the members of this task's front
    that this task cannot tell apart from it.
    """
    trials = sorted(
        (*shown.trials, *shown.infeasible), key=lambda t: (t.metrics[shown.cost], t.number)
    )
    members = {trial.trial for trial in shown.front}
    columns: dict[str, list[object]] = {
        "trial": [t.trial for t in trials],
        "method": [t.method for t in trials],
        "seed": [t.seed for t in trials],
        "status": [t.status for t in trials],
        "on_front": [t.trial in members for t in trials],
        "on_joint_front": [t.trial in found.member_names for t in trials],
    }
    if found.means.seeds:  # values are means over so many seeds, `seed` is the first
        columns["num_seeds"] = [len(found.means.seeds.get(t.trial, ())) or 1 for t in trials]
    names = [name for name in report.METRICS if name.startswith("cost/")]
    of_task = report.task_metrics(shown.task)
    names += [f"{split}/{name}" for split in report.SPLITS for name in of_task]
    for name in names:
        values = [t.metrics.get(name) for t in trials]
        if any(value is not None for value in values):
            columns[name] = list(values)
    if shown.confirmed:
        known = {one.trial.trial: one for one in shown.confirmed}
        ones = [known.get(t.trial) for t in trials]
        tied = ties(shown.front, known, [shown.quality])
        intervals = [one and one.interval(shown.quality) for one in ones]
        columns |= {
            "fresh_seeds": [one and len(one.runs) for one in ones],
            "fresh_mean": [one and one.mean(shown.quality) for one in ones],
            "fresh_low": [interval and interval.low for interval in intervals],
            "fresh_high": [interval and interval.high for interval in intervals],
            "tied_with": [" ".join(map(str, tied.get(t.trial, ()))) for t in trials],
        }
    return pa.table(columns)


def surfaces(shown: TaskFront) -> pa.Table:
    """Return the corners of the attainment surfaces, in the metrics' own directions."""
    corners = [
        (percent, cost, quality)
        for percent, surface in shown.attainment.items()
        for cost, quality in zip(*surface, strict=True)
    ]
    names = ("percent_of_seeds", shown.cost, shown.quality)
    return pa.table(dict(zip(names, map(list, zip(*corners, strict=True)), strict=True)))


def _title(found: Findings, shown: TaskFront) -> str:
    """Return for example "demo: depth against density"."""
    task = task_label(shown.task)
    return f"{found.study.name}: {task.lower()} against {metric_label(found.study.cost)}"


def _page(found: Findings, shown: TaskFront, hover: dict[str, str], title: str, about: str) -> str:
    """Return the interactive figure as a whole HTML page."""
    figure = front_page.interactive(shown, found.member_names, hover)
    below = f"{html.escape(about)} · outlined: on the joint front"
    text = f"<b>{html.escape(title)}</b><br><span style='font-size:13px'>{below}</span>"
    figure.update_layout(
        title={"text": text, "font": {"size": 17}, "y": 0.94, "yanchor": "top"},
        height=620,
        showlegend=True,
        margin={"l": 70, "r": 24, "t": 96, "b": 60},
    )
    seen: set[str] = set()
    for trace in figure.data:
        trace.showlegend = trace.name not in seen
        seen.add(trace.name)
    return str(figure.to_html(include_plotlyjs=True, config=canvas.PAGE_CONFIG))

"""Write the files of several studies on one front: a picture, a page and a table."""

import html
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.labels import metric_label
from analysis.plots import canvas
from analysis.plots.fronts import several
from analysis.statistics.several import Several
from analysis.tables.typeset import write_csv, write_text


def write(found: Several, out: Path, suffix: str = "") -> list[Path]:
    """Write front-A-B.png, .html and .csv under `out` and return their paths.

    suffix: put behind the files' names. Raises `UserError` where the folder is not writable.
    """
    stem = "-".join(["front", *found.studies])[:120] + suffix
    title = f"{', '.join(found.studies)}: quality against {metric_label(found.cost)}"
    picture = several.draw(found, title, subtitle(found))
    page = several.interactive(found, f"<b>{html.escape(title)}</b><br>{subtitle(found)}")
    contents = page.to_html(include_plotlyjs=True, config=canvas.PAGE_CONFIG)
    return [
        canvas.save(picture, out / f"{stem}.png"),
        write_text(out / f"{stem}.html", str(contents)),
        write_csv(out / f"{stem}.csv", rows(found)),
    ]


def subtitle(found: Several) -> str:
    """Return what the axes show and how many trials there are."""
    about = "relative to each study's dense model" if found.aligned else "as measured"
    return (
        f"{len(found.placed)} complete trials, {len(found.members)} on the joint front · {about} · "
        "validation split"
    )


def rows(found: Several) -> pa.Table:
    """Return one row per trial: its metrics as measured, and `aligned/NAME` where they are."""
    members = {one.trial.trial for one in found.members}
    columns: dict[str, list[Any]] = {
        "study": [one.study for one in found.placed],
        "trial": [one.trial.trial for one in found.placed],
        "method": [one.trial.method for one in found.placed],
        "seed": [one.trial.seed for one in found.placed],
        "on_joint_front": [one.trial.trial in members for one in found.placed],
    }
    for name in (found.cost, *found.qualities):
        columns[name] = [one.trial.metrics[name] for one in found.placed]
    for name in found.qualities if found.aligned else ():
        columns[f"aligned/{name}"] = [one.values[name] for one in found.placed]
    return pa.table(columns)


def to_json(found: Several) -> dict[str, Any]:
    """Return what the answer of `front A B` says of the studies."""
    return {
        "studies": list(found.studies),
        "objectives": [*found.qualities, found.cost],
        "aligned": found.aligned,
        "dense": {name: dict(levels) for name, levels in found.dense.items()},
        "trials": len(found.placed),
        "front": [
            {"study": one.study, "trial": one.trial.trial, "method": one.trial.method}
            | {"seed": one.trial.seed, "metrics": dict(one.trial.metrics)}
            for one in found.members
        ],
    }

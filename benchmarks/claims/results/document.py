"""docs/claims.md and the README's table, from docs/claims.json alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.labels import layer_label, metric_label, task_label, unit_label
from analysis.methods import method_style
from analysis.studies.systems_by_seed import percent
from analysis.tables.typeset import markdown_rows
from benchmarks.claims.results import prose, protocol_table
from benchmarks.claims.results.prose import number, quantity
from trainables.errors import UserError
from trainables.report import PRIMARY_METRICS, describe

BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"


def render(found: Mapping[str, Any], *, pictured: bool) -> str:
    """The document. `pictured`: whether images/claims.png shows anything."""
    settings = found["settings"]
    parts = [
        "# Do the claims of DiSparse hold here?",
        prose.QUESTION,
        f"{_legend(found)}",
        "## Summary",
        _summary(settings),
    ]
    if pictured:
        parts.append(
            "![Delta_T between the two systems of every claim, with its interval]"
            "(images/claims.png)"
        )
    parts += ["## Protocol", prose.protocol(found), _protocol_table(settings)]
    for setting in settings:
        parts += _results(setting)
    parts += ["## What this shows, and what it does not", prose.limits(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def readme_table(found: Mapping[str, Any]) -> str:
    """One row per claim, both sparsities in one; one column per setting that was judged."""
    settings = [s for s in found["settings"] if _judged(s)]
    if not settings:
        return ""
    rows: dict[tuple[str, str], dict[str, list[tuple[float, str]]]] = {}
    for setting in settings:
        for claim in (*setting["pairs"], *setting["watersheds"]):
            key = (claim["method"], claim.get("reference", ""))
            judged = rows.setdefault(key, {}).setdefault(setting["name"], [])
            judged.append((claim["sparsity"], claim["verdict"]))
    head = ["claim", "sparsity", *(s["title"] for s in settings)]
    lines: list[Sequence[str]] = []
    for (method, reference), cells in rows.items():
        shown = [" / ".join(verdict for _, verdict in cells[s["name"]]) for s in settings]
        sparsities = " / ".join(percent(value) for value, _ in cells[settings[0]["name"]])
        lines.append([_claim(method, reference), sparsities, *shown])
    return markdown_rows(head, lines)


def readme_section(found: Mapping[str, Any]) -> str:
    """What stands between the README's markers, markers included."""
    missing = [s["title"] for s in found["settings"] if not _judged(s)]
    parts = [prose.README_LEAD, readme_table(found)]
    if missing:
        parts.append(f"Not run yet: {'; '.join(missing)}.")
    return "\n".join([BEGIN, "\n\n".join(part for part in parts if part), END])


def write_readme(path: Path, found: Mapping[str, Any]) -> None:
    """Replace what stands between the markers. Raises `UserError` where there are none."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{path} must hold the markers {BEGIN} and {END}, in this order; add them")
    path.write_text(before + readme_section(found) + after, encoding="utf-8")


def _judged(setting: Mapping[str, Any]) -> bool:
    return any(c["verdict"] != "not run" for c in (*setting["pairs"], *setting["watersheds"]))


def _legend(found: Mapping[str, Any]) -> str:
    level = percent(found["interval_level"])
    margin = quantity(found["lossless_margin_percent"])
    return (
        f"*Δ_T* is the mean relative improvement over the tasks' metrics, in percent, of the first "
        f"system over the second, on the test split, for one seed; the effect is its mean over "
        f"seeds, in brackets the {level} Student t interval, n the number of pairs. A comparison "
        f"**holds** where the whole interval lies above 0, **does not hold** where all of it lies "
        f"below, else it is **undecided**. A sparse model is lossless where the whole interval "
        f"lies above −{margin} %, and not where all of it lies below. The watershed's effect is "
        f"Spearman's correlation of agreement with the layer's position; it holds where the whole "
        f"interval lies below 0. Beside it, deciding nothing, stands the same correlation of "
        f"agreement beyond chance: random votes, too, agree less where fewer weights are kept."
    )


def _summary(settings: Sequence[Mapping[str, Any]]) -> str:
    head = ["claim", "sparsity", *(s["title"] for s in settings)]
    lines: list[Sequence[str]] = []
    first = settings[0]
    for index, claim in enumerate(first["pairs"]):
        cells = [_pair_cell(s["pairs"][index]) for s in settings]
        name = _claim(claim["method"], claim["reference"])
        lines.append([name, percent(claim["sparsity"]), *cells])
    for index, claim in enumerate(first["watersheds"]):
        cells = [_watershed_cell(s["watersheds"][index]) for s in settings]
        lines.append([_claim(claim["method"], ""), percent(claim["sparsity"]), *cells])
    return markdown_rows(head, lines)


def _pair_cell(claim: Mapping[str, Any]) -> str:
    if claim["delta"] is None:
        return claim["verdict"]
    return f"**{claim['verdict']}**: {_effect(claim['delta'])} %, n = {claim['pairs']}"


def _watershed_cell(claim: Mapping[str, Any]) -> str:
    if claim["mean"] is None:
        return str(claim["verdict"])
    beyond = claim["beyond_chance"]
    text = f"**{claim['verdict']}**: ρ = {_effect(claim)}, n = {claim['seeds']}"
    if beyond is None or beyond["mean"] is None:
        return text
    return f"{text}; beyond chance {_effect(beyond)}"


def _claim(method: str, reference: str) -> str:
    label = method_style(method).label
    if not reference:
        return f"agreement falls with depth ({label})"
    if reference == "dense":
        return f"{label} is lossless"
    return f"{label} ≥ {method_style(reference).label}"


def _protocol_table(settings: Sequence[Mapping[str, Any]]) -> str:
    head = ["", *(s["title"] for s in settings)]
    lines: list[Sequence[str]] = []
    for label, value in protocol_table.ROWS:
        lines.append([label, *(value(s) for s in settings)])
    return markdown_rows(head, lines)


def _results(setting: Mapping[str, Any]) -> list[str]:
    parts = [f"## Results: {setting['title']}"]
    final, tuning = setting["final"], setting["tuning"]
    if final is None or final["finished_trials"] < final["expected_trials"]:
        parts.append(prose.not_run(setting))
    if setting["systems"]:
        parts += [
            "### Systems",
            "Mean ± standard deviation over seeds, test split; Δ_T here is to the dense model of "
            "the same seed.",
            _systems(setting),
            prose.left_out(setting),
            "### Comparisons",
            prose.significance(setting),
            _pairs(setting),
            *prose.beside_comparisons(setting),
            "### By task",
            "The same pairs on each task's primary metric: mean difference in its unit, positive "
            "is better for the first system, with interval.",
            _by_task(setting),
            *_watershed(setting),
        ]
    if setting["variants"]:
        parts += ["### Chosen settings", prose.tuning_lead(setting), _variants(setting)]
    studies = [study for study in (tuning, final) if study is not None]
    if studies:
        parts += ["### Runs", *(prose.study(study) for study in studies)]
    return parts


def _systems(setting: Mapping[str, Any]) -> str:
    tasks = setting["tasks"]
    head = ["system", "sparsity", "n", *(_metric(task) for task in tasks), "Δ_T (%)"]
    head.append("training FLOPs")
    lines: list[Sequence[str]] = []
    for row in setting["systems"]:
        flops = row["train_flops_fraction"]
        cells = [method_style(row["system"]).label]
        cells.append("–" if row["sparsity"] is None else percent(row["sparsity"]))
        cells.append(str(row["seeds"]))
        cells += [_spread(row["test"][task], _digits(task)) for task in tasks]
        delta = row["delta_to_dense"]
        cells.append("–" if delta is None else _spread(delta, 2, signed=True))
        cells.append("–" if flops is None else f"{flops:.2f}")
        lines.append(cells)
    return markdown_rows(head, lines)


def _pairs(setting: Mapping[str, Any]) -> str:
    head = ["claim", "sparsity", "verdict", "Δ_T (%)", "n", "g_z", "p", "p (Holm)", "note"]
    lines: list[Sequence[str]] = []
    for claim in setting["pairs"]:
        delta = claim["delta"]
        cells = [_claim(claim["method"], claim["reference"]), percent(claim["sparsity"])]
        cells.append(claim["verdict"])
        if delta is None:
            cells += ["–"] * 5
        else:
            cells += [_effect(delta), str(claim["pairs"]), number(delta["effect"], 2)]
            cells += [number(delta["p"], 3), number(claim["p_adjusted"], 3)]
        lines.append([*cells, claim["note"]])
    return markdown_rows(head, lines)


def _by_task(setting: Mapping[str, Any]) -> str:
    tasks = setting["tasks"]
    head = ["claim", "sparsity", *(_metric(task, arrow=False) for task in tasks)]
    lines: list[Sequence[str]] = []
    for claim in setting["pairs"]:
        if claim["tasks"]:
            cells = [_claim(claim["method"], claim["reference"]), percent(claim["sparsity"])]
            cells += [_effect(claim["tasks"][task], _digits(task)) for task in tasks]
            lines.append(cells)
    return markdown_rows(head, lines)


def _watershed(setting: Mapping[str, Any]) -> Iterable[str]:
    measured = [w for w in setting["watersheds"] if w["mean"] is not None]
    if not measured:
        return
    yield "### Agreement among tasks by layer"
    yield (
        "Intersection over union of the tasks' own keeps on the shared layers, mean over seeds, "
        "from the image to the heads (shortcuts left out)."
    )
    yield prose.CHANCE
    for claim in measured:
        chance = claim["chance"]
        each = ", ".join(number(v, 2) for v in claim["correlations"].values())
        label = f"{method_style(claim['method']).label}, {percent(claim['sparsity'])}"
        yield (
            f"{label}: {claim['verdict']}, Spearman's ρ {_effect(claim)}, n = {claim['seeds']} "
            f"(by seed {each}).{_beyond_chance(claim['beyond_chance'])}"
        )
        rows = [
            [
                layer_label(name),
                number(value, 3),
                number(chance.get(name), 3),
                number(value - chance[name] if name in chance else None, 3, signed=True),
            ]
            for name, value in claim["agreement"].items()
        ]
        yield markdown_rows(["layer", "agreement", "by chance", "beyond chance"], rows, 1)


def _beyond_chance(found: Mapping[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return ""
    return (
        f" Second reading, which decides nothing: beyond chance, ρ {_effect(found)}, "
        f"n = {found['seeds']}."
    )


def _variants(setting: Mapping[str, Any]) -> str:
    tasks = setting["tasks"]
    head = ["system", "variant", "score", *(f"{_metric(task)} val" for task in tasks)]
    head += ["eligible reports", ""]
    lines: list[Sequence[str]] = []
    for row in setting["variants"]:
        label = row["label"]
        if row["settings"] and label.startswith("learning rate"):
            label += f" ({next(iter(row['settings'].values())):g})"
        score = number(row["score"], 4) if row["status"] == "complete" else row["status"]
        vals = [number(row["val"].get(task), _digits(task)) for task in tasks]
        vals.append(prose.eligible(row["eligible_reports"]))
        mark = "**chosen**" if row["chosen"] else ""
        lines.append([method_style(row["system"]).label, label, score, *vals, mark])
    return markdown_rows(head, lines)


def _metric(task: str, *, arrow: bool = True) -> str:
    name = PRIMARY_METRICS[task]
    unit = unit_label(name)
    direction = ("↑" if describe(name).direction == "maximize" else "↓") if arrow else ""
    text = f"{task_label(task).lower()} {metric_label(name)}" + (f" ({unit})" if unit else "")
    return f"{text} {direction}".strip()


def _digits(task: str) -> int:
    return 2 if task == "normals" else 4


def _effect(value: Mapping[str, Any], digits: int = 2) -> str:
    """ "+1.20 [0.30, 2.10]"."""
    low, high = (number(value[end], digits, signed=True) for end in ("low", "high"))
    return f"{number(value['mean'], digits, signed=True)} [{low}, {high}]"


def _spread(value: Mapping[str, Any], digits: int, *, signed: bool = False) -> str:
    if value["mean"] is None or not math.isfinite(value["mean"]):
        return "–"
    mean = number(value["mean"], digits, signed=signed)
    return mean if value["deviation"] is None else f"{mean} ± {number(value['deviation'], digits)}"

"""docs/search.md, from docs/search.json alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.tables.typeset import markdown_rows
from benchmarks.search.results import prose
from benchmarks.search.results.cells import NONE, difference, probability, sign
from benchmarks.search.results.yahpo_section import earlier, render_yahpo
from benchmarks.search.systems.catalogue import SHIPPED_TPE


def render(parts_found: Mapping[str, Mapping[str, Any]], *, pictured: bool) -> str:
    """The document.

    parts_found: what was found on workloads of our own (`own`), on YAHPO's tasks (`yahpo`), and
      there with the budgets of CARP-S (`yahpo-long`); the latter two may be missing.
    pictured: whether images/search.png shows anything.
    """
    parts = ["# Our search beside its peers", prose.QUESTION]
    yahpo, long = parts_found.get("yahpo"), parts_found.get("yahpo-long")
    if yahpo is not None and yahpo["workloads"]:
        parts += render_yahpo(yahpo, long)
    if parts_found["own"]["workloads"]:
        parts += _own(parts_found["own"], pictured)
    if len(parts) == 2:
        parts.append("Nothing has been run.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _own(found: Mapping[str, Any], pictured: bool) -> list[str]:
    """On surrogates of our own and the real trainable."""
    workloads = found["workloads"]
    parts = ["## Workloads of our own", prose.SUMMARY, _summary(workloads)]
    parts += earlier(workloads)
    if pictured:
        parts.append("![Hypervolume over epochs, ours and its peers](images/search.png)")
    parts += ["## Goals", _goals(workloads), "## Protocol", prose.protocol(found)]
    parts += ["## Results"]
    for workload in workloads:
        parts += [f"### {_capital(workload['title'])}", _results(workload)]
    parts += ["## Ours, one part changed", prose.PARTS]
    parts += [_parts(workloads), "## What this shows, and what it does not", prose.limits(found)]
    return parts


def _summary(workloads: Sequence[Mapping[str, Any]]) -> str:
    """Final hypervolume of ours and the peers, a row per workload."""
    names = _order(workloads, ("ours", "peer"))
    rows = []
    for workload in workloads:
        systems = {s["name"]: s for s in workload["systems"]}
        cells = [_final(systems[n]) if n in systems else NONE for n in names]
        rows.append([workload["title"], *cells])
    labels = _labels(workloads)
    return markdown_rows(["workload", *(labels[n] for n in names)], rows, num_words=1)


def _final(system: Mapping[str, Any]) -> str:
    """The value, and what Holm's test says of ours against it: `<` ours is better."""
    value = f"{system['quarters'][-1]['mean']:.3f}"
    against = system["against_ours"]
    return value if against is None else f"{value} {sign(against[-1])}"


def _goals(workloads: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for workload in workloads:
        systems = {s["name"]: s for s in workload["systems"]}
        ours = systems["ours"]
        told: dict[str, list[str]] = {"<": [], "=": [], ">": []}
        for system in workload["systems"]:
            if system["role"] == "peer" and system["against_ours"] is not None:
                told[sign(system["against_ours"][-1])].append(system["label"])
        rows.append(
            [
                workload["title"],
                _share(ours["epochs_to_shipped"], workload["budget_epochs"])
                if SHIPPED_TPE in systems
                else NONE,
                _share(ours["epochs_to_goal"], workload["budget_epochs"]),
                _paired(ours["share_of_epochs_by_seed"]),
                *("; ".join(labels) or "none" for labels in told.values()),
            ]
        )
    heads = ["workload", "epochs to the final of TPE as shipped, of its budget"]
    heads += ["to that of TPE with our starts", "the same by seed: median"]
    heads += ["ours is better than", "no difference shown", "ours is worse than"]
    return "\n\n".join([prose.GOALS, markdown_rows(heads, rows)])


def _share(epochs: int | None, budget: int) -> str:
    return "not reached" if epochs is None else f"{epochs / budget:.0%}".replace("%", " %")


def _paired(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return NONE
    median = share["median"]
    shown = "not reached" if median is None else f"{100 * median:.0f} %"
    return f"{shown} ({share['reached']} of {share['seeds']} seeds)"


def _results(workload: Mapping[str, Any]) -> str:
    """Ours and the peers: every quarter, the difference, IGD+ and counts."""
    heads = ["search", "n", "¼", "½", "¾", "1", "ours minus it", "p (Holm)", "IGD+"]
    heads += ["trials", "complete", "epochs to TPE's final"]
    rows = [
        _row(system, workload)
        for system in workload["systems"]
        if system["role"] in ("ours", "peer")
    ]
    lines = [markdown_rows(heads, rows, num_words=1)]
    if workload["front_hypervolume"] is not None:
        lines.insert(0, f"The true front has {workload['front_hypervolume']:.3f}.")
    return "\n\n".join(lines)


def _row(system: Mapping[str, Any], workload: Mapping[str, Any]) -> list[str]:
    against = system["against_ours"]
    distance = system["igd_plus"]
    return [
        system["label"],
        str(len(system["seeds"])),
        *(f"{quarter['mean']:.3f}" for quarter in system["quarters"]),
        NONE if against is None else difference(against[-1]),
        NONE if against is None else probability(against[-1]),
        NONE if distance is None else f"{distance['mean']:.4f}",
        f"{system['trials']:.0f}",
        f"{system['complete']:.0f}",
        _share(system["epochs_to_goal"], workload["budget_epochs"]),
    ]


def _parts(workloads: Sequence[Mapping[str, Any]]) -> str:
    """Final hypervolume with one part changed, minus ours; a column per workload."""
    names = _order(workloads, ("part",))
    if not names:
        return ""
    labels = _labels(workloads)
    shown = [w for w in workloads if any(s["role"] == "part" for s in w["systems"])]
    rows = []
    for name in names:
        cells = []
        for workload in shown:
            against = {s["name"]: s["against_ours"] for s in workload["systems"]}.get(name)
            cells.append(NONE if against is None else _changed(against[-1]))
        rows.append([labels[name], *cells])
    return markdown_rows(["ours, but", *(w["name"] for w in shown)], rows, num_words=1)


def _changed(comparison: Mapping[str, Any]) -> str:
    """Turned round: what the change does. Bold where Holm's test shows it."""
    text = f"{-comparison['mean']:+.3f}"
    return f"**{text}**" if comparison["p_holm"] < prose.LEVEL else text


def _order(workloads: Iterable[Mapping[str, Any]], roles: Sequence[str]) -> list[str]:
    found = [s["name"] for w in workloads for s in w["systems"] if s["role"] in roles]
    return list(dict.fromkeys(found))


def _labels(workloads: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {s["name"]: s["label"] for w in workloads for s in w["systems"]}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

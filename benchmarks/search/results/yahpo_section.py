"""The part of docs/search.md on tasks that others wrote."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.tables.typeset import markdown_rows
from benchmarks.search.results import prose
from benchmarks.search.results.cells import NONE, difference, probability, sign
from benchmarks.search.runs import YAHPO_SYSTEMS, Job
from benchmarks.search.systems.catalogue import OURS, SYSTEMS

_SEARCHES = ("ours", "peer")


def render_yahpo(found: Mapping[str, Any], long: Mapping[str, Any] | None) -> list[str]:
    """Paragraphs, tables and headings. long: with CARP-S's budgets; None if that was not run."""
    parts = ["## Tasks that others wrote", prose.YAHPO, "### All tasks together"]
    parts += [prose.POOLED, _pooled(found["pooled"]), *_verdicts(found), _missing(found)]
    parts += [prose.YAHPO_PEERS, prose.PRIMO, *earlier(found["workloads"])]
    for workload in found["workloads"]:
        parts += [f"### {workload['title']}", _results(workload)]
    parts.append("### With the budgets of CARP-S")
    if long is None or not long["workloads"]:
        return [*parts, prose.NOT_LONG]
    parts += [prose.LONG, _pooled(long["pooled"])]
    for workload in long["workloads"]:
        lengths = workload["budget_epochs"] // workload["num_epochs"]
        parts += [f"#### {workload['title']}, {lengths} full lengths", _results(workload)]
    return parts


def earlier(workloads: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which were run with other code of ours; nothing where none was."""
    titles = [
        workload["title"]
        for workload in workloads
        if workload.get("code") != Job.of(workload["name"], OURS, 0).code
    ]
    return [prose.earlier(titles)] if titles else []


def _pooled(pooled: Sequence[Mapping[str, Any]]) -> str:
    """A row per system: shares of the best known at each quarter, and ours minus it."""
    heads = ["search", "pairs", "¼", "½", "¾", "1", "ours there", "ours minus it, ½", "p (Holm)"]
    heads += ["ours minus it, 1", "p (Holm)"]
    rows = []
    for system in pooled:
        against = system["against_ours"]
        cells = [_label(system), NONE if against is None else str(against[-1]["pairs"])]
        cells += [f"{share:.3f}" for share in system["quarters"]]
        if against is None:
            cells += [NONE] * 5
        else:
            cells += [f"{system['ours'][-1]:.3f}"]
            for comparison in (against[1], against[-1]):
                cells += [difference(comparison), probability(comparison)]
        rows.append(cells)
    return markdown_rows(heads, rows, num_words=1)


def _label(system: Mapping[str, Any]) -> str:
    label: str = system["label"]
    return label if system["role"] in _SEARCHES else f"ours, but {label}"


def _results(workload: Mapping[str, Any]) -> str:
    heads = ["search", "n", "¼", "½", "¾", "1", "ours minus it", "p (Holm)", "IGD+"]
    heads += ["trials", "complete", "seconds a trial", "the last five"]
    rows = []
    for system in workload["systems"]:
        against, distance = system["against_ours"], system["igd_plus"]
        thinking = system["thinking_seconds"]
        rows.append(
            [
                _label(system),
                str(len(system["seeds"])),
                *(f"{quarter['mean']:.3f}" for quarter in system["quarters"]),
                NONE if against is None else difference(against[-1]),
                NONE if against is None else probability(against[-1]),
                NONE if distance is None else f"{distance['mean']:.4f}",
                f"{system['trials']:.0f}",
                f"{system['complete']:.0f}",
                f"{thinking['mean']:.3f}",
                f"{thinking['last']:.3f}",
            ]
        )
    best = f"The best that is known has {workload['front_hypervolume']:.3f}."
    return "\n\n".join([best, markdown_rows(heads, rows, num_words=1)])


def _verdicts(found: Mapping[str, Any]) -> list[str]:
    """What the tests say, losses as plainly as wins."""
    told: dict[str, list[str]] = {"<": [], "=": [], ">": []}
    for system in found["pooled"]:
        if system["role"] == "peer" and system["against_ours"] is not None:
            told[sign(system["against_ours"][-1])].append(system["label"])
    behind = [
        f"{system['label']} on {workload['title']} ({difference(system['against_ours'][-1])})"
        for workload in found["workloads"]
        for system in workload["systems"]
        if system["role"] == "peer"
        and system["against_ours"] is not None
        and system["against_ours"][-1]["mean"] < 0
    ]
    alone = [
        f"{system['label']} on {workload['title']} "
        f"({_end(system)}, ours {_end(ours)} over its seeds)"
        for workload in found["workloads"]
        for ours in workload["systems"][:1]
        for system in workload["systems"]
        if system["role"] == "peer" and system["against_ours"] is None
    ]
    text = (
        f"Pooled, at the end. Ours is above: {_list(told['<'])}. No difference shown: "
        f"{_list(told['='])}. Ours is below: {_list(told['>'])}. On single tasks the mean of ours "
        f"is below that of: {_list(behind, '; ')}."
    )
    return [text + (f" Of one seed, so that nothing is tested: {_list(alone)}." if alone else "")]


def _end(system: Mapping[str, Any]) -> str:
    return f"{system['quarters'][-1]['mean']:.3f}"


def _missing(found: Mapping[str, Any]) -> str:
    """Which systems were not run, or not on every task; empty where all were."""
    run = {system["name"]: system["workloads"] for system in found["pooled"]}
    num_tasks = len(found["workloads"])
    absent = [SYSTEMS[name].label for name in YAHPO_SYSTEMS if name not in run]
    partly = [
        f"{SYSTEMS[name].label} ({run[name]} of {num_tasks} tasks)"
        for name in YAHPO_SYSTEMS
        if 0 < run.get(name, 0) < num_tasks
    ]
    told = [f"Not run yet: {_list(absent)}."] if absent else []
    told += [f"Run in part: {_list(partly)}."] if partly else []
    return " ".join(told)


def _list(words: Sequence[str], separator: str = ", ") -> str:
    return separator.join(words) or "none"

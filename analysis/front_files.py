"""Make what `python -m analysis front` and `report` write, and say what it is.

Each function imports what it needs when it runs, so that --help and mistakes in the options are
answered at once.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.terminal.answers import STDOUT, write_json
from trainables.terminal.command_line import masked

if TYPE_CHECKING:
    from analysis.studies.trials import Study


def produce(
    command: str,
    name: str,
    storage: Path,
    tracking_uri: str | None,
    out: Path | None,
    json_file: Path | None,
    log: bool,
    quiet: bool,
    cost: str | None = None,
) -> None:
    """Write the files of `front` or `report`, log them to MLflow, and say what was found.

    command: "front" or "report". cost: a cost to draw the front against in place of the study's.
    """
    from analysis.report import figures, task_files
    from analysis.report.sections import confirmed_tables, health
    from analysis.statistics import fronts
    from analysis.studies.terms import trials_text
    from analysis.studies.trials import load_study

    started = time.perf_counter()
    study = load_study(name, storage, tracking_uri)
    suffix = ""
    if cost is not None and cost != study.cost:
        study, suffix = fronts.against(study, cost), f"-{cost.partition('/')[2]}"
    say = (lambda text: None) if quiet or json_file == Path(STDOUT) else print
    whole = command == "report"
    shown = {f"with_{part}": whole for part in ("masks", "importances", "predictions", "choices")}
    found = figures.find(study, **shown)
    folder = study.directory if out is None else out
    paths = figures.write_front(found, folder, suffix)
    of_tasks = task_files.write(found, folder, suffix)
    if whole:
        from analysis.report.report import write_report

        paths += figures.write_figures(found, folder)
        paths.append(write_report(found, folder, _as_typed(name, storage, out)))
    notes = [*found.means.study.notes, *(_log(study, folder, [*paths, *of_tasks]) if log else ())]
    for note in () if quiet else notes:
        print(f"note: {note}", file=sys.stderr)
    words = {"stopped": "stopped early", "infeasible": "infeasible", "failed": "failed"}
    counts = {word: len(study.with_status(status)) for status, word in words.items()}
    others = "".join(f", {count} {word}" for word, count in counts.items() if count)
    say(
        f"{name}: {trials_text(len(study.trials))}, {len(study.with_status('complete'))} complete"
        f"{others}; {figures.members_text(found)}"
    )
    if found.members and not study.is_grid:
        say(confirmed_tables.state(found))
    for line in health.lines(found) if whole else ():
        say(line)
    if not found.ended:
        say("no complete trial has finite objectives: the front is empty")
    for path in paths:
        say(f"  {path}")
    if of_tasks:
        names = ",".join(path.stem for path in of_tasks if path.suffix == ".png")
        say(f"  {of_tasks[0].parent}/{{{names}}}.{{png,html,csv}}")
    if json_file is not None:
        from analysis.report.summary import summary

        seconds = time.perf_counter() - started
        write_json(json_file, summary(command, found, notes, [*paths, *of_tasks], seconds))


def _as_typed(name: str, storage: Path, out: Path | None) -> str:
    """Return the command that makes the report, as somebody in this folder would type it."""
    from trainables.terminal.as_typed import DEFAULT_STORAGE, as_typed, command

    words: list[str] = []
    for option, path in (("--storage", storage), ("--out", out)):
        shown = DEFAULT_STORAGE if path is None else as_typed(path)
        words += [] if shown == DEFAULT_STORAGE else [option, shown]
    return command("analysis report", name, *words)


def several_fronts(
    names: Sequence[str],
    cost: str | None,
    storage: Path,
    tracking_uri: str | None,
    out: Path | None,
    json_file: Path | None,
    quiet: bool,
) -> None:
    """Draw several studies on one front; its files go to the first one's folder, or to `out`."""
    from analysis.report import several
    from analysis.report.versions import versions
    from analysis.statistics import fronts
    from analysis.statistics.comparing.system_means import system_means
    from analysis.statistics.several import together
    from analysis.studies.trials import load_study

    started = time.perf_counter()
    studies = [system_means(load_study(name, storage, tracking_uri)).study for name in names]
    suffix = ""
    if cost is not None and any(study.cost != cost for study in studies):
        suffix = f"-{cost.partition('/')[2]}"
        studies = [fronts.against(s, cost) if s.cost != cost else s for s in studies]
    found = together(studies)
    paths = several.write(found, studies[0].directory if out is None else out, suffix)
    for note in () if quiet else found.notes:
        print(f"note: {note}", file=sys.stderr)
    if not quiet:
        print(f"{', '.join(names)}: {several.subtitle(found)}")
        for path in paths:
            print(f"  {path}")
    if json_file is not None:
        seconds = round(time.perf_counter() - started, 3)
        answer = {"command": "front", **several.to_json(found), "notes": list(found.notes)}
        answer |= {"files": [str(path) for path in paths], "timing": {"seconds": seconds}}
        write_json(json_file, {**answer, "versions": versions()})


def _log(study: "Study", folder: Path, paths: list[Path]) -> list[str]:
    """Log the files to the study's MLflow run; returns a note where that was not possible."""
    from analysis.studies import tracking
    from trainables.terminal.as_typed import study_command

    if study.tracking_uri is None:
        return []
    try:
        logged = tracking.log_artifacts(
            study.tracking_uri,
            study.name,
            {path: path.parent.relative_to(folder) for path in paths},
            parent_run_id=study.parent_run_id,
            study_id=study.facts.get("study_id"),
        )
    except tracking.TrackingAway as away:
        return [f"Nothing was logged to MLflow, which does not answer ({away})."]
    if logged:
        return []
    return [
        f"Nothing was logged to MLflow: {masked(study.tracking_uri)} does not know this study; "
        f"`{study_command('search sync', study.name, study.directory.parent)}` writes it."
    ]

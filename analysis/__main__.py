"""`python -m analysis`: what a study found. `front` and `report` are here, the rest in `commands`.

Exit codes: 0 success, 2 a user's mistake (one message), 1 failure.
"""

import json
import math
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from analysis import commands
from analysis.options import JsonFile, Name, Out, Quiet, Storage, TrackingUri
from trainables.errors import UserError

if TYPE_CHECKING:
    from analysis.report.figures import Findings
    from analysis.studies.trials import Study

app = typer.Typer(
    name="python -m analysis",
    help="What a study found: fronts of quality against cost, comparisons, tables, a report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def front(
    name: Name,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = None,
    out: Out = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write front.png and front.parquet.

    front.png has one panel per task, front.parquet the trials of the joint front.

    Members are complete trials that no other dominates over the study's objectives, judged on
    the validation split. They are tagged disparse.front=true in MLflow, the others false. A trial
    that was stopped early or missed a constraint is never a member.

    \b
    Examples:
      python -m analysis front demo
      python -m analysis front demo --out figures --json front.json
      python -m analysis front demo --storage /shared/runs --tracking-uri http://mlflow:5000
    """
    _produce("front", name, storage, tracking_uri, out, json_file, quiet)


@app.command()
def report(
    name: Name,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = None,
    out: Out = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write report.html and its pictures.

    Does what `front` does as well. The page is one file that opens offline.

    Pictures beside it: front, hypervolume, parallel, importance, agreement, layers (.png), as far
    as the study has what they show. Everything is logged to the study's MLflow run as well.

    \b
    Examples:
      python -m analysis report demo
      python -m analysis report demo --out reports/demo --quiet
    """
    _produce("report", name, storage, tracking_uri, out, json_file, quiet)


for _command in (commands.compare, commands.table, commands.published, commands.layers):
    app.command()(_command)


def _produce(
    command: str,
    name: str,
    storage: Path,
    tracking_uri: str | None,
    out: Path | None,
    json_file: Path | None,
    quiet: bool,
) -> None:
    # Here, not at the top: --help and mistakes in the flags answer at once.
    from analysis.report import figures
    from analysis.studies.trials import load_study

    started = time.perf_counter()
    study = load_study(name, storage, tracking_uri)
    say = (lambda text: None) if quiet else print
    for note in study.notes:
        print(f"note: {note}", file=sys.stderr)
    whole = command == "report"
    found = figures.find(study, with_masks=whole, with_importances=whole)
    folder = study.directory if out is None else out
    paths = figures.write_front(found, folder)
    if whole:
        from analysis.report.report import write_report

        paths += figures.write_figures(found, folder)
        paths.append(
            write_report(found, folder, shlex.join(["python", "-m", "analysis", *sys.argv[1:]]))
        )
    _track(study, found, paths)
    words = {"stopped": "stopped early", "infeasible": "infeasible", "failed": "failed"}
    counts = {word: len(study.with_status(status)) for status, word in words.items()}
    others = "".join(f", {count} {word}" for word, count in counts.items() if count)
    say(
        f"{name}: {len(study.trials)} trials, {len(study.with_status('complete'))} complete"
        f"{others}; {len(found.members)} on the joint front"
    )
    if not found.ended:
        say("no complete trial has finite objectives: the front is empty")
    for path in paths:
        say(f"  {path}")
    if json_file is not None:
        seconds = time.perf_counter() - started
        _write_json(json_file, _summary(command, found, paths, seconds))


def _track(study: "Study", found: "Findings", paths: list[Path]) -> None:
    """Tags and artifacts; the files stand even if the server has gone meanwhile."""
    from analysis.studies import tracking

    if study.tracking_uri is None:
        return
    try:
        runs = {trial.run_id for trial in found.members if trial.run_id is not None}
        tracking.tag_front(study.tracking_uri, study.name, study.parent_run_id, runs)
        if study.parent_run_id is not None:
            tracking.log_artifacts(study.tracking_uri, study.parent_run_id, paths)
    except tracking.TrackingAway as away:
        print(f"note: not logged to MLflow, which failed meanwhile: {away}", file=sys.stderr)


def _summary(command: str, found: "Findings", paths: list[Path], seconds: float) -> dict[str, Any]:
    from analysis.report.versions import versions

    study = found.study
    scale = found.normalisation
    return {
        "command": command,
        "study": study.name,
        "seed": study.facts.get("seed"),
        "source": study.source,
        "notes": list(study.notes),
        "objectives": list(study.objectives),
        "trials": len(study.trials),
        "complete": len(study.with_status("complete")),
        "stopped": len(study.with_status("stopped")),
        "infeasible": len(study.with_status("infeasible")),
        "front": [
            {"trial": t.trial, "method": t.method, "seed": t.seed, "metrics": _plain(t.metrics)}
            for t in found.members
        ],
        "hypervolume": float(found.share_N[-1]) if len(found.share_N) else None,
        "hypervolume_scale": dict(scale.to_dict(study.objectives)) if scale else None,
        "files": [str(path) for path in paths],
        "timing": {"seconds": round(seconds, 3)},
        "versions": versions(),
    }


def _plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity: null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; name another file by --json"
        ) from None


def main() -> None:
    """The command line's entry point."""
    try:
        app(prog_name="python -m analysis")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()

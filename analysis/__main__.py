"""Run `python -m analysis`: `front`, `report` and `pick` are here, the others in `commands`.

Exit codes: 0 success, 2 a user's mistake (one message), 1 failure.
"""

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from trainables.terminal.installed import packages_needed

with packages_needed():
    import typer

    from analysis import commands, front_files
    from analysis.options import JsonFile, Log, Name, Names, Out, Quiet, Storage, TrackingUri
    from trainables.terminal.answers import STDOUT, write_json
    from trainables.terminal.command_line import Commands, run_command_line

# It says at length where it keeps its cache if there is no home to write to.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

app = typer.Typer(
    name="python -m analysis",
    help="What a study found: fronts of quality against cost, comparisons, tables, a report.",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def front(
    names: Names,
    cost: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC", help="Another measured cost to draw against; default: the study's."
        ),
    ] = None,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = None,
    out: Out = None,
    json_file: JsonFile = None,
    log: Log = True,
    quiet: Quiet = False,
) -> None:
    """Write front.png, front.parquet and, for each task, fronts/TASK.png, .html and .csv.

    front.png has one panel per task; front.parquet has the trials of the joint front.

    Members are complete trials that no other dominates over the study's objectives, judged on
    the validation split. A trial that was stopped early or missed a constraint is never a member.
    Of a grid, systems are compared by their means over seeds, each named by its first seed's trial.
    With several studies it writes front-A-B.png, .html and .csv into the folder of the first:
    their trials on one front, coloured by study. Every quality is then the difference to the
    study's own dense model, where all studies have one, so that studies which trained differently
    compare. They must be of one data set. These files are not logged to MLflow.

    With --cost, that cost takes the place of the study's, and its name is in the files' names:
    front-latency_ms.png. The files are logged to the study's MLflow run as well.

    \b
    Examples:
      python -m analysis front demo
      python -m analysis front demo --out figures --json front.json
      python -m analysis front demo --cost cost/flops_fraction
      python -m analysis front demo demo-longer --out figures
      python -m analysis front demo --storage /shared/runs --tracking-uri http://mlflow:5000
    """
    if len(names) > 1:
        front_files.several_fronts(names, cost, storage, tracking_uri, out, json_file, quiet)
        return
    front_files.produce("front", names[0], storage, tracking_uri, out, json_file, log, quiet, cost)


@app.command()
def report(
    name: Name,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = None,
    out: Out = None,
    json_file: JsonFile = None,
    log: Log = True,
    quiet: Quiet = False,
) -> None:
    """Write report.html and its pictures.

    It also does what `front` does. The page is one file that opens offline.

    Pictures beside it: front (and fronts/TASK), hypervolume, parallel, importance, agreement,
    layers, predictions-TASK (.png), as far as the study has what they show. The files are logged
    to the study's MLflow run as well; a server that is away is said in a note and stops nothing.

    \b
    Examples:
      python -m analysis report demo
      python -m analysis report demo --out reports/demo --quiet
    """
    front_files.produce("report", name, storage, tracking_uri, out, json_file, log, quiet)


@app.command()
def pick(
    name: Name,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'METRIC<=VALUE'",
            help="A bound on a metric, with <=, >=, < or >; VALUE may be a percentage of the dense "
            "model's. Repeatable.",
        ),
    ] = None,
    max_loss: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="How much worse than the dense model every task may be, at most; 5 and 5% are "
            "the same.",
        ),
    ] = None,
    best: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Choose the best in this; default: the front's knee."),
    ] = None,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE|-", help="Write the answer as JSON; - is stdout."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Pick one model of the front, and say why.

    Members of the front that meet every bound are candidates. Of these it takes the best in
    --best or else the knee: the one farthest below the line from the cheapest to the best member,
    with every objective scaled over the front and tasks averaged (Das 1999). Ties go to the lower
    number. Values are on val; a METRIC without a split means its val value. Without any of these
    options, what plain conditions would take is listed too, as on the report's first screen.

    Once the whole front is confirmed (`search confirm`), its members are compared by their means
    over fresh seeds; where it is confirmed in part, values at selection decide, and the answer says
    so, with what fresh seeds say of the model. Of a grid, systems are compared by their means over
    seeds, without that list; the model is that of the system's first seed.

    \b
    Examples:
      python -m analysis pick demo
      python -m analysis pick demo --max-loss 5 --best cost/density
      python -m analysis pick demo --where 'cost/density<=0.1' --best segmentation/miou
      python -m analysis pick demo --where 'segmentation/miou>=95%' --best cost/density --json -
    """
    from analysis.report.versions import versions
    from analysis.statistics.candidates import chosen
    from analysis.statistics.conditions import parse_percent
    from analysis.studies.trials import load_study
    from analysis.tables import picked, plain_choices, plain_words

    started = time.perf_counter()
    loss = None if max_loss is None else parse_percent(max_loss)
    one = chosen(load_study(name, storage, tracking_uri), where or (), loss, best)
    study, choice, seeds = one.study, one.choice, one.seeds
    found = picked.Pick(study=study, choice=choice, dense=one.among.dense, standing=one.standing)
    for note in () if quiet else study.notes:
        print(f"note: {note}", file=sys.stderr)
    plainly = () if choice.conditions or best or study.is_grid else plain_choices.choices(study)
    to_stdout = json_file == Path(STDOUT)
    if not (quiet or to_stdout):
        print(picked.text(found))
        if seeds is not None:
            print(f"  seeds    {_seeds_text(seeds, found.trial.trial, fresh=choice.by_fresh)}")
        if plainly:
            print(f"\n{plain_words.text(plainly)}")
    if json_file is None:
        return
    answer = {
        "command": "pick",
        "study": study.name,
        **picked.to_json(found),
        **({} if seeds is None else {"seeds": list(seeds)}),
        "plain_conditions": [plain_words.to_json(listed) for listed in plainly],
        "in_words": plain_words.summary(plainly),
        "notes": list(study.notes),
        "timing": {"seconds": round(time.perf_counter() - started, 3)},
        "versions": versions(),
    }
    write_json(json_file, answer)


for _command in (commands.compare, commands.table, commands.published, commands.layers):
    app.command()(_command)


def _seeds_text(seeds: Sequence[int], trial: str, *, fresh: bool) -> str:
    listed = ", ".join(map(str, seeds))
    if fresh:
        return (
            f"{len(seeds)} fresh ones ({listed}): the values are their means; the file of {trial} "
            "was trained at another seed"
        )
    if len(seeds) == 1:
        return f"one, {listed}"
    return f"{len(seeds)} ({listed}): values are their means; {trial} is the model of the first"


def main() -> None:
    """Run the command line: exit code 0 on success, 2 on a user's mistake, 1 on failure."""
    run_command_line(lambda: app(prog_name="python -m analysis"))


if __name__ == "__main__":
    main()

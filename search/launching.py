"""What the commands that run a study's trials have in common: their options, run and end."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.options import (
    QuietOption,
    ReportOption,
    StorageOption,
    StudyStorageOption,
    TrackingOption,
)
from trainables.errors import Failure
from trainables.terminal.command_line import EXIT_INTERRUPTED

if TYPE_CHECKING:  # would make every mistake wait
    from search.execution.study_end import StudyEnd
    from search.plans.plan import Plan


def _launch(
    concurrency: Annotated[
        int | None, typer.Option(help="Trials at once; default: one per CPU, or as GPUs have room.")
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(
            help="A trial's part of one GPU, at most 1: 0.25 has four share one, each held to a "
            "quarter of its memory and with its own copy of the data there. Default: what a short "
            "measurement says fits, on this machine's GPU; else 1."
        ),
    ] = None,
    storage: StorageOption = "runs",
    tracking_uri: TrackingOption = None,
    study_storage: StudyStorageOption = None,
    ray_address: Annotated[
        str, typer.Option(help="`local`, `auto`, or a Ray cluster's address.")
    ] = "local",
    trial_time_limit: Annotated[
        float | None, typer.Option(help="Seconds without a report that fail a trial.")
    ] = None,
    report: ReportOption = True,
    quiet: QuietOption = False,
) -> None:
    """Hold the options of every launch."""


def launches(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of every launch; it takes their values as the dict `launch`."""
    shared = inspect.signature(_launch, eval_str=True).parameters
    own = dict(inspect.signature(command, eval_str=True).parameters)
    del own["launch"]

    def with_launch(**values: Any) -> None:
        launch = {name: values.pop(name) for name in shared}
        command(**values, launch=launch)

    parameters = [*own.values(), *shared.values()]
    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    with_launch.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    with_launch.__annotations__ = {p.name: p.annotation for p in parameters}
    with_launch.__name__, with_launch.__doc__ = command.__name__, command.__doc__
    return with_launch


def run_plan(plan: "Plan", *, quiet: bool, **launch: Any) -> None:
    """Run a study's trials, and say what that left. launch: the options of `Launch`.

    Raises as `check_end` does.
    """
    from search.execution.launch_options import Launch, check_options

    options = Launch(quiet=quiet, **launch)
    check_options(plan, options)
    if not quiet:  # what follows loads for seconds
        print(f"study {plan.study}: setting up data, Ray and MLflow", flush=True)
    from search.execution.study import run_study

    try:
        end = run_study(plan, options)
    except KeyboardInterrupt:
        how = "Run the same command again to resume."
        if options.extends:  # the same would raise the budget again
            how = f"Resume by: {options.resume(plan.study)}"
        typer.echo(f"Interrupted. {how}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    show_end(plan, end, quiet=quiet, options=options.unrecorded)
    check_end(plan, end)


def show_end(
    plan: "Plan",
    end: "StudyEnd",
    *,
    quiet: bool,
    notes: Iterable[str] = (),
    options: Sequence[str] = (),
) -> None:
    """Print what a launch left, and on stderr what went wrong, with further notes.

    options: of the launch, which the next one is to have as well.
    """
    from search.messages import end_lines, problem_lines

    for line in () if quiet else end_lines(plan, end, options):
        typer.echo(line)
    for line in (*problem_lines(plan, end, options), *notes):
        typer.echo(line, err=True)


def check_end(plan: "Plan", end: "StudyEnd") -> None:
    """Raise `Failure` where a study ended without a complete trial; exit with 1 where it lacks
    something else.
    """
    if not end.remaining and not end.complete:
        raise Failure(f"no trial of {plan.study} is complete; most often: {end.reason}")
    if end.remaining or end.report_problem or end.unwritten:
        raise typer.Exit(1)

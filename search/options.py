"""Options that several commands of `python -m search` have in common."""

import inspect
import logging
from collections.abc import Callable
from typing import Annotated, Any

import typer

NameArgument = Annotated[str, typer.Argument(help="Name of the study.")]
StorageOption = Annotated[str, typer.Option(help="Folder that holds all studies.")]
TrackingOption = Annotated[
    str | None,
    typer.Option(help="MLflow; default: the study's, else MLFLOW_TRACKING_URI, else sqlite."),
]
StudyStorageOption = Annotated[
    str | None, typer.Option(help="Optuna's storage; default: a journal in the study's folder.")
]
DataRootOption = Annotated[str | None, typer.Option(help="Folder of the store, or of raw data.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")]


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
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Make the report at the end.")
    ] = True,
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


def quiet_libraries() -> None:
    """Silence what libraries say of their own work."""
    # By the logger's name: importing Optuna for this would make every mistake wait for it.
    for name in ("mlflow", "alembic", "optuna", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)

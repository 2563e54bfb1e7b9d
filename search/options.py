"""Options that several commands of `python -m search` have in common."""

from typing import Annotated

import typer

StorageOption = Annotated[str, typer.Option(help="Folder that holds all studies.")]
TrackingOption = Annotated[
    str | None,
    typer.Option(help="MLflow server or database; default: sqlite in the storage folder."),
]
StudyStorageOption = Annotated[
    str | None, typer.Option(help="Optuna's storage; default: a journal in the study's folder.")
]
DataRootOption = Annotated[str | None, typer.Option(help="Folder of the store, or of raw data.")]
ConcurrencyOption = Annotated[
    int | None, typer.Option(help="Trials at once; default: the recipe's, or one per CPU or GPU.")
]
TimeLimitOption = Annotated[
    float | None,
    typer.Option(
        "--trial-time-limit",
        help="Seconds without a report after which a trial has failed; default: no limit.",
    ),
]
AddressOption = Annotated[str, typer.Option(help="`local`, `auto`, or a Ray cluster's address.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print errors alone.")]
ReportOption = Annotated[
    bool, typer.Option("--report/--no-report", help="Make the report at the end.")
]

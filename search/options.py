"""Options that several commands of `python -m search` have in common."""

from typing import Annotated

import typer

RecipeArgument = Annotated[
    str, typer.Argument(help="Name of a recipe (`search recipe` lists them), or a .toml file.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="name=value: fix a setting of all. Repeatable.")
]
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
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE|-", help="Write one JSON object.")
]
ReportOption = Annotated[
    bool, typer.Option("--report/--no-report", help="Make the report at the end.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")]

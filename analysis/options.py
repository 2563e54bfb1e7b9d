"""Define the options that the commands of `python -m analysis` share."""

from pathlib import Path
from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="NAME", help="The study, a folder under --storage.")]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help="The study, a folder under --storage; or several."),
]
Storage = Annotated[Path, typer.Option(metavar="DIR", help="The folder that holds the studies.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="MLflow's address. Default: the one that the study recorded, else the environment "
        "variable MLFLOW_TRACKING_URI, else sqlite:///DIR/mlflow.db of --storage.",
    ),
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where to write; default: STORAGE/NAME.")
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE|-", help="Write the result as one JSON object; - prints it alone."
    ),
]
Log = Annotated[
    bool, typer.Option("--log/--no-log", help="Log the files to the study's MLflow run as well.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]

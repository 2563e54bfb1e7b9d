"""A shipped model in MLflow: a LoggedModel of its trial's run, with signature, metrics and card.

Equal files are one model: shipping a trial again finds the model by a digest of its file.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.onnx
import numpy as np
import onnx
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from search.record.files.study_folder import StudyFiles, again, read_json_lines
from search.tracking.connection import open_client
from search.tracking.run_content import TAG_STUDY_ID, metrics_of
from trainables.addresses import first_line, scrubbed, without_password
from trainables.errors import Failure, UserError
from trainables.integrity.code_digest import digest
from trainables.report import TAG_METHOD, TAG_STUDY, TAG_TRIAL
from trainables.terminal.command_line import masked

TAG_DIGEST = "disparse.digest"  # of model.onnx
_METRICS = "shipped/"  # before the names of what was measured of the shipped model
_VARIABLE = "MLFLOW_TRACKING_URI"
_DESCRIPTIONS = ("card.md", "ship.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class InMlflow:
    """Where MLflow has the model: uri is `models:/ID`; tracking_uri is without a password.

    reused: whether it had it before. version: of the registered model, '' if none was asked for.
    """

    tracking_uri: str
    uri: str
    reused: bool
    version: str


def check_registered_name(uri: str, files: StudyFiles, name: str) -> None:
    """Raise `UserError` for a name that MLflow refuses; do nothing where it does not answer."""
    try:
        client, _ = open_client(uri, files.artifacts)
        client.get_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
            raise UserError(
                f"`--register` must be a name that MLflow takes, got {name!r} "
                f"({first_line(error)}); choose another, such as scenes-sparse"
            ) from None


def log_shipped(
    uri: str, files: StudyFiles, trial: str, number: int, folder: Path, *, register: str | None
) -> InMlflow:
    """Log what `folder` holds, the files of `ship`, with the run of a trial.

    register: a registered model that gets it as a version, once. Raises `Failure` where MLflow
    does not answer, refuses, or does not know the trial.
    """
    try:
        client, experiment = open_client(uri, files.artifacts)
        shipped = json.loads((folder / "ship.json").read_text())
        run = _run_of(client, experiment, files, trial, uri)
        model = _find_or_create(client, run, shipped, folder)
        reused = model.status == LoggedModelStatus.READY
        if not reused:
            client.log_batch(run.info.run_id, metrics=_metrics(model, run, files, number, shipped))
            _log_files(client, model, run, shipped, folder)
        for name in _DESCRIPTIONS:  # a card may have gained intervals
            client.log_model_artifact(model.model_id, str(folder / name))
        version = "" if register is None else _registered(client, uri, register, model, run)
    except Failure:
        raise
    except Exception as error:
        raise Failure(f"MLflow at {masked(uri)}: {scrubbed(first_line(error), uri)}") from error
    where = without_password(uri)
    return InMlflow(tracking_uri=where, uri=model.model_uri, reused=reused, version=version)


def _run_of(client: MlflowClient, experiment: str, files: StudyFiles, trial: str, uri: str) -> Run:
    study_id = json.loads(files.description.read_text())["study_id"]
    where = f"tags.`{TAG_STUDY_ID}` = '{study_id}' and tags.`{TAG_TRIAL}` = '{trial}'"
    runs = client.search_runs([experiment], where, order_by=["attributes.start_time ASC"])
    if not runs:
        raise Failure(
            f"MLflow at {masked(uri)} does not know {trial}; "
            f"`{again('sync', files.study, files.storage)}` writes the study there, with the same "
            "--tracking-uri if one was given"
        )
    return runs[0]


def _find_or_create(
    client: MlflowClient, run: Run, shipped: Mapping[str, Any], folder: Path
) -> LoggedModel:
    """Return the model of this file; one that is not READY was interrupted while being logged."""
    content = digest((folder / "model.onnx").read_bytes())
    experiment, run_id = run.info.experiment_id, run.info.run_id
    found = client.search_logged_models([experiment], f"tags.`{TAG_DIGEST}` = '{content}'")
    own = [model for model in found if model.source_run_id == run_id]
    kept = {name: run.data.tags[name] for name in (TAG_STUDY, TAG_STUDY_ID, TAG_TRIAL, TAG_METHOD)}
    model = (
        own[0]
        if own
        else client.create_logged_model(
            experiment,
            name=kept[TAG_TRIAL],
            source_run_id=run_id,
            tags=kept | {TAG_DIGEST: content},
            model_type="onnx",
        )
    )
    linked = run.outputs.model_outputs if run.outputs else ()
    if model.model_id not in {output.model_id for output in linked}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def _log_files(
    client: MlflowClient, model: LoggedModel, run: Run, shipped: Mapping[str, Any], folder: Path
) -> None:
    proto = onnx.load(str(folder / "model.onnx"))
    signature = _signature(proto)
    versions = shipped["versions"]
    with tempfile.TemporaryDirectory() as written:
        path = Path(written) / "model"
        mlflow.onnx.save_model(
            proto,
            str(path),
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                model_id=model.model_id,
                run_id=run.info.run_id,
            ),
            signature=signature,
            input_example=_example(signature, shipped["config"]["data"]["size"]),
            # What verified it; the default asks for a GPU first, and warns where there is none.
            onnx_execution_providers=["CPUExecutionProvider"],
            pip_requirements=[f"{n}=={versions[n]}" for n in ("onnx", "onnxruntime", "numpy")],
            save_as_external_data=False,
        )
        client.log_model_artifacts(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, "READY")


def _signature(proto: onnx.ModelProto) -> ModelSignature:
    """Return the tensors of the file by name: the images, and a prediction for each task."""

    def specs(values: Any) -> Schema:
        tensors = []
        for value in values:
            dims = value.type.tensor_type.shape.dim
            shape = tuple(dim.dim_value or -1 for dim in dims)  # an open one has no value
            tensors.append(TensorSpec(np.dtype(np.float32), shape, value.name))
        return Schema(tensors)

    return ModelSignature(inputs=specs(proto.graph.input), outputs=specs(proto.graph.output))


def _example(signature: ModelSignature, size: list[int]) -> dict[str, np.ndarray]:
    """Return one random image; its values are eighths, which are short in JSON."""
    (images,) = signature.inputs.inputs
    eighths = np.random.default_rng(0).integers(-16, 17, (1, 3, *size))
    return {images.name: (eighths / 8).astype(np.float32)}


def _metrics(
    model: LoggedModel, run: Run, files: StudyFiles, number: int, shipped: Mapping[str, Any]
) -> list[Metric]:
    """Return the model's metrics: the trial's last ones, which the run has, and those of `ship`.

    Their time is the model's, so that the same call makes no second point.
    """
    last = read_json_lines(files.reports(number))[-1]
    measured = {_METRICS + n: v for n, v in shipped["metrics"].items() if v is not None}
    points = metrics_of(
        [last, {**last, "metrics": measured, "at": model.creation_timestamp / 1000}]
    )
    ids = {"model_id": model.model_id, "run_id": run.info.run_id}
    return [Metric(p.key, p.value, p.timestamp, p.step, **ids) for p in points]


def _registered(client: MlflowClient, uri: str, name: str, model: LoggedModel, run: Run) -> str:
    """Return the version of the registered model that is this one; made if there is none."""
    run_id = run.info.run_id
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    for found in versions:
        if (found.name, found.source) == (name, model.model_uri):
            return str(found.version)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = uri  # where a registry in a database looks for the model
    try:
        made = client.create_model_version(name, model.model_uri, run_id, model_id=model.model_id)
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before
    return str(made.version)

"""YAHPO Gym's surrogates: networks that were fitted to real hyperparameter searches, in ONNX.

Pfisterer, Schneider et al. 2022, "YAHPO Gym: An Efficient Multi-Objective Multi-Fidelity Benchmark
for Hyperparameter Optimization". The models and the codes of categories are read from the folder
named by `DISPARSE_YAHPO`; the orders of columns are those of yahpo-gym 1.0.2, with which a test
compares them where that package is installed.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import UserError

VARIABLE = "DISPARSE_YAHPO"
_MISSING = "#na#"  # the category of a parameter that a configuration does not read


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What a model reads and says, in its order. maximised: those targets that are."""

    continuous: tuple[str, ...]
    categorical: tuple[str, ...]
    targets: tuple[str, ...]
    maximised: tuple[str, ...]


def _columns(*, continuous: str, categorical: str, targets: str, maximised: str) -> Columns:
    return Columns(
        continuous=tuple(continuous.split()),
        categorical=tuple(categorical.split()),
        targets=tuple(targets.split()),
        maximised=tuple(maximised.split()),
    )


COLUMNS = {
    "lcbench": _columns(
        continuous="epoch batch_size learning_rate momentum weight_decay num_layers max_units "
        "max_dropout",
        categorical="OpenML_task_id",
        targets="time val_accuracy val_cross_entropy val_balanced_accuracy test_cross_entropy "
        "test_balanced_accuracy",
        maximised="val_accuracy val_balanced_accuracy test_balanced_accuracy",
    ),
    "rbv2_xgboost": _columns(
        continuous="nrounds eta gamma lambda alpha subsample max_depth min_child_weight "
        "colsample_bytree colsample_bylevel rate_drop skip_drop trainsize repl",
        categorical="task_id booster num.impute.selected.cpo",
        targets="acc bac auc brier f1 logloss timetrain timepredict memory",
        maximised="acc bac auc f1",
    ),
    "rbv2_rpart": _columns(
        continuous="cp maxdepth minbucket minsplit trainsize repl",
        categorical="task_id num.impute.selected.cpo",
        targets="acc bac auc brier f1 logloss timetrain timepredict memory",
        maximised="acc bac auc f1",
    ),
    "iaml_glmnet": _columns(
        continuous="alpha s trainsize",
        categorical="task_id",
        targets="mmce f1 auc logloss ramtrain rammodel rampredict timetrain timepredict mec ias nf",
        maximised="f1 auc",
    ),
}


class Model:
    """One surrogate. Deterministic; it predicts on one thread."""

    def __init__(self, name: str) -> None:
        import onnxruntime

        folder = data_folder() / name
        self.columns = COLUMNS[name]
        self._codes = json.loads((folder / "encoding.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def encode(
        self, configurations: Sequence[Mapping[str, Any]]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the codes of categories (N, K) and the numbers (N, C); 0 is a number not read."""
        categories = [
            [self._codes[name][str(given.get(name, _MISSING))] for name in self.columns.categorical]
            for given in configurations
        ]
        numbers = [
            [given.get(name, 0.0) for name in self.columns.continuous] for given in configurations
        ]
        return np.array(categories, dtype=np.int32), np.array(numbers, dtype=np.float32)

    def predict(
        self, configurations: Sequence[Mapping[str, Any]], targets: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return the named targets (N, T), minimised: those that are maximised are negated.

        configurations: complete, fidelity and instance included.
        """
        categories_NK, numbers_NC = self.encode(configurations)
        (found_NT,) = self._session.run(None, {"x_cat": categories_NK, "x_cont": numbers_NC})
        signs = [-1.0 if name in self.columns.maximised else 1.0 for name in targets]
        chosen = [self.columns.targets.index(name) for name in targets]
        values_NT: NDArray[np.float64] = found_NT[:, chosen].astype(np.float64) * signs
        return values_NT


@functools.cache
def get_model(name: str) -> Model:
    """Return a model, read once for a process."""
    return Model(name)


def data_folder() -> Path:
    """Return the folder of the models and tasks. Raises `UserError` where there is none."""
    problem = data_problem()
    if problem is not None:
        raise UserError(problem)
    return Path(os.environ[VARIABLE])


def data_problem() -> str | None:
    """Return what is wrong with the folder named by `DISPARSE_YAHPO`; None if nothing is."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return f"{VARIABLE} is not set: name the folder that holds YAHPO's tasks.json and models"
    if not (Path(folder) / "tasks.json").is_file():
        return f"{VARIABLE}={folder} holds no tasks.json; name the folder of YAHPO's models"
    return None

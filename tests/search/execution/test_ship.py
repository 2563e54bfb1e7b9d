"""`search ship`: from a study's record to files and a model in MLflow, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pytest
from mlflow.tracking import MlflowClient

from search.execution import ship as shipping
from search.execution.ship import Shipped, Wanted, ship_from_study
from search.messages import shipped_json, shipped_lines
from spaces.presets import trial_config
from tests.search.tracking.mlflow_files import LENGTHS, Recorded, content, project, runs_of
from tests.trainables.shipping.conftest import MICRO
from trainables.errors import UserError
from trainables.shipping.card import interval
from trainables.shipping.formats import packages
from trainables.shipping.in_words import at_most
from trainables.shipping.options import ShipOptions
from trainables.terminal.as_typed import python
from trainables.training.trial import TrialRun

TASKS = ("segmentation", "normals", "depth")
Ship = Callable[..., Shipped]
COMMAND = ["python", "-m", "search", "ship", "s"]

pytestmark = pytest.mark.xdist_group("search_ship")  # they share a study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Trials: dense; random, the knee; snip, which was stopped; rigl, whose model is lost.

    The dense one was confirmed three times: it missed a constraint the second time, and failed the
    third.
    """
    folder = tmp_path_factory.mktemp("runs")
    study = Recorded(folder)
    ends: list[dict[str, Any]] = [
        {"quality": 0.50, "density": 1.0},
        {"quality": 0.48, "density": 0.2},
        {"status": "stopped"},
        {"quality": 0.20, "density": 0.1},
    ]
    for method, end in zip(("dense", "random", "snip", "rigl"), ends, strict=True):
        config = trial_config(
            method,
            "scenes",
            "tiny",
            root=str(folder / "scenes"),
            tasks=TASKS,
            sparsity=None if method == "dense" else 0.8,
            overrides=MICRO,
        )
        number = study.begin(method, config.to_dict())
        study.report(number)
        if method in ("dense", "random"):
            run = TrialRun(config, device="cpu")
            while run.next_report() is not None:
                pass
            run.export(study.files.model(number))
            assert run.last_report is not None
            metrics = run.last_report.metrics.items()
            end["further"] = {n: v for n, v in metrics if n.startswith("test/")}
        study.end(number, **end)
        if method == "dense":
            again_at = [
                {"further": {name: factor * value for name, value in end["further"].items()}}
                for factor in (2, 4)
            ]
    again_at[1]["status"] = "infeasible"
    for seed, again in enumerate((*again_at, {"status": "failed"}), start=7):
        number = study.begin("dense", {"seed": seed, **LENGTHS}, confirms=0)
        study.end(number, **again)
    return study


@pytest.fixture
def ship(study: Recorded, tmp_path: Path, uri: str) -> Ship:
    """Ship into `out` of the test's folder; MLflow is the test's own and knows the study."""
    project(study, uri).close(finished=True)

    def call(*, tracking_uri: str = uri, data: bool = False, **wanted: Any) -> Shipped:
        return ship_from_study(
            str(study.files.storage),
            "s",
            Wanted(**{"out": tmp_path / "out", **wanted}),
            ShipOptions(with_data=data),
            command=COMMAND,
            tracking_uri=tracking_uri,
            quiet=True,
        )

    return call


def models(uri: str) -> list[Any]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("disparse")
    assert experiment is not None
    return list(client.search_logged_models([experiment.experiment_id]))


def test_the_knee_is_shipped_and_is_a_model_of_its_run(
    ship: Ship, study: Recorded, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(uri)
    shipped = ship(register="rooms", data=True)
    assert (shipped.trial, shipped.problem) == ("s-00001", "")
    assert shipped.why[0].startswith("of the 3 models on the front, the knee")
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        *("model.onnx", "model.pt2", "weights.safetensors", "card.md", "ship.json"),
    }
    assert json.loads((out / "ship.json").read_text())["command"] == COMMAND
    logged = shipped.in_mlflow
    assert logged is not None
    assert (logged.reused, logged.version) == (False, "1")
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    expected = dict(zip(TASKS, session.run(None, {"images": images}), strict=True))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for address in (logged.uri, "models:/rooms/1"):
        predicted = mlflow.pyfunc.load_model(address).predict(images)
        assert list(predicted) == list(TASKS)
        for task in TASKS:
            np.testing.assert_array_equal(predicted[task], expected[task])
    # The trial's own figures stay as they were: those of `ship` have names of their own.
    after = content(uri)
    for name in before:
        points = [p for p in after[name].pop("points") if not p[0].startswith("shipped/")]
        assert points == before[name].pop("points")
    assert after == before
    assert project(study, uri, thorough=True).close(finished=True) is None
    assert content(uri)["s-00001"]["tags"] == before["s-00001"]["tags"]
    said = list(shipped_lines(shipped, Wanted(out=out, register="rooms")))
    assert any(f"mlflow.pyfunc.load_model({logged.uri!r})" in line for line in said)
    assert shipped_json(shipped)["mlflow"]["uri"] == logged.uri


def test_shipped_again_it_is_the_same_model(ship: Ship, uri: str, tmp_path: Path) -> None:
    first = ship(trial=1)
    second = ship(trial=1, register="rooms")
    third = ship(trial=1, register="rooms", out=tmp_path / "elsewhere")
    found = [shipped.in_mlflow for shipped in (first, second, third)]
    said = [one and (one.reused, one.version) for one in found]
    assert said == [(False, ""), (True, "1"), (True, "1")]
    assert len({one and one.uri for one in found}) == len(models(uri)) == 1
    assert len(MlflowClient(uri).search_model_versions("name = 'rooms'")) == 1
    outputs = runs_of(uri)["s-00001"].outputs.model_outputs
    assert [output.model_id for output in outputs] == [models(uri)[0].model_id]


def test_bounds_choose_as_pick_does(ship: Ship) -> None:
    shipped = ship(where=("cost/density>=30%",), best="segmentation/miou")
    assert shipped.trial == "s-00000"
    assert shipped.why == (
        "the only one of the 3 models on the front that meets the bounds: Segmentation mIoU ↑, 0.5",
        "cost/density is 100 %, >= 30 % (30 % of dense 100 %)",
        "the only model that meets the bounds is the dense one; the nearest sparse one is s-00001: "
        "cost/density is 20 %, must be >= 30 % (missed by 10 percentage points); --where "
        "'cost/density>=20%' would admit it",
    )


def test_a_depth_has_the_unit_of_the_studys_data_set(ship: Ship) -> None:
    why = ship(best="depth/absolute_error").why[0]
    assert why.startswith("of the 3 models on the front, the best Depth absolute error (m) ↓, ")


def test_the_cards_means_are_over_the_fresh_seeds_alone(
    ship: Ship, study: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.shipping.seeds.TrialRun", None)
    for seeds in (1, 3):
        ship(trial=0, seeds=seeds, data=True)
        card = (tmp_path / "out" / "card.md").read_text()
        assert "| 2 fresh seeds (1 more failed), mean ± 95 % |" in card
        # Twice and four times the value at selection, which is left out: 3 ± t of 1 degree, 12.706.
        metrics = study.record.trials()[0].user_attrs["metrics"]
        value = metrics["test/depth/absolute_error"]
        row = next(x for x in card.splitlines() if "absolute_error" in x)
        assert f"| {3 * value:.4g} ± {at_most(interval([2 * value, 4 * value])[1], 2)} |" in row
    assert not (study.files.trial(0) / "seeds").exists()


def test_further_seeds_give_the_card_intervals(
    ship: Ship, study: Recorded, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = ship(trial=1, seeds=2, data=True)
    assert shipped.result["seed"] == 0
    seeds = study.files.trial(1) / "seeds"
    assert [path.name for path in seeds.glob("seed-*")] == ["seed-1"]
    card = (tmp_path / "out" / "card.md").read_text()
    assert "| 2 seeds, one of them the selected, mean ± 95 % |" in card
    assert "nan" not in card
    monkeypatch.setattr("trainables.shipping.seeds.TrialRun", None)  # it is trained once
    ship(trial=1, seeds=2, data=True)
    assert shipped.in_mlflow is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    kept = Path(mlflow.artifacts.download_artifacts(shipped.in_mlflow.uri))
    assert "2 seeds" in (kept / "card.md").read_text()
    assert (kept / "ship.json").is_file()


def test_without_mlflow_the_files_are_shipped_all_the_same(ship: Ship, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shipped = ship(trial=1, tracking_uri="http://127.0.0.1:9", register="rooms")
    assert shipped.in_mlflow is None
    assert shipped.problem.startswith(f"the files are in {out}, but MLflow lacks the model (")
    assert shipped.problem.endswith("when it answers, run the same command again")
    assert (out / "model.onnx").is_file()
    assert "  MLflow" not in "".join(shipped_lines(shipped, Wanted(out=out)))
    unknown = ship(trial=1, tracking_uri=f"sqlite:///{tmp_path / 'new.db'}")
    assert f"does not know s-00001; `{python()} -m search sync s --storage" in unknown.problem


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"where": ("cost/density<=0.01",)}, r"no model of the front meets .* The nearest is"),
        ({"where": ("cost/density",)}, "`--where` must be"),
        ({"best": "nope"}, "unknown metric 'nope'. The study has cost/density"),
        ({"trial": 2}, r"must be a complete trial, got 2, which is stopped; complete are 0, 1, 3$"),
        ({"trial": 4}, "got 4, which is trial 0 at a fresh seed; complete are 0, 1, 3"),
        ({"trial": 9}, r"got 9, which is not in the study; complete are 0, 1, 3$"),
        ({"trial": 3}, r"the model of s-00003 must be in .*model.pt', but no file is there"),
        ({"trial": 1, "best": "cost/density"}, "`--trial` is the choice itself"),
        ({"trial": 1, "where": ("cost/density<=1",)}, "`--trial` is the choice itself"),
        ({"seeds": 0}, "`--seeds` must be at least 1, got 0"),
        ({"out": Path(__file__)}, r"`--out` must be writable, got .*\(it is a file\)"),
        ({"register": "a/b"}, r"`--register` must be a name that MLflow takes, got 'a/b' \("),
        ({"register": " "}, "`--register` must be a name that MLflow takes"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(
    ship: Ship, uri: str, tmp_path: Path, wanted: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ship(**wanted)
    assert not list((tmp_path / "out").glob("*"))
    assert models(uri) == []


def test_a_runtime_that_is_not_installed(ship: Ship, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGES", ("onnx", "no_such_runtime"))
    with pytest.raises(UserError, match="got no no_such_runtime"):
        ship(trial=1)


def test_a_study_without_a_complete_trial(tmp_path: Path) -> None:
    study = Recorded(tmp_path)
    study.whole(status="failed", params=LENGTHS)
    with pytest.raises(UserError, match=r"picked from complete .* got none of 1 \(1 failed\)"):
        ship_from_study(
            str(tmp_path), "s", Wanted(out=tmp_path / "o"), ShipOptions(), command=COMMAND
        )
    assert shipping.Wanted(out=tmp_path).seeds == 1

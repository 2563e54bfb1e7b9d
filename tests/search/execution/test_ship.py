"""`search ship`: from a study's record to files and a model in MLflow, and what it refuses."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pytest
from mlflow.tracking import MlflowClient

from analysis.statistics.reasons import Standing
from analysis.studies.trials import Trial
from search.execution import ship as shipping
from search.execution.ship import Shipped, Wanted, ship_from_study
from search.messages import shipped_json, shipped_lines
from search.record.files.study_folder import read_json
from search.record.files.trials_table import write_trials
from search.record.outcomes import Outcome
from spaces.presets import trial_config
from tests.analysis.test_command_line import run
from tests.search.plans.small_grid import cells_of, small
from tests.search.studies import driver_of
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


def chosen(study: Recorded, wanted: Wanted) -> tuple[Trial, tuple[str, ...], Standing]:
    """What `search ship` takes of a study, why, and what fresh seeds say of it."""
    trials = study.record.trials()
    recorded = shipping._recorded(study.files, read_json(study.files.description), trials)
    return shipping._chosen(recorded, trials, wanted)


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


def test_where_all_fresh_trainings_failed_the_card_says_so(tmp_path: Path) -> None:
    study = Recorded(tmp_path)
    study.end(study.begin("snip", {"seed": 0, **LENGTHS}), quality=0.5)
    for seed in (7, 8):
        study.end(study.begin("snip", {"seed": seed, **LENGTHS}, confirms=0), "failed")
    study.begin("snip", {"seed": 9, **LENGTHS}, confirms=0)  # still at work
    trial, _, standing = chosen(study, Wanted(out=tmp_path))
    assert (standing.runs.metrics, standing.runs.num_failed) == ({}, 2)
    own = ([trial.metrics], "the selected seed (2 fresh ones failed)")
    assert shipping._statistics(trial.metrics, [], 2) == own


def test_without_a_complete_trial_the_command_that_goes_on_is_said(tmp_path: Path) -> None:
    study = Recorded(tmp_path)
    with pytest.raises(UserError) as caught:
        chosen(study, Wanted(out=tmp_path))
    assert f"`{python()} -m search resume s --storage {tmp_path}` goes on" in str(caught.value)


def test_a_confirmed_front_is_chosen_from_by_its_means_over_fresh_seeds(tmp_path: Path) -> None:
    study = Recorded(tmp_path)
    settings = [{"method": m, "seed": 0, **LENGTHS} for m in ("dense", "snip", "rigl")]
    for config, quality, density in zip(settings, (0.5, 0.49, 0.48), (1.0, 0.4, 0.2), strict=True):
        study.end(study.begin(config["method"], config), quality=quality, density=density)
    wanted = Wanted(out=tmp_path, max_loss=5.0, best="cost/density")

    def taken() -> int:
        trial, *_ = chosen(study, wanted)
        assert trial.metrics[study.plan.objectives[0]] == (0.5, 0.49, 0.48)[trial.number]
        return trial.number

    def standing(asked: Wanted = wanted) -> Standing:
        return chosen(study, asked)[2]

    assert taken() == 2
    assert standing().sentences() == []  # nothing is confirmed, and nobody says it is
    # At fresh seeds the cheapest loses 10 %: it was lucky.
    for seed in (7, 8):
        for of, quality, density in ((0, 0.5, 1.0), (1, 0.49, 0.4), (2, 0.45, 0.2)):
            assert taken() == 2  # until all of the front is confirmed at two seeds
            number = study.begin(settings[of]["method"], {**settings[of], "seed": seed}, of)
            study.end(number, quality=quality, density=density)
    assert taken() == 1
    assert standing().sentences() == []
    # A new member of the front, not confirmed yet: values at selection decide, and it says so.
    study.end(study.begin("set", {"seed": 0, **LENGTHS}), quality=0.3, density=0.1)
    assert taken() == 2
    new, said_of_it = standing().sentences()
    assert new.startswith("1 of the 4 models on the front is not confirmed (s-00009), so values")
    assert f"-m search confirm s --seeds 2 --storage {tmp_path}` confirms it" in new
    assert said_of_it.startswith("at 2 fresh seeds: segmentation 10 % worse, ")
    assert said_of_it.endswith(", beside the dense model; it misses segmentation/miou>=95%")
    asked = replace(wanted, max_loss=None, best=None, trial=2)
    (said,) = standing(asked).sentences()
    assert said.startswith("at 2 fresh seeds: segmentation 10 % worse, ")


ASKED: Sequence[dict[str, Any]] = (
    {},
    {"best": "segmentation/miou"},
    {"max_loss": 5.0, "best": "cost/density"},
    {"where": ("cost/density<0.5",)},
    {"where": ("segmentation/miou>=93%",), "best": "cost/density"},
)


def check_pick_agrees(
    study: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[tuple[int, bool]]:
    """Return which trial each condition takes, and whether by fresh seeds; pick takes the same."""
    ended = [trial for trial in study.record.trials() if trial.state.is_finished()]
    write_trials(study.files.trials, "s", ended)
    taken = []
    for asked in ASKED:
        trial, why, standing = chosen(study, Wanted(out=study.files.directory, **asked))
        options = [word for where in asked.get("where", ()) for word in ("--where", where)]
        options += ["--max-loss", str(asked["max_loss"])] if "max_loss" in asked else []
        options += ["--best", asked["best"]] if "best" in asked else []
        command = ("pick", "s", "--storage", study.files.storage, *options)
        assert run(monkeypatch, *command, "--json", "-") == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["trial"], answer["number"]) == (trial.trial, trial.number)
        said = standing.to_json()  # the losses among them
        assert {name: answer[name] for name in said} == said
        assert answer["chosen_by_fresh_seeds"] == standing.by_fresh
        assert run(monkeypatch, *command) == 0
        assert why[0] in capsys.readouterr().out
        taken.append((trial.number, standing.by_fresh))
    return taken


def test_pick_takes_the_same_of_a_confirmed_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of rigl's three trainings has an objective that is no number, which is a failure."""
    study = Recorded(tmp_path)
    values = {"dense": (0.5, 1.0), "snip": (0.48, 0.4), "rigl": (0.47, 0.2), "set": (0.3, 0.1)}
    for method, (quality, density) in values.items():
        number = study.begin(method, {"seed": 0, **LENGTHS})
        study.end(number, quality=quality, density=density)
    before = check_pick_agrees(study, monkeypatch, capsys)
    assert not any(by_fresh for _, by_fresh in before)
    miou = study.plan.objectives[0]
    for of, (method, (quality, density)) in enumerate(values.items()):
        for seed in (7, 8, 9):
            number = study.begin(method, {"seed": seed, **LENGTHS}, of)
            odd = {miou: math.nan} if (method, seed) == ("rigl", 9) else {}
            study.end(number, quality=quality - 0.001 * of, density=density, further=odd)
        now = check_pick_agrees(study, monkeypatch, capsys)
        assert all(by_fresh == (method == "set") for _, by_fresh in now)
    trial, _, standing = chosen(study, Wanted(out=tmp_path, max_loss=7.0, best="cost/density"))
    assert (trial.number, sorted(standing.runs.metrics), standing.runs.num_failed) == (2, [7, 8], 1)
    assert standing.losses[miou] == pytest.approx(100 * (0.5 - 0.468) / 0.5)


def test_pick_takes_the_same_of_a_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Systems are compared by their means: rigl's second seed, the best of all, was a lucky one."""
    methods = ("dense", "snip", "rigl")
    plan = small(methods=methods, sparsities=(0.8,), seeds=2, study="s")
    study = Recorded(tmp_path, plan=plan)
    qualities = {"dense": (0.5, 0.52), "snip": (0.48, 0.47), "rigl": (0.4, 0.53)}
    ledger = driver_of(plan, study.record)
    seeds = sorted({seed for seed, *_ in cells_of(plan)})
    while (assignment := ledger.next()) is not None:
        method, seed = assignment.config.method, assignment.config.seed
        values = (qualities[method][seeds.index(seed)], 20.0, 1.0, 1 if method == "dense" else 0.2)
        metrics = dict(zip(plan.objectives, values, strict=True))
        outcome = Outcome(status="complete", reason="", metrics=metrics, fraction=1.0)
        ledger.finish(assignment.number, outcome)
    taken = check_pick_agrees(study, monkeypatch, capsys)
    by_number = {t.number: t.user_attrs["config"]["method"] for t in study.record.trials()}
    best = next(number for number, asked in zip(taken, ASKED, strict=True) if "where" in asked)
    assert by_number[best[0]] == "snip"
    lucky = chosen(study, Wanted(out=tmp_path, trial=max(by_number)))[0]
    assert lucky.number == max(by_number)  # a trial that is named is no system


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

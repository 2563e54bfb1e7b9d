"""The pipeline with the process stood in for: what is run, with which settings, and what is not."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.claims.__main__ import parse_data_roots, require_data
from benchmarks.claims.jobs import Options, settle
from benchmarks.claims.protocol import SETTINGS, get_settings
from benchmarks.claims.results.findings import collect
from benchmarks.claims.studies import run_setting
from search.__main__ import app
from spaces.presets import trial_config
from tests.benchmarks.claims.claims_studies import FakeSearch
from trainables.errors import Failure, UserError
from trainables.sweep.folder import SweepFolder
from trainables.sweep.grid import read_grid

SCENES = SETTINGS["scenes"]
SMALL = ("data.num_train=24", "data.num_test=4", "data.size=32x32", "data.crop=32x32")


def rule(system: str, sparsity: float | None, seed: int, settings: dict[str, Any]) -> float | None:
    """disparse-static is 10 % better than random; half the learning rate suits random best."""
    base = {"dense": 0.8, "disparse-static": 0.9}.get(system, 1.0) + 0.001 * seed % 0.01
    if settings.get("optimiser.learning_rate") == 0.0015 and system == "random":
        base *= 0.99
    elif settings and seed == 1000:
        base *= 1.1
    return base


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("scenes") / "store")


@pytest.fixture
def options(tmp_path: Path, scenes: str) -> Options:
    return Options(
        storage=tmp_path / "runs",
        data_roots={"scenes": scenes},
        steps=6,
        seeds=2,
        systems=("dense", "random", "disparse-static"),
        overrides=SMALL,
    )


def launch(options: Options, search: FakeSearch) -> list[str]:
    said: list[str] = []
    run_setting(settle(SCENES, options), options, search, said.append)
    return said


def test_tune_choose_compare(options: Options) -> None:
    search = FakeSearch(rule)
    launch(replace(options, concurrency=2, quiet=True), search)
    assert search.studies == ["claims-scenes-tuning", "claims-scenes"]
    tuning, final = (" ".join(command) for command in search.commands)
    assert "baselines scenes-tiny" in tuning
    assert "--seed 1000 --seeds 1" in tuning
    assert "--sparsities 0.9" in tuning
    assert "--seed 0 --seeds 2" in final
    assert "--sparsities 0.3,0.9" in final
    for command in (tuning, final):
        assert "--methods dense,random,disparse-static" in command
        assert "--set training.steps=6 --set data.num_train=24" in command
        assert command.endswith("--concurrency 2 --quiet")
    variants, chosen = search.settings
    assert [len(v) for v in variants.values()] == [4, 4, 4]
    assert chosen == {
        "dense": {},
        "random": {"optimiser.learning_rate": 0.0015},
        "disparse-static": {},
    }


def test_finished_studies_are_left_alone(options: Options) -> None:
    launch(options, FakeSearch(rule))
    again = FakeSearch(rule)
    # Nothing but the storage is repeated: the rest is as recorded.
    said = launch(Options(storage=options.storage), again)
    assert again.commands == []
    assert [line.partition(":")[0] for line in said] == ["claims-scenes-tuning", "claims-scenes"]


def test_what_a_final_study_was_begun_with_stands(options: Options) -> None:
    """A choice that another rule would not make, as an earlier version may have left it."""
    launch(options, FakeSearch(rule))
    path = options.storage / "claims" / "scenes.chosen.json"
    kept = {**json.loads(path.read_text()), "random": {}}
    path.write_text(json.dumps(kept))
    launch(Options(storage=options.storage), FakeSearch(rule))
    assert json.loads(path.read_text()) == kept
    scenes = collect(options.storage)["settings"][0]
    (chosen,) = [r for r in scenes["variants"] if r["system"] == "random" and r["chosen"]]
    assert (chosen["label"], chosen["best"]) == ("default", False)


def test_an_interrupted_study_goes_on_as_it_was(options: Options) -> None:
    search = FakeSearch(rule, stop_after=5)
    with pytest.raises(Failure, match="5 of 12 trials"):
        launch(options, search)
    launch(Options(storage=options.storage), search)
    assert search.studies == ["claims-scenes-tuning"] * 2 + ["claims-scenes"]
    assert search.commands[0] == search.commands[1]
    record = json.loads((options.storage / "claims" / "scenes.json").read_text())
    launches = record["studies"]["claims-scenes-tuning"]["launches"]
    assert [item["exit_status"] for item in launches] == [1, 0]


def test_a_finished_study_whose_command_complains_counts(options: Options) -> None:
    said = launch(options, FakeSearch(rule, exit_status=1))
    assert any("exit status 1" in line for line in said)


def test_other_options_are_another_study(options: Options) -> None:
    launch(options, FakeSearch(rule))
    with pytest.raises(UserError, match="begun with --steps 6, got 7"):
        settle(SCENES, replace(options, steps=7))
    moved = settle(SCENES, replace(options, data_roots={"scenes": "/elsewhere"}))
    assert moved.data_root == "/elsewhere"


def test_a_system_of_which_nothing_ended_is_left_out(options: Options) -> None:
    def failing(system: str, *rest: Any) -> float | None:
        return None if system == "random" else rule(system, *rest)

    search = FakeSearch(failing)
    said = launch(options, search)
    assert any("every variant of random failed" in line for line in said)
    assert search.commands[1][search.commands[1].index("--methods") + 1] == "dense,disparse-static"
    scenes = collect(options.storage)["settings"][0]
    claim = next(c for c in scenes["pairs"] if c["name"] == "disparse-static-random-90")
    assert (claim["verdict"], claim["note"]) == ("not run", "random not in the study")


def test_findings_are_those_of_the_rule(options: Options) -> None:
    """Errors by 0.9 and gains by 1/0.9: with one dense-free pair, every task improves by
    10 % in its errors and 11.1 % in its fractions."""
    launch(options, FakeSearch(lambda s, *_: 0.9 if s == "disparse-static" else 1.0))
    scenes, normals, _ = collect(options.storage)["settings"]
    claim = next(c for c in scenes["pairs"] if c["name"] == "disparse-static-random-30")
    gain, loss = 100 * (1 / 0.9 - 1), 10.0
    by_task = [(2 * gain + loss) / 3, (2 * loss + 3 * gain) / 5, (2 * loss + 3 * gain) / 5]
    expected = (sum(by_task) + 2 * loss) / 5
    assert claim["delta"]["mean"] == pytest.approx(expected)
    assert claim["verdict"] == "holds"
    assert claim["tasks"]["normals"]["mean"] == pytest.approx(3.0)
    assert [w["verdict"] for w in scenes["watersheds"]] == ["holds", "holds"]
    assert scenes["final"]["parent_run_id"] == "run-of-claims-scenes"
    assert scenes["facts"]["frames"]["test"] == 4
    row = next(r for r in scenes["systems"] if r["system"] == "disparse-static")
    assert row["delta_to_dense"]["mean"] == pytest.approx(expected)
    assert {c["verdict"] for c in normals["pairs"]} == {"not run"}


def test_an_unfinished_study_is_judged_nowhere(options: Options) -> None:
    launch(options, FakeSearch(rule))
    partial = FakeSearch(rule, stop_after=7)
    for name in ("trials.parquet", "study.json"):
        (options.storage / "claims-scenes" / name).unlink()
    with pytest.raises(Failure):
        launch(Options(storage=options.storage), partial)
    scenes = collect(options.storage)["settings"][0]
    assert {c["verdict"] for c in scenes["pairs"]} == {"not run"}
    assert scenes["final"]["finished_trials"] == 7
    assert len(scenes["variants"]) == 12


def test_grids_go_to_another_host_and_their_sweeps_come_back(
    options: Options, tmp_path: Path
) -> None:
    grids, study = tmp_path / "grids", SCENES.tuning_study
    said: list[str] = []

    def run_search(command: Sequence[str]) -> int:
        return CliRunner().invoke(app, command[3:], catch_exceptions=False).exit_code

    exporting = replace(options, export_grids=grids, import_from=grids)
    assert not run_setting(settle(SCENES, options), exporting, run_search, said.append)
    assert [path.name for path in grids.iterdir()] == [f"{study}.json"]
    out = grids / study
    assert f"python -m trainables sweep {grids}/{study}.json --out {out}" in said[-1]
    grid = read_grid(grids / f"{study}.json", trial_config)
    assert [trial.config.seed for trial in grid.trials] == [1000] * 12
    assert {t.config.method for t in grid.trials} == set(options.systems or ())

    folder = SweepFolder(out)
    begun = folder.begin(grid, "cuda", ["digest"] * 12)
    for trial in begun.trials[:2]:
        kept = folder.trial(trial.number)
        kept.directory.mkdir(parents=True)
        versions = {"torch": "2.13.0", "python": "3.11.7"}
        summary = {"timing": {"total_seconds": 30.25}, "versions": versions}
        (kept / "summary.json").write_text(json.dumps(summary))
        named = {"number": trial.number, "name": trial.name, "config": trial.config}
        kept.end({**named, "device": "cuda", "gpu": "NVIDIA H200"}, {"status": "complete"})
    search = FakeSearch(rule)
    lines: list[Sequence[str]] = []

    def run_import(command: Sequence[str]) -> int:
        lines.append(command)
        record = json.loads((options.storage / "claims" / "scenes.json").read_text())
        return search(record["studies"][study]["command"])

    importing = replace(options, import_from=grids)
    assert not run_setting(settle(SCENES, options), importing, run_import, said.append)
    where = ["--name", study, "--storage", str(options.storage)]
    assert [line[1:] for line in lines] == [["-m", "search", "import", str(out), *where]]
    assert said[-1].startswith(f"{SCENES.final_study}: no sweep in {grids / SCENES.final_study}")
    record = json.loads((options.storage / "claims" / "scenes.json").read_text())
    (launch,) = record["studies"][study]["launches"]
    assert launch["machine"]["gpu"] == "NVIDIA H200"
    assert (launch["seconds"], launch["exit_status"]) == (60.5, 0)
    assert launch["versions"] == {"torch": "2.13.0"}
    assert record["studies"][study]["command"][3] == "baselines"


def test_data_is_asked_for_before_anything_runs() -> None:
    jobs = [settle(setting, Options(storage=Path("nowhere"))) for setting in get_settings(())]
    with pytest.raises(UserError, match=r"nyu-v2-normals need nyu-v2 .*`--data-root"):
        require_data(jobs)
    require_data(jobs[:1])


def test_data_roots() -> None:
    assert parse_data_roots(["a/b", "scenes=c"]) == {"nyu-v2": "a/b", "scenes": "c"}
    with pytest.raises(UserError, match="taskonomy"):
        parse_data_roots(["taskonomy=x"])


@pytest.mark.parametrize("item", ["training.steps=5", "data.tasks=depth"])
def test_settings_that_the_protocol_decides(item: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used here"):
        settle(SCENES, Options(storage=tmp_path, overrides=(item,)))

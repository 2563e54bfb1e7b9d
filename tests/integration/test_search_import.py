"""`search import`: a grid that was swept without Ray becomes the study that Ray would have made."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from search.execution import swept as execution_swept
from search.execution.swept import read_swept
from tests.integration.micro_grids import (
    NUM_TRIALS,
    baselines,
    invoke,
    sweep_here,
    write_recipe,
)
from tests.integration.records import check_points, mlflow_runs, recorded_trials
from trainables.errors import Failure, UserError
from trainables.integrity.checksums import read_sealed, sealed
from trainables.sweep.folder import SweepFolder, TrialFolder
from trainables.terminal.answers import write_json

# What Ray's study and an imported one have of their own: moments, and times that were measured.
_OWN_COLUMNS = ("started", "ended", "metrics")
_MEASURED = ("training/gpu_hours",)

pytestmark = pytest.mark.xdist_group("search_import")  # they share a swept grid


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A recipe, the folder of its data, and its grid swept."""
    folder = tmp_path_factory.mktemp("swept")
    recipe = write_recipe(folder)
    grid = folder / "grid.json"
    said = invoke(*baselines(recipe, folder / "store", "--export-grid", str(grid)))
    assert f"wrote {grid}: {NUM_TRIALS} trials of grid" in said
    assert not (folder / "runs").exists()
    sweep_here(grid, folder / "out")
    return recipe, folder / "store", folder / "out"


def rows_of(storage: Path, study: str) -> list[dict[str, Any]]:
    rows = pq.read_table(storage / study / "trials.parquet").to_pylist()
    return [
        {n: v for n, v in row.items() if n not in (*_OWN_COLUMNS, *_MEASURED)}
        | {"trial": row["trial"].rpartition("-")[2]}
        for row in rows
    ]


def statuses_of(out: Path) -> list[str]:
    folder = SweepFolder(out)
    ends = [read_sealed(folder.trial(number).result_file) for number in range(NUM_TRIALS)]
    assert {end["result"]["status"] for end in ends} == {"complete", "failed"}
    return [end["result"]["status"] for end in ends]


def check_records(storage: Path) -> None:
    """Table, record and MLflow agree on every trial and on all that it reported."""
    rows = pq.read_table(storage / "grid" / "trials.parquet").to_pylist()
    recorded = recorded_trials(storage, "grid")
    client, parents, children = mlflow_runs(storage, "grid")
    runs = {run.data.tags["disparse.trial"]: run for run in children}
    assert [run.info.status for run in parents] == ["FINISHED"]
    assert len(rows) == len(recorded) == len(runs) == len(children) == NUM_TRIALS
    for row, trial in zip(rows, recorded, strict=True):
        assert (row["number"], row["status"]) == (trial.number, trial.user_attrs["status"])
        assert json.loads(row["metrics"]) == trial.user_attrs["metrics"]
        run = runs[row["trial"]]
        assert run.data.tags["disparse.status"] == row["status"]
        # The steps of training proper: pre-training is a part of the budget.
        steps = (row["params/training.steps"],)
        check_points(storage, "grid", row, client, run, steps)


def take(directory: Path, storage: Path, *arguments: str) -> str:
    return invoke("import", str(directory), "--storage", str(storage), *arguments)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_it_is_the_study_that_ray_would_have_made(
    swept: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    recipe, data, out = swept
    with_ray, imported = tmp_path / "ray", tmp_path / "imported"
    # As many threads for each trial as the sweep had.
    said = invoke(*baselines(recipe, data, "--storage", str(with_ray), "--concurrency", "2"))
    taken = take(out, imported)
    assert rows_of(imported, "grid") == rows_of(with_ray, "grid")
    statuses = [row["status"] for row in rows_of(imported, "grid")]
    assert statuses == statuses_of(out)
    assert statuses[2] == "failed"
    assert "lower optimiser.learning_rate" in rows_of(imported, "grid")[2]["reason"]
    tables = [text[text.index("Primary metrics on test") :] for text in (said, taken)]
    assert tables[0].splitlines()[:8] == tables[1].splitlines()[:8]
    written = [
        {p.relative_to(folder): p.read_text() for p in (folder / "grid").rglob("*.md")}
        for folder in (imported, with_ray)
    ]
    assert written[0] == written[1]
    assert Path("grid/table.md") in written[0]
    check_records(imported)
    for number in range(NUM_TRIALS):
        folder = imported / "grid" / "trials" / f"{number:05d}"
        kept = SweepFolder(out).trial(number) / "model.pt"
        assert (folder / "model.pt").exists() == kept.exists() == (statuses[number] == "complete")
        if kept.exists():
            assert (folder / "model.pt").read_bytes() == kept.read_bytes()


@pytest.mark.timeout(1200)
def test_importing_twice_changes_nothing_and_a_part_is_completed(
    swept: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data, out = swept
    storage = tmp_path / "runs"
    bring, brought = execution_swept._bring, []

    def interrupted(kept: TrialFolder, folder: Path) -> None:
        brought.append(folder)
        if len(brought) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        bring(kept, folder)

    with monkeypatch.context() as patch:
        patch.setattr(execution_swept, "_bring", interrupted)
        with pytest.raises(Failure, match="No space left"):
            take(out, storage, "--no-report")
    said = take(out, storage, "--no-report")
    assert f"{out}: {NUM_TRIALS} trials, trained on cpu" in said
    assert "resumes with 4 trials finished" in said
    check_records(storage)
    rows = rows_of(storage, "grid")
    assert [row["status"] for row in rows] == statuses_of(out)
    record = {p: p.read_bytes() for p in storage.rglob("*") if p.suffix in (".journal", ".pt")}
    answer = json.loads(take(out, storage, "--no-report", "--json", "-"))
    assert (answer["finished"], answer["remaining"], answer["device"]) == (NUM_TRIALS, 0, "cpu")
    assert {p: p.read_bytes() for p in record} == record
    check_records(storage)
    assert rows_of(storage, "grid") == rows
    # The command that would have trained it reports it.
    again = invoke(*baselines(recipe, data, "--storage", str(storage), "--no-report"))
    assert "Primary metrics on test" in again
    # Another recipe under the name is refused with the difference, and so are other data.
    other = [*baselines(recipe, data, "--storage", str(storage)), "--seed", "7"]
    with pytest.raises(UserError, match="exists and is another one: seeds was 0,1, is now 7,8"):
        invoke(*other)
    copy = copied(out, tmp_path)
    change(copy.description, lambda v: [t.update(data="0" * 32) for t in v["trials"]])
    with pytest.raises(UserError, match="the data of 'grid' must stay the same, got others"):
        take(copy.directory, storage)
    change(storage / "grid" / "study.json", lambda v: v["settings"].update({"training.steps": 8}))
    with pytest.raises(UserError, match=r"another one: .*training\.steps was 8, is now 6"):
        take(out, storage)


def copied(out: Path, tmp_path: Path) -> SweepFolder:
    shutil.copytree(out, tmp_path / "copy")
    return SweepFolder(tmp_path / "copy")


def change(path: Path, how: Any) -> None:
    """Change a sealed file, and seal it again: it is whole, but another one."""
    values = read_sealed(path)
    how(values)
    write_json(path, sealed(values))


def set_steps(values: dict[str, Any], steps: int) -> None:
    values["study"]["settings"]["training.steps"] = steps


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: flip(f.description), r"sweep\.json' must hold one JSON object as it was"),
        (lambda f: flip(f.trial(3).result_file), r"00003/result\.json' must hold one JSON object"),
        (lambda f: flip(f.trial(3) / "reports.jsonl"), r"00003/reports\.jsonl' must be as it was"),
        (lambda f: flip(f.trial(3) / "model.pt"), r"00003/model\.pt' must be as it was written"),
        (lambda f: (f.trial(3) / "summary.json").unlink(), r"00003/summary\.json' must lie beside"),
        (lambda f: f.description.unlink(), r"must be the folder of a sweep, got no readable sweep"),
        (
            lambda f: f.trial(3).result_file.unlink(),
            r"a sweep to import must have ended, got .* with 1 of 14 trials to go",
        ),
        (
            lambda f: shutil.copyfile(f.trial(4).result_file, f.trial(3).result_file),
            r"00003/result\.json' must be of trial 3 of this sweep.*was grid-00003, is now grid-0",
        ),
        (
            lambda f: change(f.trial(3).result_file, lambda v: v["config"].update(seed=9)),
            r"00003/result\.json' must be of trial 3 of this sweep.*seed was 0, is now 9",
        ),
        (
            lambda f: change(f.trial(3).result_file, lambda v: v.update(device="cuda")),
            r"the device was cpu, is now cuda",
        ),
        (
            lambda f: change(f.description, lambda v: v.update(study=None)),
            r"must be of a grid that `search baselines … --export-grid` wrote",
        ),
        (
            lambda f: change(f.description, lambda v: v["study"].update(version=1)),
            r"must describe its study in version \d+, got 1; import it with the release",
        ),
        (
            lambda f: change(f.description, lambda v: set_steps(v, 8)),
            r"of trial 0 training\.steps was 8, is now 6",
        ),
        (
            lambda f: change(f.description, lambda v: v["study"]["grid"].update(seeds=[0])),
            r"must have the trials of its study's grid, 7, got 14",
        ),
        (
            lambda f: change(f.description, lambda v: v["trials"][0].update(data="other")),
            r"all trials of a study must have the same data, got 2 different ones",
        ),
        (
            lambda f: change(f.description, lambda v: v.update(version=2)),
            r"sweep\.json' must be of version 1, got 2",
        ),
    ],
)  # fmt: skip
def test_what_is_damaged_or_foreign_is_named_and_nothing_is_taken(
    swept: tuple[Path, Path, Path], tmp_path: Path, damage: Any, message: str
) -> None:
    folder = copied(swept[2], tmp_path)
    damage(folder)
    with pytest.raises(UserError, match=message) as raised:
        take(folder.directory, tmp_path / "runs")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "runs").exists()


def test_large_files_may_be_left_behind(swept: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder = copied(swept[2], tmp_path)
    for number in (3, 4):
        (folder.trial(number) / "model.pt").unlink()
        (folder.trial(number) / "predictions.npz").unlink()
    assert read_swept(folder.directory).num_without_model == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], r"must be at least 1, got 0"),
        (["--steps", "9", "--set", "training.steps=8"], "must be given once, got --steps 9 and"),
        (["--metrics", "corected"], "unknown metric definition 'corected'"),
        (["--metrics", "published", "--set", "metrics=corrected"], "`metrics` must be given once"),
    ],
)
def test_each_is_given_once(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        invoke("baselines", "demo", "--storage", str(tmp_path), *arguments)

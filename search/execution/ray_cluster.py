"""Ray: quiet, without telemetry, local by default; and each trial's share of it."""

import contextlib
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Self

from search.execution.ray_scratch import Scratch
from trainables.errors import Failure, UserError

_RAY_ENVIRONMENT = {
    # Data caches and relative paths mean the same in a trial as in the driver.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}


_SMALLEST_SHARE = 0.01
_SOCKET_CHARACTERS = 107  # the kernel's limit of a socket's path
_SESSION_CHARACTERS = len("/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store.0")


class RayCluster:
    """A Ray connection for one launch, shut down at its end."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._scratch: Scratch | None = None
        self._sigterm: Any = None  # whatever handled it before

    def __enter__(self) -> Self:
        import ray

        arguments: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "configure_logging": True,
        }
        if self._address == "local":
            arguments |= {
                "address": "local",
                "num_cpus": len(os.sched_getaffinity(0)),
                "include_dashboard": False,
                # Trials read data from memory-mapped files; the object store carries reports.
                "object_store_memory": 128 * 1024 * 1024,
            }
            self._scratch = Scratch.make(_SOCKET_CHARACTERS - _SESSION_CHARACTERS)
            if self._scratch is not None:
                arguments["_temp_dir"] = str(self._scratch.path)
        else:
            arguments |= {
                "address": self._address,
                "runtime_env": {"env_vars": dict(_RAY_ENVIRONMENT)},
            }
        try:
            ray.init(**arguments)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            self._remove_scratch()
            line = (str(error).strip().splitlines() or [""])[0]
            if self._address == "local":
                raise Failure(f"Ray could not be started: {line}") from error
            raise UserError(
                f"`--ray-address` must be a Ray cluster that answers, got {self._address!r} "
                f"({line}); {_remedy(error)}"
            ) from None
        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        with contextlib.suppress(ValueError):  # not the main thread, which alone hears signals
            self._sigterm = signal.signal(signal.SIGTERM, _end_at_once)
        return self

    def __exit__(self, *_: Any) -> None:
        import ray

        if self._sigterm is not None:
            signal.signal(signal.SIGTERM, self._sigterm)
        ray.shutdown()
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def shares(self, concurrency: int | None) -> tuple[int, dict[str, float]]:
        """How many trials at once (None: one per GPU, or CPU), and each one's share of both."""
        return shares(self._nodes, concurrency)


def shares(
    nodes: Sequence[Mapping[str, float]], concurrency: int | None
) -> tuple[int, dict[str, float]]:
    """The largest equal shares with which `concurrency` trials find room at once.

    nodes: the resources of each node, as Ray names them. A trial has to fit into one node: two
      nodes of four CPUs have room for three trials of two, not for three of 8 / 3.

    Where nodes have GPUs, only they are used: a share of each is part of every trial.
    """
    with_gpus = [node for node in nodes if node.get("GPU")]
    nodes = with_gpus or nodes
    gpus = [node.get("GPU", 0.0) for node in nodes]
    cpus = [node.get("CPU", 0.0) for node in nodes]
    if concurrency is None:
        concurrency = max(1, int(sum(gpus) or sum(cpus)))
    if not nodes:
        return concurrency, {"cpu": 1.0}  # an autoscaler will bring them
    resources = {}
    places: list[int] | None = None
    if with_gpus:
        resources["gpu"] = _share(gpus, concurrency, places)
        places = [_places(total, resources["gpu"]) for total in gpus]
    if any(cpus):
        resources["cpu"] = _share(cpus, concurrency, places)
    return concurrency, resources


def _share(totals: Sequence[float], parts: int, places: Sequence[int] | None) -> float:
    """The largest share of which `totals` hold `parts`, each at most its number of `places`."""
    limits = places or [parts] * len(totals)
    # Whole shares above one: Ray books no 1.5 CPUs for an actor that pins threads.
    whole = range(int(max(totals)), 0, -1)
    divided = (int(100 * total / number) for total in totals for number in range(1, parts + 1))
    hundredths = sorted({h for h in divided if 0 < h < 100}, reverse=True)
    for share in [*map(float, whole), *(h / 100 for h in hundredths)]:
        held = (
            min(limit, _places(total, share)) for total, limit in zip(totals, limits, strict=True)
        )
        if sum(held) >= parts:
            return share
    return _SMALLEST_SHARE


def _places(total: float, share: float) -> int:
    """How many shares `total` holds; in hundredths, since 3 * 0.33 must fit into 1."""
    return round(100 * total) // round(100 * share)


def _remedy(error: BaseException) -> str:
    """What to do about a cluster that cannot be joined."""
    cause: BaseException | None = error
    while cause is not None:
        if "AuthToken" in str(cause) or "AuthenticationError" in type(cause).__name__:
            return (
                "it wants its token: set RAY_AUTH_MODE=token and copy ~/.ray/auth_token from "
                "its head node"
            )
        cause = cause.__cause__ or cause.__context__
    return "use local, or start one with `ray start --head`"


def _end_at_once(*_: Any) -> None:
    """Of SIGTERM, which Ray answers with a dump of its native stack.

    A local Ray's processes often get it too, so that an orderly end would wait for them in vain;
    and `ray job stop` waits three seconds. None is needed: MLflow's writer ends the open runs,
    the next launch clears away the rest and goes on.
    """
    os.write(2, b"Ended by SIGTERM. Run the same command again to resume.\n")
    os._exit(128 + signal.SIGTERM)


def set_ray_environment() -> None:
    """Before ray is imported: no telemetry, no files of its own loggers, no strict metric."""
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

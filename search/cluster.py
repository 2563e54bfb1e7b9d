"""Ray: quiet, without telemetry, local by default; and each trial's share of it."""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from trainables.errors import Failure, UserError

_RAY_ENVIRONMENT = {
    # Data caches and relative paths mean the same in a trial as in the driver.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}


_SOCKET_CHARACTERS = 107  # the kernel's limit of a socket's path
_SESSION_CHARACTERS = len("/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store.0")


class RayCluster:
    """A Ray connection for one launch, shut down at its end."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._scratch: Path | None = None

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
            self._scratch = _scratch_folder()
            if self._scratch is not None:
                arguments["_temp_dir"] = str(self._scratch)
        else:
            arguments |= {
                "address": self._address,
                "runtime_env": {"env_vars": dict(_RAY_ENVIRONMENT)},
            }
        try:
            ray.init(**arguments)
        except (ConnectionError, ValueError, RuntimeError) as error:
            self._remove_scratch()
            line = (str(error).strip().splitlines() or [""])[0]
            if self._address == "local":
                raise Failure(f"Ray could not be started: {line}") from error
            raise UserError(
                f"`--ray-address` must be a Ray cluster that answers, got {self._address!r} "
                f"({line}); use local, or start one with `ray start --head`"
            ) from None
        self._resources: Mapping[str, float] = ray.cluster_resources()
        return self

    def __exit__(self, *_: Any) -> None:
        import ray

        ray.shutdown()
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        """Ray leaves its logs and sockets behind, megabytes for every launch."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def shares(self, concurrency: int | None) -> tuple[int, dict[str, float]]:
        """How many trials at once (None: one per GPU, or CPU), and each one's share of both."""
        num_cpus = self._resources.get("CPU", 1.0)
        num_gpus = self._resources.get("GPU", 0.0)
        if concurrency is None:
            concurrency = max(1, int(num_gpus or num_cpus))
        # Whole shares above one: Ray books no 1.5 CPUs for an actor that pins threads.
        resources = {"cpu": _share(num_cpus, concurrency)}
        if num_gpus:
            resources["gpu"] = _share(num_gpus, concurrency)
        return concurrency, resources


def _scratch_folder() -> Path | None:
    """A folder for Ray's session; None where its sockets' paths would grow too long."""
    folder = Path(tempfile.mkdtemp(prefix="disparse-"))
    if len(str(folder)) + _SESSION_CHARACTERS <= _SOCKET_CHARACTERS:
        return folder
    folder.rmdir()
    return None


def _share(total: float, parts: int) -> float:
    share = total / parts
    return float(int(share)) if share >= 1 else int(share * 100) / 100 or 0.01


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

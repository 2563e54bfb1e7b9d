"""Ray: quiet, without telemetry, local by default."""

import contextlib
import logging
import os
import shlex
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.execution.cluster.local_ray import complaint, end_processes, local_environment
from search.execution.cluster.ray_watch import RayWatch
from trainables.addresses import first_line
from trainables.errors import Failure, UserError, in_a_line

_RAY_ENVIRONMENT = {
    # Data caches and relative paths mean the same in a trial as in the driver.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}
# Ray's name for it: without clusters of several hosts, it takes no address but loopback.
_LOCAL_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_CLUSTER_ENVIRONMENT = {"RAY_BACKEND_LOG_LEVEL": "fatal"}  # what native code says beside us
_QUIET: dict[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "configure_logging": True,
}
_STARTS = 5  # tries; Ray itself gives its node 30 s, which a busy machine may need to read files
_MAX_CHARACTERS = 600

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def ray_cluster(
    address: str, resume: str = "the same command"
) -> Iterator[list[Mapping[str, float]]]:
    """Connect to Ray for one launch; yield the resources of each of its nodes.

    resume: the command that resumes the study, for messages.

    Where Ray is gone in mid-study, where it does not end soon after Ctrl-C, and at SIGTERM, the
    process ends with one message. Raises `Failure` where a local Ray cannot be started or a
    cluster has lost all nodes that could run a trial, and `UserError` where the cluster at
    `address` does not answer, or its token is open to others.
    """
    import ray

    def nodes() -> list[Mapping[str, float]]:
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    with contextlib.ExitStack() as at_exit:
        is_local = address == "local"
        scratch = at_exit.enter_context(local_environment()) if is_local else None
        watch = at_exit.enter_context(RayWatch(scratch, resume))
        at_exit.callback(ray.shutdown)
        at_exit.callback(watch.ending)
        if scratch is not None:
            _start(scratch)
        else:
            _connect(address)
        with contextlib.suppress(ValueError):  # not the main thread, which alone hears signals
            # Ray would dump its native stack. The watch hears it.
            before = signal.signal(signal.SIGTERM, lambda *_: None)
            at_exit.callback(signal.signal, signal.SIGTERM, before)
        if is_local and (at := ray.util.get_node_ip_address()) not in ("127.0.0.1", "::1"):
            logger.warning("Ray listens at %s: ray was imported before its study began", at)
        watch.started(nodes)
        try:
            yield nodes()
        finally:
            if watch.problem:
                raise Failure(f"{watch.problem}. Resume by: {resume}")


def _start(scratch: Path) -> None:
    """Start a local Ray. Raises `Failure`."""
    import ray

    for left in range(_STARTS - 1, -1, -1):
        try:
            ray.init(
                address="local",
                num_cpus=len(os.sched_getaffinity(0)),
                include_dashboard=False,
                # Trials read data from memory-mapped files; the object store carries reports.
                object_store_memory=128 * 1024 * 1024,
                **_QUIET,
            )
            return
        except Exception as error:  # Ray raises plain ones too
            said = ": ".join(filter(None, (in_a_line(error), complaint(scratch))))
            ray.shutdown()
            end_processes(scratch)
            if not left or "timed out" not in str(error).lower():
                raise Failure(
                    f"Ray could not be started: {said}. See to it that this machine has memory, "
                    "processes and open files to spare, then run the same command again"
                ) from error
            logger.warning("Ray did not start in time; trying again (%d tries left)", left)


def _connect(address: str) -> None:
    """Connect to a cluster. Raises `UserError`."""
    import ray

    check_token(address)
    try:
        ray.init(address=address, runtime_env={"env_vars": dict(_RAY_ENVIRONMENT)}, **_QUIET)
    except Exception as error:
        said = " ".join(str(error).split())[:_MAX_CHARACTERS] or first_line(error)
        raise UserError(
            f"`--ray-address` must be a Ray cluster that answers, got {address!r} "
            f"({said}); use local, start one with `ray start --head`, or, if it "
            "wants its token: set RAY_AUTH_MODE=token and copy ~/.ray/auth_token from its head node"
        ) from None


def check_token(address: str) -> None:
    """Raise `UserError` where others can read the token's file that Ray would use for a cluster."""
    mode = os.environ.get("RAY_AUTH_MODE", "token" if address == "auto" else "").lower()
    if mode != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if path.is_file() and path.stat().st_mode & 0o077:
        raise UserError(
            f"the token of a Ray cluster must be its user's alone, got {str(path)!r}, which others "
            f"can read; run: chmod 600 {shlex.quote(str(path))}"
        )


def set_ray_environment(address: str = "local") -> None:
    """Set, before ray is imported: no telemetry, no files of its own loggers, no strict metric.

    A local Ray listens on loopback alone.
    """
    for name, value in {
        **_RAY_ENVIRONMENT,
        **(_LOCAL_ENVIRONMENT if address == "local" else _CLUSTER_ENVIRONMENT),
        "RAY_NUM_REDIS_GET_RETRIES": "2",  # of 40 s, where a controller does not answer; not 20
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

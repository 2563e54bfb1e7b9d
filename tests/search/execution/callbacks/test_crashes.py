"""What is said of a crash, from Ray's own words (ray 2.60), and who is to blame for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.execution.callbacks.crashes import MAX_LOST_CONNECTIONS, Crashes

DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: with_resources.<locals>.ResourceTrainable
\tactor_id: 731d429dbba83d24581f049101000000
\tpid: 30650
\tip: 10.0.0.2
"""
KILLED = (
    f"{DIED}The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
    "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. "
    "Some common causes include: (1) the process was killed by the OOM killer due to high memory "
    "usage, (2) ray stop --force was called"
)
LOW_MEMORY = """1 worker(s) were killed due to the node running low on memory. Memory on the node \
(IP: 10.0.0.2, ID: 18febd2e) was 22.6GB used / 23.5GB limit (0.96)
OOM kill reason: Memory usage 226B exceeded threshold of 223B (95.0% of 235B \
limit)
Object store memory usage: [- objects spillable: 0
- bytes spillable: 0
"""
NODE_LOST = (
    f"{DIED}The actor died because its node has died. Node Id: b34f4caf\n"
    "\tthe actor's node was terminated unexpectedly: health check failed due to missing too many "
    "heartbeats"
)
# What a driver sees first of a lost node, before Ray has counted the missing heartbeats.
CONNECTION_LOST = (
    "The actor cd8ece3f is unavailable: The actor is temporarily unavailable: RpcError: RPC error: "
    "recvmsg:Connection reset by peer rpc_code: 14. The task may or may not have been executed on "
    "the actor."
)
RAISED = """\x1b[36mray::ResourceTrainable.train()\x1b[39m (pid=11, ip=10.0.0.2)
  File "/x/tune/trainable/trainable.py", line 331, in train
    result = self.step()
ValueError: 3 is no 4
"""
FULL_DISK = """\x1b[36mray::ResourceTrainable.save()\x1b[39m (pid=11, ip=10.0.0.2)
  File "/x/shutil.py", line 269, in copyfile
OSError: [Errno 28] No space left on device: '/runs/x'
"""


def trial(folder: Path, *failures: str) -> Any:
    """As far as a callback looks at Tune's `Trial`; `error.txt` is as `handle_error` writes it."""
    path = folder / "error.txt"
    path.write_text(
        "".join(
            f"Failure # {n} (occurred at 2026-01-01_00-00-00)\n{text}\n"
            for n, text in enumerate(failures, 1)
        )
    )
    return SimpleNamespace(
        trial_id="t",
        config={"directory": str(folder / "trial")},
        error_file=str(path) if failures else None,
        run_metadata=SimpleNamespace(num_failures=len(failures)),
    )


def crashes_of(known: Any) -> Crashes:
    crashes = Crashes()
    crashes.on_trial_start(0, [known], known)
    return crashes


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ((RAISED,), "the trial raised ValueError: 3 is no 4"),
        ((KILLED, RAISED), "the trial raised ValueError: 3 is no 4"),  # the last one ended it
        (
            (RAISED, KILLED),
            "the trial's process died, killed (out of memory, perhaps) or by a crash of its own; "
            "Ray says: The actor died unexpectedly before finishing this task. class_name: ",
        ),
        (
            (LOW_MEMORY,),
            "out of memory: the trial's process was killed for the machine's sake; Ray says: 1 "
            "worker(s) were killed due to the node running low on memory. Memory on the node (IP: ",
        ),
        (
            ("some day Ray words it anew",),
            "the trial's process died, killed (out of memory, perhaps) or by a crash of its own; "
            "Ray says: some day Ray words it anew",
        ),
        ((), ""),
    ],
)
def test_a_crash_in_words(tmp_path: Path, failures: tuple[str, ...], said: str) -> None:
    found = crashes_of(trial(tmp_path, *failures)).error_of("t")
    assert found is not None
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_a_trial_that_hung_is_said_to_have_hung(tmp_path: Path) -> None:
    known = trial(tmp_path, KILLED)
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "silence.txt").write_text("no report within 9 s\nTimeout (0:00:09)!\n")
    said = crashes_of(known).error_of("t")
    assert said == "no report within 9 s; see silence.txt in the trial's folder"


def test_nothing_is_known_of_a_stranger(tmp_path: Path) -> None:
    assert crashes_of(trial(tmp_path, KILLED)).error_of("another") == ""
    gone = trial(tmp_path, KILLED)
    Path(gone.error_file).unlink()
    assert crashes_of(gone).error_of("t") == ""


def test_a_lost_node_is_not_counted(tmp_path: Path) -> None:
    crashes = Crashes()
    for failures, counted in [
        ((NODE_LOST,), 0),
        ((KILLED,), 1),
        ((KILLED, NODE_LOST), 1),
        ((NODE_LOST, LOW_MEMORY), 2),
        ((CONNECTION_LOST,), 0),
        ((KILLED, CONNECTION_LOST), 1),
    ]:
        known = trial(tmp_path, *failures)
        crashes.on_trial_recover(0, [known], known)
        assert known.run_metadata.num_failures == counted, failures
        # It may have died before it started: then it is known from its recovery alone.
        assert (crashes.error_of("t") is None) == (failures[-1] in (NODE_LOST, CONNECTION_LOST))


def test_a_connection_that_is_always_lost_is_the_trials_fault_in_the_end(tmp_path: Path) -> None:
    crashes, counted = Crashes(), []
    for _ in range(MAX_LOST_CONNECTIONS + 1):
        known = trial(tmp_path, CONNECTION_LOST)
        crashes.on_trial_recover(0, [known], known)
        counted.append(known.run_metadata.num_failures)
    assert counted == [0] * MAX_LOST_CONNECTIONS + [1]
    assert "temporarily unavailable" in (crashes.error_of("t") or "")


def test_a_full_disk_ends_the_launch(tmp_path: Path) -> None:
    known = trial(tmp_path, KILLED, FULL_DISK)
    crashes = crashes_of(known)
    with pytest.raises(OSError, match="No space left"):
        crashes.on_trial_recover(0, [known], known)
    with pytest.raises(OSError, match="No space left"):
        crashes.error_of("t")
    # One that was full, and has space again, is history.
    assert crashes_of(trial(tmp_path, FULL_DISK, RAISED)).error_of("t") != ""

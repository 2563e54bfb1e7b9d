"""Shares of a machine: they add up to no more than there is, CUDA's own memory included."""

import pytest
import torch

from trainables.errors import Failure, UserError
from trainables.sweep.attempt import Attempt
from trainables.sweep.crew import make_places
from trainables.sweep.share import CONTEXT_BYTES, Share

GIB = 1 << 30


@pytest.mark.parametrize(
    ("at_once", "cpus", "gpus", "expected"),
    [
        (1, 8, [], [(8, 0.0, None)]),
        (3, 8, [], [(2, 0.0, None)] * 3),
        (4, 2, [], [(1, 0.0, None)] * 4),
        (1, 16, ["0"], [(16, 1.0, "0")]),
        (3, 16, ["0"], [(5, 0.33, "0")] * 3),
        (2, 16, ["4", "7"], [(8, 1.0, "4"), (8, 1.0, "7")]),
        # The fullest GPU decides, so that all trials have the same.
        (3, 16, ["0", "1"], [(5, 0.5, "0"), (5, 0.5, "1"), (5, 0.5, "0")]),
    ],
)
def test_places_by_hand(
    at_once: int, cpus: int, gpus: list[str], expected: list[tuple[int, float, str | None]]
) -> None:
    places = make_places(at_once, cpus, gpus)
    assert [(p.cpus, p.gpus, p.gpu) for p in places] == expected
    assert [p.slot for p in places] == list(range(at_once))


@pytest.mark.parametrize("count", [2, 3, 4, 7, 16])
@pytest.mark.parametrize("total", [16 * GIB, 24 * GIB, 139 * GIB])
def test_all_shares_of_a_gpu_fit_into_it_with_what_cuda_takes(count: int, total: int) -> None:
    share = make_places(count, 16, ["0"])[0].gpus
    tensors = Share(gpus=share).memory_fraction(total) * total
    assert count * (tensors + CONTEXT_BYTES) <= total
    # Nothing is given away beyond the rounding to hundredths.
    assert count * (tensors + CONTEXT_BYTES) > total * (1 - count / 100)


def test_a_share_that_cuda_uses_up_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"must be above 0\.06.*got 0\.05 of 8 GiB; lower --at-on"):
        Share(gpus=0.05, remedy="lower --at-once").memory_fraction(8 * GIB)


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        (0.25, "; this trial may take 0.25 of a GPU's memory: raise --gpus-per-trial"),
        (1.0, ""),
        (0.0, ""),
    ],
)
def test_a_trial_that_asks_for_more_than_its_share_fails_with_the_remedy(
    gpus: float, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    import json

    from spaces.presets import trial_config

    def greedy(*_: object, **__: object) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        except torch.OutOfMemoryError as error:  # as `explained_memory` does
            raise Failure("out of memory on cuda (…); lower training.batch_size (now 4)") from error

    monkeypatch.setattr("trainables.sweep.attempt.TrialRun", greedy)
    trial = {
        "name": "s-00000",
        "config": json.dumps(trial_config("snip", "scenes", "tiny").to_dict()),
        "directory": str(tmp_path),
    }
    attempt = Attempt(trial, share=lambda: Share(gpus=gpus), command=[])
    result = attempt.next_result()
    assert (result["status"], result["done"]) == ("failed", True)
    assert result["reason"] == "out of memory on cuda (…); lower training.batch_size (now 4)" + said


@pytest.mark.gpu
def test_a_process_is_held_to_its_share_and_its_neighbour_lives() -> None:
    """Two processes, each with half of the card: one asks for more than that, one does not."""
    import subprocess
    import sys

    program = (
        "import sys, torch\n"
        "from trainables.sweep.share import Share\n"
        "assert Share(gpus=0.5).prepare() == 'cuda'\n"
        "total = torch.cuda.get_device_properties(0).total_memory\n"
        "held = torch.empty(int(float(sys.argv[1]) * total), dtype=torch.uint8, device='cuda')\n"
        "held.fill_(1); torch.cuda.synchronize(); print('held', flush=True); sys.stdin.read()\n"
    )

    def start(part: float) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", program, str(part)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    modest = start(0.4)
    assert modest.stdout is not None
    assert modest.stdout.readline() == "held\n"
    _, said = start(0.55).communicate(timeout=50)
    assert "out of memory" in said
    assert modest.poll() is None
    _, said = modest.communicate(timeout=50)
    assert modest.returncode == 0, said

"""Each benchmark runs, and both of its sides compute what its name says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import cuda, masked_step, store_read, task_gradients, topology_update
from benchmarks.__main__ import BENCHMARKS
from benchmarks.workload import build_workload
from trainables.sparsity.gradients import task_gradients as from_one_forward

ROOT = Path(__file__).resolve().parent.parent.parent


def test_both_sides_of_task_gradients_yield_the_same_gradients() -> None:
    workload = build_workload("tiny", tasks=("segmentation", "normals"))
    separate = task_gradients.one_forward_per_task(workload)
    joint = dict(from_one_forward(workload.context(), workload.batch))
    assert set(joint) == set(separate) == {"segmentation", "normals"}
    for task, gradients in joint.items():
        assert set(gradients) == set(separate[task])
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, separate[task][name], rtol=1e-3, atol=1e-6)


def test_the_masked_side_keeps_pruned_weights_at_zero_and_the_dense_side_does_not() -> None:
    masked, dense = build_workload("tiny"), build_workload("tiny")
    masked.prune_at_random(0.1)
    assert 0.09 < masked.registry.density < 0.11
    masked.step(masked=True)
    dense.step(masked=False)
    for name, mask in masked.registry.masks.items():
        assert masked.registry.parameters[name][mask == 0].count_nonzero() == 0
        assert dense.registry.parameters[name].count_nonzero() > 0.99 * mask.numel()


def test_equal_arguments_give_equal_workloads() -> None:
    first, second = build_workload("tiny"), build_workload("tiny")
    assert torch.equal(first.batch.images_BCHW, second.batch.images_BCHW)
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_masked_step() -> None:
    result = masked_step.measure("tiny", device="cpu", budget_seconds=0.1)
    assert result.comparison.rounds > 0
    assert result.target == 1.05


@pytest.mark.slow
@pytest.mark.parametrize("tasks", task_gradients.TASK_SETS)
def test_task_gradients_run_on_one_forward_and_the_other_side_on_one_per_task(
    tasks: tuple[str, ...],
) -> None:
    workload = build_workload("tiny", tasks=tasks)
    forwards = []
    first = next(m for m in workload.model.modules() if isinstance(m, torch.nn.Conv2d))
    first.register_forward_hook(lambda *_: forwards.append(1))
    for _ in from_one_forward(workload.context(), workload.batch):
        pass
    assert len(forwards) == 1
    task_gradients.one_forward_per_task(workload)
    assert len(forwards) == 1 + len(tasks)
    result = task_gradients.measure(tasks, preset="tiny", device="cpu", budget_seconds=0.1)
    assert result.name == f"task_gradients/{len(tasks)}_tasks/cpu"


@pytest.mark.slow
@pytest.mark.parametrize("method", topology_update.METHODS)
def test_topology_update(method: str) -> None:
    result = topology_update.measure(method, preset="tiny", device="cpu", budget_seconds=0.1)
    share = result.facts["share_of_training_every_100_steps"]
    ratio = result.comparison.ratio
    assert share == pytest.approx(ratio / (99 + ratio))


@pytest.mark.slow
def test_store_read() -> None:
    result = store_read.measure(num_frames=32, budget_seconds=0.1)
    assert result.facts["store_megabytes_per_second"] > 0


@pytest.mark.slow
def test_the_cuda_section_runs_on_a_cpu_too_so_that_it_is_never_broken_unseen() -> None:
    fed = cuda.resident_data("tiny", device="cpu", budget_seconds=0.1)
    assert fed.facts["fed_images_per_second"] > 0
    assert cuda.masks("tiny", device="cpu", budget_seconds=0.1).name == "masked_step/tiny/cpu"
    for part in (cuda.recorded_step, cuda.recorded_masks, cuda.evaluation, cuda.update):
        result = part("tiny", device="cpu", budget_seconds=0.1)
        assert result.name == f"cuda/{part.__name__}/tiny"
        assert all(value >= 0 for value in result.facts.values())
    evaluated = cuda.evaluation("tiny", device="cpu", budget_seconds=0.1)
    assert evaluated.comparison.ratio > 1
    assert cuda.update("tiny", device="cpu", budget_seconds=0.1).comparison.ratio > 1


@pytest.mark.slow
def test_trials_share_a_device() -> None:
    result = cuda.trials_at_once(2, device="cpu", steps=3, rounds=1, preset="tiny")
    assert result.facts["trials_an_hour"] > 0
    assert result.comparison.rounds == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_cuda_section_says_so() -> None:
    (result,) = cuda.run(quick=True)
    assert "no CUDA device" in result.line()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_the_command_writes_one_json_object(tmp_path: Path) -> None:
    result = command("--quick", "--json", str(tmp_path / "out.json"), "cuda", "store-read")
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "out.json").read_text())
    assert {"cpu", "cores", "torch", "gpu"} <= set(written["machine"])
    assert [r["name"] for r in written["results"]] == ["cuda", "store_read/cpu"]
    assert written["results"][1]["comparison"]["ratio"] > 0


def test_an_unknown_benchmark_is_a_users_mistake() -> None:
    result = command("nonsense")
    assert result.returncode == 2
    assert "unknown benchmark 'nonsense'" in result.stderr
    for name in BENCHMARKS:
        assert name in result.stderr
    assert "Traceback" not in result.stderr

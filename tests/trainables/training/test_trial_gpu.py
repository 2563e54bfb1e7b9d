"""A whole trial on a CUDA device; `make test-gpu` where there is one."""

import math

import pytest
import torch

from trainables.sparsity.structures.compaction import compacted
from trainables.training.trial import TrialRun

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("method", ["dense", "snip", "disparse-static", "disparse-dynamic"])
def test_a_trial_keeps_its_zeros_and_counts(small_trial, method, optimiser, precision):
    config = small_trial(
        method,
        {
            "training.precision": precision,
            "optimiser.name": optimiser,
            "optimiser.learning_rate": 1e-3,
        },
    )
    run = TrialRun(config, device="cuda")
    while (report := run.next_report()) is not None:
        final = report
    assert math.isfinite(final.metrics["test/depth/absolute_error"])
    target = 0.0 if method == "dense" else 0.9
    assert run.registry.kept == round((1 - target) * run.registry.total)
    for name, weight in run.registry.parameters.items():
        assert weight[run.registry.masks[name] == 0].abs().sum() == 0


def test_a_resumed_run_equals_an_uninterrupted_one(small_trial, tmp_path):
    config = small_trial("disparse-dynamic", {"training.precision": "fp32"})
    whole = TrialRun(config, device="cuda", deterministic=True)
    expected = []
    while (report := whole.next_report()) is not None:
        expected.append(dict(report.metrics))
    first = TrialRun(config, device="cuda", deterministic=True)
    first.next_report()
    first.save(tmp_path / "checkpoint")
    second = TrialRun.resume(tmp_path / "checkpoint", config, device="cuda", deterministic=True)
    later = []
    while (report := second.next_report()) is not None:
        later.append(dict(report.metrics))
    assert later == expected[1:]


@pytest.mark.parametrize("structure", ["weight", "2:4", "channel"])
def test_the_cpu_and_the_gpu_choose_the_same_random_masks(small_trial, structure):
    settings = {"sparsity.structure": structure}
    if structure == "channel":
        settings["sparsity.target"] = 0.5
    config = small_trial("random", settings)
    runs = [TrialRun(config, device=device) for device in ("cpu", "cuda")]
    for run in runs:
        run.loop.advance()
    for name in runs[0].registry.names:
        masks = [run.registry.masks[name].bool().cpu() for run in runs]
        assert torch.equal(*masks)


@pytest.mark.parametrize("method", ["disparse-pretrained", "channel-taylor"])
def test_channels_train_on_the_gpu_and_can_be_taken_out(small_trial, method):
    config = small_trial(method, {"sparsity.structure": "channel", "sparsity.target": 0.5})
    run = TrialRun(config, device="cuda")
    while run.next_report() is not None:
        pass
    smaller = compacted(run.model, run.registry)
    images = torch.rand(2, 3, 32, 32, device="cuda")
    with torch.no_grad():
        expected, found = run.model.eval()(images), smaller(images)
    for task, prediction in expected.items():
        difference = (prediction - found[task]).abs().max()
        assert difference <= 1e-3 * prediction.abs().max()  # TF32

"""A whole trial on a CUDA device; `make test-gpu` where there is one."""

import math

import pytest
import torch

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


def test_the_cpu_and_the_gpu_choose_the_same_random_masks(small_trial):
    runs = [TrialRun(small_trial("random"), device=device) for device in ("cpu", "cuda")]
    for run in runs:
        run.loop.advance()
    for name in runs[0].registry.names:
        masks = [run.registry.masks[name].bool().cpu() for run in runs]
        assert torch.equal(*masks)

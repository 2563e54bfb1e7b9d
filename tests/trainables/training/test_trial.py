"""A whole trial, through its public interface: exact counts, resumption, selection, failure."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from trainables.errors import Failure, UserError
from trainables.report import task_metrics
from trainables.sparsity.catalogue import METHODS
from trainables.training.trial import Report, TrialRun


def finish(run: TrialRun) -> list[Report]:
    reports = []
    while (report := run.next_report()) is not None:
        reports.append(report)
    return reports


def same(left: Any, right: Any) -> bool:
    """Equality to the bit of nested state, times apart."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(
            same(left[k], right[k]) for k in left if not str(k).endswith("_seconds")
        )
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_exactly_and_repeatably(small_trial, method):
    config = small_trial(method)
    run, again = TrialRun(config, device="cpu"), TrialRun(config, device="cpu")
    reports = finish(run)
    assert [r.step for r in reports] == [4, 8, 12]
    assert [r.final for r in reports] == [False, False, True]
    assert [dict(r.metrics) for r in reports] == [dict(r.metrics) for r in finish(again)]
    masks = run.summary([])["masks"]
    target = 0.0 if method == "dense" else 0.9
    assert masks["kept"] == round((1 - target) * masks["total"])
    assert masks["kept"] == sum(layer["kept"] for layer in masks["layers"].values())
    for name, weight in run.registry.parameters.items():
        assert weight[run.registry.masks[name] == 0].abs().sum() == 0
    final = reports[-1].metrics
    for split in ("val", "test"):
        for task in config.data.tasks:
            assert all(math.isfinite(final[f"{split}/{name}"]) for name in task_metrics(task))
    assert not any(name.startswith("test/") for r in reports[:-1] for name in r.metrics)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    small_trial, tmp_path, method, optimiser
):
    config = small_trial(
        method, {"optimiser.name": optimiser, "optimiser.learning_rate": 1e-3}, seed=3
    )
    whole = TrialRun(config, device="cpu")
    expected = finish(whole)
    first = TrialRun(config, device="cpu")
    reports = [first.next_report()]
    first.save(tmp_path / "checkpoint")
    del first
    second = TrialRun.resume(tmp_path / "checkpoint", config, device="cpu")
    reports += finish(second)
    assert [dict(r.metrics) for r in reports] == [dict(r.metrics) for r in expected]
    assert same(second._state(), whole._state())


def test_a_checkpoint_may_be_taken_at_any_step(small_trial, tmp_path):
    """Also in pre-training, and between two reports."""
    config = small_trial("disparse-pretrained")
    expected = finish(TrialRun(config, device="cpu"))
    for stop_at in (2, 4, 6, 11):
        run = TrialRun(config, device="cpu")
        count = 0

        def interrupt(phase: str, done: int, total: int, run=run, stop_at=stop_at) -> None:
            nonlocal count
            count += 1
            if count == stop_at:
                run.save(tmp_path / "checkpoint")
                raise KeyboardInterrupt

        run.on_progress = interrupt
        with pytest.raises(KeyboardInterrupt):
            finish(run)
        resumed = TrialRun.resume(tmp_path / "checkpoint", config, device="cpu")
        assert dict(finish(resumed)[-1].metrics) == dict(expected[-1].metrics)


def test_a_finished_run_resumes_to_its_final_report(small_trial, tmp_path):
    run = TrialRun(small_trial("random"), device="cpu")
    final = finish(run)[-1]
    run.save(tmp_path / "checkpoint")
    resumed = TrialRun.resume(tmp_path / "checkpoint", run.config, device="cpu")
    assert resumed.next_report() is None
    assert resumed.last_report == final
    assert resumed.summary([])["masks"] == run.summary([])["masks"]


@pytest.mark.parametrize("schedule", ["linear", "cubic", "cosine", "exponential"])
@pytest.mark.parametrize(
    "method", ["random", "snip", "disparse-static", "rigl", "disparse-dynamic"]
)
def test_gradual_schedules_end_at_the_exact_count(small_trial, method, schedule):
    config = small_trial(
        method,
        {
            "sparsity.schedule": schedule,
            "sparsity.start_fraction": 0.0,
            "sparsity.end_fraction": 0.5,
            "sparsity.interval_steps": 1,
        },
    )
    run = TrialRun(config, device="cpu")
    reports = finish(run)
    densities = [r.metrics["cost/density"] for r in reports]
    assert densities == sorted(densities, reverse=True)
    assert densities[0] > 0.1 + 1e-3
    assert run.registry.kept == round(0.1 * run.registry.total)
    # Step 6 prunes for the last time, so the average lies between the target and dense.
    assert 0.1 < reports[-1].metrics["cost/average_training_density"] < 0.8


def test_the_best_weights_by_validation_are_the_final_ones(small_trial):
    """A learning rate that explodes late: an early report must win, and test uses its weights."""
    config = small_trial("dense", {"optimiser.rate_schedule": "constant"})
    run = TrialRun(config, device="cpu")
    first = run.next_report()
    run.loop.config = dataclasses.replace(
        config, optimiser=dataclasses.replace(config.optimiser, learning_rate=5.0)
    )
    weights = {name: value.clone() for name, value in run.model.state_dict().items()}
    final = finish(run)[-1]
    assert final.metrics["training/best_step"] == first.step
    for name, value in final.metrics.items():
        if name.startswith("val/"):
            assert value == first.metrics[name]
    assert all(torch.equal(value, weights[name]) for name, value in run.model.state_dict().items())


def test_a_report_before_the_final_sparsity_is_never_the_best(small_trial):
    config = small_trial(
        "random",
        {"sparsity.schedule": "linear", "sparsity.end_fraction": 0.9, "sparsity.interval_steps": 1},
    )
    reports = finish(TrialRun(config, device="cpu"))
    assert reports[-1].metrics["training/best_step"] == 12


def test_a_diverged_loss_is_a_failure_that_says_so(small_trial):
    config = small_trial(
        "dense",
        {"optimiser.name": "sgd", "optimiser.learning_rate": 1e30, "optimiser.clip_norm": None},
    )
    with pytest.raises(Failure, match=r"loss is .* at step .*lower optimiser.learning_rate"):
        finish(TrialRun(config, device="cpu"))


def test_running_out_of_memory_is_a_failure_that_says_what_to_lower(small_trial):
    run = TrialRun(small_trial("dense"), device="cpu")

    def exhausted(phase: str, done: int, total: int) -> None:
        raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    run.on_progress = exhausted
    with pytest.raises(
        Failure, match=r"out of memory .*9 GiB.*lower training.batch_size \(now 4\)"
    ):
        run.next_report()


def test_accumulated_micro_batches_give_the_gradient_of_the_whole_batch(small_trial):
    """Up to batch statistics and padding, so both are left out of the comparison."""
    gradients = []
    for parts in (1, 2, 4):
        config = small_trial(
            "dense",
            {
                "training.accumulation": parts,
                "optimiser.clip_norm": None,
                "data.scale_range": (1, 1),
            },
            tasks=["depth"],
        )
        run = TrialRun(config, device="cpu")
        run.model.train = lambda mode=True, model=run.model: model  # type: ignore[method-assign]
        run.model.eval()
        for module in run.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.training = False
        run.loop.advance()
        gradients.append([p.grad.clone() for p in run.model.parameters() if p.grad is not None])
    for other in gradients[1:]:
        for left, right in zip(gradients[0], other, strict=True):
            assert torch.allclose(left, right, rtol=1e-3, atol=1e-6)


def test_bfloat16_on_the_cpu_trains_and_keeps_zeros(small_trial):
    run = TrialRun(small_trial("disparse-dynamic", {"training.precision": "bf16"}), device="cpu")
    final = finish(run)[-1]
    assert math.isfinite(final.metrics["test/depth/absolute_error"])
    for name, weight in run.registry.parameters.items():
        assert weight[run.registry.masks[name] == 0].abs().sum() == 0


def test_the_dense_baseline_is_zero_percent_from_itself(small_trial):
    config = small_trial("dense")
    metrics = dict(finish(TrialRun(config, device="cpu"))[-1].metrics)
    again = finish(TrialRun(config, device="cpu", baseline=metrics))[-1].metrics
    assert again["test/multitask/delta_percent"] == 0.0
    assert again["val/multitask/delta_percent"] == 0.0


def test_another_configuration_is_refused_by_name(small_trial, tmp_path):
    run = TrialRun(small_trial("random"), device="cpu")
    run.next_report()
    run.save(tmp_path / "checkpoint")
    other = small_trial("random", seed=1)
    with pytest.raises(UserError, match="seed=0 there, 1 here"):
        TrialRun.resume(tmp_path / "checkpoint", other, device="cpu")


def test_a_missing_and_a_damaged_checkpoint_are_named(small_trial, tmp_path):
    config = small_trial("random")
    with pytest.raises(UserError, match="no checkpoint"):
        TrialRun.resume(tmp_path / "nothing", config, device="cpu")
    run = TrialRun(config, device="cpu")
    run.next_report()
    run.save(tmp_path / "checkpoint")
    state = tmp_path / "checkpoint" / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(UserError, match="is damaged"):
        TrialRun.resume(tmp_path / "checkpoint", config, device="cpu")


def test_pretraining_is_dense_and_paid_for(small_trial):
    static = finish(TrialRun(small_trial("disparse-static"), device="cpu"))[-1].metrics
    pretrained = TrialRun(small_trial("disparse-pretrained"), device="cpu")
    final = finish(pretrained)[-1].metrics
    assert pretrained.loop.pretrain_step == 4
    assert final["cost/density"] == static["cost/density"]
    # Four dense steps on twelve: a third of a dense training on top, whatever the masks cost.
    assert final["cost/train_flops_fraction"] > 1 / 3

"""A whole trial, through its public interface: exact counts, costs, selection, failure."""

import dataclasses
import math

import pytest
import torch

from tests.trainables.training.runs import finish
from trainables.errors import Failure, UserError
from trainables.report import task_metrics
from trainables.sparsity.catalogue import METHODS
from trainables.training.trial import TrialRun


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_exactly_and_repeatably(small_trial, method):
    config = small_trial(method)
    run, again = TrialRun(config, device="cpu"), TrialRun(config, device="cpu")
    reports = finish(run)
    assert [r.step for r in reports] == [4, 8, 12]
    assert [r.final for r in reports] == [False, False, True]
    assert [dict(r.metrics) for r in reports] == [dict(r.metrics) for r in finish(again)]
    masks = run.summary([])["masks"]
    target = 0.9 if METHODS[method].sparse else 0.0
    if config.sparsity.structure == "weight":
        assert masks["kept"] == round((1 - target) * masks["total"])
    else:  # a budget of parameters, met from below
        assert 0 < masks["kept"] <= 0.12 * masks["total"]
    assert masks["kept"] == sum(layer["kept"] for layer in masks["layers"].values())
    for name, weight in run.registry.parameters.items():
        assert weight[run.registry.masks[name] == 0].abs().sum() == 0
    final = reports[-1].metrics
    for split in ("val", "test"):
        for task in config.data.tasks:
            assert all(math.isfinite(final[f"{split}/{name}"]) for name in task_metrics(task))
    assert not any(name.startswith("test/") for r in reports[:-1] for name in r.metrics)


def test_scoring_costs_one_backward_pass_per_voting_task(small_trial):
    """Two batches at two tasks: (1 + 2·2) / 3 dense steps each, and 1 each for a joint score."""
    for method, expected in (("snip", 2.0), ("disparse-static", 10 / 3), ("random", 0.0)):
        run = TrialRun(small_trial(method), device="cpu")
        run.loop.advance()
        assert run.loop.scoring_steps == pytest.approx(expected)


def test_training_flops_of_rigl_are_the_papers(small_trial):
    """Updates at steps 2, 4, 6 and 8 of 12, each 2·f_S + f_D; the other eight 3·f_S."""
    run = TrialRun(small_trial("rigl"), device="cpu")
    final = finish(run)[-1].metrics
    sparse = final["cost/flops_fraction"]
    expected = (8 * 3 * sparse + 4 * (2 * sparse + 1)) / (12 * 3)
    assert final["cost/train_flops_fraction"] == pytest.approx(expected)


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
    run.loop.gradient_step.config = dataclasses.replace(
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


def test_scores_that_are_not_finite_are_a_failure_that_says_so(small_trial):
    config = small_trial("snip")
    run = TrialRun(config, device="cpu")
    with torch.no_grad():
        run.model.backbone.bn1.weight.fill_(float("nan"))
    said = (
        r"at step 0 of 12 \(snip, learning rate .*\); no step was taken yet, so the learning rate"
    )
    with pytest.raises(Failure, match=said):
        finish(run)


def test_a_target_that_keeps_nothing_is_refused(small_trial):
    with pytest.raises(UserError, match=r"keep at least one weight, got 0\.9999999"):
        TrialRun(small_trial("random", sparsity=0.9999999), device="cpu")


def test_running_out_of_memory_on_the_cpu_is_a_failure(small_trial):
    with pytest.raises(Failure, match=r"out of memory on cpu .*training.batch_size \(now 4\)"):
        TrialRun(small_trial("dense", {"model.width": 10**7}), device="cpu")


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


def test_pretraining_is_dense_and_paid_for(small_trial):
    static = finish(TrialRun(small_trial("disparse-static"), device="cpu"))[-1].metrics
    pretrained = TrialRun(small_trial("disparse-pretrained"), device="cpu")
    final = finish(pretrained)[-1].metrics
    assert pretrained.loop.pretrain_step == 4
    assert final["cost/density"] == static["cost/density"]
    # Four dense steps on twelve: a third of a dense training on top, whatever the masks cost.
    assert final["cost/train_flops_fraction"] > 1 / 3


def test_each_level_of_imp_has_a_learning_rate_schedule_of_its_own(small_trial):
    config = small_trial("imp", {"sparsity.target": 0.75, "sparsity.level_fraction": 0.5})
    run = TrialRun(config, device="cpu")
    rates = []
    while run.loop.step < 12:
        run.loop.advance()
        if not run.loop.in_pretraining and run.loop.step:
            rates.append(run.loop.optimiser.param_groups[0]["lr"])
    # Two levels, to a half and to a quarter, of six steps each; "cosine" ends at a hundredth.
    level = [0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert rates == pytest.approx([config.optimiser.learning_rate * f for f in level * 2])

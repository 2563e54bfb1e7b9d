"""Whole trials with the options of the released code: growth at dense weights, losses, rates."""

import pytest
import torch

from tests.trainables.training.runs import finish, same_weights
from tests.trainables.training.test_resumption import same
from trainables.training.export import load_model
from trainables.training.trial import TrialRun

DENSE = {"regrowth.gradient_at": "dense"}


def assert_zero_where_pruned(run: TrialRun) -> None:
    for name, weight in run.registry.parameters.items():
        assert not weight[run.registry.masks[name] == 0].any(), name


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("method", ["disparse-dynamic", "rigl"])
def test_growing_at_dense_weights_keeps_counts_and_zeros_and_resumes_to_the_bit(
    small_trial, tmp_path, method, optimiser
):
    settings = {"optimiser.name": optimiser, "optimiser.learning_rate": 1e-3, **DENSE}
    config = small_trial(method, settings, seed=3, sparsity=0.8)
    whole = TrialRun(config, device="cpu")
    counts = []
    whole.on_progress = lambda *_: (
        counts.append(whole.registry.kept_by_layer),
        assert_zero_where_pruned(whole),
    )
    expected = finish(whole)
    assert len(counts) == 12
    assert all(count == counts[0] for count in counts)
    assert whole.registry.kept == round(0.2 * whole.registry.total)
    # One-shot at step 0; updates at 0, 2, 4, 6, 8; T_end = 9.
    assert whole.loop.num_updates == 7
    first = TrialRun(config, device="cpu")
    first.next_report()
    held = first.registry.pruned_values
    assert held is not None
    assert any(values.any() for values in held.values.values())
    first.save(tmp_path / "checkpoint")
    second = TrialRun.resume(tmp_path / "checkpoint", config, device="cpu")
    assert same(second.loop.state_dict(), first.loop.state_dict())
    later = finish(second)
    assert [dict(r.metrics) for r in later] == [dict(r.metrics) for r in expected[1:]]
    assert same(second._state(), whole._state())
    # What is taken home holds zeros, and nothing of what pruned weights were.
    whole.export(tmp_path / "model.pt")
    shipped = load_model(tmp_path / "model.pt")
    assert shipped.registry.pruned_values is None
    for name, weight in shipped.registry.parameters.items():
        assert not weight[shipped.registry.masks[name] == 0].any()


def test_growing_at_dense_weights_is_another_training(small_trial):
    ours, theirs = (
        TrialRun(small_trial("disparse-dynamic", own), device="cpu") for own in ({}, DENSE)
    )
    finish(ours)
    finish(theirs)
    assert ours.registry.pruned_values is None
    assert not same_weights(ours, theirs)
    assert (ours.loop.num_updates, theirs.loop.num_updates) == (5, 7)


def test_pruned_values_are_counted_by_nothing(small_trial):
    """A gradual schedule keeps the values of what it prunes, too."""
    gradual = {"sparsity.schedule": "cubic", **DENSE}
    run = TrialRun(small_trial("disparse-dynamic", gradual, sparsity=0.5), device="cpu")
    report = finish(run)[-1]
    assert report.metrics["cost/sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert_zero_where_pruned(run)


def test_retraining_has_a_constant_rate_of_its_own(small_trial):
    settings = {
        "optimiser.learning_rate": 1e-2,
        "optimiser.rate_schedule": "halving",
        "optimiser.halve_every_fraction": 0.5,
        "optimiser.decay_factor": 0.3,
        "optimiser.retraining_rate": 1e-4,
    }
    run = TrialRun(small_trial("disparse-pretrained", settings), device="cpu")
    rates = []
    run.on_progress = lambda *_: rates.append(run.loop.optimiser.param_groups[0]["lr"])
    finish(run)
    # The fourth step of pre-training ends the phase, and the new optimiser has not stepped yet.
    assert rates == pytest.approx([1e-2, 1e-2, 3e-3, 1e-2] + 12 * [1e-4])


def test_from_scratch_a_retraining_rate_has_no_effect(small_trial):
    plain, other = (
        TrialRun(small_trial("disparse-static", own), device="cpu")
        for own in ({}, {"optimiser.retraining_rate": 1e-9})
    )
    finish(plain)
    finish(other)
    assert same_weights(plain, other)


@pytest.mark.parametrize("method", ["dense", "disparse-dynamic"])
def test_losses_at_logits_train_and_move_the_weights_elsewhere(small_trial, method):
    full, logits = (
        TrialRun(small_trial(method, {"training.loss_resolution": where}), device="cpu")
        for where in ("full", "logits")
    )
    finish(full)
    report = finish(logits)[-1]
    assert torch.isfinite(torch.tensor(list(report.metrics.values()))).all()
    assert not same_weights(full, logits)

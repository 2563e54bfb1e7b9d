"""What a whole trial says of its cost: averages in closed form, layers beside totals."""

import json
import math

import pytest

from tests.trainables.training.conftest import TrialFactory
from trainables.config import SparsityConfig
from trainables.sparsity.schedule import density_at
from trainables.training.trial import TrialRun


def finish(run: TrialRun) -> dict[str, float]:
    while run.next_report() is not None:
        pass
    assert run.last_report is not None
    return dict(run.last_report.metrics)


def test_one_shot_in_mid_training_by_hand(small_trial: TrialFactory) -> None:
    """Six of twelve steps dense, six at a tenth."""
    config = small_trial("random", {"sparsity.start_fraction": 0.5})
    run = TrialRun(config, device="cpu")
    final = finish(run)
    density, flops = run.registry.density, final["cost/flops_fraction"]
    assert final["cost/average_training_density"] == pytest.approx((6 + 6 * density) / 12)
    assert final["cost/train_flops_fraction"] == pytest.approx((6 + 6 * flops) / 12)


def test_a_gradual_schedule_by_hand(small_trial: TrialFactory) -> None:
    """Linear over six of twelve steps: 1, 0.85, 0.7, 0.55, 0.4, 0.25, then six times 0.1."""
    overrides = {
        "sparsity.schedule": "linear",
        "sparsity.start_fraction": 0.0,
        "sparsity.end_fraction": 0.5,
        "sparsity.interval_steps": 1,
    }
    run = TrialRun(small_trial("random", overrides), device="cpu")
    expected = (1 + 0.85 + 0.7 + 0.55 + 0.4 + 0.25 + 6 * 0.1) / 12
    # Counts are whole, so each step's density is right to half a weight.
    tolerance = 1 / run.registry.total
    final = finish(run)
    assert final["cost/average_training_density"] == pytest.approx(expected, abs=tolerance)
    # Uniform layers: FLOPs follow the density, layer by layer to half a weight.
    assert final["cost/train_flops_fraction"] == pytest.approx(expected, abs=5e-3)


def test_dense_training_is_the_unit(small_trial: TrialFactory) -> None:
    final = finish(TrialRun(small_trial("dense"), device="cpu"))
    for name in ("density", "flops_fraction", "train_flops_fraction", "average_training_density"):
        assert final[f"cost/{name}"] == 1


def test_dense_pretraining_and_scoring_come_on_top(small_trial: TrialFactory) -> None:
    """4 dense steps, 2 batches scored by 2 tasks at (1 + 2·2) / 3 of a step each; 12 steps."""
    final = finish(TrialRun(small_trial("disparse-pretrained"), device="cpu"))
    expected = final["cost/flops_fraction"] + (4 + 2 * 5 / 3) / 12
    assert final["cost/train_flops_fraction"] == pytest.approx(expected)


def test_the_summary_shows_flops_by_layer(small_trial: TrialFactory) -> None:
    run = TrialRun(small_trial("snip"), device="cpu")
    final = finish(run)
    masks = json.loads(json.dumps(run.summary([])))["masks"]
    for layer in masks["layers"].values():
        assert layer["sparse_flops"] * layer["total"] == layer["flops"] * layer["kept"]
    for key in ("flops", "sparse_flops"):
        assert masks[key] == sum(layer[key] for layer in masks["layers"].values()) > 0
    assert final["cost/flops_fraction"] == pytest.approx(masks["sparse_flops"] / masks["flops"])


@pytest.mark.parametrize(
    ("schedule", "mean"),
    [
        # The integral over progress p of the density, for a final sparsity of s = 0.9.
        ("linear", 1 - 0.9 / 2),
        ("cubic", 1 - 0.9 * 3 / 4),  # of 1 - s (1 - (1 - p)³)
        ("cosine", 1 - 0.9 / 2),
        ("exponential", 0.9 / -math.log(0.1)),  # of (1 - s)^p
    ],
)
def test_average_density_of_fine_schedules(schedule: str, mean: float) -> None:
    """Dense for a fifth of training, three fifths of schedule, a fifth at a tenth."""
    config = SparsityConfig(
        structure="weight",
        target=0.9,
        counts="parameters",
        round_to=1,
        allocation="uniform",
        schedule=schedule,
        start_fraction=0.2,
        end_fraction=0.8,
        interval_steps=1,
        level_fraction=0.2,
        rewind_fraction=0.0,
        saliency_batches=1,
        saliency_weights="actual",
        score="taylor",
        arbiter="unanimous",
    )
    steps = 4000
    average = sum(density_at(config, step, steps) for step in range(steps)) / steps
    assert average == pytest.approx(0.2 + 0.6 * mean + 0.2 * 0.1, abs=2e-4)

"""LTH, one-shot LTH and IMP by hand, through the training loop: 6 weights, 2 tasks, plain SGD.

y_k = W · x + h_k · x and L = y_a + y_b, so ∂L/∂W = 2x and ∂L/∂h_k = x at every step, whatever the
weights. Five steps of pre-training; the rate is 1, halved after every two fifths of the phase.

    step   x          rate    W            a            b
    start                      8    -4      5    5      -5    6
    0      (1, 1)     1        6    -6      4    4      -6    5      <- k = 0.2 · 5 = 1
    1      (0, 2)     1        6   -10      4    2      -6    3
    2      (-2, 0)    .5       8   -10      5    2      -5    3
    3      (4, 1)     .5       4   -11      3    1.5    -7    2.5
    4      (2, 4)     .25      3   -13      2.5   .5    -7.5  1.5    the dense model

Two levels of a half each take 6 weights to 3 and to 2, in four steps of training.
"""

import pytest
import torch

from tests.trainables.sparsity.toys import SumTask, toy_config
from tests.worked.networks import AdditiveNetwork, example
from trainables.data.batch import Batch
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.structures.catalogue import build_structure
from trainables.training.loop.loop import TrainingLoop

INPUTS = [(1, 1), (0, 2), (-2, 0), (4, 1), (2, 4), (1, 0), (0, 1), (1, 1), (2, 0)]


class Inputs:
    """One input per step; nothing here is scored on data."""

    def train_batch(self, step: int) -> Batch:
        return example(INPUTS[step], {"a": 1.0, "b": 1.0})


def loop_of(method: str, schedule: str) -> TrainingLoop:
    config = toy_config(
        method=method,
        sparsity__schedule=schedule,
        sparsity__level_fraction=0.5,
        sparsity__target=2 / 3,
        sparsity__rewind_fraction=0.2,
        training__steps=4,
        training__pretrain_steps=5,
        training__loss_weights__b=1.0,
        optimiser__name="sgd",
        optimiser__learning_rate=1.0,
        optimiser__momentum=0.0,
        optimiser__weight_decay=0.0,
        optimiser__rate_schedule="halving",
        optimiser__halve_every_fraction=0.4,
    )
    model = AdditiveNetwork([8, -4], {"a": [5, 5], "b": [-5, 6]})
    registry = MaskRegistry(model)
    return TrainingLoop(
        config,
        model=model,
        tasks={task: SumTask(task) for task in model.tasks},
        registry=registry,
        method=METHODS[method],
        structure=build_structure(config.sparsity, registry, {}),
        source=Inputs(),  # type: ignore[arg-type]
        device="cpu",
        flops_fraction=lambda: 1.0,
    )


def weights(loop: TrainingLoop) -> list[float]:
    """W0 W1 a0 a1 b0 b1."""
    return torch.cat([w.detach()[0] for w in loop.registry.parameters.values()]).tolist()


def kept(loop: TrainingLoop) -> list[int]:
    return torch.cat([m[0] for m in loop.registry.masks.values()]).int().tolist()


def run(loop: TrainingLoop, steps: int) -> list[float]:
    for _ in range(steps):
        loop.advance()
    return weights(loop)


@pytest.mark.parametrize("method", ["lth", "imp"])
def test_pretraining(method: str) -> None:
    loop = loop_of(method, "levels")
    assert run(loop, 1) == [6, -6, 4, 4, -6, 5]
    assert run(loop, 4) == [3, -13, 2.5, 0.5, -7.5, 1.5]
    assert kept(loop) == [1, 1, 1, 1, 1, 1]


def test_lth_rewinds_at_every_level() -> None:
    loop = loop_of("lth", "levels")
    run(loop, 5)
    # Of the dense model |W1| 13, |b0| 7.5 and |W0| 3 stay. From k: W (6, -6), b0 -6.
    # The dense run's step 1, x = (0, 2) at rate 1: W1 -6 - 4.
    assert run(loop, 1) == [6, -10, 0, 0, -6, 0]
    assert kept(loop) == [1, 1, 0, 0, 1, 0]
    # Step 2, x = (-2, 0) at rate .5: W0 6 + 2, b0 -6 + 1.
    assert run(loop, 1) == [8, -10, 0, 0, -5, 0]
    # Now |W1| 10 and |W0| 8 are the largest; b0 goes, and both start from k again.
    assert run(loop, 1) == [6, -10, 0, 0, 0, 0]
    assert kept(loop) == [1, 1, 0, 0, 0, 0]
    assert run(loop, 1) == [8, -10, 0, 0, 0, 0]


def test_one_shot_prunes_the_dense_model_once() -> None:
    loop = loop_of("lth-one-shot", "one-shot")
    run(loop, 5)
    # |W1| 13 and |b0| 7.5 stay, which level by level did not. From k, b0 and W1 are -6, and the
    # dense run's steps 1 to 4 follow: W1 -10 -10 -11 -13, b0 -6 -5 -7 -7.5.
    assert run(loop, 1) == [0, -10, 0, 0, -6, 0]
    assert run(loop, 1) == [0, -10, 0, 0, -5, 0]
    assert run(loop, 1) == [0, -11, 0, 0, -7, 0]
    assert run(loop, 1) == [0, -13, 0, 0, -7.5, 0]
    assert kept(loop) == [0, 1, 0, 0, 1, 0]


def test_imp_goes_on_from_where_it_is() -> None:
    loop = loop_of("imp", "levels")
    run(loop, 5)
    # W1 -13, b0 -7.5, W0 3 stay and train on: step 5, x = (1, 0), at rate 1 of a new schedule.
    assert run(loop, 1) == [1, -13, 0, 0, -8.5, 0]
    # x = (0, 1), the second of the level's two steps and past two fifths of it: rate .5.
    assert run(loop, 1) == [1, -14, 0, 0, -8.5, 0]
    # W0 goes, and the schedule starts again. x = (1, 1) at rate 1: W1 -14 - 2, b0 -8.5 - 1.
    assert run(loop, 1) == [0, -16, 0, 0, -9.5, 0]
    # x = (2, 0) at rate .5.
    assert run(loop, 1) == [0, -16, 0, 0, -10.5, 0]
    assert kept(loop) == [0, 1, 0, 0, 1, 0]

"""Levels and rewinding through whole trials; resumption in the middle of anything.

Six steps of training in two levels of three (0.84 = 1 - 0.4²); the dense run has five steps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.conftest import MicroTrial
from trainables.config import TrialConfig
from trainables.data.batch import Batch
from trainables.sparsity.catalogue import METHODS
from trainables.training.trial import TrialRun

STEPS, PRETRAIN_STEPS, LEVEL_STEPS = 6, 5, 3
LEVELLED = ["lth", "imp"]
TICKETS = ["lth", "lth-one-shot"]


def config_of(micro_trial: MicroTrial, method: str, **overrides: object) -> TrialConfig:
    steps = LEVEL_STEPS if method == "lth-one-shot" else STEPS
    given = {"training.pretrain_steps": PRETRAIN_STEPS, **overrides}
    return micro_trial(method, sparsity=0.84, steps=steps, overrides=given)


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


@dataclass
class Moment:
    """What a gradient step starts from."""

    position: int  # in the order of the data
    rate: float
    has_moments: bool
    state: dict[str, Tensor]
    masks: dict[str, Tensor]


def watched(config: TrialConfig) -> list[Moment]:
    """The run's gradient steps: each asks for its batch when masks and weights are in place."""
    run = TrialRun(config, device="cpu")
    moments: list[Moment] = []
    fetch = run.loop.source.train_batch

    def fetch_and_tell(position: int) -> Batch:
        moments.append(
            Moment(
                position=position,
                rate=run.loop.optimiser.param_groups[0]["lr"],
                has_moments=bool(run.loop.optimiser.state),
                state=copied(run.model.state_dict()),
                masks=run.registry.keep(),
            )
        )
        return fetch(position)

    run.loop.source.train_batch = fetch_and_tell  # type: ignore[method-assign]
    while run.loop.step < config.training.steps:
        run.loop.advance()
    return moments


@pytest.mark.parametrize("fraction", [0.0, 0.2])
@pytest.mark.parametrize("method", TICKETS)
def test_rewound_weights_are_the_dense_runs_at_step_k(
    micro_trial: MicroTrial, method: str, fraction: float
) -> None:
    k = round(fraction * PRETRAIN_STEPS)
    # The checkpoint comes from a dense trial of its own.
    dense_config = micro_trial("dense", steps=PRETRAIN_STEPS)
    dense = watched(dense_config)
    ticket = watched(config_of(micro_trial, method, **{"sparsity.rewind_fraction": fraction}))
    pretraining, training = ticket[:PRETRAIN_STEPS], ticket[PRETRAIN_STEPS:]
    for ours, theirs in zip(pretraining, dense, strict=True):
        assert (ours.position, ours.rate) == (theirs.position, theirs.rate)
        assert all(torch.equal(ours.state[n], theirs.state[n]) for n in theirs.state)
    levels = [training[i : i + LEVEL_STEPS] for i in range(0, len(training), LEVEL_STEPS)]
    assert len(levels) == (1 if method == "lth-one-shot" else 2)
    for level in levels:
        first = level[0]
        assert not first.has_moments
        for name, value in dense[k].state.items():
            if name in first.masks:
                keep = first.masks[name]
                assert torch.equal(first.state[name][keep], value[keep]), name
                assert not bool(first.state[name][~keep].any())
            else:  # biases and the statistics of normalisation
                assert torch.equal(first.state[name], value), name
        # Data and learning rate are those of the dense run from step k on.
        assert [m.position for m in level] == [k, k + 1, k + 2]
        assert [m.rate for m in level] == [m.rate for m in dense[k : k + 3]]


def test_imp_trains_on_where_a_level_ended(micro_trial: MicroTrial) -> None:
    config = config_of(micro_trial, "imp")
    run = TrialRun(config, device="cpu")
    for _ in range(PRETRAIN_STEPS + LEVEL_STEPS):
        run.loop.advance()
    before = copied(run.model.state_dict())
    moment = watched(config)[PRETRAIN_STEPS + LEVEL_STEPS]
    assert moment.position == PRETRAIN_STEPS + LEVEL_STEPS
    assert moment.has_moments
    for name, value in before.items():
        expected = value.masked_fill(~moment.masks[name], 0) if name in moment.masks else value
        assert torch.equal(moment.state[name], expected), name


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
@pytest.mark.parametrize("method", LEVELLED)
def test_levels_nest_and_are_exact(micro_trial: MicroTrial, method: str, num_tasks: int) -> None:
    # 0.4 of the remaining weights at a time: ⌈log .01 / log .4⌉ = 6 levels, one a step.
    run = TrialRun(micro_trial(method, num_tasks=num_tasks, sparsity=0.99, steps=6), device="cpu")
    before = run.registry.keep()
    for density in (0.4, 0.16, 0.064, 0.0256, 0.01024, 0.01):
        done = run.loop.step
        while run.loop.step == done:
            run.loop.advance()
        now = run.registry.keep()
        assert run.registry.kept == round(density * run.registry.total)
        assert all(not bool((now[name] & ~before[name]).any()) for name in now)
        before = now


def same(left: Any, right: Any) -> bool:
    """Equality of nested state to the bit."""
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@pytest.mark.parametrize("method", METHODS)
def test_resumed_anywhere_a_run_ends_the_same(
    micro_trial: MicroTrial, tmp_path: Path, method: str
) -> None:
    config = config_of(micro_trial, method)
    run = TrialRun(config, device="cpu")
    pretrain = run.loop.pretrain_steps
    # In pre-training, before a pruning, and in the middle of the first and of the last level.
    moments = {2 if pretrain else 1, pretrain + 2, config.training.steps + pretrain - 1}
    if method in LEVELLED:
        moments.add(pretrain + LEVEL_STEPS)
    total = pretrain + config.training.steps
    for done in range(total):
        if done in moments:
            run.save(tmp_path / str(done))
        run.loop.advance()
    expected = run.loop.state_dict()
    for done in moments:
        resumed = TrialRun.resume(tmp_path / str(done), config, device="cpu")
        assert resumed.loop.pretrain_step + resumed.loop.step == done
        for _ in range(total - done):
            resumed.loop.advance()
        assert same(resumed.loop.state_dict(), expected)

"""Every network of the zoo trains alike, whether its steps are recorded or run line by line."""

import pytest
import torch

from tests.contracts.conftest import MicroTrial
from tests.contracts.test_model_zoo import TRAINED, asked
from tests.contracts.zoo.catalogue import ZOO
from tests.trainables.training.emulated_graphs import EmulatedGraphs
from trainables.training.loop import loop as loop_module
from trainables.training.trial import TrialRun

STEPS = 9

# What they do in a pass that no recording repeats; all others are recorded.
NOT_RECORDED = {
    "KeepsTensors": "changes `",
    "StochasticDepth": "does what cannot be recorded",
    "Checkpointed": "while a step is recorded",
    "CheckpointedReentrant": "while a step is recorded",
    "ReadsValues": "does what cannot be recorded",
}


@pytest.mark.parametrize("model", TRAINED)
def test_every_network_trains_alike(
    micro_trial: MicroTrial, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    config = asked(micro_trial, "disparse-dynamic", model).replace({"training.steps": STEPS})
    graphs, runs = EmulatedGraphs(), []
    for recorder in (graphs, None):
        monkeypatch.setattr(loop_module, "recorder_for", lambda *_, one=recorder: one)
        run = TrialRun(config, device="cpu")
        losses = []
        while run.loop.step < STEPS:
            run.loop.advance()
            losses.append(float(run.loop.gradient_step.loss_sum))
        runs.append((run, losses))
    (recorded, losses), (plain, expected) = runs
    assert losses == expected
    for name, value in recorded.model.state_dict().items():
        assert torch.equal(value, plain.model.state_dict()[name]), name
    assert NOT_RECORDED.get(model, "") in recorded.loop.why_not_recorded
    assert bool(recorded.loop.why_not_recorded) == (model in NOT_RECORDED)
    assert bool(sum(graphs.replayed)) == (model not in NOT_RECORDED)


def test_the_exceptions_are_networks_of_the_zoo() -> None:
    assert set(NOT_RECORDED) <= set(ZOO)

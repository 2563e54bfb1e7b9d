"""Recorded steps on a CUDA device beside eager ones; `make test-gpu` where there is one."""

import pytest
import torch
import torch.utils.checkpoint

from tests.trainables.training.runs import same_weights
from tests.trainables.training.test_replay import Habit
from trainables.errors import UserError
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.selection import TieOrder
from trainables.sparsity.structures.voting import settle
from trainables.tasks.measuring.streaming import histogram
from trainables.training.trial import TrialRun

pytestmark = pytest.mark.gpu

STEPS = 50
SETTINGS = {
    "training.steps": STEPS,
    "training.num_reports": 2,
    "training.precision": "fp32",
    "optimiser.learning_rate": 1e-3,
    "sparsity.interval_steps": 10,
    "regrowth.interval_steps": 10,
    "sparsity.level_fraction": 0.7,
}


def started(config, graph: str, *, deterministic: bool = True) -> TrialRun:
    config = config.replace({"training.graph": graph})
    return TrialRun(config, device="cuda", deterministic=deterministic)


def walked(run: TrialRun, steps: int = STEPS) -> list[float]:
    losses = []
    while run.loop.step < steps:
        run.loop.advance()
        losses.append(float(run.loop.gradient_step.loss_sum))
    return losses


def assert_zeros(run: TrialRun) -> None:
    for name, weight in run.registry.parameters.items():
        pruned = run.registry.masks[name] == 0
        state = run.loop.optimiser.state.get(weight, {})
        moments = [value for value in state.values() if value.shape == weight.shape]
        for values in (weight.detach(), *moments):
            assert not bool(values[pruned].any()), name


@pytest.mark.parametrize("method", [n for n in METHODS if not METHODS[n].description.scales])
def test_recorded_steps_are_the_steps(small_trial, method):
    structures = METHODS[method].description.structures
    structure = "weight" if "weight" in structures or not structures else structures[-1]
    config = small_trial(method, {**SETTINGS, "sparsity.structure": structure})
    recorded, eager = started(config, "on"), started(config, "off")
    assert walked(recorded) == pytest.approx(walked(eager), rel=1e-3)
    assert recorded.loop.num_replayed > 10
    assert eager.loop.num_replayed == 0
    assert recorded.registry.kept_by_layer.keys() == eager.registry.kept_by_layer.keys()
    assert recorded.registry.kept == eager.registry.kept
    if METHODS[method].sparse and structure == "weight":
        assert recorded.registry.kept == round(0.1 * recorded.registry.total)
    assert_zeros(recorded)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_recorded_steps_of_every_optimiser_and_precision(small_trial, optimiser, precision):
    settings = {"training.precision": precision, "optimiser.name": optimiser}
    settings |= {"training.accumulation": 2, "optimiser.clip_norm": 1.0, "training.steps": 30}
    config = small_trial("disparse-dynamic", {**SETTINGS, **settings})
    recorded, eager = started(config, "on"), started(config, "off")
    assert walked(recorded, 30) == pytest.approx(walked(eager, 30), rel=0.05)
    assert recorded.loop.num_replayed > 10
    assert recorded.registry.kept == eager.registry.kept
    assert_zeros(recorded)


@pytest.mark.parametrize("method", ["lth", "disparse-pretrained", "disparse-dynamic"])
@pytest.mark.parametrize("stop", [2, 25])
def test_a_run_resumed_in_mid_phase_is_the_run_to_the_bit(small_trial, tmp_path, method, stop):
    config = small_trial(method, SETTINGS).replace({"training.graph": "on"})
    whole = started(config, "on")
    walked(whole)
    first = started(config, "on")
    walked(first, stop)
    first.save(tmp_path / "checkpoint")
    second = TrialRun.resume(tmp_path / "checkpoint", config, device="cuda", deterministic=True)
    walked(second)
    assert second.loop.num_replayed > 0
    assert same_weights(second, whole)
    for name, mask in whole.registry.masks.items():
        assert torch.equal(mask, second.registry.masks[name])


def test_dropout_draws_by_the_seed_and_the_step_alone(small_trial, tmp_path):
    model = "tests.trainables.training.test_resumption:Forgetful"
    config = small_trial("random", {**SETTINGS, "model.name": model})
    config = config.replace({"training.graph": "on"})
    recorded, eager = started(config, "on"), started(config, "off")
    losses = walked(recorded)
    # Other draws would change the losses by tens of per cent.
    assert losses == pytest.approx(walked(eager), rel=1e-3)
    first = started(config, "on")
    walked(first, 21)
    first.save(tmp_path / "checkpoint")
    torch.rand(5, device="cuda")
    second = TrialRun.resume(tmp_path / "checkpoint", config, device="cuda", deterministic=True)
    walked(second)
    assert same_weights(second, recorded)


@pytest.mark.parametrize(
    "name", ["Reads", "Counts", "DrawsInPython", "DrawsOnHost", "Restores", "Waits", "Habit"]
)
def test_what_cannot_be_recorded_runs_eagerly(small_trial, capsys, name):
    home = __name__ if name in ("DrawsOnHost", "Restores", "Waits") else Habit.__module__
    settings = {**SETTINGS, "training.steps": 15, "model.name": f"{home}:{name}"}
    config = small_trial("disparse-dynamic", settings)
    run = started(config, "auto")
    walked(run, 15)
    said = [line for line in capsys.readouterr().err.splitlines() if "CUDA graph" in line]
    assert len(said) == (name != "Habit")
    assert bool(run.loop.num_replayed) == (name == "Habit")
    assert_zeros(run)
    if name != "Habit":
        with pytest.raises(UserError, match=r"`training\.graph` on needs a step"):
            walked(started(config, "on"), 15)


class DrawsOnHost(Habit):
    def habit(self, features):
        return features * torch.bernoulli(torch.full((), 0.5)).item()


class Restores(Habit):
    """Draws in a checkpoint, which reads and sets the generator's state."""

    def habit(self, features):
        def dropped(value):
            return torch.nn.functional.dropout(value, 0.5, self.training)

        return torch.utils.checkpoint.checkpoint(dropped, features, use_reentrant=False)


class Waits(Habit):
    """Waits in a way that only the capture finds, and draws: which has to work after it failed."""

    def habit(self, features):
        if features.is_cuda:
            torch.cuda.synchronize()
        return torch.nn.functional.dropout(features, 0.5, self.training)


def test_histograms_are_exact_and_wait_for_nothing():
    cells = torch.randint(0, 36_001, (3, 500, 401), generator=torch.Generator().manual_seed(0))
    cells[0] = 36_000
    expected = histogram(cells, 36_001)
    there = cells.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = histogram(there, 36_001)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert found.dtype is torch.int64
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("arbiter", ["unanimous", "intersection"])
def test_a_vote_is_settled_alike_and_waits_for_nothing(arbiter):
    draws = torch.Generator().manual_seed(1)
    shapes = {"s": 4001, "a": 300, "b": 200}
    scores = {
        task: {n: torch.randint(0, 50, (shapes[n],), generator=draws).float() for n in ("s", task)}
        for task in ("a", "b")
    }
    within = {n: torch.rand(size, generator=draws) < 0.9 for n, size in shapes.items()}
    there = {t: {n: s.cuda() for n, s in own.items()} for t, own in scores.items()}
    inside = {n: w.cuda() for n, w in within.items()}
    for count in (0, 1, 7, 500, 2000):
        ties = TieOrder.drawn(torch.Generator().manual_seed(count))
        expected = settle(list(shapes), scores, within, count, arbiter, ties)
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = settle(list(shapes), there, inside, count, arbiter, ties)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for name, mask in expected.masks.items():
            assert torch.equal(found.masks[name].cpu(), mask)
        for task, votes in expected.votes.items():
            assert all(torch.equal(found.votes[task][n].cpu(), v) for n, v in votes.items())

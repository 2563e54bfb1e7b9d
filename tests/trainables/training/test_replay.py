"""A recorded step does what the step does: losses, weights, masks and moments, to the bit.

The CPU records as a GPU does (`emulated_graphs`); `test_replay_gpu.py` is about real graphs.
"""

import random

import numpy as np
import pytest
import torch

from tests.trainables.training.emulated_graphs import EmulatedGraphs, Repeats
from tests.trainables.training.runs import same_weights
from trainables.errors import UserError
from trainables.sparsity.catalogue import METHODS
from trainables.training.loop import loop as loop_module
from trainables.training.loop.replay import WARM_UP_STEPS
from trainables.training.trial import TrialRun

STEPS = 50
SETTINGS = {
    "training.steps": STEPS,
    "training.num_reports": 2,
    "sparsity.interval_steps": 6,
    "regrowth.interval_steps": 6,
}


@pytest.fixture
def graphs(monkeypatch) -> EmulatedGraphs:
    recorder = EmulatedGraphs()
    monkeypatch.setattr(loop_module, "recorder_for", lambda setting, device: recorder)
    return recorder


def eager(config) -> TrialRun:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "recorder_for", lambda setting, device: None)
        return TrialRun(config, device="cpu")


def walked(run: TrialRun, steps: int = STEPS) -> list[float]:
    """Return the sum of the losses after each step, from here on."""
    losses = []
    while run.loop.step < steps:
        run.loop.advance()
        losses.append(float(run.loop.gradient_step.loss_sum))
    return losses


def assert_same(left: TrialRun, right: TrialRun) -> None:
    assert same_weights(left, right)
    for name, mask in left.registry.masks.items():
        assert torch.equal(mask, right.registry.masks[name]), name
    pairs = zip(left.model.parameters(), right.model.parameters(), strict=True)
    for one, other in pairs:
        state, theirs = left.loop.optimiser.state[one], right.loop.optimiser.state[other]
        assert state.keys() == theirs.keys()
        assert all(torch.equal(state[name], theirs[name]) for name in state)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", [n for n in METHODS if not METHODS[n].description.scales])
def test_a_replayed_step_is_the_step(small_trial, graphs, method):
    structures = METHODS[method].description.structures
    structure = "weight" if "weight" in structures or not structures else structures[-1]
    config = small_trial(method, {**SETTINGS, "sparsity.structure": structure})
    recorded, plain = TrialRun(config, device="cpu"), eager(config)
    assert walked(recorded) == walked(plain)
    assert_same(recorded, plain)
    assert recorded.loop.why_not_recorded == ""
    # Every phase is recorded, and again whenever other layers are sparse; all else is replayed.
    assert graphs.replayed
    eagerly = recorded.loop.pretrain_steps + STEPS - sum(graphs.replayed) - len(graphs.replayed)
    assert eagerly <= 40 if METHODS[method].rewinds else eagerly < 20


CASES = {
    "accumulation and clipping": {"training.accumulation": 2, "optimiser.clip_norm": 0.1},
    "bf16": {"training.precision": "bf16"},
    "adamw": {"optimiser.name": "adamw"},
    "gradual": {"sparsity.schedule": "cubic", "sparsity.allocation": "global"},
    "N of M": {"sparsity.structure": "2:4"},
    "channels": {"sparsity.structure": "channel", "sparsity.target": 0.5},
    "losses at the logits": {"training.loss_resolution": "logits"},
    "dropout": {"model.name": "tests.trainables.training.test_resumption:Forgetful"},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
@pytest.mark.parametrize("method", ["disparse-static", "disparse-dynamic"])
def test_every_setting_of_a_step_is_recorded(small_trial, graphs, method, settings):
    if "channel" in settings.values() and method == "disparse-dynamic":
        pytest.skip("no method regrows channels")
    config = small_trial(method, {**SETTINGS, "training.steps": 20, **settings})
    recorded, plain = TrialRun(config, device="cpu"), eager(config)
    assert walked(recorded, 20) == walked(plain, 20)
    assert_same(recorded, plain)
    assert sum(graphs.replayed) > 5


def test_the_losses_of_all_tasks_are_recorded(small_trial, graphs):
    tasks = ["segmentation", "normals", "depth", "keypoints", "edges"]
    config = small_trial("rigl", {**SETTINGS, "training.steps": 15}, tasks=tasks)
    recorded, plain = TrialRun(config, device="cpu"), eager(config)
    assert walked(recorded, 15) == walked(plain, 15)
    assert_same(recorded, plain)
    assert recorded.loop.num_replayed == sum(graphs.replayed) > 5


def test_values_of_pruned_weights_are_recorded(small_trial, graphs):
    settings = {"regrowth.gradient_at": "dense", "regrowth.budget": "published"}
    config = small_trial("disparse-dynamic", {**SETTINGS, **settings, "training.steps": 30})
    recorded, plain = TrialRun(config, device="cpu"), eager(config)
    assert walked(recorded, 30) == walked(plain, 30)
    assert_same(recorded, plain)
    values = recorded.registry.pruned_values.values
    assert any(value.any() for value in values.values())
    for name, value in plain.registry.pruned_values.values.items():
        assert torch.equal(values[name], value)
    assert sum(graphs.replayed) > 5


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_recorded(small_trial, monkeypatch, momentum):
    """Its fused kernel rounds otherwise than the one of eager runs, so it is beside itself."""
    settings = {"optimiser.name": "sgd", "optimiser.momentum": momentum, "training.steps": 20}
    config = small_trial("disparse-dynamic", {**SETTINGS, **settings})
    runs = []
    for recorder in (EmulatedGraphs(), Repeats()):
        monkeypatch.setattr(loop_module, "recorder_for", lambda *_, one=recorder: one)
        runs.append((TrialRun(config, device="cpu"), recorder))
    recorded, repeated = (run for run, _ in runs)
    assert walked(recorded, 20) == walked(repeated, 20)
    assert_same(recorded, repeated)
    assert sum(runs[0][1].replayed) == sum(runs[1][1].replayed) > 5
    close = eager(config)
    walked(close, 20)
    for left, right in zip(recorded.model.parameters(), close.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["lth", "disparse-pretrained", "disparse-dynamic"])
@pytest.mark.parametrize("stop", [2, 17])
def test_a_run_resumed_in_mid_phase_is_the_run(small_trial, graphs, tmp_path, method, stop):
    settings = {"training.steps": 30, "sparsity.level_fraction": 0.7}  # two levels
    config = small_trial(method, {**SETTINGS, **settings})
    plain = eager(config)
    walked(plain, 30)
    first = TrialRun(config, device="cpu")
    walked(first, stop)
    first.save(tmp_path / "checkpoint")
    walked(first, stop + 3)  # what happens later must not matter
    second = TrialRun.resume(tmp_path / "checkpoint", config, device="cpu")
    walked(second, 30)
    assert_same(second, plain)
    assert graphs.replayed[-1] > 0


def test_a_checkpoint_goes_from_eager_to_recorded_steps_and_back(small_trial, graphs, tmp_path):
    config = small_trial("disparse-dynamic", {**SETTINGS, "training.steps": 20})
    plain, first = eager(config), eager(config)
    walked(plain, 20)
    walked(first, 7)
    first.save(tmp_path / "eager")
    second = TrialRun.resume(tmp_path / "eager", config, device="cpu")
    walked(second, 14)
    second.save(tmp_path / "recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "recorder_for", lambda setting, device: None)
        third = TrialRun.resume(tmp_path / "recorded", config, device="cpu")
    assert isinstance(third.loop.optimiser.param_groups[0]["lr"], float)
    walked(third, 20)
    assert_same(third, plain)
    assert sum(graphs.replayed) > 0


def test_the_number_of_recordings(small_trial, graphs):
    """One for the dense phase; one more when layers become sparse; none when masks only move."""
    settings = {**SETTINGS, "training.steps": 30, "sparsity.allocation": "uniform"}
    settings |= {"sparsity.start_fraction": 0.3, "regrowth.interval_steps": 3}
    run = TrialRun(small_trial("rigl", settings), device="cpu")
    walked(run, 26)
    assert run.loop.num_updates > 4
    assert len(graphs.replayed) == 2
    run.loop.source.close()  # frees what the recording reads
    walked(run, 30)
    assert len(graphs.replayed) == 3
    assert WARM_UP_STEPS + len(graphs.replayed) + sum(graphs.replayed) <= 30


class Habit(torch.nn.Module):
    """A user's network; its subclasses do in `habit` what no recording can repeat."""

    def __init__(self, config: object, num_channels: dict[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_channels)
        self.trunk = torch.nn.Conv2d(3, 8, 3, stride=4)
        self.heads = torch.nn.ModuleDict(
            {task: torch.nn.Conv2d(8, channels, 1) for task, channels in num_channels.items()}
        )
        self.passes = 0
        self.seen = torch.zeros(8, 1, 1)

    def habit(self, features):
        return features

    def forward(self, images, tasks=None):
        features = self.habit(self.trunk(images).relu())
        return {task: self.heads[task](features) for task in tasks or self.tasks}

    def owners(self):
        return {
            name: name.split(".")[1] if name.startswith("heads") else "shared"
            for name, _ in self.named_parameters()
        }


class Reads(Habit):
    def habit(self, features):
        return features * (1.0 if features.mean().item() > 0.3 else 2.0)


class Selects(Habit):
    def habit(self, features):
        return features + features[features > 0.5].sum()


class DrawsInPython(Habit):
    def habit(self, features):
        return features * (random.random() < 0.5)


class DrawsInNumPy(Habit):
    def habit(self, features):
        return features * float(np.random.rand())


class Counts(Habit):
    def habit(self, features):
        self.passes += 1
        return features / self.passes


class Remembers(Habit):
    def habit(self, features):
        self.seen = 0.9 * self.seen + 0.1 * features.detach().mean((0, 2, 3))[:, None, None]
        return features - self.seen


class Follows(Habit):
    factor = 1.0

    def start_step(self, phase, step):
        self.factor = 1 / (1 + step)

    def habit(self, features):
        return features * self.factor


HABITS = {
    Reads: "does what cannot be recorded",
    Selects: "does what cannot be recorded",
    DrawsInPython: "draws random numbers of Python's `random`",
    DrawsInNumPy: r"draws random numbers of `numpy\.random`",
    Counts: "changes `passes` of the model itself",
    Remembers: "changes `seen` of the model itself",
    Follows: "`start_step` of model",
}


@pytest.mark.parametrize("kind", HABITS, ids=lambda kind: kind.__name__)
def test_what_cannot_be_recorded_runs_eagerly_and_says_so_once(small_trial, graphs, capsys, kind):
    settings = {**SETTINGS, "training.steps": 10, "model.name": f"{__name__}:{kind.__name__}"}
    config = small_trial("disparse-dynamic", settings)
    random.seed(0)
    np.random.seed(0)
    recorded = TrialRun(config, device="cpu")
    losses = walked(recorded, 10)
    said = [line for line in capsys.readouterr().err.splitlines() if "CUDA graph" in line]
    assert len(said) == 1
    assert said[0].endswith(recorded.loop.why_not_recorded)
    assert graphs.replayed == []
    random.seed(0)
    np.random.seed(0)
    assert losses == walked(eager(config), 10)
    with pytest.raises(UserError, match=f"`training.graph` on needs .*{HABITS[kind]}") as error:
        walked(TrialRun(config.replace({"training.graph": "on"}), device="cpu"), 10)
    assert "\n" not in str(error.value)


def test_a_network_without_such_habits_is_recorded(small_trial, graphs):
    settings = {**SETTINGS, "training.steps": 10, "model.name": f"{__name__}:Habit"}
    config = small_trial("disparse-dynamic", settings)
    recorded, plain = TrialRun(config, device="cpu"), eager(config)
    assert walked(recorded, 10) == walked(plain, 10)
    assert sum(graphs.replayed) > 0


class Fails(EmulatedGraphs):
    """A capture that fails, whatever the probe said; nothing has run then."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def record(self, function, step):
        try:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        except RuntimeError:
            raise self._error  # noqa: B904


@pytest.mark.parametrize("error", [RuntimeError("invalidated"), UserError("model 'm' raised it")])
def test_a_capture_that_fails_leaves_an_eager_trial(small_trial, monkeypatch, capsys, error):
    config = small_trial("disparse-dynamic", {**SETTINGS, "training.steps": 10})
    monkeypatch.setattr(loop_module, "recorder_for", lambda *_: Fails(error))
    run, plain = TrialRun(config, device="cpu"), eager(config)
    assert walked(run, 10) == walked(plain, 10)
    assert_same(run, plain)
    said = "its capture failed (RuntimeError: operation not permitted when stream is capturing"
    assert run.loop.why_not_recorded.startswith(said)
    assert capsys.readouterr().err.count("CUDA graph") == 1
    must = TrialRun(config.replace({"training.graph": "on"}), device="cpu")
    with pytest.raises(UserError, match=r"its capture failed .RuntimeError: operation not perm"):
        walked(must, 10)


def test_graphs_need_cuda(small_trial):
    with pytest.raises(UserError, match=r"`training\.graph` on needs a CUDA device, got cpu"):
        TrialRun(small_trial("dense", {"training.graph": "on"}), device="cpu")
    with pytest.raises(UserError, match="graph"):
        small_trial("dense", {"training.graph": "always"})

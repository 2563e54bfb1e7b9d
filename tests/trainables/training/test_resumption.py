"""A trial that is saved and resumed continues to the bit, and no other checkpoint is taken."""

import shutil
from typing import Any

import pytest
import torch

from tests.trainables.training.runs import finish
from trainables.errors import UserError
from trainables.sparsity.catalogue import METHODS
from trainables.training.trial import TrialRun
from trainables.training.watching.reports import Report


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


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    small_trial, tmp_path, method, optimiser
):
    settings = {"optimiser.name": optimiser, "optimiser.learning_rate": 1e-3}
    config = small_trial(method, settings, seed=3)
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
    """In pre-training, between two reports, and right where a report is due."""
    config = small_trial("disparse-pretrained")
    expected = finish(TrialRun(config, device="cpu"))
    run = TrialRun(config, device="cpu")
    reports: list[Report] = []
    saved: list[int] = []

    def save(phase: str, done: int, total: int) -> None:
        run.save(tmp_path / str(len(saved)))
        saved.append(len(reports))

    run.on_progress = save
    while (report := run.next_report()) is not None:
        reports.append(report)
    assert len(saved) == 4 + 12
    for count, num_earlier in enumerate(saved):
        resumed = TrialRun.resume(tmp_path / str(count), config, device="cpu")
        later = finish(resumed)
        assert [dict(r.metrics) for r in later] == [dict(r.metrics) for r in expected[num_earlier:]]


class Forgetful(torch.nn.Module):
    """A user's model that draws from torch's global generator."""

    def __init__(self, config: object, num_channels: dict[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_channels)
        self.trunk = torch.nn.Conv2d(3, 8, 3, stride=4)
        self.dropout = torch.nn.Dropout(0.5)
        self.heads = torch.nn.ModuleDict(
            {task: torch.nn.Conv2d(8, channels, 1) for task, channels in num_channels.items()}
        )

    def forward(self, images, tasks=None):
        features = self.dropout(self.trunk(images).relu())
        return {task: self.heads[task](features) for task in tasks or self.tasks}

    def owners(self):
        return {
            name: name.split(".")[1] if name.startswith("heads") else "shared"
            for name, _ in self.named_parameters()
        }


def test_dropout_is_seeded_by_the_trial_and_survives_resumption(small_trial, tmp_path):
    config = small_trial("random", {"model.name": f"{__name__}:Forgetful"})
    expected = finish(TrialRun(config, device="cpu"))
    torch.rand(7)  # what another trial in this process might have drawn
    before = torch.get_rng_state()
    first = TrialRun(config, device="cpu")
    first.next_report()
    first.save(tmp_path / "checkpoint")
    later = finish(TrialRun.resume(tmp_path / "checkpoint", config, device="cpu"))
    assert [dict(r.metrics) for r in later] == [dict(r.metrics) for r in expected[1:]]
    assert torch.equal(before, torch.get_rng_state())


def test_a_finished_run_resumes_to_its_final_report(small_trial, tmp_path):
    run = TrialRun(small_trial("random"), device="cpu")
    final = finish(run)[-1]
    run.save(tmp_path / "checkpoint")
    resumed = TrialRun.resume(tmp_path / "checkpoint", run.config, device="cpu")
    assert resumed.next_report() is None
    assert resumed.last_report == final
    assert resumed.summary([])["masks"] == run.summary([])["masks"]


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
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (whole[:-100], bytes(flipped), b"garbage"):
        state.write_bytes(content)
        with pytest.raises(UserError, match="is damaged") as error:
            TrialRun.resume(tmp_path / "checkpoint", config, device="cpu")
        assert len(str(error.value).splitlines()) == 1
    state.write_bytes(whole)
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        TrialRun.resume(tmp_path / "checkpoint", config, device="cpu")


def test_a_save_killed_between_two_renames_loses_nothing(small_trial, tmp_path):
    config = small_trial("random")
    run = TrialRun(config, device="cpu")
    run.next_report()
    folder, previous = tmp_path / "checkpoint", tmp_path / ".checkpoint.previous"
    run.save(folder)
    folder.rename(previous)  # killed here
    (tmp_path / ".checkpoint.1.partial").mkdir()
    assert TrialRun.resume(folder, config, device="cpu").loop.step == 4
    run.next_report()
    run.save(folder)
    assert TrialRun.resume(folder, config, device="cpu").loop.step == 8
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_the_same_data_elsewhere_resumes(small_trial, tmp_path):
    config = small_trial("random")
    run = TrialRun(config, device="cpu")
    run.next_report()
    run.save(tmp_path / "checkpoint")
    shutil.copytree(config.data.root, tmp_path / "moved")
    moved = config.replace({"data.root": str(tmp_path / "moved")})
    assert TrialRun.resume(tmp_path / "checkpoint", moved, device="cpu").loop.step == 4

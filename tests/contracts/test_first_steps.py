"""What a trial looks at in the first step of a phase alone, and after one that diverges."""

from typing import Any

import pytest
from torch import Tensor

from tests.contracts.conftest import MicroTrial
from tests.contracts.test_contents import Net, Overflows, run
from trainables.errors import UserError
from trainables.training.loop import step
from trainables.training.loop.divergence import Diverged
from trainables.training.trial import TrialRun


def test_reports_make_no_gpu_wait_for_its_loss(
    micro_trial: MicroTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_LOSS_CHECK_STEPS", {"cpu": 50})
    steps = run(micro_trial, Net).loop.gradient_step
    for begins in (True, False):
        if begins:
            steps.start_phase()
        steps.forget_losses()
        steps.loss_sum.fill_(float("nan"))
        if begins:
            with pytest.raises(FloatingPointError, match="training loss is nan"):
                steps.finish()
        else:
            steps.finish()


def test_gradients_are_looked_at_once_a_phase(
    micro_trial: MicroTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    monkeypatch.setattr(step, "require_dense_gradients", lambda *given: looks.append(given))
    loop = run(micro_trial, Net, "dense").loop
    for _ in range(3):
        loop.advance()
    assert len(looks) == 1


class OverflowsAndTells(Overflows):
    sizes: list[int] = []  # noqa: RUF012

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        self.sizes.append(len(images))
        return super().forward(images, tasks)


def test_a_first_step_that_diverges_is_looked_into_by_a_micro_batch(
    micro_trial: MicroTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {"model.name": f"{__name__}:OverflowsAndTells", "training.accumulation": 2}
    loop = TrialRun(micro_trial("dense", overrides=overrides), device="cpu").loop
    OverflowsAndTells.sizes.clear()
    with pytest.raises(UserError, match="must be finite"):
        loop.advance()
    assert set(OverflowsAndTells.sizes) == {1}


def test_no_batch_is_read_again_for_a_network_of_ours(
    micro_trial: MicroTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = TrialRun(micro_trial("dense"), device="cpu").loop

    def take(*given: object, **more: object) -> None:
        raise FloatingPointError("the training loss is nan")

    monkeypatch.setattr(loop, "_take_gradient_step", take)
    monkeypatch.setattr(loop.source, "train_batch", None)
    with pytest.raises(Diverged, match="no step was taken yet"):
        loop.advance()

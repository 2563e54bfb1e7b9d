"""Losses: closed forms, targets that are partly or wholly unknown, gradients that stay finite."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.registry.tasks import TASKS
from trainables.tasks.catalogue import build_tasks

CHANNELS = {"segmentation": 4, "normals": 3, "depth": 1, "keypoints": 1, "edges": 1}


def target_of(task: str, *, known: bool, size: tuple[int, int] = (16, 24)) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if task == "segmentation":
        if not known:
            return torch.full((2, *size), 255)
        return torch.randint(0, 4, (2, *size), generator=generator)
    target = torch.randn(2, CHANNELS[task], *size, generator=generator)
    target = F.normalize(target) if task == "normals" else target.abs() + 0.1
    return target if known else torch.full_like(target, torch.nan)


@pytest.mark.parametrize("name", list(TASKS))
def test_nothing_known_gives_zero_with_zero_gradient(name: str) -> None:
    task = build_tasks([name], CHANNELS)[name]
    prediction = torch.randn(2, CHANNELS[name], 2, 3, requires_grad=True)
    loss = task.loss(prediction, target_of(name, known=False))
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == 0
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))


@pytest.mark.parametrize("name", list(TASKS))
def test_unknown_pixels_do_not_weigh(name: str) -> None:
    """Hiding the left half equals cropping it away (at full size, where nothing interpolates)."""
    task = build_tasks([name], CHANNELS)[name]
    target = target_of(name, known=True)
    prediction = torch.randn(2, CHANNELS[name], 16, 24)
    hidden = target.clone()
    hidden[..., :12] = 255 if name == "segmentation" else torch.nan
    cropped = task.loss(prediction[..., 12:], target[..., 12:])
    torch.testing.assert_close(task.loss(prediction, hidden), cropped)
    assert not torch.isclose(task.loss(prediction, target), cropped)


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0, 1e4])
def test_gradients_are_finite_and_bounded(name: str, scale: float) -> None:
    task = build_tasks([name], CHANNELS)[name]
    prediction = (scale * torch.randn(2, CHANNELS[name], 2, 3)).requires_grad_()
    loss = task.loss(prediction, target_of(name, known=True))
    loss.backward()
    assert loss.isfinite()
    # A head that predicts exactly zero (all its weights pruned) must not blow up the trunk.
    assert prediction.grad.abs().max() < 100


def test_cross_entropy_of_equal_logits_is_log_of_the_classes() -> None:
    task = build_tasks(["segmentation"], CHANNELS)["segmentation"]
    loss = task.loss(torch.full((2, 4, 2, 3), 7.0), target_of("segmentation", known=True))
    assert loss.item() == pytest.approx(math.log(4), rel=1e-6)


def test_cross_entropy_is_torchs_on_interpolated_logits() -> None:
    task = build_tasks(["segmentation"], CHANNELS)["segmentation"]
    target = target_of("segmentation", known=True)
    target[0, :5] = 255
    logits = torch.randn(2, 4, 2, 3)
    expected = F.cross_entropy(
        F.interpolate(logits, (16, 24), mode="bilinear"), target, ignore_index=255
    )
    torch.testing.assert_close(task.loss(logits, target), expected)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 0.0), (30.0, 0.0), (-2.0, 2.0)])
def test_normals_loss_sees_direction_only(factor: float, expected: float) -> None:
    task = build_tasks(["normals"], CHANNELS)["normals"]
    target = target_of("normals", known=True)
    assert task.loss(factor * target, target).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["depth", "keypoints", "edges"])
def test_l1_by_hand(name: str) -> None:
    task = build_tasks([name], CHANNELS)[name]
    target = torch.tensor([[[[1.0, 2.0], [math.nan, 4.0]]]])
    prediction = torch.tensor([[[[1.5, 1.0], [9.0, 4.0]]]])
    assert task.loss(prediction, target).item() == pytest.approx((0.5 + 1.0 + 0.0) / 3)


def test_catalogue_refuses() -> None:
    with pytest.raises(UserError, match=r"unknown task 'edge'.*Did you mean 'edges'"):
        build_tasks(["edge"], CHANNELS)
    with pytest.raises(UserError, match="`normals` must predict 3 channels, got 4"):
        build_tasks(["normals"], {"normals": 4})
    with pytest.raises(UserError, match="at least 1 channel, got 0"):
        build_tasks(["segmentation"], {"segmentation": 0})


def test_order_is_the_callers() -> None:
    assert list(build_tasks(["edges", "depth"], CHANNELS)) == ["edges", "depth"]


def test_losses_at_logits_by_hand() -> None:
    """Of 4×4 pixels, 2×2 logits are compared with those at rows and columns 0 and 2."""
    labels = torch.tensor([[[0, 1, 1, 1], [1, 1, 1, 1], [255, 1, 1, 1], [1, 1, 1, 0]]])
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0, 0, 0] = math.log(3)  # the 0 there has probability 3/4; both 1s have 1/2
    at_logits, full = (
        build_tasks(["segmentation"], {"segmentation": 2}, loss_resolution=where)["segmentation"]
        for where in ("logits", "full")
    )
    expected = (math.log(4 / 3) + 2 * math.log(2)) / 3  # 255 is left out
    assert at_logits.loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)
    assert full.loss(logits, labels).item() != pytest.approx(expected, rel=1e-2)
    depth = torch.arange(16.0).reshape(1, 1, 4, 4)
    depth[0, 0, 2, 2] = torch.nan
    task = build_tasks(["depth"], {"depth": 1}, loss_resolution="logits")["depth"]
    assert task.loss(torch.zeros(1, 1, 2, 2), depth).item() == pytest.approx((0 + 2 + 8) / 3)


@pytest.mark.parametrize("size", [(16, 24), (17, 25), (3, 5)])
@pytest.mark.parametrize("name", list(TASKS))
def test_losses_at_logits_are_those_of_the_sampled_target(name: str, size: tuple[int, int]) -> None:
    """Sampled as in the released `loss.py`, by `F.interpolate` on floats; types stay."""
    target = target_of(name, known=True, size=size)
    prediction = torch.randn(2, CHANNELS[name], 2, 3, requires_grad=True)
    planes = target.float() if target.ndim == 4 else target.float()[:, None]
    sampled = F.interpolate(planes, size=(2, 3))
    sampled = sampled if target.ndim == 4 else sampled[:, 0].long()
    task = build_tasks([name], CHANNELS, loss_resolution="logits")[name]
    plain = build_tasks([name], CHANNELS)[name]
    assert torch.equal(task.loss(prediction, target), plain.loss(prediction, sampled))
    task.loss(prediction, target).backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    # What is measured is the same.
    ours, theirs = (t.accumulator("published", "cpu") for t in (task, plain))
    ours.update(prediction.detach(), target)
    theirs.update(prediction.detach(), target)
    assert ours.compute() == theirs.compute()

"""The network's contract: shapes, ownership, separation of tasks, deterministic weights."""

import dataclasses

import pytest
import torch
from torch import nn

from trainables.config import ModelConfig
from trainables.errors import UserError
from trainables.models.base import SHARED, MultitaskModel
from trainables.models.catalogue import build_model

TINY = ModelConfig(
    name="deeplab-resnet",
    width=8,
    blocks=(1, 1, 1, 1),
    strides=(1, 2, 1, 1),
    dilations=(1, 1, 2, 4),
    head_width=12,
    head_dilations=(1, 2, 3),
    unit_rate=100.0,
)
CHANNELS = {"segmentation": 5, "normals": 3, "depth": 1}


def tiny(seed: int = 0, **changes: object) -> nn.Module:
    return build_model(dataclasses.replace(TINY, **changes), CHANNELS, seed)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (64, 48), (65, 97)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_forward_at_any_size(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    model = tiny().eval().to(memory_format=memory_format)
    predictions = model(torch.rand(2, 3, *size).contiguous(memory_format=memory_format))
    cells = tuple(-(-side // 8) for side in size)
    assert {t: tuple(p.shape) for t, p in predictions.items()} == {
        task: (2, channels, *cells) for task, channels in CHANNELS.items()
    }


def test_memory_format_changes_nothing() -> None:
    images = torch.rand(2, 3, 33, 40)
    expected = tiny().eval()(images)
    got = (
        tiny()
        .eval()
        .to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    )
    for task in CHANNELS:
        torch.testing.assert_close(got[task], expected[task], rtol=1e-4, atol=1e-4)


def test_only_the_named_heads_run() -> None:
    model = tiny().eval()
    images = torch.rand(1, 3, 32, 32)
    calls: list[str] = []
    for task, head in model.heads.items():
        head.register_forward_hook(lambda *_, task=task: calls.append(task))
    chosen = model(images, tasks=["depth"])
    assert calls == ["depth"]
    assert list(chosen) == ["depth"]
    torch.testing.assert_close(chosen["depth"], model(images)["depth"], rtol=0, atol=0)


def test_unknown_task_lists_the_valid_ones() -> None:
    with pytest.raises(UserError, match="depth, normals, segmentation"):
        tiny()(torch.rand(1, 3, 32, 32), tasks=["edges"])


def test_owners_are_complete() -> None:
    model = tiny()
    owners = model.owners()
    assert list(owners) == [name for name, _ in model.named_parameters()]
    assert set(owners.values()) == {SHARED, *CHANNELS}
    assert isinstance(model, MultitaskModel)
    assert {name.split(".")[0] for name in owners if owners[name] == SHARED} == {"backbone"}


@pytest.mark.parametrize("task", list(CHANNELS))
def test_gradients_reach_what_the_task_owns_and_nothing_of_the_others(task: str) -> None:
    model = tiny()
    sum(
        p.square().sum() for t, p in model(torch.rand(2, 3, 40, 40)).items() if t == task
    ).backward()
    for name, owner in model.owners().items():
        gradient = model.get_parameter(name).grad
        if owner in (SHARED, task):
            assert gradient is not None, name
            assert gradient.isfinite().all(), name
        else:
            assert gradient is None, name


def test_same_seed_same_weights_and_the_global_generator_stays() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = tiny(seed=7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)
    again, other = tiny(seed=7).state_dict(), tiny(seed=8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])


def test_initial_predictions_have_a_sane_magnitude() -> None:
    changes = {"width": 16, "head_width": 64, "blocks": (2, 2, 2, 2)}
    deviations = [
        prediction.std().item()
        for dilations in ((1,), (1, 2, 3, 4))
        for prediction in tiny(head_dilations=dilations, **changes)(
            torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        ).values()
    ]
    # The sum over branches does not grow with their number.
    assert min(deviations) > 0.1
    assert max(deviations) < 2


def test_training_mode_is_deterministic_as_there_is_no_dropout() -> None:
    model = tiny()
    images = torch.rand(2, 3, 32, 32)
    first, second = model(images), model(images)
    assert all(torch.equal(first[task], second[task]) for task in CHANNELS)


def test_one_value_per_channel_cannot_be_normalised() -> None:
    model = tiny(strides=(8, 8, 8, 8)).train()
    with pytest.raises(UserError, match=r"at least 2 values per channel.*lower the strides"):
        model(torch.rand(1, 3, 32, 32))
    model(torch.rand(2, 3, 32, 32))  # two crops are two values
    model.eval()(torch.rand(1, 3, 32, 32))  # the running statistics need none
    # The rule is exact: one cell at 8 pixels of stride 8, two at 9.
    with pytest.raises(UserError, match="of 1 crop of 8x8 at output stride 8"):
        tiny().train()(torch.rand(1, 3, 8, 8))
    tiny().train()(torch.rand(1, 3, 9, 8))


@pytest.mark.parametrize(
    ("side", "cells"), [(8, 2), (9, 2), (14, 2), (15, 3), (16, 3), (17, 3), (24, 4)]
)
def test_cells_with_the_pool_rounded_up(side: int, cells: int) -> None:
    """⌈(⌊⌈n / 2⌉ / 2⌋ + 1) / 2⌉ of them."""
    model = tiny(pool_rounding="up").eval()
    assert model(torch.rand(1, 3, side, 8))["normals"].shape[-2:] == (cells, 2)


def test_one_value_per_channel_is_told_by_the_cells_there_are() -> None:
    """At stride 16 a crop of 16×16 has one cell, and with the pool rounded up four."""
    image = torch.rand(1, 3, 16, 16)
    with pytest.raises(UserError, match="at least 2 values per channel"):
        tiny(strides=(1, 4, 1, 1)).train()(image)
    tiny(strides=(1, 4, 1, 1), pool_rounding="up").train()(image)
    with pytest.raises(UserError, match="at least 2 values per channel"):
        tiny(strides=(8, 8, 1, 1), pool_rounding="up").train()(image)

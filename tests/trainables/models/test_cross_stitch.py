"""Cross-Stitch: mixing by hand, identity units, networks that train alone first."""

import pytest
import torch

from tests.trainables.models.baselines import build, images, single_network
from trainables.models.base import SHARED
from trainables.models.cross_stitch import CrossStitchUnit


def test_mixing_by_hand() -> None:
    """Two tasks, two channels: eight weights, every channel with a 2×2 matrix of its own."""
    unit = CrossStitchUnit(2, 2)
    # Channel 0 mixes by ((1, 2), (3, 4)), channel 1 by ((5, 6), (7, 8)).
    unit.weight.data = torch.tensor([[[1.0, 5.0], [2.0, 6.0]], [[3.0, 7.0], [4.0, 8.0]]])
    first = torch.tensor([1.0, 10.0]).reshape(1, 2, 1, 1)
    second = torch.tensor([100.0, 1000.0]).reshape(1, 2, 1, 1)
    mixed = unit([first, second])
    assert mixed[0].flatten().tolist() == [1 * 1 + 2 * 100, 5 * 10 + 6 * 1000]
    assert mixed[1].flatten().tolist() == [3 * 1 + 4 * 100, 7 * 10 + 8 * 1000]


def test_mixing_keeps_positions_and_images_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    unit = CrossStitchUnit(3, 4)
    unit.weight.data = torch.randn(3, 3, 4, generator=generator)
    features = torch.randn(3, 2, 4, 5, 6, generator=generator)
    expected = torch.einsum("tsc,sbchw->tbchw", unit.weight, features)
    torch.testing.assert_close(torch.stack(unit(list(features))), expected)


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 5])
def test_initial_units(num_tasks: int) -> None:
    weight_TTC = CrossStitchUnit(num_tasks, 3).weight
    torch.testing.assert_close(weight_TTC.sum(dim=1), torch.ones(num_tasks, 3))
    for i in range(num_tasks):
        for j in range(num_tasks):
            own, other = (0.9, 0.1 / (num_tasks - 1)) if num_tasks > 1 else (1.0, 0.0)
            torch.testing.assert_close(weight_TTC[i, j], torch.full((3,), own if i == j else other))


def test_a_unit_after_each_stage_and_no_other_shared_parameter() -> None:
    model = build("cross-stitch", 3)
    shared = {name for name, owner in model.owners().items() if owner == SHARED}
    assert shared == {f"units.{stage}.weight" for stage in range(4)}
    assert [tuple(unit.weight.shape) for unit in model.units] == [
        (3, 3, 8 * 2**stage) for stage in range(4)
    ]
    assert model.learning_rate_scales() == dict.fromkeys(shared, 100.0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("bypassed", [False, True])
def test_identity_units_leave_separate_networks(training: bool, bypassed: bool) -> None:
    model = build("cross-stitch", 3).train(training)
    singles = {t: single_network(t, model, f"backbones.{t}") for t in model.tasks}
    if bypassed:
        model.start_step("pretrain", 0)
    else:
        for unit in model.units:
            unit.weight.data = torch.eye(3)[..., None].repeat(1, 1, unit.weight.shape[-1])
    predictions = model(images())
    for task, single in singles.items():
        assert torch.equal(predictions[task], single(images())[task])


def test_units_mix_but_in_pretraining() -> None:
    model = build("cross-stitch").eval()
    mixed = model(images())["normals"]
    model.start_step("pretrain", 0)
    apart = model(images())["normals"]
    model.start_step("train", 0)
    assert not torch.allclose(mixed, apart)
    assert torch.equal(mixed, model(images())["normals"])


@pytest.mark.parametrize("phase", ["pretrain", "train"])
def test_where_a_tasks_gradient_goes(phase: str) -> None:
    model = build("cross-stitch", 3).train()
    model.start_step(phase, 0)
    model(images())["normals"].square().sum().backward()
    for name, owner in model.owners().items():
        gradient = model.get_parameter(name).grad
        # Alone, a network learns alone and the units rest; stitched, all trunks serve all heads.
        reached = owner == "normals" or (phase == "train" and not name.startswith("heads."))
        assert (gradient is not None) == reached, name
        if gradient is not None:
            assert gradient.abs().sum() > 0, name


def test_pretraining_runs_only_the_trunks_it_was_asked_for() -> None:
    model = build("cross-stitch", 3).eval()
    calls: list[str] = []
    for task, trunk in model.backbones.items():
        trunk.conv1.register_forward_hook(lambda *_, task=task: calls.append(task))
    model(images(), tasks=["depth"])
    assert calls == ["segmentation", "normals", "depth"]
    calls.clear()
    model.start_step("pretrain", 3)
    model(images(), tasks=["depth"])
    assert calls == ["depth"]


def test_mixing_keeps_half_precision_half() -> None:
    features = [torch.ones(1, 2, 1, 1, dtype=torch.bfloat16) for _ in range(2)]
    assert {mixed.dtype for mixed in CrossStitchUnit(2, 2)(features)} == {torch.bfloat16}

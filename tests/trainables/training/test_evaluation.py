"""Evaluation, batch by batch: what it waits for, and what a short last batch changes."""

import contextlib

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.training.emulated_graphs import NoLooks
from trainables.data.batch import Batch
from trainables.tasks.catalogue import build_tasks
from trainables.training import evaluation
from trainables.training.device import untuned
from trainables.training.evaluation import evaluate, filled

CHANNELS = {"segmentation": 5, "normals": 3, "depth": 1}


class EachAlone(nn.Module):
    """A prediction of every pixel from its image alone, so that no batch can round it otherwise."""

    tasks = tuple(CHANNELS)

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: Tensor, tasks: object = None) -> dict[str, Tensor]:
        self.sizes.append(len(images))
        return {t: (images[:, :1] + 0.5 * torch.arange(c)[:, None, None]).abs()[:, :, ::4, ::4]
                for t, c in CHANNELS.items()}  # fmt: skip


def batches(sizes: list[int]) -> list[Batch]:
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(sum(sizes), 3, 16, 24, generator=draws)
    labels = torch.randint(0, 6, (sum(sizes), 16, 24), generator=draws)
    normals = nn.functional.normalize(torch.randn(sum(sizes), 3, 16, 24, generator=draws))
    targets = {
        "segmentation": labels.masked_fill(labels == 5, 255),
        "normals": normals.masked_fill(labels[:, None] == 5, torch.nan),
        "depth": images[:, 1:2].abs() + 0.1,
    }
    parts = {name: target.split(sizes) for name, target in targets.items()}
    return [
        Batch(images_BCHW=image, targets={name: part[i] for name, part in parts.items()})
        for i, image in enumerate(images.split(sizes))
    ]


def measured(model: EachAlone, sizes: list[int], definition: str) -> dict[str, float]:
    return evaluate(
        model,
        build_tasks(CHANNELS, CHANNELS),
        batches(sizes),
        definition=definition,
        device="cpu",
        autocast=contextlib.nullcontext,
    )


@pytest.mark.parametrize("definition", ["corrected", "published"])
@pytest.mark.parametrize("sizes", [[4, 4, 3], [4, 1], [8, 3], [2]])
def test_a_short_last_batch_is_filled_up_without_a_trace(monkeypatch, sizes, definition):
    model = EachAlone()
    expected = measured(model, sizes, definition)
    assert model.sizes == sizes
    monkeypatch.setattr(evaluation, "FILLS", ("cpu", "cuda"))
    model = EachAlone()
    assert measured(model, sizes, definition) == expected
    assert set(model.sizes) == {sizes[0]}


def test_filling_repeats_the_images():
    images = torch.arange(3.0).view(3, 1, 1, 1)
    assert filled(images, 8).flatten().tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert filled(images, 3) is images


@pytest.mark.parametrize("definition", ["corrected", "published"])
@pytest.mark.parametrize("task", CHANNELS)
def test_no_metric_waits_for_the_device(monkeypatch, task, definition):
    """But for `torch.bincount`, whose place on a GPU is taken by a histogram of given bounds."""
    (batch,) = batches([4])
    built = build_tasks([task], CHANNELS)[task]
    accumulator = built.accumulator(definition, "cpu")
    prediction = EachAlone()(batch.images_BCHW)[task]
    seen = []

    def counted(cells: Tensor, num_cells: int) -> Tensor:
        seen.append(num_cells)
        return torch.zeros(num_cells, dtype=torch.int64)

    for module in ("segmentation", "normals"):
        monkeypatch.setattr(f"trainables.tasks.{module}.histogram", counted)
    with NoLooks():
        accumulator.update(prediction, batch.targets[task])
    assert len(seen) == (task != "depth")


def test_trials_of_kernels_are_off_for_a_while_only():
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        with contextlib.suppress(KeyError), untuned():
            assert not torch.backends.cudnn.benchmark
            raise KeyError
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = before

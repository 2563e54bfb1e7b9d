"""On CUDA: the same metrics as on the CPU, and losses that repeat bit for bit."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.registry.tasks import TASKS
from trainables.tasks.catalogue import build_tasks

pytestmark = pytest.mark.gpu

CHANNELS = {"segmentation": 40, "normals": 3, "depth": 1, "keypoints": 1, "edges": 1}


def example(name: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(4, CHANNELS[name], 15, 20, generator=generator)
    hidden = torch.rand(4, 120, 160, generator=generator) < 0.2
    if name == "segmentation":
        labels = torch.randint(0, 40, (4, 120, 160), generator=generator)
        return prediction, labels.masked_fill(hidden, 255)
    target = torch.randn(4, CHANNELS[name], 120, 160, generator=generator)
    target = F.normalize(target) if name == "normals" else target.abs() + 0.1
    return prediction, target.masked_fill(hidden.unsqueeze(1), float("nan"))


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize("definition", ["corrected", "published"])
def test_metrics_agree_with_the_cpu(name: str, definition: str) -> None:
    task = build_tasks([name], CHANNELS)[name]
    prediction, target = example(name)
    results = []
    for device in ("cpu", "cuda"):
        accumulator = task.accumulator(definition, device)
        accumulator.update(prediction.to(device), target.to(device))
        results.append(accumulator.compute())
    assert results[1] == pytest.approx(results[0], rel=1e-3)


@pytest.mark.parametrize("name", list(TASKS))
def test_loss_and_gradient_repeat_bit_for_bit(name: str) -> None:
    task = build_tasks([name], CHANNELS)[name]
    prediction, target = (tensor.cuda() for tensor in example(name))
    results = []
    for _ in range(3):
        leaf = prediction.clone().requires_grad_()
        loss = task.loss(leaf, target)
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])

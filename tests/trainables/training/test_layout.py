"""Networks are trained in channels-last format, except where a CPU's kernels corrupt memory."""

import pytest
import torch
from torch import nn

from trainables.training.device import placed


def network(channels: int, **arguments: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 8, 1, **arguments))


@pytest.mark.parametrize(
    ("capability", "model", "last"),
    [
        ("AVX2", network(8, stride=2), True),
        ("AVX2", network(4), True),
        ("AVX2", network(4, stride=2), False),
        ("AVX2", network(16, stride=2, groups=4), False),
        ("DEFAULT", network(4, stride=2), False),
        ("AVX512", network(4, stride=2), True),
    ],
)
def test_the_layout_is_one_that_the_cpu_can_train(
    capability: str, model: nn.Module, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    weight = next(placed(model, "cpu", channels_last=True).parameters())
    assert weight.is_contiguous(memory_format=torch.channels_last) == last
    assert weight.is_contiguous() != last
    assert next(placed(model, "cpu", channels_last=False).parameters()).is_contiguous()


@pytest.mark.parametrize("channels", [2, 5, 7])
def test_narrow_layers_with_a_stride_train(channels: int) -> None:
    model = placed(network(channels, stride=2), "cpu", channels_last=True)
    for _ in range(30):
        model(torch.randn(4, 3, 10, 10)).square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)

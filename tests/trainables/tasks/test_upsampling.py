"""Bilinear up-sampling against torch's, forward and backward; nearest by hand."""

import pytest
import torch
from torch.nn import functional as F

from trainables.tasks.upsampling import upsample_bilinear, upsample_for, upsample_nearest

SIZES = [
    ((4, 4), (32, 32)),
    ((5, 7), (33, 50)),
    ((1, 3), (8, 24)),
    ((2, 1), (9, 5)),
    ((6, 6), (4, 3)),
]


@pytest.mark.parametrize(("cells", "size"), SIZES)
def test_bilinear_is_torchs(cells: tuple[int, int], size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(2, 3, *cells, generator=generator)
    weights = torch.randn(2, 3, *size, generator=generator)
    results = []
    for upsample in (upsample_bilinear, lambda p, s: F.interpolate(p, s, mode="bilinear")):
        leaf = prediction.clone().requires_grad_()
        output = upsample(leaf, size)
        (output * weights).sum().backward()
        results.append((output.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_same_size_is_untouched() -> None:
    prediction = torch.randn(1, 2, 6, 5)
    assert torch.equal(upsample_bilinear(prediction, (6, 5)), prediction)


def test_autocast_does_not_round_the_interpolation() -> None:
    prediction = torch.randn(1, 2, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = upsample_bilinear(prediction, (32, 32))
    assert inside.dtype == torch.float32
    assert torch.equal(inside, upsample_bilinear(prediction, (32, 32)))


def test_nearest_by_hand() -> None:
    prediction = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = torch.tensor([[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
    assert torch.equal(upsample_nearest(prediction, (4, 4))[0, 0], expected)
    assert torch.equal(upsample_for("published", prediction, (4, 4))[0, 0], expected)
    assert not torch.equal(upsample_for("corrected", prediction, (4, 4))[0, 0], expected)


def test_a_nan_between_the_samples_cannot_hide() -> None:
    prediction = torch.zeros(1, 1, 8, 8)
    prediction[0, 0, 1, 1] = torch.nan
    assert upsample_bilinear(prediction, (3, 3)).isnan().any()

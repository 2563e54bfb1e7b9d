"""Bilinear up-sampling against torch's, forward and backward; nearest by hand."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.tasks.measuring.upsampling import upsample_bilinear, upsample_for, upsample_nearest

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


class Precisions(TorchDispatchMode):
    """The matrix products of a block, by the float32 precision that they were allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if "mm" in str(func):
            self.seen.append(torch.get_float32_matmul_precision())
        return func(*args, **(kwargs or {}))


@pytest.fixture
def _fast_products() -> Iterator[None]:
    """As `prepare_device` sets it for training on CUDA."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(allowed)


@pytest.mark.usefixtures("_fast_products")
def test_both_passes_are_exact_where_the_network_is_not() -> None:
    leaf = torch.randn(1, 2, 4, 4, requires_grad=True)
    with Precisions() as outside:
        (leaf @ leaf).sum()
    assert set(outside.seen) == {"high"}
    with Precisions() as inside:
        output = upsample_bilinear(leaf, (32, 32))
        forward = len(inside.seen)
        output.sum().backward()
    assert 0 < forward < len(inside.seen)
    assert set(inside.seen) == {"highest"}
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.gpu
@pytest.mark.usefixtures("_fast_products")
def test_tf32_does_not_round_the_interpolation() -> None:
    prediction = torch.randn(2, 3, 15, 20, generator=torch.Generator().manual_seed(0))
    results = []
    for device in ("cpu", "cuda"):
        leaf = prediction.clone().to(device).requires_grad_()
        output = upsample_bilinear(leaf, (120, 160))
        (output**2).sum().backward()
        assert leaf.grad is not None
        results.append((output.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)


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

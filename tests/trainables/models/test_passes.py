"""A pass through a user's network: what it costs, what ends it, and what a failure is told as."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.data.batch import Batch
from trainables.errors import UserError
from trainables.models.passes import differentiating, predict
from trainables.training.loop.losses import auxiliary_loss

IMAGES = torch.ones(1, 3, 4, 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)
        self.table = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"a": self.head(images)}

    def auxiliary_loss(self, losses: object) -> float:
        return 0.5


class Stop(BaseException):
    """Raised by a user's own code, as no ordinary error."""


def test_a_pass_that_succeeds_walks_through_no_parameters() -> None:
    class Counted(Net):
        def parameters(self, recurse: bool = True) -> Any:
            raise AssertionError("nobody asked")

    assert predict(Counted(), IMAGES, ("a",))["a"].shape == (1, 2, 4, 4)


def test_the_type_of_weights_is_blamed_for_errors_of_types_alone() -> None:
    class Broken(Net):
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            raise ValueError("no such size")

    with pytest.raises(UserError, match="mend it there, or choose another size or batch;") as said:
        predict(Broken(), IMAGES, ("a",))
    assert "float32" not in str(said.value)
    with pytest.raises(UserError, match=r"images are float32, so build the network in it"):
        predict(Net().double(), IMAGES, ("a",))


def backward(again: Callable[[], Tensor], error: BaseException) -> None:
    with differentiating(Net(), (), again):
        raise error


def test_an_interrupted_backward_pass_is_not_run_again() -> None:
    ran = []

    def again() -> Tensor:
        ran.append("again")
        return torch.ones((), requires_grad=True)

    with pytest.raises(KeyboardInterrupt):
        backward(again, KeyboardInterrupt())
    assert not ran


def test_a_backward_pass_that_fails_otherwise_again_is_told_by_its_first_error() -> None:
    def again() -> Tensor:
        raise Stop

    with pytest.raises(UserError, match="raised ValueError: at first"):
        backward(again, ValueError("at first"))

    def interrupted() -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backward(interrupted, ValueError("at first"))


def test_a_number_as_a_loss_is_not_copied_from_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "tensor", None)
    added = auxiliary_loss(Net(), {}, {}, Batch(images_BCHW=IMAGES, targets={}))
    assert added is not None
    assert (float(added), added.dtype) == (0.5, torch.float32)

"""What differs from the trained model is not shipped, and the message has the figures."""

import math

import pytest
import torch
from torch import Tensor

from tests.trainables.shipping.models import CHANNELS, images
from trainables.data.batch import Batch
from trainables.errors import Failure
from trainables.shipping.runtime import OnnxModel
from trainables.shipping.verify import Verification, verify, verify_on_random_images
from trainables.tasks.catalogue import build_tasks
from trainables.training.export import TrainedModel

TASKS = tuple(CHANNELS)


def batches() -> list[Batch]:
    draws = torch.Generator().manual_seed(1)
    return [
        Batch(
            images_BCHW=images(count, seed=count),
            targets={
                "segmentation": torch.randint(0, 12, (count, 32, 32), generator=draws),
                "depth": torch.rand(count, 1, 32, 32, generator=draws) + 1,
            },
        )
        for count in (3, 2)
    ]


class Altered(torch.nn.Module):
    """Multiplies one output of another network."""

    def __init__(self, model: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        predictions = self.model(images_BCHW)
        return {**predictions, "depth": predictions["depth"] * self.factor}


def verified(masked: TrainedModel, **shipped: torch.nn.Module) -> Verification:
    tasks = build_tasks(TASKS, CHANNELS)
    return verify(masked.model, shipped, batches(), tasks, definition="corrected")


def test_the_onnx_file_agrees_on_outputs_and_metrics(
    masked: TrainedModel, onnx_file: bytes
) -> None:
    result = verified(masked, onnxruntime=OnnxModel(onnx_file))
    assert (result.on, result.num_images) == ("test", 5)
    assert all(0 <= error <= 1e-5 for error in result.errors["onnxruntime"].values())
    assert result.metrics["masked"].keys() >= {"segmentation/miou", "depth/absolute_error"}
    for name, value in result.metrics["masked"].items():
        assert result.metrics["onnxruntime"][name] == pytest.approx(value, rel=1e-4)


def test_the_error_is_relative_to_the_largest_output(masked: TrainedModel) -> None:
    result = verified(masked, altered=Altered(masked.model, 1 + 5e-5))
    assert result.errors["altered"]["segmentation"] == 0
    assert result.errors["altered"]["depth"] == pytest.approx(5e-5, rel=0.05)


@pytest.mark.parametrize("factor", [1.001, math.nan])
def test_a_difference_is_a_failure_with_figures(masked: TrainedModel, factor: float) -> None:
    figure = "nan" if math.isnan(factor) else r"1\.00e-03"
    with pytest.raises(Failure, match=rf"altered: depth differs by {figure} of its largest"):
        verified(masked, altered=Altered(masked.model, factor))
    with pytest.raises(Failure, match="on 16 images of random images"):
        verify_on_random_images(
            masked.model, {"altered": Altered(masked.model, factor)}, TASKS, (32, 32)
        )


def test_random_images_give_no_metrics(masked: TrainedModel, onnx_file: bytes) -> None:
    result = verify_on_random_images(
        masked.model, {"onnxruntime": OnnxModel(onnx_file)}, TASKS, (32, 32)
    )
    assert result.on == "random images"
    assert result.metrics == {}
    assert max(result.errors["onnxruntime"].values()) <= 1e-5

"""ONNX Runtime computes what PyTorch does, for every network of ours and a user's own."""

import io
import json

import pytest
import torch

import trainables
from tests.trainables.shipping.conftest import Config
from tests.trainables.shipping.models import Untraceable, WithoutOperator, images, untrained
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.shipping.compact import compact
from trainables.shipping.formats.onnx_export import (
    ExportFailed,
    Metadata,
    export_program,
    onnx_bytes,
    program_bytes,
)
from trainables.shipping.runtime import OnnxModel

OWN = "tests.trainables.shipping.models:Own"
TASKS = ("segmentation", "depth")
METADATA = Metadata(tasks=TASKS, image_mean=(0.1, 0.2, 0.3), image_std=(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    "name",
    [
        "deeplab-resnet",
        pytest.param("cross-stitch", marks=pytest.mark.slow),
        pytest.param("sluice", marks=pytest.mark.slow),
        pytest.param("den", marks=pytest.mark.slow),
        OWN,
    ],
)
@torch.no_grad()
def test_onnx_runtime_equals_pytorch(config: Config, name: str) -> None:
    check_outputs(config("dense", model__name=name))


@pytest.mark.parametrize("size", [(32, 32), (30, 46)])
@torch.no_grad()
def test_the_published_grid_is_exported(config: Config, size: tuple[int, int]) -> None:
    check_outputs(config("dense", model__pool_rounding="up"), size)


def check_outputs(trial: TrialConfig, size: tuple[int, int] = (32, 32)) -> None:
    """ONNX Runtime and the exported program give what the masked network gives."""
    before = untrained(trial, density=0.5)
    program = export_program(compact(before.model, before.registry).model, TASKS, size)
    network = OnnxModel(onnx_bytes(program, METADATA))
    again = torch.export.load(io.BytesIO(program_bytes(program))).module()
    assert network.tasks == TASKS
    for count in (1, 2, 5):
        expected = before.model(images(count, *size))
        outputs = network(images(count, *size))
        assert tuple(again(images(count, *size))) == TASKS
        for task in TASKS:
            magnitude = expected[task].abs().max()
            assert (outputs[task] - expected[task]).abs().max() <= 1e-5 * magnitude
            assert (
                again(images(count, *size))[task] - expected[task]
            ).abs().max() <= 1e-5 * magnitude


@pytest.mark.slow
@torch.no_grad()
def test_height_and_width_are_open_when_asked(config: Config) -> None:
    before = untrained(config())
    program = export_program(before.model, TASKS, (32, 32), dynamic_size=True)
    network = OnnxModel(onnx_bytes(program, METADATA))
    for size in ((32, 32), (48, 80), (33, 47)):
        expected = before.model(images(2, *size))
        for task, output in network(images(2, *size)).items():
            assert output.shape == expected[task].shape
            assert (output - expected[task]).abs().max() <= 1e-5 * expected[task].abs().max()


def test_the_file_says_what_it_takes_and_gives(onnx_file: bytes) -> None:
    import onnx

    file = onnx.load_from_string(onnx_file)
    onnx.checker.check_model(file)

    def shape(value: object) -> list[object]:
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]  # type: ignore[attr-defined]

    assert [(v.name, shape(v)) for v in file.graph.input] == [("images", ["batch", 3, 32, 32])]
    assert [(v.name, shape(v)) for v in file.graph.output] == [
        ("segmentation", ["batch", 12, 4, 4]),
        ("depth", ["batch", 1, 4, 4]),
    ]
    about = {p.key: p.value for p in file.metadata_props}
    assert json.loads(about["tasks"]) == list(TASKS)
    assert json.loads(about["image_mean"]) == [0.45, 0.42, 0.38]
    assert json.loads(about["image_std"]) == [0.18, 0.178, 0.174]
    assert about["disparse_search_version"] == trainables.__version__


def test_what_cannot_be_followed_is_named() -> None:
    model = Untraceable(None, {"depth": 1}).eval()
    with pytest.raises(ExportFailed, match=r"cannot follow gate \(Branching\).*no branch on"):
        export_program(model, ("depth",), (32, 32))


def test_an_operation_that_onnx_lacks_is_named_with_its_module() -> None:
    program = export_program(WithoutOperator(None, {"depth": 1}).eval(), ("depth",), (32, 32))
    with pytest.raises(ExportFailed, match=r"cannot follow odd \(Bessel\) .*bessel_j0.*model\.pt2"):
        onnx_bytes(program, METADATA)


def test_a_size_that_does_not_fit_is_the_users_mistake(config: Config) -> None:
    import torch.nn as nn

    class Fixed(nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"depth": images.reshape(-1, 3, 16, 16)[:, :1] @ torch.ones(16, 16) + images}

    with pytest.raises(UserError, match="must fit the network, got 32x32"):
        export_program(Fixed(), ("depth",), (32, 32))


def test_the_exporters_say_nothing(
    config: Config, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    before = untrained(config(model__name=OWN))
    OnnxModel(onnx_bytes(export_program(before.model, TASKS, (32, 32)), METADATA))
    assert tuple(capfd.readouterr()) == ("", "")
    assert not recwarn.list

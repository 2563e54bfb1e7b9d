"""Exports a network as a program of torch.export and as ONNX.

The input `images` is float32 (B, 3, H, W), normalised; the outputs are named by task, (B, C, h, w)
at the network's output stride. The batch is open; height and width are fixed unless asked.
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor, nn

import trainables
from trainables.errors import Failure, UserError, in_a_line
from trainables.shipping.formats.packages import quiet, require_packages

INPUT_NAME = "images"
_MAX_WEIGHT_BYTES = 2**31 - 2**24  # a protocol buffer ends at 2 GiB; the graph needs some of it
_EXAMPLE_BATCH = 2  # 1 would be taken for a constant


class ExportFailed(Failure):
    """Reports a network that an exporter cannot follow; the message names the module."""


class _ByTask(nn.Module):
    """Gives the predictions in the order of the tasks, whatever order the network has them in."""

    def __init__(self, model: nn.Module, tasks: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.tasks = tuple(tasks)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        predictions = self.model(images)
        return {task: predictions[task] for task in self.tasks}


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """Holds what the ONNX file says of itself: the tasks and what the images must look like."""

    tasks: tuple[str, ...]
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]

    def properties(self) -> dict[str, str]:
        """Return the file's metadata; lists are JSON."""
        return {
            "tasks": json.dumps(self.tasks),
            "image_mean": json.dumps(self.image_mean),
            "image_std": json.dumps(self.image_std),
            "image_normalisation": "(pixel / 255 - image_mean) / image_std",
            "disparse_search_version": trainables.__version__,
        }


def export_program(
    model: nn.Module,
    tasks: Sequence[str],
    size: Sequence[int],
    *,
    dynamic_size: bool = False,
) -> torch.export.ExportedProgram:
    """Return the network as a program whose call gives `{task: prediction_BChw}`.

    model: in evaluation mode on the CPU. size: (height, width) of the images in pixels.
    Raises `UserError` if the network cannot run at that size, and `ExportFailed` if torch.export
    cannot follow it.
    """
    wrapped = _ByTask(model, tasks).eval()
    images = torch.zeros(_EXAMPLE_BATCH, 3, *size)
    try:
        with torch.no_grad():
            wrapped(images)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the image size must fit the network, got {size[0]}x{size[1]} ({in_a_line(error)}); "
            "choose another `--size`"
        ) from None
    open_dims = {0: torch.export.Dim("batch", min=1)}
    if dynamic_size:
        open_dims |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(
                wrapped, (images,), dynamic_shapes=(open_dims,), strict=False
            )
    except Exception as error:  # torch.export raises many kinds, and a network's own come through
        remedy = (
            "leave out --dynamic-size"
            if dynamic_size
            else "its forward must use tensors alone: no branch on their values, no NumPy, and "
            "shape[0] in place of len() for the batch"
        )
        raise ExportFailed(
            f"torch.export cannot follow {_culprit(model, error)} ({in_a_line(error)}); {remedy}"
        ) from None


def program_bytes(program: torch.export.ExportedProgram) -> bytes:
    """Return the contents of the file that `torch.export.load` reads."""
    file = io.BytesIO()
    with quiet():
        torch.export.save(program, file)
    return file.getvalue()


def onnx_bytes(program: torch.export.ExportedProgram, metadata: Metadata) -> bytes:
    """Return the contents of an ONNX file with the weights inside.

    Raises `UserError` if onnx or onnxscript are not installed, and `ExportFailed` for an operation
    that ONNX does not have and for weights of 2 GiB or more.
    """
    require_packages("onnx", "onnxscript")
    import onnx

    weights = sum(tensor.nbytes for tensor in program.state_dict.values())
    if weights > _MAX_WEIGHT_BYTES:
        raise ExportFailed(
            f"an ONNX file holds less than 2 GiB of weights, got {weights:,} bytes; "
            "use model.pt2 or weights.safetensors"
        )
    try:
        with quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT_NAME],
                output_names=list(metadata.tasks),
                verbose=False,
            )
            assert exported is not None
            file = exported.model_proto
    except Exception as error:  # an unknown operation has an error of torch.onnx's own
        cause = _innermost(error)
        raise ExportFailed(
            f"the ONNX exporter cannot follow {_user_of(program, cause)} ({in_a_line(cause)}); "
            "replace that operation by ones that ONNX has, or use model.pt2"
        ) from None
    _name_open_dims(file)
    _forget_origin(file)
    onnx.helper.set_model_props(file, metadata.properties())
    return file.SerializeToString()


def _name_open_dims(file: "onnx.ModelProto") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Call the open dimensions batch, height and width; the exporter numbers them."""
    sizes = file.graph.input[0].type.tensor_type.shape.dim
    names: Mapping[str, str] = {
        dim.dim_param: name
        for dim, name in zip(sizes, ("batch", "channels", "height", "width"), strict=True)
        if dim.dim_param
    }
    for value in (*file.graph.input, *file.graph.output, *file.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            for number, name in names.items():
                if number in dim.dim_param:
                    dim.dim_param = re.sub(rf"\b{re.escape(number)}\b", name, dim.dim_param)


def _forget_origin(file: "onnx.ModelProto") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Remove the traces of source files: they name this machine's folders, and change with them."""
    for part in (file.graph, *file.functions):
        for item in (part, *part.node, *part.value_info):
            del item.metadata_props[:]
            item.doc_string = ""


def _culprit(model: nn.Module, error: BaseException) -> str:
    """Return the innermost module that was running when the error came, for a message."""
    names = {id(module): name for name, module in model.named_modules()}
    found = ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        running = trace.tb_frame.f_locals.get("self")
        if id(running) in names:
            found = f"{names[id(running)] or 'the network'} ({type(running).__name__})"
        trace = trace.tb_next
    return found or f"the network ({type(model).__name__})"


def _innermost(error: BaseException) -> BaseException:
    """Return the first cause: torch.onnx wraps it in a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _user_of(program: torch.export.ExportedProgram, error: BaseException) -> str:
    """Return the module with the operation that the error names, for a message."""
    named = re.search(r"op='\w+\.(\w+)'", str(error))
    if named is None:
        return "the network"
    for node in program.graph.nodes:
        if node.op == "call_function" and named[1] in str(node.target):
            name, kind = list(node.meta["nn_module_stack"].values())[-1]
            module = name.removeprefix("model").removeprefix(".")
            return f"{module or 'the network'} ({kind.rpartition('.')[2]})"
    return "the network"

"""Runs a network in PyTorch or in ONNX Runtime, with a given number of threads.

Shape suffixes: B batch, C channels, H height, W width; h, w at the output stride.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import UserError, unknown_name
from trainables.shipping.formats.onnx_export import INPUT_NAME
from trainables.shipping.formats.packages import require_packages
from trainables.training.device import resolve_device

RUNTIMES = ("onnxruntime", "torch")
SHIP_DEVICES = ("cpu", "cuda")

Predict = Callable[[Tensor], Mapping[str, Tensor]]

_ERRORS_ONLY = 3  # ONNX Runtime warns of kernels that it does without
_CUDA_PROVIDER = "CUDAExecutionProvider"


def require_runtime(runtime: str, device: str, threads: int) -> None:
    """Raise `UserError` unless the runtime is known, installed, and can use the device."""
    if runtime not in RUNTIMES:
        raise unknown_name("runtime", runtime, RUNTIMES)
    if device not in SHIP_DEVICES:
        raise unknown_name("device", device, SHIP_DEVICES)
    if threads < 1:
        raise UserError(f"`--threads` must be at least 1, got {threads}; 1 is what trials use")
    if runtime == "torch":
        resolve_device(device)
        return
    require_packages("onnxruntime")
    import onnxruntime

    if device == "cuda" and _CUDA_PROVIDER not in onnxruntime.get_available_providers():
        raise UserError(
            "`--device cuda` needs an ONNX Runtime with its CUDA provider, got "
            f"{', '.join(onnxruntime.get_available_providers())}; pip install onnxruntime-gpu in "
            "place of onnxruntime, or use --device cpu or --runtime torch"
        )


class OnnxModel(nn.Module):
    """Runs an ONNX file by ONNX Runtime where a network of PyTorch would stand.

    contents: the file. Calling it gives `{task: prediction_BChw}` on the CPU, for float32 images.
    image_size: the (height, width) that it takes, None where they are open.
    device: with "cuda", images are copied to the GPU and predictions back at every call.
    """

    def __init__(self, contents: bytes, *, device: str = "cpu", threads: int = 1) -> None:
        require_packages("onnxruntime")
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Idle threads that spin would take cores from whatever runs next, the other network of a
        # measurement included.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = [_CUDA_PROVIDER] if device == "cuda" else []
        providers = [*wanted, "CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(contents, options, providers=providers)
        if wanted and self._session.get_providers()[0] != _CUDA_PROVIDER:
            raise UserError(
                "`--device cuda` needs ONNX Runtime to load its CUDA provider, got "
                f"{self._session.get_providers()[0]}; install the CUDA libraries that "
                "onnxruntime-gpu names, or use --device cpu"
            )
        self.tasks = tuple(output.name for output in self._session.get_outputs())
        sides = self._session.get_inputs()[0].shape[2:]  # names where they are open
        fixed = all(isinstance(side, int) for side in sides)
        self.image_size: tuple[int, int] | None = (sides[0], sides[1]) if fixed else None

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Return the predictions of all tasks."""
        outputs: list[Any] = self._session.run(None, {INPUT_NAME: images_BCHW.cpu().numpy()})
        return {task: torch.from_numpy(o) for task, o in zip(self.tasks, outputs, strict=True)}


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let PyTorch use that many threads for one operation, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

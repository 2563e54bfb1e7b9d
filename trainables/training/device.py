"""Chooses where a trial runs and in which precision."""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.data.limits import memory_bytes
from trainables.errors import Failure, UserError, is_out_of_memory, unknown_name

DEVICES = ("auto", "cpu", "cuda")

_REGISTER_CHANNELS = 16  # of fp32 in the widest vector registers (AVX-512)
_IMAGE_BYTES = 3 * 4  # of a pixel, in float32
_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> str:
    """Return "cpu" or "cuda"; "auto" is "cuda" if there is a GPU.

    Raises `UserError` for an unknown name and for a missing GPU.
    """
    if name not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "`--device cuda` needs a CUDA GPU that torch can see, got none "
            f"(torch {torch.__version__}); use --device cpu or auto"
        )
    return name


def require_device(device: str) -> None:
    """Raise `UserError` for a GPU that is not there, `cuda` or one of several, `cuda:1`."""
    if device.partition(":")[0] == "cuda":
        resolve_device("cuda")


def prepare_device(device: str, *, deterministic: bool = False) -> None:
    """Set the process-wide switches of torch for one training process.

    deterministic: use repeatable kernels on CUDA, which are slower; otherwise cuDNN tries kernels
      out and keeps the fastest.

    Denormal numbers are flushed to zero. Decaying moments of pruned weights become denormal, which
    makes sparse training on a CPU many times slower.
    """
    torch.set_flush_denormal(True)
    if device == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cudnn.deterministic = deterministic
        torch.set_float32_matmul_precision("high")


@contextlib.contextmanager
def untuned() -> Iterator[None]:
    """Let cuDNN choose its kernels by rule, for passes too few to repay trials.

    `prepare_device` lets it try them out, once for every convolution and every shape of its images.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def placed(model: nn.Module, device: str, *, channels_last: bool) -> nn.Module:
    """Return the model itself, on the device and in its memory format.

    channels_last: of images and of what else has four dimensions; volumes stay as they are. A model
      with a layer whose gradient a CPU would write past its memory stays contiguous there.
    """
    model = model.to(device)
    unsafe = [m for m in model.modules() if device == "cpu" and _overruns_in_channels_last(m)]
    for layer in unsafe:
        # A user's `permute` may make what it is given, by place or by name.
        layer.register_forward_pre_hook(_contiguous, with_kwargs=True)
    wanted = torch.channels_last if channels_last and not unsafe else torch.contiguous_format
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=wanted)
    return model


def _contiguous(
    layer: nn.Module, given: tuple[object, ...], named: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    def plain(value: object) -> object:
        return value.contiguous() if isinstance(value, Tensor) else value

    return tuple(map(plain, given)), {name: plain(value) for name, value in named.items()}


def _overruns_in_channels_last(module: nn.Module) -> bool:
    """Return whether oneDNN's gradient of the weights may write past its memory in channels-last.

    It does for strided 1x1 convolutions of fewer channels than a vector register holds, 8 or 16 by
    the CPU (https://github.com/uxlfoundation/oneDNN/issues/6035; torch 2.13 has it): wrong
    gradients, a crash or a hang. By 16 everywhere, so that every CPU computes the same.
    """
    return (
        isinstance(module, nn.Conv2d)
        and tuple(module.kernel_size) == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < _REGISTER_CHANNELS
    )


def resolve_precision(precision: str, device: str) -> str:
    """Return "fp32", "bf16" or "fp16"; "auto" is bf16 on CUDA and fp32 on a CPU.

    Raises `UserError` for fp16 on a CPU.
    """
    if precision == "auto":
        return "bf16" if device == "cuda" else "fp32"
    if precision == "fp16" and device == "cpu":
        raise UserError(
            "`training.precision` fp16 needs a GPU, got device cpu; use bf16, fp32 or auto"
        )
    return precision


def autocast_factory(precision: str, device: str) -> Callable[[], AbstractContextManager[object]]:
    """Return a factory of contexts for the forward pass: autocast, or no change in fp32."""
    if precision == "fp32":
        return contextlib.nullcontext
    dtype = _AUTOCAST_TYPES[precision]
    return lambda: torch.autocast(device_type=device, dtype=dtype)


def require_memory(config: TrialConfig, device: str, num_evaluated: int) -> None:
    """Raise `UserError` for a batch whose images alone need more memory than there is.

    Networks need many times as much; what is refused here would be ended by the system, without a
    word. num_evaluated: how many frames the largest evaluated split has.
    """
    memory, owner = memory_bytes(), "this machine"
    if device == "cuda":
        memory, owner = torch.cuda.get_device_properties(0).total_memory, "the GPU"
    training = config.training
    for name, count, size in (
        ("batch_size", training.batch_size, config.data.crop),
        (
            "evaluation_batch_size",
            min(training.evaluation_batch_size, num_evaluated),
            config.data.size,
        ),
    ):
        needed = count * math.prod(size) * _IMAGE_BYTES
        if needed > memory:
            raise UserError(
                f"`training.{name}` must fit in the memory of {owner}, got {count} images of "
                f"{size[0]}x{size[1]}, which are {needed / 1e9:,.1f} of {memory / 1e9:,.1f} GB "
                "before any layer; lower it"
            )


@contextlib.contextmanager
def explained_memory(config: TrialConfig, device: str) -> Iterator[None]:
    """Turn running out of memory, on any device, into a `Failure` that says what to lower."""
    try:
        yield
    except Failure:
        raise  # already explained
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no details"
        raise Failure(
            f"out of memory on {device} ({reason}); lower training.batch_size (now "
            f"{config.training.batch_size}), raise training.accumulation (now "
            f"{config.training.accumulation}), or make the model smaller"
        ) from error

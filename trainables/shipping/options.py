"""Holds how a model is shipped, and checks that this machine can do it."""

from dataclasses import dataclass

from trainables.errors import UserError
from trainables.shipping.formats.packages import require_packages
from trainables.shipping.runtime import require_runtime


@dataclass(frozen=True, kw_only=True, slots=True)
class ShipOptions:
    """Holds how a model is shipped; defaults are those of `python -m trainables ship`.

    runtime, device, threads, batch: what the latency is measured on.
    size: (height, width) of the exported file, of the test images and of the latency; None for
      `data.size`. dynamic_size: leave them open in the exported file.
    data_root: the store or the raw data; None for the one the model was trained on, if it is still
      there. with_data: False compares outputs on random images and computes no metric.
    """

    runtime: str = "onnxruntime"
    device: str = "cpu"
    threads: int = 1
    batch: int = 1
    size: tuple[int, int] | None = None
    dynamic_size: bool = False
    data_root: str | None = None
    with_data: bool = True


def check(options: ShipOptions) -> None:
    """Raise `UserError` for options that cannot be followed on this machine."""
    require_packages()
    require_runtime(options.runtime, options.device, options.threads)
    if options.batch < 1:
        raise UserError(f"`--batch` must be at least 1, got {options.batch}; 1 is one image")

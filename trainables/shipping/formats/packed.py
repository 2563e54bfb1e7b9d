"""Stores a masked model in one safetensors file: the kept weights, and masks of one bit a weight.

A tensor with pruned weights is stored as two: `NAME::kept`, its kept values in row-major order, and
`NAME::mask`, one bit per weight, eight per byte, 1 where kept. All other tensors are stored whole
under their own names. The metadata holds, as JSON, the configuration, the channels of each task,
the image statistics, the names of tied tensors, which are stored once, and a digest of everything.
How tasks voted is not in it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.errors import UserError, in_a_line, is_out_of_memory
from trainables.shipping.formats.packages import require_packages
from trainables.sparsity.masking.masks import Mask, MaskRegistry
from trainables.training.device import require_device
from trainables.training.export import TrainedModel, untrained
from trainables.training.files import write_file
from trainables.training.model_files import unreadable

FORMAT = "disparse-search packed model"
VERSION = 1
_KEPT, _MASK = "::kept", "::mask"


def save_packed(path: Path, trained: TrainedModel) -> int:
    """Write the file, complete or not at all, and return its size in bytes."""
    data = packed(trained)
    write_file(path, data)
    return len(data)


def model_bytes(trained: TrainedModel) -> int:
    """Return the size in bytes of the file that `save_packed` writes, exactly; nothing is written.

    Lower is better. With float32 weights, 90 % of them pruned one by one, it is about
    0.1 + 1/32 of the dense model's.
    """
    return len(packed(trained))


def packed(trained: TrainedModel) -> bytes:
    """Return the contents of the file. Raises `UserError` if safetensors is not installed."""
    require_packages("safetensors")
    from safetensors.torch import save

    tensors, tied = _packed_tensors(trained.model, trained.registry)
    fields: dict[str, Any] = {
        "version": VERSION,
        "config": trained.config.to_dict(),
        "num_channels": dict(trained.num_channels),
        "image_mean": list(trained.image_mean),
        "image_std": list(trained.image_std),
        "tied": tied,
    }
    metadata = {name: json.dumps(value) for name, value in fields.items()}
    return save(tensors, metadata | {"format": FORMAT, "digest": _digest(metadata, tensors)})


def load_packed(path: Path | str, device: str = "cpu") -> TrainedModel:
    """Return the masked model that `save_packed` wrote, with the same bits in every weight.

    path: the file, or the folder that `ship` wrote. Raises `UserError` for a file that is missing,
    damaged or not of this kind, and for a model of the user's own whose code is not there.
    """
    require_packages("safetensors")
    from safetensors import safe_open

    if Path(path).is_dir():
        path = Path(path) / "weights.safetensors"
    require_device(device)
    try:
        with open(path, "rb"):  # whose errors safetensors has as "not found"
            pass
        with safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise _refused(path, "one of another program")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        texts = {name: text for name, text in metadata.items() if name not in ("format", "digest")}
        if metadata.get("digest") != _digest(texts, tensors):
            raise _refused(path, "a damaged one: its contents are not those that were written")
        fields = {name: json.loads(text) for name, text in texts.items()}
        if fields["version"] != VERSION:
            raise _refused(path, f"version {fields['version']} where {VERSION} is known")
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"no file {str(path)!r}; `ship --out DIR` writes it") from None
    except Exception as error:  # safetensors has its own, and a foreign file can raise anything
        if is_out_of_memory(error):
            raise
        if isinstance(error, OSError):
            raise unreadable(path, error) from error
        said = f"a file that is not in that format, or not whole ({in_a_line(error)})"
        raise _refused(path, said) from error
    try:
        return _rebuilt(fields, tensors, device)
    except (KeyError, RuntimeError) as error:  # the network is not the one it was
        if is_out_of_memory(error):
            raise
        raise _refused(path, f"one of another network ({in_a_line(error)})") from error


def digest_of(data: bytes) -> str:
    """Return the digest that a file's contents name, which two of one model share; "" without one.

    The contents themselves differ: safetensors writes its metadata in no fixed order.
    """
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return str(header["__metadata__"]["digest"])
    except (ValueError, KeyError, TypeError):
        return ""


def _refused(path: Path | str, said: str) -> UserError:
    return UserError(
        f"{str(path)!r} must be a whole weights.safetensors as `ship` writes it, for a network "
        f"that is still the same, got {said}; ship the model again"
    )


def _digest(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of the whole contents: safetensors itself would miss a changed bit."""
    digest = hashlib.blake2b(json.dumps(texts, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _packed_tensors(
    model: nn.Module, registry: MaskRegistry
) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    first_names: dict[int, str] = {}
    keep = registry.keep()
    for name, value in model.state_dict(keep_vars=True).items():
        first = first_names.setdefault(id(value), name)
        if first != name:
            tied[name] = first
            continue
        value = value.detach().cpu()
        mask = keep.get(name)
        if mask is None or registry.kept_by_layer[name] == value.numel():
            # A copy of its own: safetensors refuses two names for one piece of memory.
            tensors[name] = value.contiguous().clone()
        else:
            flat = mask.cpu().contiguous().reshape(-1)
            tensors[name + _KEPT] = value.contiguous().reshape(-1)[flat]
            tensors[name + _MASK] = Mask(name=name, keep=mask).packed()
    return tensors, tied


def _rebuilt(fields: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> TrainedModel:
    config = TrialConfig.from_dict(fields["config"])
    num_channels: dict[str, int] = fields["num_channels"]
    model, registry = untrained(config, num_channels, device)
    state, masks = {}, {}
    for name, like in model.state_dict().items():
        if name in tensors:
            state[name] = tensors[name]
        elif name + _KEPT in tensors:
            masks[name] = tensors[name + _MASK]
            state[name] = _unpacked(name, tensors[name + _KEPT], masks[name], like)
    state |= {name: state[first] for name, first in fields["tied"].items()}
    model.load_state_dict(state)
    dense = {name: Mask(name=name, keep=keep) for name, keep in registry.keep().items()}
    registry.load_state_dict({"masks": {n: masks.get(n, m.packed()) for n, m in dense.items()}})
    return TrainedModel(
        model=model.eval(),
        registry=registry,
        config=config,
        num_channels=num_channels,
        image_mean=_numbers(fields["image_mean"]),
        image_std=_numbers(fields["image_std"]),
    )


def _unpacked(name: str, kept: Tensor, bits: Tensor, like: Tensor) -> Tensor:
    keep = Mask.from_packed(name, bits, like).keep
    value = torch.zeros(like.shape, dtype=kept.dtype)
    # masked_scatter_ would take what it needs and leave a surplus unnoticed.
    if kept.numel() != int(keep.count_nonzero()):
        raise UserError(
            f"`{name}` must have one value for each kept weight, got {kept.numel()} for "
            f"{int(keep.count_nonzero())}; the file is not whole"
        )
    return value.masked_scatter_(keep.cpu(), kept)


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)

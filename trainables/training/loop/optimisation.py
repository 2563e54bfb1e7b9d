"""Builds the optimiser and computes its learning rate from the step."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.config import OptimiserConfig


def build_optimiser(
    config: OptimiserConfig, model: nn.Module, *, recordable: bool = False
) -> torch.optim.Optimizer:
    """Return SGD, Adam or AdamW over the model's parameters of floating point.

    Others are frozen, and Adam's fused kernel refuses them.

    recordable: its step reads no value on the host and creates no state that is not created here or
      at its first step, so that a later one can be recorded. The learning rates are tensors, and
      SGD is fused.

    Parameters for which the model sets another rate (`learning_rate_scales`) get groups with a
    "scale", in order of scale, after the group of all others.

    Adam is fused: one kernel on CUDA, a third of the time on a CPU. SGD's fused kernel leaves new
    momentum buffers uninitialised if a GradScaler skips the first step, and reads them at the
    second; where SGD is fused, they are therefore there from the beginning, as zeros.
    """
    given: Mapping[str, float] = getattr(model, "learning_rate_scales", dict)()
    names = dict(model.named_parameters(remove_duplicate=False))  # all those of a tied one
    scales = {names[name]: float(scale) for name, scale in given.items()}
    by_scale: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        by_scale.setdefault(scales.get(parameter, 1.0), []).append(parameter)
    parameters = [
        {"params": members, "scale": scale}
        for scale, members in sorted(by_scale.items(), key=lambda item: (item[0] != 1.0, item[0]))
        if members
    ]
    optimiser: torch.optim.Optimizer
    if config.name == "sgd":
        optimiser = torch.optim.SGD(
            parameters,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=recordable,
        )
    else:
        classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        optimiser = classes[config.name](
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    _settle(optimiser, recordable)
    return optimiser


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore an optimiser's state dict; how it steps stays as `build_optimiser` made it.

    The state may come from another device, where the rate was a number, or another kernel was used.
    """
    recordable = isinstance(optimiser.param_groups[0]["lr"], Tensor)
    fused = [group["fused"] for group in optimiser.param_groups]
    optimiser.load_state_dict(dict(state))
    for group, own in zip(optimiser.param_groups, fused, strict=True):
        group["fused"] = own
    _settle(optimiser, recordable)


def _settle(optimiser: torch.optim.Optimizer, recordable: bool) -> None:
    """Give every group a rate of the right type, and fused SGD its momentum buffers."""
    for group in optimiser.param_groups:
        group["lr"] = float(group["lr"])
        if not recordable:
            continue
        device = group["params"][0].device
        # The types that the fused kernels read.
        dtype = torch.float32 if device.type == "cuda" else torch.float64
        group["lr"] = torch.tensor(group["lr"], dtype=dtype, device=device)
        if isinstance(optimiser, torch.optim.SGD) and group["momentum"]:
            for parameter in group["params"]:
                state = optimiser.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)


def learning_rate_at(
    config: OptimiserConfig, step: int, total_steps: int, *, retraining: bool = False
) -> float:
    """Return the learning rate of 0-based `step`.

    `halving` is the published schedule (halved every 4,000 of 20,000 steps; on Taskonomy times 0.3
    every 12,000 of 100,000); `cosine` ends at a hundredth of the start.

    retraining: whether a trained model is trained again, for which the released code has a constant
      rate (`retraining_rate`). Its scheduler stays bound to the optimiser of pre-training.
    """
    if retraining and config.retraining_rate is not None:
        return config.retraining_rate
    fraction = step / total_steps
    if config.rate_schedule == "constant":
        factor = 1.0
    elif config.rate_schedule == "halving":
        factor = config.decay_factor ** math.floor(fraction / config.halve_every_fraction + 1e-9)
    else:
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction))
    return config.learning_rate * factor


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every parameter group of `build_optimiser` to `rate` times its scale.

    A tensor changes in place, without waiting for its device.
    """
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["scale"])
        else:
            group["lr"] = rate * group["scale"]

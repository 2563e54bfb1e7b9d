"""Says which weights of a network are pruned, which tasks they serve, and what stays dense."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from trainables.errors import UserError, unknown_name
from trainables.models.base import (
    SHARED,
    TRANSPOSED,
    MultitaskModel,
    owners_by_name,
    prunable_layers,
)
from trainables.models.service import Service

FROZEN = "it is frozen (requires_grad is False)"
UNREACHED = "no task's gradient reaches it"

_NAMES_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Prunable:
    """Holds the weights that masks are for, by parameter name in definition order.

    owner: `SHARED` or the one task that the weight serves.
    tasks: the tasks that the weight serves: of three, a shared one may serve two.
    transposed: those of transposed convolutions, whose first dimension is the input's.
    left_out: weights of layers that could be pruned and are not, with the reason.
    corrected: what `owners()` says of a weight, where its gradients say something else.
    """

    parameters: Mapping[str, nn.Parameter]
    owner: Mapping[str, str]
    tasks: Mapping[str, tuple[str, ...]]
    transposed: frozenset[str]
    left_out: Mapping[str, str]
    corrected: Mapping[str, str]

    @property
    def total(self) -> int:
        """Return how many weights there are."""
        return sum(weight.numel() for weight in self.parameters.values())


def find_prunable(model: nn.Module, service: Service | None = None) -> Prunable:
    """Return the weights of convolutions and linear layers that train.

    Frozen ones are left out, and those that no task's gradient reaches: a score of them would be
    zero, and the layer would lose all its weights unnoticed.

    service: what the parameters serve (`trainables.models.catalogue.service_of`); without it, what
      the model's `owners()` says.
    Raises `UserError` for an owner that is missing or unknown, and if no weight is left.
    """
    owners, tasks = owners_by_name(model), cast(MultitaskModel, model).tasks
    parameters: dict[str, nn.Parameter] = {}
    owner: dict[str, str] = {}
    served: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, str] = {}
    corrected: dict[str, str] = {}
    layers = prunable_layers(model)
    weights = dict(model.named_parameters())
    for name in layers:
        weight = weights[name]
        if name not in owners:
            raise UserError(
                f"`owners()` of {type(model).__name__} must name every parameter, but lacks "
                f"`{name}`; map it to {SHARED!r} or to its task"
            )
        said = owners[name]
        if said not in (SHARED, *tasks):
            raise unknown_name(f"owner of `{name}`", said, (SHARED, *tasks))
        declared = tuple(tasks) if said == SHARED else (said,)
        found = declared if service is None else service[name]
        if not weight.requires_grad:
            left_out[name] = FROZEN
        elif not found:
            left_out[name] = UNREACHED
        else:
            parameters[name], served[name], owner[name] = weight, found, said
            if set(found) != set(declared):
                corrected[name] = said
                owner[name] = SHARED if len(found) > 1 else found[0]
    if not parameters:
        why = "".join(f"; {name}: {why}" for name, why in list(left_out.items())[:3])
        raise UserError(
            f"{type(model).__name__} must have a weight that can be pruned, one of a convolution "
            f"or a linear layer, got none{why}"
        )
    transposed = {n for n in parameters if any(isinstance(m, TRANSPOSED) for m in layers[n])}
    return Prunable(
        parameters=parameters,
        owner=owner,
        tasks=served,
        transposed=frozenset(transposed),
        left_out=left_out,
        corrected=corrected,
    )


def what_stays_dense(model: nn.Module, prunable: Prunable) -> str:
    """Return one line that counts the parameters which no mask covers, by kind; '' if all are.

    Biases and normalisation are not counted: they are never pruned alone.
    """
    counts: dict[str, int] = {}
    layers: dict[str, list[str]] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for path, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            name = names.pop(id(parameter), None)  # tied ones count once
            if name is None or name in prunable.parameters:
                continue
            kind = _kind(module, leaf, parameter, prunable.left_out.get(name, ""))
            if kind and parameter.numel():
                counts[kind] = counts.get(kind, 0) + parameter.numel()
                where = layers.setdefault(kind, [])
                where += [path or name] if (path or name) not in where else []
    if not counts:
        return ""
    kinds = [f"{count:,} {kind} ({_listed(layers[kind])})" for kind, count in counts.items()]
    total = sum(parameter.numel() for parameter in model.parameters())
    return f"{sum(counts.values()):,} of {total:,} parameters stay dense: {', '.join(kinds)}"


def what_is_corrected(prunable: Prunable) -> str:
    """Return one line on the weights whose gradients contradict `owners()`; '' if there is none."""
    if not prunable.corrected:
        return ""
    found = [
        f"{name} serves {', '.join(prunable.tasks[name])}, not {said}"
        for name, said in prunable.corrected.items()
    ]
    return f"by their gradients, other than owners() says: {_listed(found, '; ')}"


def _kind(module: nn.Module, leaf: str, parameter: nn.Parameter, left_out: str) -> str:
    if not parameter.requires_grad:
        return "frozen"
    if left_out:
        return "that no task's gradient reaches"
    if leaf == "bias" or parameter.dim() <= 1 or isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return ""
    if isinstance(module, torch.jit.ScriptModule):
        return f"of scripted {module.original_name}"
    return f"of {type(module).__name__}"


def _listed(names: list[str], separator: str = ", ") -> str:
    more = len(names) - _NAMES_SHOWN
    shown = separator.join(names[:_NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown

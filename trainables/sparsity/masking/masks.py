"""Defines which weights are kept: the `Mask` type and the registry of a model's masks.

Weights stay ordinary leaf parameters: there is no parametrisation, no tensor hook and nothing in
the graph. The registry multiplies gradients before the optimiser's step and weights after it, so
channels-last models and recorded steps need no special treatment: masks change in place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from trainables.errors import UserError, unknown_name
from trainables.models.service import Service
from trainables.sparsity.masking.channel_units import ChannelUnits
from trainables.sparsity.masking.enforce import clear_moments, moment_names
from trainables.sparsity.masking.prunable import find_prunable
from trainables.sparsity.masking.pruned_values import PrunedValues


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mask:
    """Holds one tensor's mask; `keep` is boolean, in the weight's shape, True where kept."""

    name: str
    keep: Tensor

    @classmethod
    def checked(cls, name: str, keep: Tensor, weight: Tensor) -> "Mask":
        """Return `keep` as the mask of `weight`, on the weight's device.

        Raises `UserError`, naming the tensor, for a wrong type or shape. A float mask is
        refused and not thresholded, because the meaning of 0.3 would be unclear.
        """
        if keep.dtype is not torch.bool:
            raise UserError(
                f"the mask of `{name}` must be boolean (True = kept), got {keep.dtype}; "
                "compare the scores first"
            )
        if keep.shape != weight.shape:
            raise UserError(
                f"the mask of `{name}` must have its weight's shape {tuple(weight.shape)}, "
                f"got {tuple(keep.shape)}; masks are never broadcast"
            )
        return cls(name=name, keep=keep.to(weight.device))

    @property
    def total(self) -> int:
        """Return how many weights the tensor has."""
        return self.keep.numel()

    @property
    def kept(self) -> int:
        """Return how many of them are kept."""
        return int(self.keep.count_nonzero())

    def packed(self) -> Tensor:
        """Return uint8 on the CPU, eight weights per byte, in row-major order for every layout."""
        return torch.from_numpy(np.packbits(self.keep.cpu().contiguous().numpy().reshape(-1)))

    @classmethod
    def from_packed(cls, name: str, bits: Tensor, weight: Tensor) -> "Mask":
        """Return the mask that `packed` wrote. Raises `UserError` for a wrong number of bytes."""
        if bits.dtype is not torch.uint8 or bits.shape != ((weight.numel() + 7) // 8,):
            raise UserError(
                f"the stored mask of `{name}` must be {(weight.numel() + 7) // 8} bytes for "
                f"shape {tuple(weight.shape)}, got {tuple(bits.shape)} of {bits.dtype}; "
                "the checkpoint belongs to another model"
            )
        flat = np.unpackbits(bits.cpu().numpy(), count=weight.numel())
        keep = torch.from_numpy(flat).bool().reshape(weight.shape)
        return cls(name=name, keep=keep.to(weight.device))


class MaskRegistry:
    """Holds the masks of all prunable weights of a multitask model; at first all are kept.

    Build it when the model is on its device and in its memory format.

    service: as for `find_prunable`.
    names: prunable parameters in definition order.
    owner: by name, `SHARED` or the one task the weight serves.
    prunable: how these were found, and what was left out.
    scored, reached: weights that were scored by gradients so far, and those of them that had any.
    masks: by name, 0/1 in the weight's dtype, device and layout. Change them only by `update`;
      the tensors stay the same ones, because a recorded step goes on reading them.
    units: the channel units, for structure channel; None otherwise. Whole units are then kept or
      pruned, with their biases and normalisation.
    votes: what each task wanted to keep at the last `update` with votes (task → name → bool),
      for the agreement among tasks.
    pruned_values: what pruned weights held, if they are to resume it (`keep_pruned_values`).
    """

    def __init__(self, model: nn.Module, service: Service | None = None) -> None:
        self.prunable = find_prunable(model, service)
        self.parameters = dict(self.prunable.parameters)
        self.owner = dict(self.prunable.owner)
        self.scored: set[str] = set()
        self.reached: set[str] = set()
        self.names: tuple[str, ...] = tuple(self.parameters)
        self.votes: Mapping[str, Mapping[str, Tensor]] | None = None
        self.units: ChannelUnits | None = None
        self.pruned_values: PrunedValues | None = None
        self._companions: dict[str, nn.Parameter] = {}  # biases and normalisation of the units
        self._companion_masks: dict[str, Tensor] = {}
        self.masks: dict[str, Tensor] = {
            name: torch.ones_like(weight, requires_grad=False)
            for name, weight in self.parameters.items()
        }
        self._kept: dict[str, int] = {}
        dense = {n: torch.ones_like(w, dtype=torch.bool) for n, w in self.parameters.items()}
        self._set(self._checked(dense))

    def use_units(self, model: nn.Module, units: ChannelUnits) -> None:
        """Keep or prune whole channels of the model from now on."""
        parameters = dict(model.named_parameters())
        self.units = units
        self._companions = {name: parameters[name] for name in units.companions(self.names)}
        self._companion_masks = {
            name: torch.ones_like(parameter, requires_grad=False)
            for name, parameter in self._companions.items()
        }
        self._set(self._checked(self.keep()))

    def keep_pruned_values(self) -> None:
        """From now on let grown weights resume their values, and keep all moments.

        Call it before `attach`. Single weights and N:M only: biases and normalisation are not kept.
        """
        self.pruned_values = PrunedValues(self.parameters)

    @property
    def pruned_companions(self) -> int:
        """Return how many entries of biases and normalisation are pruned with their channels."""
        masks = self._companion_masks
        return sum(masks[n].numel() - int(masks[n].count_nonzero()) for n in masks)

    @property
    def total(self) -> int:
        """Return how many prunable weights the model has."""
        return sum(weight.numel() for weight in self.parameters.values())

    @property
    def kept(self) -> int:
        """Return how many of them are kept."""
        return sum(self._kept.values())

    @property
    def density(self) -> float:
        """Return kept / prunable weights."""
        return self.kept / self.total

    @property
    def kept_by_layer(self) -> dict[str, int]:
        """Return the number of kept weights, by parameter name."""
        return dict(self._kept)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the prunable tensors, by parameter name."""
        return {name: tuple(weight.shape) for name, weight in self.parameters.items()}

    def layers(self) -> dict[str, dict[str, int | str]]:
        """Return `{name: {"kept": int, "total": int, "owner": str}}`, ready for JSON."""
        return {
            name: {"kept": self._kept[name], "total": weight.numel(), "owner": self.owner[name]}
            for name, weight in self.parameters.items()
        }

    @property
    def sparse_names(self) -> tuple[str, ...]:
        """Return the parameters that a step masks: those with a pruned entry, or in a unit."""
        return tuple(name for name, _, _ in self._sparse)

    def keep(self) -> dict[str, Tensor]:
        """Return the masks as new boolean tensors."""
        return {name: mask.bool() for name, mask in self.masks.items()}

    def visible(self, task: str) -> tuple[str, ...]:
        """Return the weights that `task` depends on: the shared ones and its own."""
        return tuple(name for name in self.names if task in self.prunable.tasks[name])

    @torch.no_grad()
    def apply_to_gradients(self) -> None:
        """Zero the gradients of pruned weights; call it after unscaling and before clipping."""
        gradients, masks = [], []
        for _, weight, mask in self._sparse:
            if weight.grad is not None:
                gradients.append(weight.grad)
                masks.append(mask)
        if gradients:
            torch._foreach_mul_(gradients, masks)

    @torch.no_grad()
    def apply_to_weights(self) -> None:
        """Set every pruned weight to zero, in place."""
        if self._sparse:
            torch._foreach_mul_([w for _, w, _ in self._sparse], [m for _, _, m in self._sparse])

    @torch.no_grad()
    def require_zeros(self, what: str) -> None:
        """Raise `UserError` if a pruned weight is not zero: a network's own code has changed it.

        what: the network, for the message.
        """
        if not self._sparse:
            return
        # NaN, which no mask can make zero, is not greater: there a loss that diverged says why.
        changed = [((weight.abs() > 0) & (mask == 0)).any() for _, weight, mask in self._sparse]
        wrong = torch.stack(changed).tolist()
        if any(wrong):
            raise UserError(
                f"{what} must leave pruned weights at zero, but its forward changes those of "
                f"`{self._sparse[wrong.index(True)][0]}`; compute another weight from them, and "
                "leave the parameter as it is"
            )

    def attach(self, optimiser: torch.optim.Optimizer) -> RemovableHandle:
        """Mask the weights after every step of `optimiser` from now on.

        Raises `UserError` for an optimiser whose moments are not known by name.
        """
        moment_names(optimiser)
        if self.pruned_values is not None:
            self.pruned_values.attach(optimiser, lambda: self.masks)
        return optimiser.register_step_post_hook(lambda *_: self.apply_to_weights())

    @torch.no_grad()
    def update(
        self,
        new_masks: Mapping[str, Tensor],
        optimiser: torch.optim.Optimizer | None,
        votes: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> None:
        """Change the masks; only weights kept before *and* after retain value and moments.

        A newly grown weight starts at 0 with moments 0, and a dropped weight is set to the same.
        A weight that a method drops and regrows within this update does not change. With
        `keep_pruned_values` a grown weight resumes its value, and no moment is cleared.

        new_masks: by name, bool; every prunable weight must be there.
        optimiser: the one whose moments are cleared; None before training.
        Raises `UserError`, naming a tensor that is missing, foreign or misshapen.
        """
        checked = self._checked(new_masks)
        if optimiser is not None:
            moment_names(optimiser)
        before = {n: m.bool() for n, m in {**self.masks, **self._companion_masks}.items()}
        self._set(checked)
        after = {**self.masks, **self._companion_masks}
        changed = {**self.parameters, **self._companions}
        if self.pruned_values is not None:
            self.pruned_values.settle(self.masks)
            changed = {}
        for name, weight in changed.items():
            lost = ~(after[name].bool() & before[name])
            weight.masked_fill_(lost, 0.0)
            if optimiser is not None:
                clear_moments(optimiser, weight, lost)
        self.apply_to_gradients()  # an old gradient must not revive dropped weights
        if votes is not None:
            self.votes = {task: dict(masks) for task, masks in votes.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return bit-packed masks and votes in plain containers (safe to load as weights only)."""
        masks = {n: Mask(name=n, keep=keep).packed() for n, keep in self.keep().items()}
        votes = None
        if self.votes is not None:
            votes = {
                task: {n: Mask(name=n, keep=keep).packed() for n, keep in vote.items()}
                for task, vote in self.votes.items()
            }
        return {"masks": masks, "votes": votes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore masks and votes, but not weights and moments, which have their own state.

        Raises `UserError`, naming the first tensor that does not fit this model.
        """
        self._require_names(state["masks"])
        self._set(
            {n: Mask.from_packed(n, state["masks"][n], w) for n, w in self.parameters.items()}
        )
        votes = state.get("votes")
        self.votes = votes and {
            task: {n: Mask.from_packed(n, b, self.parameters[n]).keep for n, b in vote.items()}
            for task, vote in votes.items()
        }

    def _require_names(self, masks: Mapping[str, object]) -> None:
        for name in masks:
            if name not in self.parameters:
                raise unknown_name("prunable weight", name, self.names)
        missing = [name for name in self.names if name not in masks]
        if missing:
            raise UserError(
                f"every prunable weight must have a mask, but `{missing[0]}` and "
                f"{len(missing) - 1} others have none; pass the current mask where nothing changes"
            )

    def _checked(self, masks: Mapping[str, Tensor]) -> dict[str, Mask]:
        self._require_names(masks)
        return {n: Mask.checked(n, masks[n], w) for n, w in self.parameters.items()}

    def _set(self, masks: Mapping[str, Mask]) -> None:
        # One transfer for all counts: a sync per layer would stall the device.
        counts = torch.stack([mask.keep.count_nonzero() for mask in masks.values()]).tolist()
        self._kept = dict(zip(self.names, counts, strict=True))
        for name, factor in self.masks.items():
            factor.copy_(masks[name].keep)
        # Dense layers need no masking.
        self._sparse = [
            (name, weight, self.masks[name])
            for name, weight in self.parameters.items()
            if self._kept[name] < weight.numel()
        ]
        if self.units is not None:
            self._set_companions(self.units)

    def _set_companions(self, units: ChannelUnits) -> None:
        keep = units.kept({name: mask.bool() for name, mask in self.masks.items()})
        for name, mask in units.masks(keep, list(self._companions)).items():
            factor = self._companion_masks[name]
            factor.copy_(mask)
            self._sparse.append((name, self._companions[name], factor))

"""Records a step on the CPU as a CUDA graph does on a GPU: operations on memory, not Python.

A recording holds every operation below autograd with the very tensors it took and gave. Its replay
runs them again on these tensors and writes the results where they were. So whatever a step takes
from Python (a learning rate, a mask that is a new tensor, a counter) stays as it was recorded.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

# What a GPU cannot do without telling the host a value.
LOOKS = {
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount",
    "_unique2", "unique_dim", "unique_consecutive", "allclose",
}  # fmt: skip


class NoLooks(TorchDispatchMode):
    """Raises where an operation gives the host a value that is on the device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket.__name__ in LOOKS:
            raise RuntimeError(f"{func} looks at a value of the device")
        if func.overloadpacket.__name__ in ("index", "index_put_", "index_put"):
            assert not any(i is not None and i.dtype is torch.bool for i in args[1])
        return func(*args, **(kwargs or {}))


class Recording(NoLooks):
    """Holds the operations that ran in it."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = tree_map(lambda leaf: leaf, (args, kwargs or {}))  # lists may change later
        results = super().__torch_dispatch__(func, types, args, kwargs)
        self._calls.append((func, *given, tree_flatten(results)[0]))
        return results

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results in self._calls:
            taken = {
                leaf.untyped_storage().data_ptr()
                for leaf in tree_flatten((args, kwargs))[0]
                if isinstance(leaf, Tensor)
            }
            again = tree_flatten(func(*args, **kwargs))[0]
            for old, new in zip(results, again, strict=True):
                # A view, or what was changed in place, is where it was.
                if isinstance(old, Tensor) and old.untyped_storage().data_ptr() not in taken:
                    old.copy_(new)


def _no_state() -> Tensor:
    raise RuntimeError("the generator's state cannot be read while a step is recorded")


class EmulatedGraphs:
    """A `Recorder` for the CPU. replayed: how often a recording ran again, one entry for each."""

    def __init__(self) -> None:
        self.replayed: list[int] = []

    def aside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """Refuse what a capture refuses: looks at values, and at the generator of the device."""
        with NoLooks(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "get_rng_state", _no_state)
            yield

    def settle(self) -> None:
        pass

    def record(self, function: Callable[[], None], step: object) -> Callable[[], None]:
        with Recording() as recording:
            function()
        self.replayed.append(0)

        def replay() -> None:
            self.replayed[-1] += 1
            recording.replay()

        return replay


class Repeats(EmulatedGraphs):
    """Runs the recorded function itself, line by line, in place of a replay."""

    def record(self, function: Callable[[], None], step: object) -> Callable[[], None]:
        function()
        self.replayed.append(0)

        def repeat() -> None:
            self.replayed[-1] += 1
            function()

        return repeat

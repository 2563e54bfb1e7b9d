"""Runs the device's part of gradient steps: recorded once, then replayed; or eagerly.

On CUDA a step of a small network is mostly the host's work of launching kernels. A CUDA graph
holds all kernels of a step, from the gathering of frames to the masking of weights, and launches
them at once. It repeats what was done to the same memory, so whatever changes between steps is a
tensor that changes in place: frames and crops, learning rates, masks, pruned values, the scale of
the loss.

A phase's first steps run eagerly: they create the optimiser's state and let libraries choose their
kernels. The next one is recorded, and recorded again when another set of layers is sparse. Dropout
keeps its promise: a replay draws from the seed that torch's generator has then (`torch.cuda.graph`
registers it), which the loop sets before every step.
"""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.data.loading.loader import BatchSource
from trainables.data.loading.readers import Inputs
from trainables.errors import Failure, UserError, is_out_of_memory
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.tasks.base import Task
from trainables.training.loop.host_state import why_not_replayable
from trainables.training.loop.step import GradientStep
from trainables.user_code import told

WARM_UP_STEPS = 3  # of every phase


class Recorder(Protocol):
    """Describes what records a function of the device, so that it can be replayed."""

    def aside(self) -> AbstractContextManager[None]:
        """Return a context in which eager steps prepare for the recording."""
        ...

    def unseen(self) -> AbstractContextManager[None]:
        """Return a context in which it is an error that the host waits for a value."""
        ...

    def record(self, function: Callable[[], None], step: GradientStep) -> Callable[[], None]:
        """Run the function once, and return what runs it again in the same memory.

        Raises `RuntimeError`, or a `UserError` for it, if that cannot be; then nothing has run.
        """
        ...

    def settle(self) -> None:
        """Wait until no replay is running, because the recording is given up."""
        ...


class CudaRecorder:
    """Records a CUDA graph."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # a graph is not captured on the default one

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Run on the stream of the capture, and let the two streams wait for each other."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """Make torch raise where it would wait for the device.

        A capture would fail there too, but leave the generator and the allocator in pieces. The
        generator's state, which checkpoints read and set, is the host's as well.
        """
        before, read = torch.cuda.get_sync_debug_mode(), torch.cuda.get_rng_state
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it misses some; the capture finds those
            torch.cuda.set_sync_debug_mode("error")
        torch.cuda.get_rng_state = _no_state
        try:
            yield
        finally:
            torch.cuda.get_rng_state = read
            torch.cuda.set_sync_debug_mode(before)

    def record(self, function: Callable[[], None], step: GradientStep) -> Callable[[], None]:
        """Capture the function and replay it once."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        step.optimiser.zero_grad(set_to_none=True)  # gradients belong to the graph's memory
        try:
            with (
                _capturable(step.optimiser),
                # Other threads read frames ahead meanwhile.
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                function()
        except BaseException:
            torch.cuda.set_stream(current)  # a capture that fails at its end forgets to
            self._mend()
            raise
        graph.replay()
        return graph.replay

    def settle(self) -> None:
        """Wait for the device: the memory of a graph is given back with it."""
        torch.cuda.synchronize()

    def _mend(self) -> None:
        """Capture something that works: it ends the capture of the generator's state as well."""
        with contextlib.suppress(RuntimeError):
            value = torch.zeros((), device="cuda")
            with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=self._stream):
                value.add_(1)


def _no_state(device: object = "cuda") -> Tensor:
    raise RuntimeError("the generator's state cannot be read while a step is recorded")


@contextlib.contextmanager
def _capturable(optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Say that an optimiser may be captured, for as long as it is: else it warns in eager steps."""
    groups = [group for group in optimiser.param_groups if "capturable" in group]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False


def recorder_for(setting: str, device: str) -> Recorder | None:
    """Return what records steps; None where they run eagerly.

    setting: `training.graph`. Raises `UserError` for "on" where there is no CUDA device.
    """
    if setting == "off" or (setting == "auto" and device != "cuda"):
        return None
    if device != "cuda":
        raise UserError(
            f"`training.graph` on needs a CUDA device, got {device}, where no step is recorded; "
            "set training.graph=auto"
        )
    return CudaRecorder()


class StepRunner:
    """Computes one gradient step after the other, by replay where a recorder is given.

    recorder: None runs every step eagerly.
    reason: why steps are not recorded although there is a recorder, or ''.
    num_replayed: how many steps were replays.
    """

    def __init__(
        self,
        config: TrialConfig,
        *,
        recorder: Recorder | None,
        step: GradientStep,
        source: BatchSource,
        model: nn.Module,
        tasks: Mapping[str, Task],
        registry: MaskRegistry,
    ) -> None:
        self._must = config.training.graph == "on"
        self._recorder = recorder
        self._step = step
        self._source = source
        self._model = model
        self._tasks = tasks
        self._registry = registry
        self._inputs: Inputs | None = None
        self._replay: Callable[[], None] | None = None
        self.reason = ""
        self.num_replayed = 0
        self.start_phase()

    def start_phase(self) -> None:
        """Forget the recording: the optimiser is another one now."""
        self._warmed = 0
        self._probed = False
        self._forget()

    def _forget(self) -> None:
        if self._replay is not None and self._recorder is not None:
            self._recorder.settle()
        self._replay = None
        self._recorded: tuple[object, ...] = ()

    def take(self, position: int, *, auxiliary: bool) -> None:
        """Compute the step at a position in the order of the data.

        auxiliary: as for `GradientStep.compute`. Raises `UserError` if steps must be recorded and
        cannot be.
        """
        if self._recorder is None:
            self._step.compute(self._source.train_batch(position), auxiliary=auxiliary)
            return
        inputs = self._held(self._source.train_inputs(position))

        def compute() -> None:
            self._step.compute(self._source.batch_of(inputs), auxiliary=auxiliary)

        if self._warmed < WARM_UP_STEPS:
            with self._recorder.aside():
                compute()
            self._warmed += 1
            return
        present = (self._registry.sparse_names, auxiliary, self._source.num_closed)
        if self._replay is not None and self._recorded == present:
            self._replay()
            self.num_replayed += 1
        elif self._may_record(inputs, auxiliary):
            self._record(compute, present)
        else:
            compute()

    def _held(self, inputs: Inputs) -> Inputs:
        """Write the inputs of a step into the tensors that a recording reads."""
        # Once it is closed, a source may read its frames in another way.
        if self._inputs is None or self._inputs.keys() != inputs.keys():
            self._inputs = inputs
        else:
            for name, held in self._inputs.items():
                held.copy_(inputs[name])
        return self._inputs

    def _may_record(self, inputs: Inputs, auxiliary: bool) -> bool:
        """Return whether the network and the tasks can be replayed; they are asked once a phase."""
        assert self._recorder is not None
        if not self._probed:
            batch, unseen = self._source.batch_of(inputs), self._recorder.unseen

            def run() -> None:
                with unseen():
                    self._step.differentiate(batch, auxiliary=auxiliary)

            reason = why_not_replayable(self._model, self._tasks, run)
            if reason:
                self._give_up(reason)
                return False
            self._probed = True
        return True

    def _record(self, compute: Callable[[], None], present: tuple[object, ...]) -> None:
        assert self._recorder is not None
        self._forget()  # before the new one is made, so that its memory is free
        try:
            self._replay = self._recorder.record(compute, self._step)
            self._recorded = present
        except (RuntimeError, UserError) as error:
            if isinstance(error, Failure) or is_out_of_memory(error):
                raise
            self._step.renew_scaler()
            # Where the capture ends by an error too, the first one is behind it.
            self._give_up(
                f"its capture failed ({told(error.__cause__ or error.__context__ or error)})"
            )
            compute()

    def _give_up(self, reason: str) -> None:
        if self._must:
            raise UserError(
                f"`training.graph` on needs a step that can be recorded, but {reason}; "
                "set training.graph=auto to train without"
            )
        self.reason, self._recorder = reason, None
        print(f"note: training steps are not recorded as a CUDA graph: {reason}", file=sys.stderr)

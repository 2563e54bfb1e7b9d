"""Fetches the frames of a view as stored, onto the device.

On CUDA, frames are kept in device memory in their stored types if they fit in a share of the free
memory; otherwise a thread reads them ahead into pinned memory. On the CPU they are read from the
memory map.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from trainables.data.view import View

Inputs = dict[str, Tensor]  # what the device makes a batch from; shapes are equal for all steps

RESIDENT_SHARE = 0.5  # of the free device memory, for one view; the rest is for the network
_POSITIONS = "positions"
_UPLOAD_FRAMES = 64  # at a time, so that no second copy of the view exists on the host


class Reader(ABC):
    """Fetches frames of one view by their position in it, as stored, onto the device."""

    view: View

    def fetch(self, positions: np.ndarray, upcoming: np.ndarray | None = None) -> Inputs:
        """Return the frames at `positions`; `upcoming` are most likely to be fetched next."""
        return self.frames(self.inputs(positions, upcoming))

    @abstractmethod
    def inputs(self, positions: np.ndarray, upcoming: np.ndarray | None = None) -> Inputs:
        """Return what `frames` needs, on the device: the host's part."""

    def frames(self, inputs: Mapping[str, Tensor]) -> Inputs:
        """Return the frames by column; the device's part, which can be recorded."""
        return dict(inputs)

    @abstractmethod
    def close(self) -> None:
        """Stop reading ahead and free what is held."""


class MappedReader(Reader):
    """Copies each batch out of the memory map and holds nothing else."""

    def __init__(self, view: View, modalities: Sequence[str], device: torch.device) -> None:
        self.view, self.device = view, device
        self.columns = {m: view.split.column(m) for m in modalities}

    def inputs(self, positions: np.ndarray, upcoming: np.ndarray | None = None) -> Inputs:
        """Copy the frames out of the memory map, onto the device."""
        del upcoming  # the operating system reads ahead
        return {m: tensor.to(self.device) for m, tensor in self.gather(positions).items()}

    def gather(self, positions: np.ndarray) -> dict[str, Tensor]:
        """Copy the frames out of the memory map, on the CPU."""
        indices = self.view.indices[positions]
        return {m: torch.from_numpy(column[indices]) for m, column in self.columns.items()}

    def close(self) -> None:
        """Do nothing, because nothing is held."""


class ResidentReader(Reader):
    """Holds the view on the device in the stored types."""

    def __init__(self, view: View, modalities: Sequence[str], device: torch.device) -> None:
        self.view, self.device = view, device
        self.columns: dict[str, Tensor] = {}
        for modality in modalities:
            column = view.split.column(modality)
            like = torch.from_numpy(column[:1].copy())
            held = torch.empty(
                (view.num_frames, *column.shape[1:]), dtype=like.dtype, device=device
            )
            for start in range(0, view.num_frames, _UPLOAD_FRAMES):
                indices = view.indices[start : start + _UPLOAD_FRAMES]
                held[start : start + len(indices)] = torch.from_numpy(column[indices]).to(device)
            self.columns[modality] = held

    def inputs(self, positions: np.ndarray, upcoming: np.ndarray | None = None) -> Inputs:
        """Return the positions on the device, int64."""
        del upcoming
        return {_POSITIONS: uploaded(torch.from_numpy(positions), self.device)}

    def frames(self, inputs: Mapping[str, Tensor]) -> Inputs:
        """Pick the frames from device memory."""
        chosen = inputs[_POSITIONS]
        return {m: column.index_select(0, chosen) for m, column in self.columns.items()}

    def close(self) -> None:
        """Free the device memory."""
        self.columns.clear()


class StreamedReader(Reader):
    """Reads the next batch in a thread while the device computes on this one."""

    def __init__(self, view: View, modalities: Sequence[str], device: torch.device) -> None:
        self.view, self.device = view, device
        self.mapped = MappedReader(view, modalities, torch.device("cpu"))
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self.pending: dict[bytes, Future[dict[str, Tensor]]] = {}

    def inputs(self, positions: np.ndarray, upcoming: np.ndarray | None = None) -> Inputs:
        """Take the frames that were read ahead, or read them now, and read `upcoming` ahead."""
        future = self.pending.pop(positions.tobytes(), None)
        # Drop batches that were read ahead but are not asked for, because the order changed.
        self.pending.clear()
        host = future.result() if future else self._pinned(positions)
        if upcoming is not None:
            self.pending[upcoming.tobytes()] = self.pool.submit(self._pinned, upcoming)
        # PyTorch does not reuse a pinned block before the copy out of it has finished.
        return {m: tensor.to(self.device, non_blocking=True) for m, tensor in host.items()}

    def _pinned(self, positions: np.ndarray) -> dict[str, Tensor]:
        gathered = self.mapped.gather(positions)
        if self.device.type != "cuda":
            return gathered
        return {m: tensor.pin_memory() for m, tensor in gathered.items()}

    def close(self) -> None:
        """Stop the thread after the batch that it is reading."""
        self.pool.shutdown(wait=True, cancel_futures=True)


def open_reader(
    view: View, modalities: Sequence[str], device: torch.device, *, resident_share: float
) -> Reader:
    """Return the reader that suits the device and its free memory.

    resident_share: share of the free CUDA memory that the view may occupy; 0 always streams.
    """
    if device.type != "cuda":
        return MappedReader(view, modalities, device)
    if fits_in_memory(view, modalities, device, resident_share):
        return ResidentReader(view, modalities, device)
    return StreamedReader(view, modalities, device)


def fits_in_memory(
    view: View, modalities: Sequence[str], device: torch.device, share: float
) -> bool:
    """Return whether the view fits in that share of a CUDA device's free memory."""
    needed = sum(view.split.column(m)[0].nbytes for m in modalities) * view.num_frames
    return needed <= share * _free_memory(device)


def _free_memory(device: torch.device) -> float:
    """Return the bytes of CUDA memory that this process may still take.

    This is the free memory of the device, or less if the process is limited to a share of it
    (`torch.cuda.set_per_process_memory_fraction`, for several trials on one GPU).
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    free, total = torch.cuda.mem_get_info(index)
    if not hasattr(torch.cuda, "get_per_process_memory_fraction"):  # torch before 2.8
        return free
    allowed = torch.cuda.get_per_process_memory_fraction(index) * total
    return min(free, allowed - torch.cuda.memory_reserved(index))


def uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a small tensor of the CPU on the device, without waiting for the device."""
    if device.type != "cuda":
        return tensor.to(device)
    # PyTorch does not reuse a pinned block before the copy out of it has finished.
    return tensor.pin_memory().to(device, non_blocking=True)

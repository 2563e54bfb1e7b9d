"""Loads batches of a split, each a function of (seed, step) alone.

On CUDA, frames are kept in device memory in their stored types if they fit in a share of the free
memory; otherwise a thread reads them ahead into pinned memory. On the CPU they are read from the
memory map.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from trainables.config import DataConfig
from trainables.data.batch import Batch
from trainables.data.loading.augmentation import AugmentationParameters, augment
from trainables.data.store.encoding import (
    MARKED_RESPONSE_SCALE,
    NORMAL_SCALE,
    RESPONSE_SCALE,
    UNKNOWN_RESPONSE,
)
from trainables.data.store.split_file import Split
from trainables.data.vectors import length
from trainables.data.view import View
from trainables.errors import unknown_name
from trainables.registry.tasks import known_task
from trainables.seeds import generator

Inputs = dict[str, Tensor]  # what the device makes a batch from; shapes are equal for all steps

RESIDENT_SHARE = 0.5  # of the free device memory, for one view; the rest is for the network
_CROPS = ""  # a name that no column has
_POSITIONS = "positions"
_UPLOAD_FRAMES = 64  # at a time, so that no second copy of the view exists on the host


class BatchSource:
    """Gives training and scoring batches of `view`, and evaluation batches of any view.

    tasks: the tasks whose targets are read. seed: the trial's. device: a torch device, as text.
    resident_share: share of the free CUDA memory that a view may occupy; 0 always streams.
    num_closed: how often what is held was freed; a recording of `batch_of` lasts as long as that.
    """

    def __init__(
        self,
        view: View,
        config: DataConfig,
        *,
        tasks: Sequence[str],
        batch_size: int,
        seed: int,
        device: str | torch.device,
        resident_share: float = RESIDENT_SHARE,
    ) -> None:
        for task in tasks:
            if known_task(task).target not in view.split.modalities:
                raise unknown_name(f"task in {view.split.location}", task, view.targets)
        self.view, self.config = view, config
        self.tasks, self.batch_size, self.seed = tuple(tasks), batch_size, seed
        self.device = torch.device(device)
        self.resident_share = resident_share
        self.num_closed = 0
        self._readers: dict[int, Reader] = {}
        self._permutations: dict[int, np.ndarray] = {}

    @property
    def steps_per_epoch(self) -> float:
        """Return the steps in which every frame is seen once; a batch may span two epochs."""
        return self.view.num_frames / self.batch_size

    def train_batch(self, step: int) -> Batch:
        """Return the augmented batch of a step (from 0). Every frame is seen once per epoch."""
        return self.batch_of(self.train_inputs(step))

    def train_inputs(self, step: int) -> Inputs:
        """Return what the batch of a step (from 0) is made from, on the device.

        The host's part of `train_batch`, which `batch_of` completes.
        """
        reader, draws = self._reader(self.view), generator(self.seed, "augmentation", step)
        inputs = reader.inputs(self._positions(step), self._positions(step + 1))
        return inputs | {_CROPS: self._crops(draws)}

    def batch_of(self, inputs: Mapping[str, Tensor]) -> Batch:
        """Return the batch that `train_inputs` has prepared.

        The device's part of `train_batch`: a function of the tensors' values alone, which may be
        recorded once and replayed after they have changed in place.
        """
        config, split = self.config, self.view.split
        batch = augment(
            decode(self._reader(self.view).frames(inputs), split),
            AugmentationParameters.from_packed(inputs[_CROPS]),
            crop=config.crop,
            depth_kind=split.meta.depth_kind,
            own_kinds=split.meta.own_kinds,
        )
        return self._by_task(batch)

    def scoring_batches(self, n: int, step: int) -> Iterator[Batch]:
        """Yield n augmented batches to score weights on, without touching the training stream.

        Frames are drawn without replacement until all have been seen. The same (seed, step) gives
        the same batches.
        """
        draws = generator(self.seed, "scores", step)
        needed, count = n * self.batch_size, self.view.num_frames
        epochs = -(-needed // count)
        order = torch.cat([torch.randperm(count, generator=draws) for _ in range(epochs)]).numpy()
        chunks = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(n)]
        for chunk, upcoming in zip(chunks, [*chunks[1:], None], strict=True):
            inputs = self._reader(self.view).inputs(chunk, upcoming)
            yield self.batch_of(inputs | {_CROPS: self._crops(draws)})

    def evaluation_batches(self, view: View, batch_size: int) -> Iterator[Batch]:
        """Yield all frames of `view` in order and unaugmented; the last batch may be short."""
        yield from map(self._by_task, _in_order(self._reader(view), batch_size))

    def close(self) -> None:
        """Stop reading ahead and free device memory; the source stays usable."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self.num_closed += 1

    def _positions(self, step: int) -> np.ndarray:
        count = self.view.num_frames
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        return np.array([self._permutation(p // count)[p % count] for p in places.tolist()])

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._permutations:
            while len(self._permutations) > 3:
                self._permutations.pop(next(iter(self._permutations)))
            draws = generator(self.seed, "data", epoch)
            order = torch.randperm(self.view.num_frames, generator=draws)
            self._permutations[epoch] = order.numpy()
        return self._permutations[epoch]

    def _crops(self, draws: torch.Generator) -> Tensor:
        """Draw the crops of one batch; float64 (4, B), on the device."""
        config = self.config
        parameters = AugmentationParameters.draw(
            draws,
            self.batch_size,
            size=self.view.split.meta.size,
            crop=config.crop,
            scale_range=config.scale_range,
            mirror=config.mirror,
        )
        return _uploaded(parameters.packed(), self.device)

    def _by_task(self, batch: Batch) -> Batch:
        """Return the batch with targets by task instead of by column of the store."""
        columns = {task: known_task(task).target for task in self.tasks}
        targets = {task: batch.targets[column] for task, column in columns.items()}
        return Batch(images_BCHW=batch.images_BCHW, targets=targets)

    def _reader(self, view: View) -> "Reader":
        if id(view) not in self._readers:
            columns = dict.fromkeys(known_task(task).target for task in self.tasks)
            modalities = ("image", *columns)
            if self.device.type != "cuda":
                self._readers[id(view)] = MappedReader(view, modalities, self.device)
            elif self._fits(view, modalities):
                self._readers[id(view)] = ResidentReader(view, modalities, self.device)
            else:
                self._readers[id(view)] = StreamedReader(view, modalities, self.device)
        return self._readers[id(view)]

    def _fits(self, view: View, modalities: Sequence[str]) -> bool:
        needed = sum(view.split.column(m)[0].nbytes for m in modalities) * view.num_frames
        return needed <= self.resident_share * _free_memory(self.device)


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


def _in_order(reader: "Reader", batch_size: int) -> Iterator[Batch]:
    order = np.arange(reader.view.num_frames)
    chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    for chunk, upcoming in zip(chunks, [*chunks[1:], None], strict=True):
        yield decode(reader.fetch(chunk, upcoming), reader.view.split)


def _uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a small tensor of the CPU on the device, without waiting for the device."""
    if device.type != "cuda":
        return tensor.to(device)
    # PyTorch does not reuse a pinned block before the copy out of it has finished.
    return tensor.pin_memory().to(device, non_blocking=True)


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
        return {name: tensor for name, tensor in inputs.items() if name != _CROPS}

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
        return {_POSITIONS: _uploaded(torch.from_numpy(positions), self.device)}

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


def decode(stored: dict[str, Tensor], split: Split) -> Batch:
    """Convert stored values to those the network and the losses use; unknown is NaN or 255.

    Targets are named by the store's columns; for built-in tasks that is the task's name.
    """
    # Every finished split has image statistics; they are optional only while it is being written.
    assert split.meta.image_mean is not None
    assert split.meta.image_std is not None
    image = stored["image"]
    mean = _by_channel(tuple(split.meta.image_mean), str(image.device))
    deviation = _by_channel(tuple(split.meta.image_std), str(image.device))
    images_BCHW = (image.movedim(3, 1).float() / 255.0 - mean) / deviation
    nan = float("nan")
    targets: dict[str, Tensor] = {}
    for column, values in stored.items():
        kind = split.meta.kind(column)
        if kind == "labels":
            targets[column] = values.long()
        elif kind == "values":
            targets[column] = values[:, None]
        elif kind == "vectors":
            normals = values.movedim(3, 1).float() / NORMAL_SCALE
            lengths = length(normals)
            targets[column] = (normals / lengths).masked_fill(lengths == 0, nan)
        elif kind == "depth":
            depth = values[:, None].float()
            targets[column] = depth.masked_fill(depth == 0, nan)
        elif kind == "response":
            responses = values[:, None]
            if split.meta.unknown_responses:
                targets[column] = (responses.float() / MARKED_RESPONSE_SCALE).masked_fill(
                    responses == UNKNOWN_RESPONSE, nan
                )
            else:
                targets[column] = responses.float() / RESPONSE_SCALE
    return Batch(images_BCHW=images_BCHW.contiguous(), targets=targets)


@lru_cache(maxsize=64)
def _by_channel(values: tuple[float, ...], device: str) -> Tensor:
    """Return values for each channel of an image, (3, 1, 1); they go to the device only once."""
    return torch.tensor(values, device=device).view(-1, 1, 1)

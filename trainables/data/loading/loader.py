"""Loads batches of a split, each a function of (seed, step) alone.

A batch is fetched (`readers`), converted to what the network reads (`decoding`) and augmented.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from trainables.config import DataConfig
from trainables.data.batch import Batch
from trainables.data.loading.augmentation import AugmentationParameters, augment
from trainables.data.loading.decoding import decode
from trainables.data.loading.readers import (
    RESIDENT_SHARE,
    Inputs,
    Reader,
    open_reader,
    uploaded,
)
from trainables.data.view import View
from trainables.errors import unknown_name
from trainables.registry.tasks import known_task
from trainables.seeds import generator

_CROPS = ""  # a name that no column has


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
        fetched = {name: tensor for name, tensor in inputs.items() if name != _CROPS}
        batch = augment(
            decode(self._reader(self.view).frames(fetched), split),
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
        return uploaded(parameters.packed(), self.device)

    def _by_task(self, batch: Batch) -> Batch:
        """Return the batch with targets by task instead of by column of the store."""
        columns = {task: known_task(task).target for task in self.tasks}
        targets = {task: batch.targets[column] for task, column in columns.items()}
        return Batch(images_BCHW=batch.images_BCHW, targets=targets)

    def _reader(self, view: View) -> Reader:
        if id(view) not in self._readers:
            columns = dict.fromkeys(known_task(task).target for task in self.tasks)
            self._readers[id(view)] = open_reader(
                view, ("image", *columns), self.device, resident_share=self.resident_share
            )
        return self._readers[id(view)]


def _in_order(reader: Reader, batch_size: int) -> Iterator[Batch]:
    order = np.arange(reader.view.num_frames)
    chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    for chunk, upcoming in zip(chunks, [*chunks[1:], None], strict=True):
        yield decode(reader.fetch(chunk, upcoming), reader.view.split)

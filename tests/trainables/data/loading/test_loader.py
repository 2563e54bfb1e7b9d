"""Batches depend on (seed, step) alone and show every frame once per epoch."""

import itertools

import numpy as np
import pytest
import torch

from tests.trainables.training.emulated_graphs import NoLooks
from trainables.config import DataConfig
from trainables.data.frame import TARGETS
from trainables.data.loading.decoding import decode
from trainables.data.loading.loader import BatchSource
from trainables.data.loading.readers import (
    RESIDENT_SHARE,
    MappedReader,
    ResidentReader,
    StreamedReader,
    fits_in_memory,
)
from trainables.data.store.split_file import Split
from trainables.data.view import View
from trainables.errors import UserError

SIZE = (16, 20)
NUM_FRAMES = 7


@pytest.fixture
def view(tmp_path, write_toy_store):
    """Frames 1 to 7 of 8, so that positions and indices differ."""
    folder = write_toy_store(tmp_path, num_train=8, size=SIZE)
    return View(split=Split(folder / "train.arrow"), indices=np.arange(1, 1 + NUM_FRAMES))


def config(**changed) -> DataConfig:
    values = {
        "dataset": "toy",
        "tasks": TARGETS,
        "size": SIZE,
        "crop": SIZE,
        "scale_range": (0.5, 1.5),
        "mirror": True,
        "validation_fraction": 0.1,
        "split_seed": 0,
    }
    return DataConfig(**(values | changed))


def source(view, seed=0, batch_size=3, tasks=TARGETS, **changed) -> BatchSource:
    return BatchSource(
        view, config(**changed), tasks=tasks, batch_size=batch_size, seed=seed, device="cpu"
    )


@pytest.mark.parametrize(
    ("share", "reserved", "fits"),
    [(1.0, 0, True), (0.6, 0, True), (0.6, 500, False), (0.1, 0, False)],
)
def test_a_process_held_to_a_share_of_the_gpu_keeps_no_more_than_that(
    view, monkeypatch, share, reserved, fits
):
    needed = sum(c[0].nbytes for c in map(view.split.column, ("image", "depth"))) * NUM_FRAMES
    unit = needed / 250  # 1000 units of memory, 900 of them free; half of what is free is for data
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (900 * unit, 1000 * unit))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: reserved * unit)
    monkeypatch.setattr(
        "torch.cuda.get_per_process_memory_fraction", lambda device: share, raising=False
    )
    modalities, cuda = ("image", "depth"), torch.device("cuda")
    assert fits_in_memory(view, modalities, cuda, RESIDENT_SHARE) == fits


PLAIN = {"scale_range": (1.0, 1.0), "mirror": False}


def assert_equal(one, other):
    assert torch.equal(one.images_BCHW, other.images_BCHW)
    assert one.targets.keys() == other.targets.keys()
    for task in one.targets:
        torch.testing.assert_close(
            one.targets[task], other.targets[task], rtol=0, atol=0, equal_nan=True
        )


def identify(batch, view) -> list[int]:
    """Which frames of the view an unaugmented batch holds, by their labels."""
    stored = view.split.column("segmentation")[view.indices]
    found = []
    for labels in batch.targets["segmentation"].numpy():
        matches = np.flatnonzero((stored == labels).all(axis=(1, 2)))
        assert len(matches) == 1
        found.append(int(matches[0]))
    return found


def identify_all(batches, view) -> list[int]:
    return [found for batch in batches for found in identify(batch, view)]


def test_a_batch_does_not_depend_on_earlier_calls(view):
    ordered = source(view)
    batches = [ordered.train_batch(step) for step in range(6)]
    fresh = source(view)
    list(fresh.scoring_batches(2, 1))
    for step in (5, 0, 3, 3):
        assert_equal(fresh.train_batch(step), batches[step])
    assert not torch.equal(batches[0].images_BCHW, source(view, seed=1).train_batch(0).images_BCHW)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_every_epoch_shows_every_frame_once(view, batch_size):
    plain = source(view, batch_size=batch_size, **PLAIN)
    steps = 3 * NUM_FRAMES
    shown = list(
        itertools.chain.from_iterable(
            identify(plain.train_batch(step), view) for step in range(steps)
        )
    )
    epochs = [shown[i : i + NUM_FRAMES] for i in range(0, steps * batch_size, NUM_FRAMES)]
    assert all(sorted(epoch) == list(range(NUM_FRAMES)) for epoch in epochs if len(epoch) == 7)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert plain.steps_per_epoch == NUM_FRAMES / batch_size


def test_evaluation_is_in_order_at_full_size(view):
    batches = list(source(view).evaluation_batches(view, 3))
    assert [len(batch.images_BCHW) for batch in batches] == [3, 3, 1]
    assert identify_all(batches, view) == list(range(NUM_FRAMES))
    # Whatever the crop of training is.
    cropped = source(view, crop=(16, 16))
    for one, other in zip(cropped.evaluation_batches(view, 3), batches, strict=True):
        assert_equal(one, other)


def test_scoring_batches_are_repeatable_and_apart(view):
    scoring = source(view, **PLAIN)
    first = list(scoring.scoring_batches(4, 10))
    scoring.train_batch(0)
    for one, other in zip(first, scoring.scoring_batches(4, 10), strict=True):
        assert_equal(one, other)
    shown = identify_all(first, view)
    assert sorted(shown[:NUM_FRAMES]) == list(range(NUM_FRAMES))
    again = identify_all(scoring.scoring_batches(4, 11), view)
    assert again != shown


def test_decoding(view, make_frame):
    batch = next(iter(source(view).evaluation_batches(view, 1)))
    frame, meta = make_frame(1, SIZE), view.split.meta
    image = (frame.image / 255.0 - np.array(meta.image_mean)) / np.array(meta.image_std)
    np.testing.assert_allclose(batch.images_BCHW[0].permute(1, 2, 0), image, atol=1e-5)
    targets = batch.targets
    assert targets["segmentation"].dtype == torch.int64
    np.testing.assert_array_equal(targets["segmentation"][0], frame.segmentation)
    normals = targets["normals"][0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.isnan(normals), np.isnan(frame.normals))
    known = ~np.isnan(normals[..., 0])
    np.testing.assert_allclose(np.linalg.norm(normals[known], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(normals[known], frame.normals[known], atol=0.02)
    np.testing.assert_allclose(targets["depth"][0, 0], frame.depth, rtol=1e-3)
    np.testing.assert_allclose(targets["edges"][0, 0], frame.edges, atol=0.003)
    assert {task: tuple(t.shape[1:]) for task, t in targets.items()} == {
        "segmentation": SIZE,
        "normals": (3, *SIZE),
        "depth": (1, *SIZE),
        "keypoints": (1, *SIZE),
        "edges": (1, *SIZE),
    }


def test_only_the_tasks_asked_for_are_read(view):
    batch = source(view, tasks=("depth",)).train_batch(0)
    assert set(batch.targets) == {"depth"}


def test_crops_have_the_crops_size(view):
    batch = source(view, crop=(16, 24)).train_batch(0)
    assert batch.images_BCHW.shape == (3, 3, 16, 24)
    assert batch.targets["normals"].shape == (3, 3, 16, 24)
    assert batch.images_BCHW.isfinite().all()


@pytest.mark.parametrize("reader", [MappedReader, ResidentReader])
def test_a_batch_is_made_of_values_alone_that_change_in_place(view, reader):
    """Which is what a recorded step needs: the same tensors, and nothing the host looks at."""
    feeding, plain = source(view), source(view)
    cpu = torch.device("cpu")
    feeding._readers[id(view)] = reader(view, ("image", *TARGETS), cpu)
    held = feeding.train_inputs(0)
    feeding.batch_of(held)  # constants are made once
    for step in (0, 3, 1):
        for name, value in feeding.train_inputs(step).items():
            held[name].copy_(value)
        with NoLooks():
            batch = feeding.batch_of(held)
        assert_equal(batch, plain.train_batch(step))


def test_all_readers_fetch_the_same(view):
    modalities, cpu = ("image", *TARGETS), torch.device("cpu")
    readers = [
        kind(view, modalities, cpu) for kind in (MappedReader, ResidentReader, StreamedReader)
    ]
    orders = [np.array([0, 3]), np.array([6, 6]), np.array([5, 1]), np.array([2, 4])]
    # Announced rightly, wrongly and not at all.
    upcoming = [orders[1], orders[3], None, None]
    for order, then in zip(orders, upcoming, strict=True):
        fetched = [reader.fetch(order, then) for reader in readers]
        for other in fetched[1:]:
            for modality in modalities:
                assert torch.equal(fetched[0][modality], other[modality])
    for reader in readers:
        reader.close()


def test_unknown_task(view):
    with pytest.raises(UserError, match=r"unknown task .*'sound'"):
        source(view, tasks=("sound",))


@pytest.mark.gpu
@pytest.mark.parametrize("resident_share", [0.0, 0.5])
def test_cuda_matches_the_cpu(view, resident_share):
    cuda = BatchSource(
        view,
        config(),
        tasks=TARGETS,
        batch_size=3,
        seed=0,
        device="cuda",
        resident_share=resident_share,
    )
    expected = ResidentReader if resident_share else StreamedReader
    for step in (0, 1, 5):
        got, want = cuda.train_batch(step), source(view).train_batch(step)
        torch.testing.assert_close(got.images_BCHW.cpu(), want.images_BCHW, rtol=1e-4, atol=1e-4)
        for task in TARGETS:
            torch.testing.assert_close(
                got.targets[task].cpu(), want.targets[task], rtol=1e-4, atol=1e-4, equal_nan=True
            )
    assert all(isinstance(reader, expected) for reader in cuda._readers.values())
    cuda.close()


def test_decode_keeps_the_stored_frames(view):
    reader = MappedReader(view, ("image", "segmentation"), torch.device("cpu"))
    batch = decode(reader.fetch(np.array([0])), view.split)
    batch.targets["segmentation"].fill_(9)
    assert (view.split.column("segmentation")[1] != 9).all()

"""Data sets open by name, are generated once, and say what is wrong."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

from trainables.config import DataConfig
from trainables.data import catalogue, roots
from trainables.data.catalogue import DatasetSpec, open_dataset, store_root
from trainables.data.frame import TARGETS
from trainables.data.sources.scenes import ScenesSource
from trainables.data.store.convert import convert
from trainables.errors import UserError
from trainables.registry.datasets import DATASETS


def config(**changed) -> DataConfig:
    values = {
        "dataset": "scenes",
        "tasks": ("segmentation", "depth"),
        "size": (16, 16),
        "crop": (16, 16),
        "scale_range": (1.0, 1.0),
        "mirror": False,
        "validation_fraction": 0.25,
        "split_seed": 0,
        "num_train": 16,
        "num_test": 4,
    }
    return DataConfig(**(values | changed))


@pytest.fixture
def working_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scenes_are_generated_once(working_folder):
    dataset = open_dataset(config())
    assert (dataset.train.num_frames, dataset.val.num_frames, dataset.test.num_frames) == (12, 4, 4)
    assert set(dataset.train.scenes).isdisjoint(dataset.val.scenes)
    assert set(dataset.test.scenes).isdisjoint((*dataset.train.scenes, *dataset.val.scenes))
    assert dataset.available_tasks == TARGETS
    assert {task: dataset.num_channels(task) for task in TARGETS} == {
        "segmentation": DATASETS["scenes"].num_classes,
        "normals": 3,
        "depth": 1,
        "keypoints": 1,
        "edges": 1,
    }
    (folder,) = (working_folder / "runs" / "data").glob("scenes-*")
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {path.name for path in stamps} == {"train.arrow", "test.arrow"}
    open_dataset(config(split_seed=3, validation_fraction=0.5))
    assert stamps == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    dataset.train.split.verify()
    # Test frames are normalised by the statistics of train.
    assert dataset.test.split.meta.image_mean == dataset.image_mean


def test_more_training_frames_extend_the_fewer(working_folder):
    few = open_dataset(config(num_train=8)).train.split
    many = open_dataset(config(num_train=12)).train.split
    assert few.path != many.path
    np.testing.assert_array_equal(few.column("image"), many.column("image")[:8])


def test_validation_is_seeded(working_folder):
    carved = {open_dataset(config(split_seed=seed)).val.frames for seed in (0, 0, 1, 2, 3)}
    assert 1 < len(carved) < 5


def test_generators_at_the_same_time_make_one_store(working_folder, monkeypatch):
    made = []
    load = ScenesSource.load

    def counting(self, split, position, size):
        made.append((split, position))
        return load(self, split, position, size)

    monkeypatch.setattr(ScenesSource, "load", counting)
    opened, failures = [], []

    def run() -> None:
        try:
            opened.append(open_dataset(config()).train.split.frames)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(opened) == 4
    assert len(set(opened)) == 1
    assert len(made) == len(set(made)) == 20
    names = {path.name for path in (working_folder / "runs" / "data").iterdir()}
    assert not any(name.endswith(".partial") for name in names)


def test_what_a_killed_generator_left_is_removed(working_folder):
    root = working_folder / "store"
    stale = working_folder / ".store.abc.partial"
    stale.mkdir()
    (stale / "train.arrow").write_bytes(b"half")
    dataset = open_dataset(config(root=str(root)))
    assert not stale.exists()
    assert dataset.train.split.path == root / "train.arrow"


def test_a_failed_generation_leaves_nothing(working_folder, monkeypatch):
    def fail(self, split, position, size):
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(ScenesSource, "load", fail)
        with pytest.raises(UserError, match=r"frame 0 of train must load.*out of luck"):
            open_dataset(config(root="store"))
    assert not (working_folder / "store").exists()
    assert list(working_folder.glob("*.partial")) == []
    open_dataset(config(root="store"))


def test_a_folder_with_other_files_is_not_generated_into(working_folder):
    (working_folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="with other files"):
        open_dataset(config(root=str(working_folder)))
    assert (working_folder / "notes.txt").read_text() == "mine"


def test_caps_keep_frames_from_everywhere(tmp_path, write_toy_store, monkeypatch):
    monkeypatch.setitem(DATASETS, "toy", toy_spec())
    root = str(write_toy_store(tmp_path / "s", num_train=12, num_test=6, size=(16, 16)))
    whole = open_dataset(config(dataset="toy", root=root, num_train=None, num_test=None))
    assert whole.train.num_frames + whole.val.num_frames == 12
    capped = open_dataset(config(dataset="toy", root=root, num_train=6, num_test=2))
    kept = sorted([*capped.train.indices, *capped.val.indices])
    assert kept == [0, 2, 4, 6, 8, 10]
    assert capped.test.indices.tolist() == [0, 3]
    assert capped.test.frames == ("0100", "0103")


def toy_spec(**changed) -> DatasetSpec:
    values = {"summary": "toy", "tasks": TARGETS, "num_classes": 4, "depth_kind": "metric"}
    return DatasetSpec(**(values | changed))


def test_a_converted_root_given_as_uri(tmp_path, write_toy_store, monkeypatch):
    monkeypatch.setitem(DATASETS, "toy", toy_spec())
    folder = write_toy_store(tmp_path / "s", size=(16, 16))
    dataset = open_dataset(config(dataset="toy", root=f"file://{folder}"))
    assert dataset.num_classes == 4


def test_the_root_is_resolved_for_other_working_folders(working_folder):
    root = store_root(config())
    assert Path(root).is_absolute()
    assert open_dataset(config(root=root)).train.num_frames == 12


def test_a_users_own_dataset_by_import_path(tmp_path, write_toy_store, monkeypatch):
    monkeypatch.setattr(catalogue, "OWN", toy_spec(), raising=False)
    name = "trainables.data.catalogue:OWN"
    root = str(write_toy_store(tmp_path / "s", size=(16, 16), dataset=name))
    assert open_dataset(config(dataset=name, root=root)).name == name
    for wrong, message in (
        ("no.such.module:X", "no module named 'no'; put its folder on PYTHONPATH"),
        ("trainables.data.catalogue:NOTHING", "unknown attribute of trainables.data.catalogue"),
        ("trainables.data.roots:SCENES_SEED", "must be a .*DatasetDescription, got int"),
    ):
        with pytest.raises(UserError, match=message):
            open_dataset(config(dataset=wrong))


def test_a_new_folder_of_generated_frames_is_said(working_folder, caplog):
    """Once, and where a user follows what happens: its name may be a typing error."""
    few = config(root="new", num_train=64, num_test=2, size=(32, 32))
    for _ in range(2):
        open_dataset(few, lambda split, done, total: None)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{working_folder / 'new'} is new: scenes is generated in it; if that is a typing error, "
        "press Ctrl-C and correct --data-root"
    )
    caplog.clear()
    (working_folder / "there").mkdir()
    open_dataset(dataclasses.replace(few, root="there"), lambda split, done, total: None)
    open_dataset(dataclasses.replace(few, root="quiet"))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataset": "scnes"}, r"unknown data set 'scnes'.*Did you mean 'scenes'"),
        ({"tasks": ("sound",)}, r"unknown task of scenes 'sound'; valid: depth, edges"),
        ({"dataset": "nyu-v2", "tasks": ("edges",)}, r"unknown task of nyu-v2 'edges'"),
        ({"dataset": "nyu-v2"}, r"got no data root; run .*convert nyu-v2"),
        ({"dataset": "nyu-v2", "root": "absent"}, r"absent, which does not; check the path"),
        ({"dataset": "nyu-v2", "root": "empty"}, r"the empty folder .*empty"),
        ({"dataset": "nyu-v2", "root": "other"}, r"got .*other, which is neither"),
        ({"dataset": "nyu-v2", "root": "file"}, r"readable folder"),
        ({"dataset": "nyu-v2", "root": "toy"}, r"must hold nyu-v2, got toy"),
        ({"root": "half"}, r"half/test\.arrow, got no such file; delete its folder"),
        ({"root": "cut"}, r"cut/train\.arrow must be a complete store.*; delete its folder"),
        ({"root": "file"}, r"data root must be a folder, got the file .*file; name a new or empty"),
        (
            {"root": "no/such"},
            r"data root must be a folder, or a new one .*no/such, but there is no",
        ),
        ({"root": "file/below"}, r"must be writable, got .*file/below; choose"),
        ({"root": "old"}, r"this version of its generator, got .*old/train\.arrow; delete its"),
        ({"dataset": ":X"}, r"must read `package\.module:SPEC`, got ':X'"),
        ({"dataset": ".relative:X"}, r"must read `package\.module:SPEC`"),
    ],
)
def test_mistakes(working_folder, write_plain_nyu, write_toy_store, changed, message):
    (working_folder / "empty").mkdir()
    (working_folder / "other").mkdir()
    (working_folder / "other" / "picture.jpg").write_bytes(b"")
    (working_folder / "file").write_bytes(b"")
    write_toy_store(working_folder / "toy", size=(16, 16))
    write_toy_store(working_folder / "half", size=(16, 16), dataset="scenes")
    (working_folder / "half" / "test.arrow").unlink()
    write_toy_store(working_folder / "old", size=(16, 16), dataset="scenes")
    write_toy_store(working_folder / "cut", size=(16, 16), dataset="scenes")
    cut = working_folder / "cut" / "train.arrow"
    cut.write_bytes(cut.read_bytes()[:-200])
    with pytest.raises(UserError, match=message):
        open_dataset(config(**changed))


def test_raw_data_are_converted_once(working_folder, write_plain_nyu):
    raw = working_folder / "raw"
    write_plain_nyu(raw, [1, 200, 400, 600], [5])
    asked = config(dataset="nyu-v2", root="raw", tasks=("segmentation", "normals"))
    seen = []
    opened = open_dataset(asked, lambda split, done, total: seen.append((split, done, total)))
    assert (opened.train.num_frames + opened.val.num_frames, opened.test.num_frames) == (4, 1)
    assert seen[-1] == ("test", 1, 1)
    by_hand = convert("nyu-v2", raw, working_folder / "by-hand", asked.size).destination
    for split in ("train", "test"):
        theirs = Path(store_root(asked)) / f"{split}.arrow"
        assert theirs.read_bytes() == (by_hand / f"{split}.arrow").read_bytes()
    written = {path: path.stat().st_mtime_ns for path in Path(store_root(asked)).iterdir()}
    open_dataset(asked, lambda *_: pytest.fail("converted twice"))
    assert written == {path: path.stat().st_mtime_ns for path in written}
    # A size of its own is a store of its own; changed data are converted again.
    assert store_root(dataclasses.replace(asked, size=(32, 32))) != store_root(asked)
    before = store_root(asked)
    (raw / "new-folder").mkdir()
    assert store_root(asked) != before


def test_a_store_that_another_process_converted_meanwhile_stays(working_folder, write_plain_nyu):
    write_plain_nyu(working_folder / "raw", [1, 2], [3])
    first = convert("nyu-v2", working_folder / "raw", working_folder / "made", (16, 16))
    stamp = (working_folder / "made" / "train.arrow").stat().st_mtime_ns
    again = convert("nyu-v2", working_folder / "raw", working_folder / "made", (16, 16), keep=True)
    assert again.num_frames == first.num_frames == {"train": 2, "test": 1}
    assert (working_folder / "made" / "train.arrow").stat().st_mtime_ns == stamp


def test_another_size_than_stored(working_folder):
    open_dataset(config(root="store"))
    with pytest.raises(
        UserError, match=r"got 16x32 for 16x16 in .*set data\.size=16x16, or name another folder"
    ):
        open_dataset(config(root="store", size=(16, 32)))


@pytest.mark.parametrize("changed", [{"num_train": 20}, {"num_train": None}, {"num_test": 8}])
def test_frames_that_another_configuration_generated(working_folder, changed):
    root = str(working_folder / "store")
    whole = open_dataset(config(root=root))
    # What does not decide the frames may differ; a URI is looked at like a folder.
    same = open_dataset(config(root=f"file://{root}", split_seed=5, tasks=("edges",)))
    assert same.test.frames == whole.test.frames
    for place in (root, f"file://{root}"):
        with pytest.raises(
            UserError,
            match=r"configured data\.num_train=\d+, data\.num_test=\d, got .*store/train\.arrow "
            r"generated with data\.num_train=16, data\.num_test=4; set those, or name another",
        ):
            open_dataset(config(root=place, **changed))


def test_frames_that_another_version_generated(working_folder, monkeypatch):
    open_dataset(config(root="store"))
    monkeypatch.setattr(roots, "SCENES_SEED", 1)
    with pytest.raises(UserError, match=r"this version of its generator.*delete its folder"):
        open_dataset(config(root="store"))


def test_task_without_ground_truth(tmp_path, make_frame, make_meta, monkeypatch):
    from trainables.data.store.split_writer import write_split

    monkeypatch.setitem(DATASETS, "toy", toy_spec())
    size = (16, 16)
    for split, indices in (("train", range(6)), ("test", range(6, 8))):
        frames = [make_frame(i, size, ("depth",)) for i in indices]
        write_split(tmp_path / f"{split}.arrow", frames, make_meta(size))
    dataset = open_dataset(config(dataset="toy", tasks=("depth",), root=str(tmp_path)))
    assert dataset.available_tasks == ("depth",)
    with pytest.raises(UserError, match="unknown task of toy 'segmentation'; valid: depth"):
        open_dataset(config(dataset="toy", root=str(tmp_path)))

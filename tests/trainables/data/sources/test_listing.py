"""What is listed of a folder: every frame once, in the root, and nothing that systems leave."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data.conftest import write_plain_nyu
from tests.trainables.data.sources.official_files import (
    random_city,
    random_room,
    write_array_city,
    write_npy,
    write_official_city,
    write_png,
    write_room,
)
from trainables.data.sources import cityscapes, nyu_v2, taskonomy
from trainables.data.sources.listing import is_litter, list_files, list_folders
from trainables.data.store.convert import convert
from trainables.data.store.split_file import Split
from trainables.errors import UserError

SIZE = (24, 32)
CITIES = (("train", "ulm"), ("train", "jena"), ("val", "lindau"))


def write_plain(root: Path) -> Path:
    return write_plain_nyu(root, train=[1, 2, 5, 6], test=[9, 10], size=SIZE)


def write_adashare(root: Path) -> Path:
    rng = np.random.default_rng(3)
    listing: dict[str, list[list[str]]] = {"train": [], "test": []}
    for name, split in (("3", "train"), ("4", "train"), ("8", "train"), ("11", "test")):
        files = [f"img/{name}.png", f"seg/{name}.png", f"normal_mask/{name}.png"]
        write_png(root / files[0], rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        write_png(root / files[1], rng.integers(0, 40, SIZE, dtype=np.uint8))
        write_png(root / files[2], rng.integers(60, 200, (*SIZE, 3), dtype=np.uint8))
        write_npy(root / "depth" / f"{name}.npy", rng.uniform(1, 9, SIZE).astype(np.float32))
        listing[split].append([*files, f"depth/{name}.npy"])
    (root / "nyu_v2_3task.json").write_text(json.dumps(listing))
    return root


def write_official(root: Path) -> Path:
    for seed, (split, city) in enumerate(CITIES):
        write_official_city(root, split, f"{city}_000000_000019", random_city(seed, SIZE))
    return root


def write_arrays(root: Path, *, index: bool) -> Path:
    listing: dict[str, list[list[str]]] = {"train": [], "test": []}
    for seed, (split, _) in enumerate(CITIES):
        paths = write_array_city(root / split, f"{10 * seed}", random_city(seed, SIZE))
        listing["test" if split == "val" else "train"].append(paths)
    if index:
        (root / "cityscape.json").write_text(json.dumps(listing))
    return root


def write_rooms(root: Path) -> Path:
    for seed, building in enumerate(("hanson", "merom", "ihlen")):
        write_room(root, building, seed, random_room(seed, SIZE))
    return root


LAYOUTS = {
    "plain": (write_plain, "nyu-v2", nyu_v2.open_source),
    "adashare": (write_adashare, "nyu-v2", nyu_v2.open_source),
    "official": (write_official, "cityscapes", cityscapes.open_source),
    "index": (lambda root: write_arrays(root, index=True), "cityscapes", cityscapes.open_source),
    "arrays": (lambda root: write_arrays(root, index=False), "cityscapes", cityscapes.open_source),
    "rooms": (write_rooms, "taskonomy", taskonomy.open_source),
}
by_layout = pytest.mark.parametrize("layout", LAYOUTS)


def names(source) -> dict[str, list[str]]:
    return {split: [entry.name for entry in source.files[split]] for split in ("train", "test")}


@by_layout
def test_what_systems_leave_is_passed_over(tmp_path, layout):
    """In every folder: files, folders with copies of images in them, and AppleDouble files."""
    write, _, open_source = LAYOUTS[layout]
    before = open_source(write(tmp_path / "raw"))
    for folder, folders, files in list(os.walk(tmp_path / "raw")):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", *(f"._{name}" for name in files)):
            Path(folder, name).write_bytes(bytes(82))
        for name in ("@eaDir", "__MACOSX", ".Trashes"):
            for inside in (*folders, ""):
                Path(folder, name, inside).mkdir(parents=True, exist_ok=True)
                for file in files:
                    Path(folder, name, inside, file).write_bytes(bytes(82))
    after = open_source(tmp_path / "raw")
    assert names(after) == names(before)
    assert after.notes == before.notes
    for split in ("train", "test"):
        for position in range(after.num_frames(split)):
            after.load(split, position, SIZE)


@by_layout
def test_suffixes_in_capitals_are_the_same(tmp_path, layout):
    write, _, open_source = LAYOUTS[layout]
    before = open_source(write(tmp_path / "raw"))
    index = {"nyu_v2_3task.json", "splits.json", "cityscape.json"}
    for path in [p for p in (tmp_path / "raw").rglob("*.*") if p.is_file() and p.name not in index]:
        path.rename(path.with_suffix(path.suffix.upper()))
    after = open_source(tmp_path / "raw")
    assert names(after) == names(before)
    assert after.notes == before.notes
    for split in ("train", "test"):
        for position in range(after.num_frames(split)):
            after.load(split, position, SIZE)


def edit_json(path: Path, change) -> None:
    listing = json.loads(path.read_text())
    change(listing)
    path.write_text(json.dumps(listing))


def link(path: Path, to: Path) -> str:
    path.unlink(missing_ok=True)
    path.symlink_to(to)
    return path.name


@pytest.mark.parametrize(
    ("layout", "index", "change"),
    [
        ("plain", "splits.json", lambda root, said: said["test"].append(5)),
        ("plain", "splits.json", lambda root, said: said["test"].append("0002")),
        ("adashare", "nyu_v2_3task.json", lambda root, said: said["test"].append(said["train"][1])),
        (
            "adashare",
            "nyu_v2_3task.json",
            lambda root, said: said["test"].append(
                ["img/../seg/../img/4.png", *said["train"][1][1:]]
            ),
        ),
        (
            "adashare",
            "nyu_v2_3task.json",
            lambda root, said: said["test"].append(
                [f"img/{link(root / 'img/12.png', root / 'img/8.png')}", *said["train"][2][1:]]
            ),
        ),
        ("index", "cityscape.json", lambda root, said: said["test"].append(said["train"][0])),
        (
            "index",
            "cityscape.json",
            lambda root, said: said["test"].append(["./val/../" + said["train"][0][0], *["a"] * 4]),
        ),
    ],
)
def test_a_frame_in_both_lists(tmp_path, layout, index, change):
    write, _, open_source = LAYOUTS[layout]
    root = write(tmp_path / "raw")

    def edit(listing):
        change(root, listing)
        for entries in listing.values():
            for entry in entries:
                if isinstance(entry, list) and "a" in entry:
                    entry[1:] = listing["train"][1][1:]

    edit_json(root / index, edit)
    with pytest.raises(UserError, match=r"must be in train or in test, got one in both, .*; take"):
        open_source(root)


def test_a_frame_twice_in_a_list_under_two_paths(tmp_path):
    root = write_adashare(tmp_path / "raw")
    (root / "img" / "9.png").symlink_to(root / "img" / "8.png")
    edit_json(
        root / "nyu_v2_3task.json",
        lambda said: said["train"].append(["img/9.png", *said["train"][0][1:]]),
    )
    with pytest.raises(UserError, match=r"once for 'train', got .*[89]\.png, which are one file"):
        nyu_v2.open_source(root)


def test_a_frame_in_both_folders(tmp_path):
    """By its name, as Cityscapes' are the same everywhere."""
    root = write_official(tmp_path / "raw")
    for folder in ("leftImg8bit", "gtFine", "disparity", "camera"):
        shutil.copytree(root / folder / "train" / "ulm", root / folder / "val" / "ulm")
    with pytest.raises(UserError, match=r"must be in train or in val, .*ulm_000000_000019"):
        cityscapes.open_source(root)


@pytest.mark.parametrize("layout", ["plain", "adashare", "arrays", "rooms"])
def test_a_copied_image_is_told_by_its_content(tmp_path, layout):
    """Under another name, which no list gives away."""
    write, dataset, open_source = LAYOUTS[layout]
    root = write(tmp_path / "raw")
    files = open_source(root).files
    first, last = files["train"][0], files["test"][-1]
    shutil.copy(first.image, last.image)
    with pytest.raises(UserError, match=r"in train or in test.*\(equal images\)"):
        convert(dataset, root, tmp_path / "store", (16, 16))
    assert not (tmp_path / "store").exists()


@by_layout
def test_a_link_out_of_the_root_needs_a_yes(tmp_path, layout):
    write, dataset, open_source = LAYOUTS[layout]
    root = write(tmp_path / "raw")
    image = open_source(root).files["train"][0].image
    shutil.move(image.parent, tmp_path / "elsewhere")
    image.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"in the data root .*elsewhere.*--allow-outside"):
        open_source(root)
    assert open_source(root, allow_outside=True).num_frames("train") > 1
    convert(dataset, root, tmp_path / "store", (16, 16), allow_outside=True)
    assert Split(tmp_path / "store" / "train.arrow").num_frames > 1


@by_layout
def test_the_root_itself_may_be_a_link(tmp_path, layout):
    write, _, open_source = LAYOUTS[layout]
    write(tmp_path / "raw")
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    assert names(open_source(tmp_path / "link")) == names(open_source(tmp_path / "raw"))


@pytest.mark.parametrize("layout", ["adashare", "index"])
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("place", [0, -1])
def test_a_list_that_leads_out_of_the_root(tmp_path, layout, absolute, place):
    write, _, open_source = LAYOUTS[layout]
    root = write(tmp_path / "raw")
    index = root / {"adashare": "nyu_v2_3task.json", "index": "cityscape.json"}[layout]
    listed = json.loads(index.read_text())["train"][0][place]
    outside = shutil.copy(root / listed, tmp_path / Path(listed).name)
    path = str(outside) if absolute else f"../{Path(listed).name}"
    edit_json(index, lambda said: said["train"][0].__setitem__(place, path))
    with pytest.raises(UserError, match=r"must name files in the data root") as caught:
        open_source(root)
    assert path in str(caught.value)
    open_source(root, allow_outside=True)


def test_files_that_no_frame_uses_are_said(tmp_path):
    plain, official = write_plain(tmp_path / "plain"), write_official(tmp_path / "official")
    shutil.copy(plain / "rgb" / "0001.jpg", plain / "rgb" / "0007.jpg")
    (note,) = nyu_v2.open_source(plain).notes
    assert "0007.jpg" in note
    assert "splits.json names no frame" in note
    assert nyu_v2.open_source(write_plain(tmp_path / "all")).notes == ()
    (official / "leftImg8bit" / "train" / "ulm" / "ulm_000000_000019_leftImg8bit.png").unlink()
    (official / "leftImg8bit" / "train" / "jena" / "jena_3_19_leftImg8bit.jpg").write_bytes(b"a")
    notes = cityscapes.open_source(official).notes
    for word in ("labelIds", "disparity.png", "jena_3_19_leftImg8bit.jpg"):
        assert any(word in note for note in notes), word
    assert len(notes) == 3
    arrays = write_arrays(tmp_path / "arrays", index=False)
    (arrays / "train" / "image" / "0.npy").unlink()
    (note,) = cityscapes.open_source(arrays).notes
    assert "0.npy and 1 more" in note
    rooms = write_rooms(tmp_path / "rooms")
    (rooms / "merom" / "rgb" / "point_1_view_2_domain_rgb.png").unlink()
    (note,) = taskonomy.open_source(rooms).notes
    assert "and 4 more" in note


def test_labels_that_are_mapped_already(tmp_path):
    """Train ids where label ids belong, whatever frames are looked at."""
    root = write_official(tmp_path / "raw")
    rng = np.random.default_rng(0)
    for split, city in CITIES:
        ids = rng.choice(np.array([*range(19), 255], np.uint8), SIZE)
        path = root / "gtFine" / split / city / f"{city}_000000_000019_gtFine_labelIds.png"
        write_png(path, ids)
    with pytest.raises(UserError, match=r"label ids 0-33, got none above 18 .*train ids"):
        cityscapes.open_source(root)


@pytest.mark.parametrize(
    ("name", "litter"),
    [("._a.png", True), (".hidden", True), ("THUMBS.DB", True), ("@eaDir", True), ("a.png", False),
     ("__macosx", True), ("_a.png", False), ("thumbs", False), ("a._b", False)],
)  # fmt: skip
def test_litter(name, litter):
    assert is_litter(name) == litter


def test_files_of_a_folder(tmp_path):
    for name in ("b.JPG", "a.jpg", "c.jpeg", "._a.jpg", "d.txt"):
        (tmp_path / name).touch()
    (tmp_path / "e.jpg").mkdir()
    assert [p.name for p in list_files(tmp_path, ".jpg")] == ["a.jpg", "b.JPG"]
    assert len(list_files(tmp_path)) == 4
    assert [p.name for p in list_folders(tmp_path)] == ["e.jpg"]
    assert list_files(tmp_path / "absent") == []

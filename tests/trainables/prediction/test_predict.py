"""`python -m trainables predict`: any picture gives results of its own size; one message each."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainables.test_command_line import run
from tests.trainables.training.runs import finish
from trainables.errors import UserError
from trainables.pictures.colours import class_colours
from trainables.prediction.images import read_picture
from trainables.prediction.network import load_network
from trainables.prediction.predict import unique_names
from trainables.prediction.sheet import Panel, overview
from trainables.training.test_frames import predictions
from trainables.training.trial import TrialRun

TASKS = ("segmentation", "normals", "depth", "keypoints", "edges")
SIZE = (32, 32)


@pytest.fixture(scope="module")
def trained(small_trial, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialRun, Path]:
    """A finished run of all tasks, and its model.pt."""
    run = TrialRun(
        small_trial("disparse-static", {"training.prediction_frames": 8}, tasks=list(TASKS)),
        device="cpu",
    )
    finish(run)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    run.export(path)
    return run, path


def photo(path: Path, height: int, width: int, mode: str = "RGB", **options: object) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize(("height", "width"), [(37, 53), (211, 97), (1, 1), (3, 400)])
def test_results_have_exactly_the_pictures_size(
    height: int, width: int, trained, tmp_path: Path
) -> None:
    picture = photo(tmp_path / "odd.png", height, width)
    out = tmp_path / "out"
    assert run("predict", trained[1], picture, "--out", out, "--quiet") == 0
    for task in TASKS:
        with Image.open(out / "odd" / f"{task}.png") as image:
            assert (image.height, image.width, image.mode) == (height, width, "RGB")
        array = np.load(out / "odd" / f"{task}.npy")
        assert array.shape == (height, width) + ((3,) if task == "normals" else ())
        assert array.dtype == (np.uint8 if task == "segmentation" else np.float32)
        assert np.isfinite(array).all()
    ids = np.load(out / "odd" / "segmentation.npy")
    drawn = np.asarray(Image.open(out / "odd" / "segmentation.png"))
    assert (drawn == class_colours(12)[ids]).all()
    with Image.open(out / "odd" / "overview.png") as sheet:
        assert sheet.width > 700


def test_a_test_frame_is_predicted_as_it_was_in_the_evaluation(trained, tmp_path: Path) -> None:
    run_, model = trained
    kept = predictions(run_)
    names = []
    for place, pixels in enumerate(kept["image"]):
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
        names.append(tmp_path / f"{place}.png")
    assert run("predict", model.parent, *names, "--out", tmp_path / "out", "--quiet") == 0
    for place in range(len(names)):
        ids = np.load(tmp_path / "out" / str(place) / "segmentation.npy")
        assert (ids == kept["prediction/segmentation"][place]).mean() > 0.999  # one ulp may tip one
        metres = np.load(tmp_path / "out" / str(place) / "depth.npy")
        np.testing.assert_allclose(metres, kept["prediction/depth"][place], rtol=2e-3)
        normals = np.load(tmp_path / "out" / str(place) / "normals.npy")
        np.testing.assert_allclose(normals, kept["prediction/normals"][place] / 127, atol=5e-3)


def test_a_shipped_model_predicts_the_same(trained, tmp_path: Path, capsys) -> None:
    pytest.importorskip("onnxruntime")
    _, model = trained
    shipped = tmp_path / "shipped"
    assert run("ship", model, "--out", shipped, "--no-data", "--quiet") == 0
    picture = photo(tmp_path / "a.png", *SIZE)
    for source, out in ((model, "ours"), (shipped, "theirs")):
        assert run("predict", source, picture, "--out", tmp_path / out, "--quiet") == 0
    for task in ("depth", "normals", "edges"):
        one, other = (np.load(tmp_path / out / "a" / f"{task}.npy") for out in ("ours", "theirs"))
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert run("predict", shipped / "model.onnx", picture, "--out", tmp_path / "file", "-q") == 0
    # It was exported for one size: pictures of other proportions are stretched to it.
    photo(tmp_path / "wide.png", 20, 60)
    answer = tmp_path / "answer.json"
    options = ("--out", tmp_path / "theirs", "--quiet", "--json", answer)
    assert run("predict", shipped, tmp_path / "wide.png", *options) == 0
    (done,) = json.loads(answer.read_text())["pictures"]
    assert (done["size"], done["network_size"]) == ([20, 60], list(SIZE))
    capsys.readouterr()
    pictures = (picture, tmp_path / "wide.png")
    assert run("predict", shipped, *pictures, "--out", tmp_path / "again") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "proportions" in line]
    assert len(said) == 1
    assert said[0].startswith(f"note: {tmp_path / 'wide.png'}: goes into the network at ")
    assert run("predict", model, *pictures, "--out", tmp_path / "own") == 0  # takes any size
    assert "proportions" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ("", "got a ship.json that is not whole; ship it again"),
        ("[]", "got a ship.json that is not whole"),
        ("{}", "got a ship.json that is not whole"),
        ('{"config": {"no": 1}, "image_mean": [], "image_std": []}', "that cannot be used ("),
        (None, "got a model.onnx that is not whole"),
    ],
)
def test_a_damaged_shipped_folder_gets_one_message(
    about: str | None, said: str, trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    config = trained[0].config.to_dict()
    whole = json.dumps({"config": config, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    (tmp_path / "ship.json").write_text(whole if about is None else about)
    (tmp_path / "model.onnx").write_bytes(b"no network")
    picture = photo(tmp_path / "a.png", 20, 20)
    assert run("predict", tmp_path, picture, "--out", tmp_path / "out", "--quiet") == 2
    error = capsys.readouterr().err
    assert f"error: {str(tmp_path)!r} must be what `ship` wrote, " in error
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_it_says_once_what_the_model_knows(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [photo(tmp_path / name, 20, 30) for name in ("a.png", "b.png")]
    assert run("predict", trained[1], *pictures, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert printed.err.strip() == (
        "note: the model was trained on scenes (drawn by a program) and knows only these 12 "
        "classes: floor, wall, ceiling, table, cabinet, crate, pouf, ball, lamp, pillar, picture, "
        "rug"
    )
    assert "a.png (height x width 20x30, in the network 26x39)" in printed.out


def test_the_size_in_the_network_keeps_pixels_and_proportions(trained) -> None:
    network = load_network(trained[1], "cpu")
    assert network.size_for((64, 64), None) == (32, 32)
    assert network.size_for((4000, 1000), None) == (64, 16)
    assert network.size_for((480, 640), None) == (28, 37)
    assert network.size_for((1, 9999), None) == (16, 3200)  # no side below 16 pixels
    assert network.size_for((480, 640), (96, 128)) == (96, 128)


def test_legends_name_the_classes_and_scales_their_unit(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = photo(tmp_path / "a.png", 40, 40)
    out = tmp_path / "out"
    assert run("predict", trained[1], picture, "--out", out, "--json", "-") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["config"]["data"]["dataset"] == "scenes"
    assert {"command", "seed", "timing", "versions", "pictures", "unread"} <= result.keys()
    shares = result["pictures"][0]["predictions"]["segmentation"]["classes"]
    assert sum(shares.values()) == pytest.approx(1)
    with (out / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows[:3]] == ["floor", "wall", "ceiling"]
    assert rows[0] == {"class": "0", "name": "floor", "colour": "#1f77b4"}
    assert all((out.parent / name).is_file() for name in result["pictures"][0]["files"])


def test_the_overview_has_legends_and_scales() -> None:
    colours = np.zeros((30, 40, 3), np.uint8)
    legend = [((255, 0, 0), "wall 70 %"), ((0, 0, 255), "floor 30 %")]
    panels = [
        Panel(title="image", colours=colours),
        Panel(title="segmentation", colours=colours, entries=legend),
        Panel(title="depth", colours=colours, scale="viridis", ends=("1", "9"), unit="metres"),
    ]
    drawn = np.asarray(overview(panels)).reshape(-1, 3)
    for colour in ((255, 0, 0), (0, 0, 255), (68, 1, 84), (253, 231, 37)):
        assert (drawn == colour).all(axis=1).sum() >= 12, colour
    # No place is left empty, where that can be.
    for count, columns in ((1, 1), (2, 2), (3, 3), (4, 2), (5, 5), (6, 3)):
        sheet = overview([Panel(title="a", colours=colours)] * count)
        assert sheet.width == columns * (420 + 18) + 18, count
    many = [((index, 0, 0), f"class {index}") for index in range(40)]
    assert overview([Panel(title="a", colours=colours, entries=many)]).height < 600


@pytest.mark.parametrize(
    ("mode", "suffix", "note"),
    [
        ("RGB", "png", None),
        ("RGB", "jpg", None),
        ("L", "png", "grey taken as RGB"),
        ("1", "png", "grey taken as RGB"),
        ("LA", "png", "transparent pixels laid on white"),
        ("RGBA", "png", "transparent pixels laid on white"),
        ("P", "png", "P converted to RGB"),
        ("CMYK", "jpg", "CMYK converted to RGB"),
    ],
)
def test_pictures_of_other_modes(mode: str, suffix: str, note: str | None, tmp_path: Path) -> None:
    picture = read_picture(photo(tmp_path / f"a.{suffix}", 5, 7, mode))
    assert picture.pixels.shape == (5, 7, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.notes == (() if note is None else (note,))


def test_sixteen_bits_orientation_and_transparency(tmp_path: Path) -> None:
    deep = np.array([[0, 257], [25700, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    picture = read_picture(tmp_path / "deep.png")
    assert picture.pixels[..., 0].tolist() == [[0, 1], [100, 255]]
    assert picture.notes == ("16-bit grey scaled to 8 bits",)
    Image.fromarray(np.minimum(deep, 255)).save(tmp_path / "shallow.png")
    assert read_picture(tmp_path / "shallow.png").pixels.max() == 255

    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    photo(tmp_path / "turned.jpg", 20, 30, exif=exif)
    turned = read_picture(tmp_path / "turned.jpg")
    assert turned.size == (30, 20)
    assert turned.notes == ("turned upright by its EXIF orientation",)

    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png").pixels == 255).all()


def test_what_cannot_be_read_is_named_at_the_end_and_the_others_go_on(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = photo(tmp_path / "good.jpg", 20, 30)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:400])
    photo(tmp_path / "whole.png", 40, 40)
    broken = bytearray((tmp_path / "whole.png").read_bytes())
    broken[200:220] = b"?" * 20
    (tmp_path / "broken.png").write_bytes(broken)
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    bad = [tmp_path / name for name in ("text.png", "empty.png", "cut.jpg", "broken.png")]
    bad += [tmp_path / "float.tiff", tmp_path / "none.png", tmp_path]
    out = tmp_path / "out"
    assert run("predict", trained[1], *bad[:3], good, *bad[3:], "--out", out, "--quiet") == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith("error: IMAGE must be a picture")
    for path in bad:
        assert f"{str(path)!r} (" in said
    assert "(no such file)" in said
    assert f"the other is in {out}" in said
    assert (out / "good" / "overview.png").is_file()
    assert {path.name for path in out.iterdir()} == {"good", "classes.csv"}


MISTAKES = {
    "no model": (["none.pt", "a.png", "--out", "out"], "no model in"),
    "a folder without": (
        [".", "a.png", "--out", "out"],
        "no model in '.'; name the model.pt of a trial (runs/NAME/trials/",
    ),
    "another file": (
        ["a.png", "a.png", "--out", "out"],
        "got a file that PyTorch did not write, or not to its end; name one of these (`predict` "
        "takes the folder that `ship` wrote, too)",
    ),
    "out is a file": (
        ["MODEL", "a.png", "--out", "a.png"],
        "`--out` must be writable, got 'a.png' (it is a file); choose another folder",
    ),
    "a result is a file": (["MODEL", "a.png", "--out", "taken"], "`--out` must be writable"),
    "size's form": (["MODEL", "a.png", "--out", "out", "--size", "64"], "must be HEIGHTxWIDTH"),
    "small size": (["MODEL", "a.png", "--out", "out", "--size", "8x64"], "at least 16 pixels"),
    "device": (["MODEL", "a.png", "--out", "out", "--device", "gpu"], "unknown device 'gpu'"),
    "json below a file": (
        ["MODEL", "a.png", "--out", "out", "--json", "a.png/x.json"],
        "`--json` must be writable",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_exit_2_and_one_message(
    mistake: str, trained, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "a.png", 20, 20)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "a").touch()
    arguments, part = MISTAKES[mistake]
    code = run("predict", *(trained[1] if a == "MODEL" else a for a in arguments), "--quiet")
    said = capsys.readouterr().err
    assert code == 2, said
    assert part in said
    assert len(said.strip().splitlines()) == 1


def test_a_network_that_takes_one_size_alone_says_so(trained, tmp_path: Path) -> None:
    from dataclasses import replace

    def picky(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"depth": images.reshape(1, 1, 32, 32 * 3)}

    network = replace(load_network(trained[1], "cpu"), run=picky)
    with pytest.raises(
        UserError,
        match=r"must fit the network, got 16x48 \(height x width\) .* --size, e\.g\. 32x32",
    ):
        network.outputs(np.zeros((20, 60, 3), np.uint8), (16, 48))


def test_names_do_not_collide() -> None:
    paths = [
        Path("a/x.png"),
        Path("b/x.jpg"),
        Path("X.png"),
        Path("..png"),
        Path("classes.csv.png"),
    ]
    assert unique_names(paths) == ["x", "x-2", "X-3", "picture", "classes.csv-2"]

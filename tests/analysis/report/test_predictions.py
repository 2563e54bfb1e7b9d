"""The report shows what the dense model and the front predict, and survives what it cannot read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.plots.predictions import error_maps, montage
from analysis.report import figures, predictions
from analysis.report.report import render
from analysis.statistics.fronts import joint_front
from analysis.studies.predictions import TaskMaps, read_predictions
from analysis.studies.trials import load_study
from tests.analysis.built_studies import BuiltStudy, Row, simple_row
from tests.analysis.test_command_line import is_picture, run
from trainables.pictures.colours import WRONG, class_colours

TASKS = ("segmentation", "normals")
Record = Callable[..., BuiltStudy]
FRAMES, SIZE = 2, (6, 8)


def write_predictions(built: BuiltStudy, number: int, **changes: Any) -> Path:
    """Write what a trial leaves; its truth is the same for every trial, its predictions are not."""
    rng, own = np.random.default_rng(0), np.random.default_rng(number)
    maps = (FRAMES, *SIZE)
    labels = rng.integers(0, 3, maps).astype(np.uint8)
    labels[:, 0] = 255
    normals = rng.integers(-127, 128, (*maps, 3)).astype(np.int8)
    normals[:, :, 0] = -128
    about = {
        "kinds": {"segmentation": "labels", "normals": "vectors", "height": "values"},
        "num_classes": {"segmentation": 3, "normals": 3, "height": 1},
        "depth_kind": "metric",
        "step": 1,
        "class_names": ["floor", "wall", "lamp"],
        "class_colours": [],
    }
    arrays: dict[str, Any] = {
        "about": np.array(json.dumps(about)),
        "frames": np.array(["room-1", "room-2"]),
        "image": rng.integers(0, 256, (*maps, 3)).astype(np.uint8),
        "truth/segmentation": labels,
        "prediction/segmentation": own.integers(0, 3, maps).astype(np.uint8),
        "truth/normals": normals,
        "prediction/normals": own.integers(-127, 128, (*maps, 3)).astype(np.int8),
        "truth/height": np.full(maps, np.nan, np.float32),
        "prediction/height": own.random(maps).astype(np.float32),
    }
    arrays |= changes
    path = built.directory / "trials" / f"{number:05d}" / "predictions.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def front_rows() -> list[Row]:
    """Return a dense trial, six members of the front by density, and one that is dominated."""
    rows = [simple_row(0, "dense", 1.0, 0.50, 16.0)]
    for number, density in enumerate((0.1, 0.6, 0.3, 0.5, 0.2, 0.4), start=1):
        rows.append(simple_row(number, "rigl", density, 0.3 + 0.1 * density, 30 - 10 * density))
    rows.append(simple_row(7, "random", 0.7, 0.1, 40.0))
    rows[1].metrics["test/segmentation/miou"] = 0.2875
    return rows


@pytest.fixture
def built(record: Record) -> BuiltStudy:
    return record("demo", front_rows(), tasks=TASKS)


def test_the_dense_model_comes_first_then_the_front_from_dense_to_sparse(built: BuiltStudy) -> None:
    for number in range(8):
        write_predictions(built, number)
    study = load_study("demo", built.storage)
    shown = predictions.choose(study, joint_front(study))
    numbers = [item.trial.number for item in shown]
    assert numbers == [
        0,
        2,
        6,
        3,
        1,
    ]  # of 60, 50, 40, 30, 20 and 10 %: the ends, and evenly between
    assert 7 not in numbers
    # What a reader is told to take is shown, on the search's front or not; then the ends.
    taken = predictions.choose(study, joint_front(study), {"demo-00005", "demo-00007"})
    assert [item.trial.number for item in taken] == [0, 7, 2, 5, 1]
    every = predictions.choose(study, joint_front(study), {f"demo-0000{n}" for n in range(1, 6)})
    assert [item.trial.number for item in every] == [0, 2, 4, 3, 5, 1]  # all that is taken
    drawn = predictions.figures(study, shown)["segmentation"]
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert texts[:4] == ["image", "truth", "Dense\n#0 · 100 % kept", "RigL\n#2 · 60 % kept"]
    assert "RigL\n#1 · 10 % kept\nmIoU 0.2875" in texts
    assert {"room-1", "room-2"} <= set(texts)
    (legend,) = drawn.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert set(named[:3]) == {"floor", "wall", "lamp"}
    assert named[3:] == ["right", "wrong", "unknown"]


def test_the_report_and_its_pictures(built: BuiltStudy, monkeypatch, capsys) -> None:
    for number in (0, 1, 3):
        write_predictions(built, number)
    assert run(monkeypatch, "report", "demo", "--storage", built.storage) == 0
    assert capsys.readouterr().err == ""
    for task in (*TASKS, "height"):  # the last is a user's own, without a rule for its colours
        assert is_picture(built.directory / f"predictions-{task}.png"), task
    page = (built.directory / "report.html").read_text()
    section = page.partition('id="predictions"')[2].partition("</section>")[0]
    assert section.count("data:image/png;base64,") == 3
    assert "Surface normals: image, truth, predictions and their errors" in section
    assert 'href="#predictions"' in page


def test_a_report_without_predictions_says_so(built: BuiltStudy) -> None:
    page = render(figures.find(load_study("demo", built.storage)), "report")
    assert "No trial of this study left predictions here" in page
    section = page.partition('id="predictions"')[2].partition("</section>")[0]
    assert "<img" not in section


DAMAGE: dict[str, dict[str, Any]] = {
    "other frames": {"frames": np.array(["room-1", "room-3"])},
    "other size": {"image": np.zeros((FRAMES, 3, 4, 3), np.uint8)},
    "no truth": {"truth/segmentation": np.zeros((1, 1, 1), np.uint8)},
    "no JSON": {"about": np.array("{")},
    "no facts": {"about": np.array("{}")},
    "no object": {"about": np.array('{"kinds": [1]}')},
    "pickled": {"frames": np.array([{}, None], dtype=object)},
    "unknown kind": {"about": np.array('{"kinds": {"segmentation": "sound"}}')},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_files_that_do_not_fit_are_left_out(damage: str, built: BuiltStudy) -> None:
    write_predictions(built, 0)
    write_predictions(built, 1, **DAMAGE[damage])
    write_predictions(built, 2)
    study = load_study("demo", built.storage)
    assert [item.trial.number for item in read_predictions(study, study.trials)] == [0, 2]


@pytest.mark.parametrize("contents", [b"", b"PK\x03\x04", b"no archive"])
def test_files_that_are_cut_are_left_out(contents: bytes, built: BuiltStudy) -> None:
    path = write_predictions(built, 0)
    write_predictions(built, 1)
    path.write_bytes(contents or path.read_bytes()[:300])
    study = load_study("demo", built.storage)
    assert [item.trial.number for item in read_predictions(study, study.trials)] == [1]


def test_a_task_that_one_trial_lacks_has_no_picture(built: BuiltStudy) -> None:
    write_predictions(built, 0)
    about = {"kinds": {"segmentation": "labels"}, "num_classes": {"segmentation": 3}}
    about |= {"depth_kind": "metric", "class_names": [], "class_colours": []}
    write_predictions(built, 1, about=np.array(json.dumps(about)))
    found = figures.find(load_study("demo", built.storage))
    assert list(found.predictions) == ["segmentation"]


def test_unknown_and_wrong_pixels_of_a_file(built: BuiltStudy) -> None:
    write_predictions(built, 0)
    study = load_study("demo", built.storage)
    (read,) = read_predictions(study, study.trials[:1])
    normals = read.tasks["normals"]
    assert np.isnan(normals.truth[:, :, 0]).all()
    assert not np.isnan(normals.truth[:, :, 1:]).any()
    assert np.isnan(error_maps(normals)[:, :, 0]).all()
    labels = np.array([[[0, 1], [2, 255]]], np.uint8)
    maps = TaskMaps(kind="labels", num_classes=3, prediction=labels * 0, truth=labels)
    assert np.array_equal(error_maps(maps), [[[0, 1], [1, np.nan]]], equal_nan=True)


def test_a_montage_keeps_every_pixel_and_leaves_gaps_white() -> None:
    one = class_colours(12).reshape(3, 4, 3)
    sheet = montage([[one, None], [one, one]], (3, 4))
    factor = 38  # 4 pixels become about 150
    assert sheet.shape == (2 * 3 * factor + 6, 2 * 4 * factor + 6, 3)
    assert (sheet[: 3 * factor : factor, : 4 * factor : factor] == one).all()
    assert (sheet[: 3 * factor, 4 * factor :] == 255).all()
    assert not (sheet == WRONG).all(axis=-1).any()

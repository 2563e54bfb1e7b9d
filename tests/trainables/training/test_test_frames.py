"""Every trial leaves its predictions of the same test frames, and they are those measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.training.runs import finish
from trainables.errors import UserError
from trainables.training.dense_runs.cache import DenseCache
from trainables.training.dense_runs.key import entry_key
from trainables.training.test_frames import predictions, save_predictions
from trainables.training.trial import TrialRun

ALL_FRAMES = {"training.prediction_frames": 8}  # that the test split of these trials has


def kept(run: TrialRun, folder: Path) -> dict[str, np.ndarray]:
    save_predictions(folder / "predictions.npz", run)
    with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_what_is_kept_is_what_was_measured(small_trial, tmp_path: Path) -> None:
    run = TrialRun(small_trial("disparse-static", ALL_FRAMES), device="cpu")
    (*_, last) = finish(run)
    arrays = kept(run, tmp_path / "trial")
    right = arrays["prediction/segmentation"] == arrays["truth/segmentation"]
    known = arrays["truth/segmentation"] != 255
    accuracy = last.metrics["test/segmentation/pixel_accuracy"]
    assert right[known].mean() == pytest.approx(accuracy, abs=1e-6)
    difference = arrays["prediction/depth"].astype(float) - arrays["truth/depth"]
    error = last.metrics["test/depth/absolute_error"]
    assert np.nanmean(np.abs(difference)) == pytest.approx(error, rel=2e-3)  # of float16
    assert arrays["frames"].tolist() == list(run.dataset.test.frames)
    stored = run.dataset.test.split.column("image")[run.dataset.test.indices]
    assert (arrays["image"] == stored).all()
    about = json.loads(str(arrays["about"]))
    assert about["kinds"] == {"segmentation": "labels", "depth": "depth"}
    assert about["num_classes"]["segmentation"] == len(about["class_names"]) == 12
    assert [path.name for path in (tmp_path / "trial").iterdir()] == ["predictions.npz"]


def test_all_trials_predict_the_same_few_frames(small_trial, tmp_path: Path) -> None:
    files = []
    for seed, method in enumerate(("random", "dense")):
        run = TrialRun(small_trial(method, seed=seed), device="cpu")
        finish(run)
        files.append(kept(run, tmp_path / method))
    assert len(files[0]["frames"]) == 4
    assert (files[0]["frames"] == files[1]["frames"]).all()
    assert (files[0]["image"] == files[1]["image"]).all()
    assert (files[0]["prediction/depth"] != files[1]["prediction/depth"]).any()
    assert (tmp_path / "random" / "predictions.npz").stat().st_size < 200_000


def test_a_dense_trial_from_the_cache_predicts_what_it_did_when_it_was_trained(
    small_trial, tmp_path: Path
) -> None:
    config = small_trial("dense")
    found = []
    for _ in range(2):  # trained, then taken
        run = TrialRun(config, device="cpu", dense_cache=DenseCache(tmp_path / "cache", "cpu"))
        finish(run)
        found.append(predictions(run))
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])
    other = small_trial("dense", {"training.prediction_frames": 0})
    assert entry_key(other, "cpu") == entry_key(config, "cpu")


def test_the_setting_turns_it_off_and_is_checked(small_trial, tmp_path: Path) -> None:
    run = TrialRun(small_trial("random", {"training.prediction_frames": 0}), device="cpu")
    save_predictions(tmp_path / "predictions.npz", run)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"`training.prediction_frames` must be at least 0, got -1"):
        small_trial("random", {"training.prediction_frames": -1})


def test_large_frames_are_thinned(small_trial, tmp_path: Path) -> None:
    sizes = {"data.size": (32, 528), "data.crop": (32, 528), "data.root": str(tmp_path / "wide")}
    config = small_trial("random", {**sizes, "data.num_train": 8, "data.num_test": 2})
    arrays = predictions(TrialRun(config, device="cpu"))
    assert json.loads(str(arrays["about"]))["step"] == 3
    assert arrays["image"].shape == (2, 11, 176, 3)
    assert arrays["prediction/segmentation"].shape == arrays["truth/depth"].shape == (2, 11, 176)


def test_configurations_of_before_can_be_read(small_trial) -> None:
    config = small_trial("random")
    values = config.to_dict()
    del values["training"]["prediction_frames"]
    assert type(config).from_dict(values) == config

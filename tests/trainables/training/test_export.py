"""A trained model leaves as one file and comes back the same."""

import zipfile

import pytest
import torch

from trainables.errors import UserError
from trainables.training.export import load_model
from trainables.training.trial import TrialRun


def test_an_exported_model_predicts_the_same_with_the_same_zeros(small_trial, tmp_path):
    run = TrialRun(small_trial("disparse-static"), device="cpu")
    while run.next_report() is not None:
        pass
    run.export(tmp_path / "deep" / "model.pt")
    loaded = load_model(tmp_path / "deep" / "model.pt")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    run.model.eval()
    with torch.no_grad():
        for task, prediction in run.model(images).items():
            # Up to the memory layout that the convolutions ran in.
            torch.testing.assert_close(prediction, loaded.model(images)[task])
    assert loaded.registry.kept == run.registry.kept == round(0.1 * run.registry.total)
    assert loaded.config == run.config
    assert loaded.image_mean == run.dataset.image_mean
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model.pt"]
    assert load_model(str(tmp_path / "deep")).config == run.config  # named by its folder


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_flipped_bit_among_the_weights_is_noticed(small_trial, tmp_path, share):
    file = tmp_path / "model.pt"
    TrialRun(small_trial("disparse-static"), device="cpu").export(file)
    with zipfile.ZipFile(file) as archive:
        parts = sorted(archive.infolist(), key=lambda part: part.header_offset)
    largest = max(parts, key=lambda part: part.file_size)
    after = [part.header_offset for part in parts if part.header_offset > largest.header_offset]
    content = bytearray(file.read_bytes())
    end = min(after)
    content[int(end - largest.file_size * share)] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"got ValueError: \w+ does not match .*; restore it"):
        load_model(file)


def test_other_files_are_refused(tmp_path):
    for named in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(UserError, match=r"no model in '.*model\.pt'"):
            load_model(named)
    (tmp_path / "model.pt").write_bytes(b"not a model")
    with pytest.raises(UserError, match="must be a model written by"):
        load_model(tmp_path / "model.pt")
    torch.save({"weights": 1}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="must be a model written by"):
        load_model(tmp_path / "model.pt")

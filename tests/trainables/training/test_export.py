"""A trained model leaves as one file and comes back the same."""

import errno
import os
import zipfile
from pathlib import Path

import pytest
import torch

from trainables.errors import Failure, UserError
from trainables.prediction.network import load_network
from trainables.training.export import EXPORT_VERSION, load_model
from trainables.training.model_files import model_file
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
    TrialRun(small_trial("disparse-static", {"model.width": 12}), device="cpu").export(file)
    with zipfile.ZipFile(file) as archive:
        parts = sorted(archive.infolist(), key=lambda part: part.header_offset)
    largest = max(parts, key=lambda part: part.file_size)
    after = [part.header_offset for part in parts if part.header_offset > largest.header_offset]
    content = bytearray(file.read_bytes())
    end = min(after)
    content[int(end - largest.file_size * share)] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"a damaged one: \w+ does not match .*restore the file"):
        load_model(file)


def test_other_files_are_refused(tmp_path):
    for named in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(UserError, match=r"no model in '.*'; name the model\.pt of a trial"):
            load_model(named)
    file = tmp_path / "model.pt"
    rule = (
        r"must be the model\.pt of a trial \(runs/NAME/trials/NNNNN/model\.pt, or demo-00003\) or"
    )
    for contents, said in (
        (b"", "an empty file"),
        (b"not a model", "a file that PyTorch did not write"),
        ({"weights": 1}, "a file that another program wrote"),
        (torch.ones(3), "a file that another program wrote"),
        (torch.nn.Linear(1, 1), "a file that another program wrote"),  # more than weights
        ({"version": EXPORT_VERSION}, "one that does not fit its configuration"),
    ):
        if isinstance(contents, bytes):
            file.write_bytes(contents)
        else:
            torch.save(contents, file)
        with pytest.raises(UserError, match=f"{rule}.*got {said}"):
            load_model(file)
    torch.save({"version": EXPORT_VERSION - 1}, file)
    with pytest.raises(UserError, match=f"must have version {EXPORT_VERSION}, got"):
        load_model(file)
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("image.npy", b"1")
    for name, said in (
        ("other.npz", "a file that another program wrote"),
        ("model.onnx", "a file that `ship` wrote"),
        ("state.pt", "a checkpoint"),
    ):
        (tmp_path / name).touch()
        if name != "other.npz":
            (tmp_path / name).write_bytes(b"1")
        with pytest.raises(UserError, match=f"got {said}"):
            load_model(tmp_path / name)


def raising(error: BaseException):
    def raises(*arguments: object, **named: object) -> None:
        raise error

    return raises


def test_a_good_file_is_not_blamed_for_what_the_machine_lacks(tmp_path, monkeypatch):
    file = tmp_path / "model.pt"
    torch.save({"version": EXPORT_VERSION}, file)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match="needs a CUDA GPU that torch can see, got none"):
            load_model(file, device)
    for number in (errno.EMFILE, errno.EIO):
        monkeypatch.setattr(torch, "load", raising(OSError(number, os.strerror(number))))
        with pytest.raises(
            Failure, match=rf"cannot be read \({os.strerror(number)}\); mend"
        ) as told:
            load_model(file)
        assert isinstance(told.value.__cause__, OSError)
    monkeypatch.setattr(torch, "load", raising(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); allow it"):
        load_model(file)
    monkeypatch.setattr(torch, "load", raising(MemoryError()))
    with pytest.raises(MemoryError):
        load_model(file)
    monkeypatch.setattr(torch, "load", raising(RuntimeError("the true cause. Advice")))
    with pytest.raises(UserError, match=r"wrote \(RuntimeError: the true cause\); name") as told:
        load_model(file)
    assert isinstance(told.value.__cause__, RuntimeError)


def test_folders_without_a_model_are_told_apart(tmp_path):
    study = tmp_path / "demo"
    trial = study / "trials" / "00003"
    trial.mkdir(parents=True)
    (study / "study.json").touch()
    (trial / "model.pt").touch()
    with pytest.raises(UserError, match=r"a study's folder; name one of its trials, .*00003"):
        load_model(study)
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "ship.json").touch()
    with pytest.raises(UserError, match=r"which `ship` wrote: `predict` reads that folder"):
        load_model(shipped)


def test_a_trial_is_named_as_the_report_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("runs/my-study/trials/00003/model.pt")
    assert model_file("my-study-00003") == Path("my-study-00003")
    path.parent.mkdir(parents=True)
    path.touch()
    assert model_file("my-study-00003") == path
    assert model_file("my-study-3") == path
    for name, said in (
        (
            "my-study-00099",
            r"no trial 'my-study-00099' in 'runs/my-study'; name one of its trials, e",
        ),
        ("my-study-4", r"no trial 'my-study-4' in"),
        ("other-3", r"no model in 'other-3'; name .*, or demo-00003\)"),
    ):
        with pytest.raises(UserError, match=said):
            load_model(name)
    path.rename("elsewhere.pt")
    (path.parent / "summary.json").touch()
    with pytest.raises(UserError, match=r"of trial 'my-study-3', whose file '.*' is missing; rest"):
        load_model("my-study-3")
    with pytest.raises(UserError, match=r"its model\.pt is missing; restore it"):
        load_model(path)
    Path("my-study-00003").mkdir()  # what is there is meant
    assert model_file("my-study-00003") == Path("my-study-00003/model.pt")


def test_a_model_in_a_folder_that_may_not_be_searched_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(
        UserError, match=r"model\.pt' cannot be read \(Permission denied\); allow it"
    ):
        load_model(tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"shipped' cannot be read \(Permission denied\)"):
        load_network(tmp_path / "shipped", "cpu")

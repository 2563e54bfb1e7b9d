"""Packed weights come back bit for bit, are small, and a bad file gets one clear message."""

import errno
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.shipping.conftest import Config
from tests.trainables.shipping.models import untrained
from trainables.errors import Failure, UserError
from trainables.shipping.formats.packed import load_packed, model_bytes, save_packed
from trainables.training.export import TrainedModel

HERE = "tests.trainables.shipping.models"


def assert_same(left: TrainedModel, right: TrainedModel) -> None:
    pairs = zip(left.model.state_dict().items(), right.model.state_dict().items(), strict=True)
    for (name, value), (other_name, other) in pairs:
        assert name == other_name
        assert value.dtype == other.dtype
        assert torch.equal(value, other), name
    for name, keep in left.registry.keep().items():
        assert torch.equal(keep, right.registry.keep()[name]), name
    assert left.config == right.config
    assert dict(left.num_channels) == dict(right.num_channels)
    assert (left.image_mean, left.image_std) == (right.image_mean, right.image_std)


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 9),
    head_width=st.integers(1, 9),
    density=st.sampled_from([0.0, 0.001, 0.1, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 1000),
)
def test_any_mask_and_shape_comes_back(
    config: Config,
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    head_width: int,
    density: float,
    seed: int,
) -> None:
    before = untrained(
        config(model__width=width, model__head_width=head_width), density=density, seed=seed
    )
    path = tmp_path_factory.mktemp("packed") / "weights.safetensors"
    size = save_packed(path, before)
    assert size == path.stat().st_size == model_bytes(before)
    assert_same(before, load_packed(path))


def test_channels_last_weights_are_stored_row_major(config: Config, tmp_path: Path) -> None:
    before = untrained(config())
    before.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_packed(tmp_path / "a", before)
    save_packed(tmp_path / "b", untrained(config()))
    assert_same(load_packed(tmp_path / "a"), load_packed(tmp_path / "b"))


def test_tied_weights_are_stored_once_and_stay_tied(config: Config, tmp_path: Path) -> None:
    before = untrained(config(model__name=f"{HERE}:Tied"))
    save_packed(tmp_path / "tied", before)
    after = load_packed(tmp_path / "tied")
    assert_same(before, after)
    assert after.model.first.weight is after.model.second.weight
    single = untrained(config(model__name=f"{HERE}:Own"))
    assert model_bytes(before) < model_bytes(single) + 2 * 8 * 8 * 4 + 1000


def test_nine_tenths_of_the_weights_pruned_leave_a_fifth_of_the_bytes(config: Config) -> None:
    wide = {"model__width": 16, "model__head_width": 64}
    dense = model_bytes(untrained(config(**wide), density=1.1))
    assert model_bytes(untrained(config(**wide), density=0.1)) <= 0.2 * dense


@pytest.fixture(scope="module")
def packed_file(masked: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "weights.safetensors"
    save_packed(path, masked)
    return path


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_refused(packed_file: Path, tmp_path: Path, share: float) -> None:
    contents = packed_file.read_bytes()
    (tmp_path / "cut").write_bytes(contents[: int(share * len(contents))])
    with pytest.raises(UserError, match=r"must be a whole weights\.safetensors.*ship the model"):
        load_packed(tmp_path / "cut")


@pytest.mark.parametrize("place", [-1, -5000, 200])
def test_a_changed_bit_is_noticed(packed_file: Path, tmp_path: Path, place: int) -> None:
    contents = bytearray(packed_file.read_bytes())
    contents[place] ^= 1
    (tmp_path / "changed").write_bytes(contents)
    with pytest.raises(UserError, match="must be a whole"):
        load_packed(tmp_path / "changed")


def test_a_good_file_is_not_blamed_for_what_the_machine_lacks(
    packed_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs a CUDA GPU that torch can see, got none"):
        load_packed(packed_file, "cuda")
    for error, kind, said in (
        (OSError(errno.EMFILE, "Too many open files"), Failure, r"cannot be read \(Too many open"),
        (PermissionError(errno.EACCES, "Permission denied"), UserError, "denied.; allow it"),
        (MemoryError("none left"), MemoryError, "none left"),
        (ValueError("the true cause"), UserError, r"not whole \(ValueError: the true cause\)"),
    ):

        def refuse(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("builtins.open", refuse)
        with pytest.raises(kind, match=said) as told:
            load_packed(packed_file)
        assert error in (told.value, told.value.__cause__)
        monkeypatch.undo()


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(3)}, tmp_path / "foreign")
    with pytest.raises(UserError, match="got one of another program"):
        load_packed(tmp_path / "foreign")
    with pytest.raises(UserError, match="no file"):
        load_packed(tmp_path / "missing")
    with pytest.raises(UserError, match=r"no file .*weights\.safetensors"):
        load_packed(tmp_path)
    (tmp_path / "weights.safetensors").touch()  # its folder is what `ship` wrote
    with pytest.raises(UserError, match="got a file that is not in that format, or not whole"):
        load_packed(tmp_path)

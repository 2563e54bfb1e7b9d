"""What a built network must have, and must not be: each mistake is one sentence that names it."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tests.trainables.sparsity.toys import toy_config
from trainables.errors import UserError
from trainables.models.members import require_members
from trainables.training.loop.optimisation import build_optimiser

CHANNELS = {"a": 2, "b": 1}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tasks = tuple(CHANNELS)
        self.stem = nn.Conv2d(3, 4, 1)
        self.heads = nn.ModuleDict({task: nn.Conv2d(4, n, 1) for task, n in CHANNELS.items()})

    def forward(self, images: Tensor, tasks: Any = None) -> dict[str, Tensor]:
        return {task: self.heads[task](self.stem(images)) for task in tasks or self.tasks}

    def owners(self) -> dict[str, str]:
        return {name: "shared" for name, _ in self.named_parameters()}


def refused(model: object, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        require_members("net", model, CHANNELS)
    assert "\n" not in str(error.value)


def test_a_sound_network_and_a_part_under_two_names_pass() -> None:
    model = Net()
    require_members("net", model, CHANNELS)
    model.again = model.heads
    model.heads["c"] = model.stem
    require_members("net", model, CHANNELS)


@pytest.mark.parametrize("weak", [False, True])
def test_a_part_that_holds_the_whole_is_named(weak: bool) -> None:
    model = Net()
    model.stem.whole = weakref.proxy(model) if weak else model
    refused(model, "no part may contain itself, but `stem.whole` is the model itself again; keep")
    model = Net()
    model.heads["a"].siblings = weakref.proxy(model.heads) if weak else model.heads
    refused(model, "`heads.a.siblings` is `heads` again")
    model = Net()
    model.stem.whole = (model,)
    require_members("net", model, CHANNELS)


def test_a_network_in_a_wrapper_is_refused() -> None:
    refused(nn.DataParallel(Net()), r"got it in DataParallel \(nn\.DataParallel\); return what")
    compiled = torch.compile(Net(), backend="eager")
    refused(compiled, r"got it in OptimizedModule \(torch\.compile\).*compile\(\) compiles it in")


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("learning_rate_scales", None, "must return a dict, got NoneType"),
        ("learning_rate_scales", {"stem.wieght": 0.1}, "Did you mean 'stem.weight'"),
        ("learning_rate_scales", {"stem.weight": "0.1"}, "at least 0, got '0.1' for stem.weight"),
        ("learning_rate_scales", {"stem.weight": -1.0}, "at least 0, got -1.0 for stem.weight"),
        ("learning_rate_scales", {"stem.weight": float("nan")}, "at least 0, got nan"),
        ("channel_parameters", [], "must return a dict, got list"),
        ("channel_parameters", {"gamma": (0, "stem")}, "unknown parameter in channel_parameters"),
        ("channel_parameters", {"stem.bias": (1, "stem")}, r"\(dimension, layer\) for stem.bias"),
        ("channel_parameters", {"stem.bias": (0, "trunk")}, r"got \(0, 'trunk'\)"),
        ("channel_subspaces", {"trunk": 2}, "unknown layer in channel_subspaces"),
        ("channel_subspaces", {"stem": 0}, "numbers of subspaces, got 0 for stem"),
    ],
)
def test_what_a_network_declares_must_fit_it(member: str, value: object, said: str) -> None:
    model = Net()
    object.__setattr__(model, member, lambda: value)
    refused(model, said)


def test_what_fits_passes() -> None:
    model = Net()
    model.learning_rate_scales = lambda: {"stem.weight": 0, "heads.a.bias": 2.5}
    model.channel_parameters = lambda: {"stem.bias": (0, "stem")}
    model.channel_subspaces = lambda: {"stem": 2}
    require_members("net", model, CHANNELS)


def test_numbers_and_names_of_other_kinds_pass_too() -> None:
    model = Net()
    model.again = model.stem
    model.learning_rate_scales = lambda: {"again.weight": np.float32(0.5)}
    model.channel_parameters = lambda: {"stem.bias": [np.int64(-1), "stem"]}
    model.channel_subspaces = lambda: {"stem": np.int64(2)}
    require_members("net", model, CHANNELS)
    optimiser = build_optimiser(toy_config().optimiser, model)
    assert [group["scale"] for group in optimiser.param_groups] == [1.0, 0.5]
    assert optimiser.param_groups[1]["params"] == [model.stem.weight]


def test_to_look_for_layers_changes_no_weight() -> None:
    model = Net()
    spectral_norm(model.stem)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.channel_parameters = lambda: {"stem.bias": (0, "stem")}
    require_members("net", model, CHANNELS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

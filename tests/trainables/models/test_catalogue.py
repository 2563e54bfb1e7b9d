"""Models by name and by import path: a user's mistakes get one clear message each."""

import dataclasses
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from trainables.config import ModelConfig
from trainables.errors import UserError
from trainables.models.catalogue import build_model

CONFIG = ModelConfig(
    name="deeplab-resnet",
    width=8,
    blocks=(1,),
    strides=(1,),
    dilations=(1,),
    head_width=8,
    head_dilations=(1,),
    unit_rate=100.0,
)
CHANNELS = {"segmentation": 5, "normals": 3, "depth": 1}

USER_MODULE = """
import torch
from torch import nn

class Good(nn.Module):
    def __init__(self, config, num_channels):
        super().__init__()
        self.tasks = tuple(num_channels)
        self.trunk = nn.Conv2d(3, config.width, 8, stride=8)
        self.heads = nn.ModuleDict(
            {t: nn.Conv2d(config.width, c, 1) for t, c in num_channels.items()}
        )

    def forward(self, images, tasks=None):
        features = self.trunk(images)
        return {t: self.heads[t](features) for t in (tasks or self.tasks)}

    def owners(self):
        return {
            name: name.split(".")[1] if name.startswith("heads") else "shared"
            for name, _ in self.named_parameters()
        }

class Namespace:
    Inner = Good

class IncompleteOwners(Good):
    def owners(self):
        return {n: o for n, o in super().owners().items() if n != "trunk.bias"}

class StrayOwner(Good):
    def owners(self):
        return {**super().owners(), "trunk.wieght": "shared"}

class UnknownOwner(Good):
    def owners(self):
        return {n: "someone" for n in super().owners()}

class NoOwners(Good):
    owners = None

class WrongTasks(Good):
    def __init__(self, config, num_channels):
        super().__init__(config, num_channels)
        self.tasks = ("other",)

class NoTasksArgument(Good):
    def forward(self, images):
        return super().forward(images)

class ReturnsTensor(Good):
    def forward(self, images, tasks=None):
        return self.trunk(images)

class WrongChannels(Good):
    def forward(self, images, tasks=None):
        return {t: p[:, :1] for t, p in super().forward(images).items()}

class FixedSize(Good):
    def forward(self, images, tasks=None):
        if images.shape[-1] != 224:
            raise ValueError("224 pixels or nothing")
        return super().forward(images, tasks)

def not_a_module(config, num_channels):
    return {"a": 1}

def raises(config, num_channels):
    return {}["width"]

a_value = 3
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "a_users_models"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(USER_MODULE))
    (tmp_path / "a_broken_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def build(name: str, seed: int = 0) -> torch.nn.Module:
    return build_model(dataclasses.replace(CONFIG, name=name), CHANNELS, seed)


@pytest.mark.parametrize("attribute", ["Good", "Namespace.Inner", "FixedSize"])
def test_import_path(user_module: str, attribute: str) -> None:
    model = build(f"{user_module}:{attribute}")
    assert model.tasks == tuple(CHANNELS)
    assert model.training


def test_a_users_model_draws_from_the_trials_seed(user_module: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build(f"{user_module}:Good", seed=1).trunk.weight
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(first, build(f"{user_module}:Good", seed=1).trunk.weight)
    assert not torch.equal(first, build(f"{user_module}:Good", seed=2).trunk.weight)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("deeplab-resnot", r"unknown model .*mean 'deeplab-resnet'. Valid: .*deeplab-resnet"),
        (
            "no_such_package.mod:f",
            "no module named 'no_such_package'; put its folder on PYTHONPATH",
        ),
        (":f", "must read `package.module:factory`"),
        ("json:", "must read `package.module:factory`"),
        (".relative:f", "absolute module"),
        ("a_users_models:good", "unknown attribute of a_users_models 'good'.*Did you mean 'Good'"),
        ("a_users_models:a_value", "must be callable as factory.*got int"),
        # Callable, but not as a factory; said with what it raised, and where that was.
        ("os:getcwd", r"must be callable as factory\(config, num_channels\), got TypeError: "),
        ("json:loads", r"must be callable as factory\(config, num_channels\), got TypeError: "),
        ("a_users_models:raises", r"got KeyError: 'width' \(a_users_models\.py:\d+\); see"),
        ("a_broken_module:f", r"must import, got ZeroDivisionError: .*\(a_broken_module\.py:1\)"),
        ("a_users_models:not_a_module", "must return a torch.nn.Module, got dict"),
        ("a_users_models:IncompleteOwners", "name every parameter, 1 are missing.*'trunk.bias'"),
        ("a_users_models:StrayOwner", "unknown parameter in owners.*'trunk.wieght'.*trunk.weight"),
        ("a_users_models:UnknownOwner", "unknown owner of trunk.weight.*'someone'.*shared"),
        ("a_users_models:NoOwners", r"must have a method owners\(\)"),
        ("a_users_models:WrongTasks", r"must have `tasks` = \('segmentation'.*got \('other',\)"),
        ("a_users_models:NoTasksArgument", r"must have forward\(images, tasks=None\)"),
        ("a_users_models:ReturnsTensor", "must return a dict with the keys.*got Tensor"),
        (
            "a_users_models:WrongChannels",
            r"segmentation must have shape \(1, 5, h, w\).*1, 1, 8, 8",
        ),
    ],
)
def test_mistakes(user_module: str, path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(path)

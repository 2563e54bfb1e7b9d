"""The networks by name, and a user's own by import path."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.config import ModelConfig
from trainables.errors import UserError, unknown_name
from trainables.models.base import SHARED
from trainables.models.cross_stitch import CrossStitchNetwork
from trainables.models.deeplab_resnet import DeepLabResNet
from trainables.models.elastic import ElasticNetwork
from trainables.models.sluice import SluiceNetwork
from trainables.seeds import derive_seed

MODELS: dict[str, Callable[[ModelConfig, dict[str, int]], nn.Module]] = {
    "deeplab-resnet": DeepLabResNet,
    "cross-stitch": CrossStitchNetwork,
    "sluice": SluiceNetwork,
    "den": ElasticNetwork,
}

_PROBE_SIZE = (64, 64)  # pixels


def build_model(config: ModelConfig, num_channels: Mapping[str, int], seed: int) -> nn.Module:
    """A `MultitaskModel` on the CPU, initialised from the trial's "init" stream.

    num_channels: of the prediction, by task; its order becomes the order of the heads.
    The same config, channels and seed give the same weights; no global random state moves.
    Raises `UserError` for an unknown name and for a model that breaks the contract.
    """
    registered = config.name in MODELS
    factory = MODELS[config.name] if registered else _guarded(config.name)
    # fork_rng restores the CPU generator; `default_generator` seeds it and, unlike
    # `torch.manual_seed`, leaves the generators of the GPUs alone.
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derive_seed(seed, "init"))
        model = factory(config, dict(num_channels))
        _check_members(config.name, model, num_channels)
        if not registered:
            _check_predictions(config.name, model, num_channels)
    return model


def _guarded(path: str) -> Callable[[ModelConfig, dict[str, int]], nn.Module]:
    """The user's factory, with whatever it raises as a `UserError` that says where."""
    factory = _import_factory(path)

    def build(config: ModelConfig, num_channels: dict[str, int]) -> nn.Module:
        try:
            return factory(config, num_channels)
        except (UserError, MemoryError):
            raise
        except Exception as error:
            raise UserError(
                f"model {path!r} must be callable as factory(config, num_channels), "
                f"got {_told(error)}; see trainables.models.base.MultitaskModel"
            ) from error

    return build


def _told(error: Exception) -> str:
    """An error of the user's code with the place that raised it."""
    said = f"{type(error).__name__}: {error}"
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
        if not frame.filename.startswith("<frozen")
    ]
    return f"{said} ({Path(theirs[-1].filename).name}:{theirs[-1].lineno})" if theirs else said


def _import_factory(path: str) -> Callable[[ModelConfig, dict[str, int]], nn.Module]:
    module_name, colon, attribute = path.partition(":")
    if not colon:
        raise unknown_name("model (or import path `package.module:factory`)", path, MODELS)
    if not module_name or module_name.startswith(".") or not attribute:
        raise UserError(
            f"a model's import path must read `package.module:factory`, got {path!r}; "
            "name an absolute module and the factory in it"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that exists but lacks a dependency deserves that dependency's name.
        raise UserError(
            f"model {path!r}: no module named {error.name!r}; put its folder on PYTHONPATH "
            f"(searched: {', '.join(entry or '.' for entry in sys.path[:3])}, …)"
        ) from error
    except Exception as error:
        raise UserError(
            f"model {path!r}: the module must import, got {_told(error)}; "
            f"try `python -c 'import {module_name}'`"
        ) from error
    factory: Any = module
    for part in attribute.split("."):
        if not hasattr(factory, part):
            public = [name for name in vars(factory) if not name.startswith("_")]
            raise unknown_name(f"attribute of {module_name}", attribute, public)
        factory = getattr(factory, part)
    if not callable(factory):
        raise UserError(
            f"model {path!r} must be callable as factory(config, num_channels), "
            f"got {type(factory).__name__}; name a class or a function"
        )
    return factory


def _check_members(name: str, model: object, num_channels: Mapping[str, int]) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model {name!r} must return a torch.nn.Module, got {type(model).__name__}; "
            "return the network from the factory"
        )
    tasks = getattr(model, "tasks", None)
    if not isinstance(tasks, (tuple, list)) or set(tasks) != set(num_channels):
        raise UserError(
            f"model {name!r} must have `tasks` = {tuple(num_channels)}, got {tasks!r}; "
            "take them from the keys of num_channels"
        )
    owners = getattr(model, "owners", None)
    if not callable(owners):
        raise UserError(
            f"model {name!r} must have a method owners() -> {{parameter name: task or {SHARED!r}}}"
        )
    _check_owners(name, owners(), dict(model.named_parameters()), tuple(tasks))
    if "tasks" not in inspect.signature(model.forward).parameters:
        raise UserError(
            f"model {name!r} must have forward(images, tasks=None), "
            f"got forward{inspect.signature(model.forward)}; add the parameter `tasks`"
        )


def _check_owners(
    name: str, owners: object, parameters: Mapping[str, nn.Parameter], tasks: tuple[str, ...]
) -> None:
    if not isinstance(owners, Mapping):
        raise UserError(f"model {name!r}: owners() must return a dict, got {type(owners).__name__}")
    missing = [parameter for parameter in parameters if parameter not in owners]
    if missing:
        raise UserError(
            f"model {name!r}: owners() must name every parameter, {len(missing)} are missing, "
            f"first {missing[0]!r}; use the names of named_parameters()"
        )
    stray = [parameter for parameter in owners if parameter not in parameters]
    if stray:
        raise unknown_name(f"parameter in owners() of model {name!r}:", stray[0], parameters)
    for parameter, owner in owners.items():
        if owner != SHARED and owner not in tasks:
            raise unknown_name(f"owner of {parameter} in model {name!r}:", owner, (SHARED, *tasks))


@torch.no_grad()
def _check_predictions(name: str, model: nn.Module, num_channels: Mapping[str, int]) -> None:
    """One small image through a user's model: the right keys and channels, or an error.

    A model that cannot run at this size (fixed-size inputs) is left to the trainer.
    """
    was_training = model.training
    model.eval()
    try:
        predictions = model(torch.zeros(1, 3, *_PROBE_SIZE))
    except (RuntimeError, ValueError, AssertionError):
        return
    finally:
        model.train(was_training)
    if not isinstance(predictions, Mapping) or set(predictions) != set(num_channels):
        got = tuple(predictions) if isinstance(predictions, Mapping) else type(predictions).__name__
        raise UserError(
            f"model {name!r}: forward must return a dict with the keys {tuple(num_channels)}, "
            f"got {got}"
        )
    for task, channels in num_channels.items():
        shape = tuple(getattr(predictions[task], "shape", ()))
        if len(shape) != 4 or shape[:2] != (1, channels):
            raise UserError(
                f"model {name!r}: the prediction of {task} must have shape (1, {channels}, h, w), "
                f"got {shape}"
            )

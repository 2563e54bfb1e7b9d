"""Builds a network from its description, ours or a user's own, and checks the result."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from trainables.config import ModelConfig
from trainables.errors import UserError, is_out_of_memory
from trainables.models.contents import (
    identities,
    require_contents,
    require_same_parameters,
    require_shapes,
)
from trainables.models.copies import unchanged
from trainables.models.members import require_members
from trainables.models.passes import predict, require_predictions
from trainables.models.service import Service, tasks_served
from trainables.registry.lookup import MODEL, implementation
from trainables.registry.models import MODELS
from trainables.seeds import derive_seed
from trainables.user_code import SEE_TRACEBACK, is_interruption, running, told

Factory = Callable[[ModelConfig, dict[str, int]], nn.Module]

_PROBE_SIZE = (64, 64)  # pixels


def build_model(config: ModelConfig, num_channels: Mapping[str, int], seed: int) -> nn.Module:
    """Build a `MultitaskModel` on the CPU, initialised from the trial's "init" stream.

    num_channels: channels of the prediction, by task; its order becomes the order of the heads.
    The same config, channels and seed give the same weights; global random state does not change.
    Raises `UserError` for an unknown name and for a model that breaks the contract.
    """
    built_in = config.name in MODELS
    factory = implementation(MODEL.find(config.name).implementation, MODEL.noun)
    # fork_rng restores the CPU generator; `default_generator` seeds it and, unlike
    # `torch.manual_seed`, leaves the generators of the GPUs alone.
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derive_seed(seed, "init"))
        build = factory if built_in else _guarded(config.name, factory)
        model = build(config, dict(num_channels))
        with running({f"model {config.name!r}": model}):
            require_members(config.name, model, num_channels)
            if not built_in:
                if torch.get_default_device().type != "meta":  # there, shapes alone are asked for
                    require_contents(config.name, model)
                _probe(config.name, model, num_channels)
                require_shapes(config.name, model)
    return model


def service_of(config: ModelConfig, model: nn.Module, image_size: Sequence[int]) -> Service | None:
    """Return the tasks that each parameter of a built network serves; None where owners() decides.

    Built-in networks say what they share by `owners()`, which for mixed trunks is a choice of ours
    (docs/decisions/0008). A user's own network is asked by a backward pass of each task.
    """
    return None if config.name in MODELS else tasks_served(model, image_size)


def _guarded(name: str, factory: Factory) -> Factory:
    """Return the user's factory with its errors turned into a `UserError` that says where."""

    def build(config: ModelConfig, num_channels: dict[str, int]) -> nn.Module:
        try:
            return factory(config, num_channels)
        except BaseException as error:
            known = isinstance(error, UserError) or is_interruption(error)
            if known or is_out_of_memory(error):
                raise
            raise UserError(
                f"model {name!r} must be callable as factory(config, num_channels), "
                f"got {told(error)}; see trainables.models.base.MultitaskModel; {SEE_TRACEBACK}"
            ) from error

    return build


def _probe(name: str, model: nn.Module, num_channels: Mapping[str, int]) -> None:
    """Check the predictions of a small image, unless the model cannot run at that size."""
    try:
        check_predictions(name, model, num_channels, _PROBE_SIZE)
    except UserError as error:
        # These may come from the size; `check_predictions` is called again at the trial's own.
        if not isinstance(error.__cause__, (RuntimeError, ValueError, AssertionError)):
            raise


@torch.no_grad()
def check_predictions(
    name: str, model: nn.Module, num_channels: Mapping[str, int], size: Sequence[int]
) -> None:
    """Raise `UserError` unless a user's model returns the right keys and channels for one image.

    name: the model's, for messages. size: (height, width) of the image. The model's mode does not
    change. Built-in models are not run.
    """
    if name in MODELS:
        return
    device = next((parameter.device for parameter in model.parameters()), None)
    # A layer that learns its shape from the first image must keep it.
    lazy = any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers()))
    with nullcontext() if lazy else unchanged(model):
        was_training = model.training
        model.eval()
        try:
            image = torch.zeros(1, 3, *size, device=device)
            held = identities(model)
            predictions = predict(model, image, tuple(num_channels))
            require_same_parameters(name, held, model)
        finally:
            model.train(was_training)
    require_predictions(model, predictions, tuple(num_channels), image)
    if set(predictions) != set(num_channels):
        raise UserError(
            f"model {name!r}: forward must return a dict with the keys {tuple(num_channels)}, "
            f"got {tuple(predictions)}; return the tasks that are asked for, and no others"
        )
    for task, channels in num_channels.items():
        shape = tuple(predictions[task].shape)
        if shape[1] != channels or 0 in shape:
            raise UserError(
                f"model {name!r}: the prediction of {task} must have shape (1, {channels}, h, w), "
                f"got {shape}; take the channels from num_channels"
            )

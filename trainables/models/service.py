"""Finds out what each parameter of a network really serves, by a backward pass of every task.

Names do not say: a weight may be tied to another, frozen, left out of `forward`, or lie behind
another task's head.
"""

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from trainables.models.base import MultitaskModel, prunable_parameters
from trainables.models.copies import copy_of, draws_put_back, host_draws, unchanged
from trainables.user_code import is_interruption

Service = Mapping[str, tuple[str, ...]]  # by parameter name: the tasks that its gradient comes from

_PROBE_SIZE = (64, 64)  # pixels
_NUM_IMAGES = 2  # batch normalisation wants more than one value for each channel
_MOST_PASSES = 8  # for what some passes leave out: layers by chance or by turns, experts


def tasks_served(model: nn.Module, image_size: Sequence[int]) -> Service | None:
    """Return the tasks whose predictions have a gradient in each parameter, by name.

    The network is run as in training, without values where that is possible, else on two images of
    noise; it does not change. A frozen parameter serves no task, and so does one that `forward`
    never uses, or where no gradient is recorded. One that is used in evaluation alone serves none
    either, unless a pass with values draws random numbers: chance may then be what left it out of
    training. None for a network that cannot be run: what it says then becomes the error of its
    first training step.

    image_size: (height, width) of an image that the network takes.
    """
    try:
        with draws_put_back(model):
            return _served(copy_of(model, meta=True), image_size, torch.device("meta"))
    except BaseException as error:  # it reads values, or makes tensors, or cannot be copied
        if is_interruption(error):
            raise
    device = next(model.parameters()).device
    for size in (_PROBE_SIZE, image_size):
        try:
            with unchanged(model):
                return _served(model, size, device)
        except BaseException as error:  # whatever the user's forward says to this size
            if is_interruption(error):
                raise
    return None


def _served(model: nn.Module, size: Sequence[int], device: torch.device) -> Service:
    # What is found must be the same when the trained model is loaded.
    random.seed(0)
    np.random.seed(0)
    torch.random.default_generator.manual_seed(0)
    images = torch.Generator().manual_seed(0)
    before = host_draws()
    served = _reached(model.train(), size, device, images)
    for _ in range(_MOST_PASSES - 1):
        if all(served[name] for name in prunable_parameters(model)):
            return served
        _add(served, _reached(model, size, device, images))
    if host_draws() != before:
        # A branch that training leaves out by chance (stochastic depth) is there in evaluation.
        _add(served, _reached(model.eval(), size, device, images))
    return served


def _add(served: dict[str, tuple[str, ...]], found: Service) -> None:
    for name, tasks in found.items():
        served[name] = served[name] or tasks


def _reached(
    model: nn.Module, size: Sequence[int], device: torch.device, draws: torch.Generator
) -> dict[str, tuple[str, ...]]:
    parameters = dict(model.named_parameters())
    served: dict[str, tuple[str, ...]] = dict.fromkeys(parameters, ())
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training step repeats what it has to say
        images = torch.randn(_NUM_IMAGES, 3, *size, generator=draws).to(device)
        predictions: Mapping[str, Tensor] = model(images)
        for task in cast(MultitaskModel, model).tasks:  # `forward` may return more in training
            prediction = predictions[task]
            for parameter in parameters.values():
                parameter.grad = None
            if prediction.requires_grad:
                # Not `torch.autograd.grad`: re-entrant checkpoints refuse it.
                prediction.float().sum().backward(retain_graph=True)
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    served[name] += (task,)
    return served

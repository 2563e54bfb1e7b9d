"""Finds out what each parameter of a network really serves, by a backward pass of every task.

Names do not say: a weight may be tied to another, frozen, left out of `forward`, or lie behind
another task's head.
"""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainables.models.base import prunable_parameters
from trainables.models.copies import copy_of, draws_put_back, unchanged

Service = Mapping[str, tuple[str, ...]]  # by parameter name: the tasks that its gradient comes from

_PROBE_SIZE = (64, 64)  # pixels
_NUM_IMAGES = 2  # batch normalisation wants more than one value for each channel


def tasks_served(model: nn.Module, image_size: Sequence[int]) -> Service | None:
    """Return the tasks whose predictions have a gradient in each parameter, by name.

    The network is run as in training, without values where that is possible, else on two black
    images; it does not change. A frozen parameter serves no task, and so does one that `forward`
    never uses, or only where no gradient is recorded. None for a network that cannot be run: what
    it says then becomes the error of its first training step.

    image_size: (height, width) of an image that the network takes.
    """
    try:
        with draws_put_back(model):
            return _served(copy_of(model, meta=True), image_size, torch.device("meta"))
    except Exception:  # it reads values, or makes tensors itself, or cannot be copied
        pass
    device = next(model.parameters()).device
    for size in (_PROBE_SIZE, image_size):
        try:
            with unchanged(model):
                return _served(model, size, device)
        except Exception:  # whatever the user's forward says to this size
            continue
    return None


def _served(model: nn.Module, size: Sequence[int], device: torch.device) -> Service:
    # What is found must be the same when the trained model is loaded.
    torch.random.default_generator.manual_seed(0)
    served = _reached(model.train(), size, device)
    if all(served[name] for name in prunable_parameters(model)):
        return served
    # A branch that training leaves out by chance (stochastic depth) is there in evaluation.
    for name, tasks in _reached(model.eval(), size, device).items():
        served[name] = served[name] or tasks
    return served


def _reached(
    model: nn.Module, size: Sequence[int], device: torch.device
) -> dict[str, tuple[str, ...]]:
    parameters = dict(model.named_parameters())
    served: dict[str, tuple[str, ...]] = dict.fromkeys(parameters, ())
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training step repeats what it has to say
        images = torch.zeros(_NUM_IMAGES, 3, *size, device=device)
        predictions: Mapping[str, Tensor] = model(images)
        for task, prediction in predictions.items():
            for parameter in parameters.values():
                parameter.grad = None
            if prediction.requires_grad:
                # Not `torch.autograd.grad`: re-entrant checkpoints refuse it.
                prediction.float().sum().backward(retain_graph=True)
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    served[name] += (task,)
    return served

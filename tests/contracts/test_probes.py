"""Whatever looks at a network leaves it as it was: weights, buffers, modes, attributes, draws."""

import random
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.contracts.zoo.catalogue import ZOO
from tests.contracts.zoo.network import Zoo
from trainables.cost.cost_model import measure_latency_ms
from trainables.cost.flops import forward_flops
from trainables.errors import UserError
from trainables.models.copies import copy_of, unchanged
from trainables.models.service import tasks_served
from trainables.shipping.compact import compact
from trainables.sparsity.gradients import scoring_mode
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.structures.catalogue import use_structure

CHANNELS = {"segmentation": 5, "depth": 1}
SIZE = (32, 32)
TRAINED = [name for name, kind in ZOO.items() if not kind.refused]


def in_training(model: str) -> Zoo:
    """The network after a step, one part of it in evaluation mode."""
    torch.manual_seed(0)
    found = ZOO[model](None, CHANNELS)
    found(torch.rand(2, 3, *SIZE))["depth"].sum().backward()
    found.heads.eval()
    return found


def value_of(held: object) -> object:
    if isinstance(held, Tensor):
        return (id(held), held.device.type, held.requires_grad, held.detach().clone())
    if isinstance(held, (list, tuple)):
        return [id(held), *map(value_of, held)]
    if isinstance(held, dict):
        return {key: value_of(inner) for key, inner in held.items()}
    return held


def state(model: nn.Module) -> dict[str, object]:
    found: dict[str, object] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        found[f"mode of {path}"] = module.training
        if not isinstance(module, torch.jit.ScriptModule):
            found |= {f"{path}.{n}": value_of(v) for n, v in vars(module).items() if n[0] != "_"}
    for name, value in model.state_dict(keep_vars=True).items():
        # A scripted part makes its tensors anew whenever they are asked for.
        found[name] = value_of(value) if "scripted" not in name else value.detach().clone()
        found[f"gradient of {name}"] = value_of(value.grad)
    found["draws"] = [torch.get_rng_state(), random.getstate(), *np.random.get_state()[1]]
    return found


def same(first: object, second: object) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def score(model: nn.Module) -> None:
    with scoring_mode(model):
        model(torch.ones(2, 3, *SIZE))["segmentation"].sum().backward()


PROBES: dict[str, Callable[[nn.Module], object]] = {
    "flops": lambda model: forward_flops(model, SIZE),
    "service": lambda model: tasks_served(model, SIZE),
    "channels": lambda model: use_structure("channel", MaskRegistry(model), model, SIZE),
    "latency": lambda model: measure_latency_ms(model, SIZE, repeats=1),
    "shipping": lambda model: compact(model, MaskRegistry(model)),
    "scoring": score,
}


@pytest.mark.parametrize("model", TRAINED)
def test_a_probe_leaves_no_trace(model: str) -> None:
    network = in_training(model)
    before = state(network)
    for name, probe in PROBES.items():
        with suppress(UserError):  # a network whose channels cannot be followed
            probe(network)
        after = state(network)
        changed = [key for key in before if key not in after or not same(before[key], after[key])]
        assert before.keys() == after.keys(), name
        assert not changed, (name, changed)


class Restless(Zoo):
    """Changes all it can in every pass, and reads a value, so that it has to run for real."""

    def parts(self) -> None:
        self.register_buffer("seen", torch.zeros(()))
        self.notes: list[dict[str, int]] = [{"passes": 0}]
        self.names = {"stem"}

    def middle(self, features: Tensor) -> Tensor:
        self.seen += 1
        self.notes[0]["passes"] += 1
        self.notes.append({"value": int(features.mean().item())})
        self.names.add(f"pass {int(self.seen)}")
        self.fresh = features
        self.heads["depth"].train()
        with torch.no_grad():
            self.heads["depth"].weight.clamp_(-0.01, 0.01)
        scale = random.random() + np.random.rand()
        return features * torch.rand(()) * scale


def test_a_restless_network_is_left_alone_too() -> None:
    torch.manual_seed(0)
    network = Restless(None, CHANNELS)
    network.heads.eval()
    before = state(network)
    for probe in (PROBES["service"], PROBES["flops"]):
        with unchanged(network):
            probe(network)
        after = state(network)
        assert [k for k in after if k not in before or not same(before[k], after[k])] == []
    served = tasks_served(network, SIZE)
    assert served is not None
    assert served["stem.weight"] == ("segmentation", "depth")
    assert same(before, state(network))


@pytest.mark.parametrize("model", TRAINED)
def test_a_copy_computes_the_same_and_shares_nothing(model: str) -> None:
    network = in_training(model).eval()
    copied = copy_of(network)
    own = {tensor.data_ptr() for tensor in network.state_dict().values() if tensor.numel()}
    assert not own & {tensor.data_ptr() for tensor in copied.state_dict().values()} - {0}
    # What is one tensor there is one here.
    tied = [id(p) for _, p in network.named_parameters(remove_duplicate=False)]
    tied_here = [id(p) for _, p in copied.named_parameters(remove_duplicate=False)]
    assert [tied.index(i) for i in tied] == [tied_here.index(i) for i in tied_here]
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        expected, found = network(images), copied(images)
    assert all(torch.equal(expected[task], found[task]) for task in expected)


def test_a_network_that_cannot_be_copied_is_an_error_that_names_it() -> None:
    class Locked(Zoo):
        def parts(self) -> None:
            self.progress = (step for step in range(3))

    network = Locked(None, CHANNELS)
    with pytest.raises(UserError, match=r"Locked must be a network that copy\.deepcopy can copy"):
        copy_of(network)
    # What needs no copy works all the same.
    assert forward_flops(network, SIZE).layers["stem.weight"] == 2 * 256 * 8 * 27
    assert tasks_served(network, SIZE) is not None

"""What a method reads is in the full space, and what is in the space is read.

Whether a method reads a setting is found by trying: two toys that differ in nothing else.
"""

import itertools

import pytest
import torch

from spaces.catalogue import SPARSE_METHODS, build_space
from spaces.presets import trial_config
from tests.trainables.sparsity.toys import ToyNetwork, random_batch, toy_context
from trainables.config import ARBITERS, GRADIENTS_AT, REGROW_BUDGETS, SALIENCY_WEIGHTS, SCORES
from trainables.sparsity.catalogue import METHODS

CHOICES = {
    "sparsity.score": SCORES,
    "sparsity.arbiter": ARBITERS,
    "sparsity.saliency_weights": SALIENCY_WEIGHTS,
    "regrowth.budget": REGROW_BUDGETS,
}
READERS = {
    "sparsity.score": {"disparse-static", "disparse-pretrained"},
    "sparsity.arbiter": {"disparse-static", "disparse-dynamic", "disparse-pretrained"},
    "sparsity.saliency_weights": {"snip", "disparse-static"},
    "regrowth.budget": {"disparse-dynamic"},
}
TASKS = ("a", "b", "c")  # with two, majority is unanimous
FULL = build_space("full", trial_config("disparse-static", "scenes", "tiny"), SPARSE_METHODS)


def outcome(method: str, name: str, value: str) -> torch.Tensor:
    """The masks of one pruning and, where the method regrows, one regrowth; flat."""
    rule = METHODS[method]
    toy = toy_context(ToyNetwork(TASKS), seed=4, **{name.replace(".", "__"): value})
    toy.registry.update(rule.prune(toy.context, 0.3).masks, None)
    if rule.regrows:
        proposal = rule.regrow(toy.context, random_batch(1, TASKS), 0.5, 0.3)
        toy.registry.update(proposal.masks, None)
    return torch.cat([mask.flatten() for mask in toy.registry.masks.values()])


@pytest.mark.parametrize("name", CHOICES)
def test_a_setting_is_in_the_space_of_the_methods_that_read_it(name: str) -> None:
    parameter = next(p for p in FULL.parameters if p.name == name)
    assert parameter.choices == CHOICES[name]
    (condition,) = parameter.when
    assert condition.name == "method"
    assert set(condition.values) == READERS[name]


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("method", SPARSE_METHODS)
def test_every_value_makes_a_difference_to_a_reader_and_none_to_others(
    method: str, name: str
) -> None:
    outcomes = [outcome(method, name, value) for value in CHOICES[name]]
    for first, second in itertools.combinations(outcomes, 2):
        assert torch.equal(first, second) == (method not in READERS[name])


@pytest.mark.parametrize("name", CHOICES)
def test_every_value_can_be_chosen_by_its_dotted_name(name: str) -> None:
    for method, value in itertools.product(READERS[name], CHOICES[name]):
        config = trial_config(method, "scenes", "tiny", overrides={name: value})
        assert config.flat()[name] == value


def test_growth_gradients_are_drawn_for_the_methods_that_take_them() -> None:
    """The loop reads it, not the rule; tests/worked/test_released_dynamic.py shows what it does."""
    parameter = next(p for p in FULL.parameters if p.name == "regrowth.gradient_at")
    assert parameter.choices == GRADIENTS_AT
    (condition,) = parameter.when
    assert set(condition.values) == {"rigl", "disparse-dynamic"}

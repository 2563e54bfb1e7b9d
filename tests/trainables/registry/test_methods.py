"""A method says which settings make no difference to it."""

import pytest

from trainables.registry.methods import METHODS


@pytest.mark.parametrize(
    ("method", "ignored", "read"),
    [
        ("dense", {"sparsity.target", "sparsity.allocation", "regrowth.fraction"}, set()),
        (
            "snip",
            {"regrowth.fraction", "sparsity.arbiter", "sparsity.rewind_fraction"},
            {"sparsity.target", "sparsity.schedule", "sparsity.allocation"},
        ),
        ("lth", {"sparsity.schedule"}, {"sparsity.level_fraction", "sparsity.rewind_fraction"}),
        ("rigl", {"regrowth.budget", "sparsity.score"}, {"regrowth.fraction"}),
        ("disparse-dynamic", set(), {"regrowth.budget", "sparsity.arbiter"}),
    ],
)
def test_a_method_ignores_settings_of_others(method: str, ignored: set, read: set) -> None:
    described = METHODS[method]
    everywhere = {"optimiser.learning_rate", "training.pretrain_steps", "seed"}
    named = ignored | read | everywhere
    assert {name for name in named if described.ignores(name)} == ignored
    assert not [name for name in described.settings if described.ignores(name)]

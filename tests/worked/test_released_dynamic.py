"""DiSparse dynamic as released, by hand, through the training loop: 12 weights, 2 tasks, SGD.

y_k = Σ_i h_k[i] · W[i] and L = y_a + y_b, so ∂L_k/∂W[i] = h_k[i], ∂L_k/∂h_k[i] = W[i]. Rate ½,
momentum ½, decay ½; two of a layer's four weights are allocated, α = ½ replaces one of them.
Updates are made every 2 steps from 0 on, T_end = 4, with the published budget. In brackets: a
pruned weight, with its value.

    start    W  5 7 -8 3            a -3 2 -8 1          b -1 8 -4 -6
             the two largest each, by the gradual schedule that is over at once
    step 0   drops 7, -3 and -6. Of W's 0 1 3, a (3 2 1) wants 0, b (1 8 6) wants 1, just dropped:
             W is 0 1 2, one too many. Dense W (5 7 · 3), (5 · 8 3) gives a's head 1, b's head 2.
             The step: decay alone moves what is pruned.
    then     W 3.75 .25 0 (2.25)    a (-2.25) -2 -2 (.75)     b (-.75) 2.5 1 (-4.5)
    step 1   no update
    then     W 2.1875 -3.4375 4.5 (1.3125)
             a (-1.3125) -3.625 1.5 (.4375)      b (-.4375) -1 3.25 (-2.625)
    step 2   W keeps one, 2. Of 0 1 3, a (1.3 3.6 .4) wants 1, b (.4 1 2.6) wants 3, for the value
             that its own pruned weight has; at the sparse weights (0 1 0) it would want 1.
             a keeps 1, b keeps 2, and both grow again what they dropped. W is 1 2 3, and
             3 resumes 1.3125.
    step 4   T_end: W (.38 .84 -.01 by size) keeps 1 and 2, as allocated.
"""

import copy

import pytest
import torch

from tests.trainables.sparsity.toys import LinearNetwork, SumTask, toy_config
from tests.worked.networks import example, row_of
from trainables.data.batch import Batch
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.structures.catalogue import build_structure
from trainables.training.loop.loop import TrainingLoop

NAMES = {"W": "shared.weight", "a": "heads.a.weight", "b": "heads.b.weight"}
START = {"W": (5, 7, -8, 3), "a": (-3, 2, -8, 1), "b": (-1, 8, -4, -6)}
# By number of steps taken: every weight, with its value where it is pruned, and which are kept.
EXPECTED = {
    1: {
        "W": ((3.75, 0.25, 0, 2.25), [0, 1, 2]),
        "a": ((-2.25, -2, -2, 0.75), [1, 2]),
        "b": ((-0.75, 2.5, 1, -4.5), [1, 2]),
    },
    2: {
        "W": ((2.1875, -3.4375, 4.5, 1.3125), [0, 1, 2]),
        "a": ((-1.3125, -3.625, 1.5, 0.4375), [1, 2]),
        "b": ((-0.4375, -1, 3.25, -2.625), [1, 2]),
    },
    3: {
        "W": ((0.859375, -2.109375, 3.25, 0.515625), [1, 2, 3]),
        "a": ((-0.515625, -1.8125, 0.625, 0.171875), [1, 2]),
        "b": ((-0.171875, -0.78125, 1.3125, -1.03125), [1, 2]),
    },
    4: {
        "W": ((-0.01953125, 0.37890625, 0.84375, -0.01171875), [1, 2, 3]),
        "a": ((0.01171875, 0.6015625, -1.59375, -0.00390625), [1, 2]),
        "b": ((0.00390625, 0.578125, -1.609375, 0.0234375), [1, 2]),
    },
    5: {
        "W": ((-0.4541015625, 0.9384765625, 1.03125, -0.2724609375), [1, 2]),
        "a": ((0.2724609375, 1.46875, -2.7265625, -0.0908203125), [1, 2]),
        "b": ((0.0908203125, 0.923828125, -3.08984375, 0.544921875), [1, 2]),
    },
}
# After two steps, the update at step 2 not among them: buf = buf / 2 + gradient + weight / 2.
MOMENTS = {
    "W": (3.125, 7.375, -9, 1.875),
    "a": (-1.875, 3.25, -7, 0.625),
    "b": (-0.625, 7, -4.5, -3.75),
}


class OneInput:
    """The input 1 at every step; nothing here is scored on data."""

    def train_batch(self, step: int) -> Batch:
        return example([1], {"a": 1.0, "b": 1.0})


def loop_of(method: str = "disparse-dynamic", **overrides: object) -> TrainingLoop:
    config = toy_config(
        method=method,
        sparsity__target=0.5,
        sparsity__allocation="uniform",
        sparsity__schedule="linear",
        sparsity__end_fraction=0.0,
        **{
            "regrowth__gradient_at": "dense",
            "regrowth__budget": "published",
            "regrowth__annealing": "constant",
            "regrowth__interval_steps": 2,
            "regrowth__end_fraction": 0.5,
            "optimiser__name": "sgd",
            "optimiser__learning_rate": 0.5,
            "optimiser__momentum": 0.5,
            "optimiser__weight_decay": 0.5,
            "training__steps": 8,
            "training__loss_weights.b": 1.0,
            **overrides,
        },
    )
    columns = torch.tensor(START["W"], dtype=torch.float32)[:, None]
    heads = {task: torch.tensor([START[task]], dtype=torch.float32) for task in "ab"}
    model = LinearNetwork(columns, heads)
    registry = MaskRegistry(model)
    return TrainingLoop(
        config,
        model=model,
        tasks={task: SumTask(task) for task in "ab"},
        registry=registry,
        method=METHODS[method],
        structure=build_structure(config.sparsity, registry, {}),
        source=OneInput(),  # type: ignore[arg-type]
        device="cpu",
        flops_fraction=lambda: registry.density,
    )


def dense_values(loop: TrainingLoop, letter: str) -> list[float]:
    held = loop.registry.pruned_values
    assert held is not None
    name = NAMES[letter]
    return (loop.registry.parameters[name].detach() + held.values[name]).flatten().tolist()


def assert_zero_outside(loop: TrainingLoop) -> None:
    """The network holds zeros where pruned; values stand beside it, and only there."""
    held = loop.registry.pruned_values
    assert held is not None
    for name, weight in loop.registry.parameters.items():
        pruned = loop.registry.masks[name] == 0
        assert not weight[pruned].any()
        assert not held.values[name][~pruned].any()


def test_five_steps_with_two_updates_and_the_last_drop() -> None:
    loop = loop_of()
    for taken, expected in EXPECTED.items():
        loop.advance()
        assert_zero_outside(loop)
        for letter, (values, kept) in expected.items():
            assert dense_values(loop, letter) == list(values), (taken, letter)
            mask = loop.registry.masks[NAMES[letter]].reshape(1, -1)
            assert row_of(mask) == kept, (taken, letter)
    assert loop.num_updates == 4  # the first masks, steps 0 and 2, and T_end


def test_moments_are_kept_and_every_step_is_taken() -> None:
    loop = loop_of()
    loop.advance()
    loop.advance()
    for letter, expected in MOMENTS.items():
        state = loop.optimiser.state[loop.registry.parameters[NAMES[letter]]]
        assert state["momentum_buffer"].flatten().tolist() == list(expected)
    # Dense FLOPs of the update (one forward, two backward passes), and those of every step.
    assert loop.flops_sum == pytest.approx(5 / 3 + 2 * 7 / 12)


def test_a_resumed_loop_goes_on_to_the_bit() -> None:
    whole = loop_of()
    first = loop_of()
    for _ in range(3):
        whole.advance()
        first.advance()
    second = loop_of()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(3):
        whole.advance()
        second.advance()
    for letter in NAMES:
        assert dense_values(second, letter) == dense_values(whole, letter)
        assert torch.equal(
            second.registry.masks[NAMES[letter]], whole.registry.masks[NAMES[letter]]
        )


def test_rigl_takes_the_joint_gradient_at_the_dense_weights() -> None:
    # |a + b| of W's 0 1 3 is 4 10 5: the 7 just dropped comes back. Heads see W alone, as above.
    loop = loop_of("rigl")
    loop.advance()
    for letter, kept in {"W": [1, 2], "a": [1, 2], "b": [1, 2]}.items():
        assert row_of(loop.registry.masks[NAMES[letter]].reshape(1, -1)) == kept


def test_set_has_no_gradient_and_so_nothing_changes() -> None:
    sparse, dense = (loop_of("set", regrowth__gradient_at=at) for at in ("sparse", "dense"))
    for _ in range(4):
        sparse.advance()
        dense.advance()
    assert dense.registry.pruned_values is None
    assert dense.num_updates == sparse.num_updates == 2
    for name, weight in sparse.registry.parameters.items():
        assert torch.equal(weight, dense.registry.parameters[name])


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_optimiser_moves_what_is_pruned_as_it_would_masked_dense_weights(name: str) -> None:
    """Against weights that stay in the parameter and are masked in the forward pass alone."""
    loop = loop_of(optimiser__name=name, regrowth__budget="exact")
    dense = {n: w.detach().clone() for n, w in loop.registry.parameters.items()}
    loop.advance()
    # The same step on parameters of their own, with the masks that step 0 left.
    masks = loop.registry.masks
    others = {n: torch.nn.Parameter(w.clone()) for n, w in dense.items()}
    effective = {n: others[n] * masks[n] for n in others}
    total = sum((effective[NAMES[t]] @ effective[NAMES["W"]]).sum() for t in "ab")
    total.backward()
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    settings = {"momentum": 0.5} if name == "sgd" else {"fused": True}
    kinds[name](others.values(), lr=0.5, weight_decay=0.5, **settings).step()
    for letter, parameter in NAMES.items():
        assert dense_values(loop, letter) == others[parameter].detach().flatten().tolist()

"""What parameters serve, by their gradients, whatever their names and `owners()` say."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.sparsity.toys import random_batch, toy_context
from trainables.errors import UserError
from trainables.models.service import tasks_served
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.gradients import task_gradients
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.masking.prunable import what_is_corrected, what_stays_dense

TASKS = ("a", "b", "c")


class Pair(nn.Module):
    """A trunk for all, a part that two of the three tasks use, and a head for each."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = TASKS
        self.trunk = nn.Conv2d(3, 6, 3, padding=1)
        self.pair = nn.Conv2d(6, 6, 3, padding=1)
        self.heads = nn.ModuleDict({task: nn.Conv2d(6, 2, 1) for task in TASKS})
        self.unused = nn.Linear(6, 6)

    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        features = self.trunk(images).relu()
        pair = self.pair(features).relu()
        parts = {"a": pair, "b": features, "c": pair}
        return {task: self.heads[task](parts[task]) for task in tasks or self.tasks}

    def owners(self) -> dict[str, str]:
        return {
            name: name.split(".")[1] if name.startswith("heads") else "shared"
            for name, _ in self.named_parameters()
        }


def in_registry(model: nn.Module) -> MaskRegistry:
    return MaskRegistry(model, tasks_served(model, (16, 16)))


def test_each_weight_serves_the_tasks_whose_gradient_reaches_it() -> None:
    served = tasks_served(Pair(), (16, 16))
    assert served is not None
    assert served["trunk.weight"] == served["trunk.bias"] == TASKS
    assert served["pair.weight"] == ("a", "c")
    assert [served[f"heads.{task}.weight"] for task in TASKS] == [("a",), ("b",), ("c",)]
    assert served["unused.weight"] == ()


def test_a_task_scores_what_serves_it_and_nothing_else() -> None:
    registry = in_registry(Pair())
    assert registry.visible("b") == ("trunk.weight", "heads.b.weight")
    assert registry.visible("c") == ("trunk.weight", "pair.weight", "heads.c.weight")
    assert registry.owner["pair.weight"] == "shared"
    assert what_is_corrected(registry.prunable).endswith("pair.weight serves a, c, not shared")
    dense = what_stays_dense(Pair(), registry.prunable)
    assert dense == ("36 of 582 parameters stay dense: 36 that no task's gradient reaches (unused)")


@pytest.mark.parametrize("arbiter", ["unanimous", "majority", "intersection"])
@pytest.mark.parametrize("allocation", ["global", "erk"])
@pytest.mark.parametrize("method", ["disparse-static", "disparse-dynamic"])
def test_the_vote_is_of_the_tasks_that_see_a_weight(
    method: str, allocation: str, arbiter: str
) -> None:
    model = Pair()
    toy = toy_context(
        model,
        service=tasks_served(model, (16, 16)),
        sparsity__allocation=allocation,
        sparsity__arbiter=arbiter,
    )
    proposal = METHODS[method].prune(toy.context, 0.3)
    toy.registry.update(proposal.masks, None)
    if method == "disparse-dynamic":
        batch = random_batch(0, TASKS)
        proposal = METHODS[method].regrow(toy.context, batch, 0.5, 0.3)
        toy.registry.update(proposal.masks, None)
    assert toy.registry.kept == round(0.3 * toy.registry.total)
    assert proposal.votes is not None
    assert "pair.weight" not in proposal.votes["b"]
    assert bool(proposal.masks["pair.weight"].any())  # b, which never sees it, casts no vote
    assert toy.registry.scored == toy.registry.reached


def test_a_frozen_weight_of_later_is_scored_zero_and_remembered() -> None:
    toy = toy_context(Pair())
    toy.model.trunk.requires_grad_(False)
    gradients = dict(task_gradients(toy.context, random_batch(0, TASKS)))
    assert gradients["a"]["trunk.weight"].count_nonzero() == 0
    assert toy.registry.scored - toy.registry.reached == {"trunk.weight", "unused.weight"}


def test_a_network_without_a_weight_that_trains_is_refused_with_the_reason() -> None:
    model = Pair().requires_grad_(False)
    with pytest.raises(UserError, match=r"Pair must have a weight.*trunk\.weight: it is frozen"):
        in_registry(model)


def test_a_network_that_cannot_run_is_asked_by_its_owners_alone() -> None:
    class Broken(Pair):
        def forward(self, images, tasks=None):  # type: ignore[no-untyped-def]
            raise RuntimeError("not today")

    model = Broken()
    assert tasks_served(model, (16, 16)) is None
    assert MaskRegistry(model).visible("b")[:2] == ("trunk.weight", "pair.weight")


def test_checkpoints_that_go_backward_on_their_own_give_the_plain_gradients() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(Pair):
        def forward(self, images, tasks=None):  # type: ignore[no-untyped-def]
            features = self.trunk(images).relu()
            pair = checkpoint(lambda x: self.pair(x).relu(), features, use_reentrant=True)
            parts = {"a": pair, "b": features, "c": pair}
            return {task: self.heads[task](parts[task]) for task in tasks or self.tasks}

    found = {}
    for kind in (Pair, Checkpointed):
        torch.manual_seed(0)
        toy = toy_context(kind(), training__accumulation=2)
        gradients = dict(task_gradients(toy.context, random_batch(0, TASKS)))
        found[kind] = [g for own in gradients.values() for g in own.values()]
        assert all(parameter.grad is None for parameter in toy.model.parameters())
    for plain, checkpointed in zip(found[Pair], found[Checkpointed], strict=True):
        torch.testing.assert_close(checkpointed, plain)


@pytest.mark.parametrize("draws", [False, True])
def test_what_runs_in_evaluation_alone_serves_no_task_unless_chance_decides(draws: bool) -> None:
    class Averaged(Pair):
        """Predicts with an average of the trunk, which training updates."""

        def __init__(self) -> None:
            super().__init__()
            self.average = nn.Conv2d(3, 6, 3, padding=1)

        def forward(self, images, tasks=None):  # type: ignore[no-untyped-def]
            if self.training:
                assert images.sum().item() != 0  # it reads values
                if draws:
                    images = nn.functional.dropout(images, 0.1)
                self.average.weight.data.lerp_(self.trunk.weight.data, 0.1)
                return super().forward(images, tasks)
            return {t: self.heads[t](self.average(images)) for t in tasks or self.tasks}

    served = tasks_served(Averaged(), (16, 16))
    assert served is not None
    assert served["average.weight"] == (TASKS if draws else ())
    assert served["trunk.weight"] == TASKS


@pytest.mark.parametrize("draw", [torch.rand, np.random.rand, lambda: random.random()])
def test_what_training_leaves_out_by_chance_or_by_turns_serves_its_tasks(draw: Any) -> None:
    class Skips(Pair):
        passes = 0

        def forward(self, images, tasks=None):  # type: ignore[no-untyped-def]
            drawn = draw(1)[0] if draw is torch.rand else draw()
            self.passes += 1
            out = super().forward(images, tasks)
            if not self.training or drawn > 0.99:
                out["b"] = out["b"] + self.unused(self.trunk(images).movedim(1, -1)).mean()
            if self.passes % 2 == 0:
                out["c"] = out["c"].detach() + self.heads["c"](self.trunk(images))
            return out

    served = tasks_served(Skips(), (16, 16))
    assert served is not None
    assert served["unused.weight"] == ("b",)


def test_what_forward_returns_beside_the_tasks_is_no_task() -> None:
    class Auxiliary(Pair):
        def forward(self, images, tasks=None):  # type: ignore[no-untyped-def]
            more = {"extra": self.unused(images.mean((2, 3)).repeat(1, 2))} if self.training else {}
            return {**super().forward(images, tasks), **more}

    served = tasks_served(Auxiliary(), (16, 16))
    assert served is not None
    assert served["unused.weight"] == ()
    assert served["trunk.weight"] == TASKS


def test_experts_that_images_choose_are_found() -> None:
    class Experts(Pair):
        def forward(self, images, tasks=None):  # type: ignore[no-untyped-def]
            chosen = self.trunk if images.mean() > 0 else self.unused_trunk
            features = chosen(images).relu()
            return {task: self.heads[task](features) for task in tasks or self.tasks}

        def __init__(self) -> None:
            super().__init__()
            self.unused_trunk = nn.Conv2d(3, 6, 3, padding=1)

    served = tasks_served(Experts(), (16, 16))
    assert served is not None
    assert served["trunk.weight"] == served["unused_trunk.weight"] == TASKS


def test_a_sparse_gradient_is_refused_where_it_is_scored() -> None:
    class Looks(Pair):
        def forward(self, images, tasks=None):  # type: ignore[no-untyped-def]
            rows = nn.functional.embedding(torch.arange(2), self.unused.weight, sparse=True)
            return {t: v + rows.mean() for t, v in super().forward(images, tasks).items()}

    toy = toy_context(Looks())
    with pytest.raises(UserError, match=r"gradient of `unused\.weight` must be dense"):
        dict(task_gradients(toy.context, random_batch(0, TASKS)))

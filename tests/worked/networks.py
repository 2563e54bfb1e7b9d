"""The network of the worked examples: every gradient can be read off the page.

y_k = h_k · (W x) and L_k = t_k · y_k, so with W (2×2) shared and h_k (1×2) of task k

    ∂L_k/∂W[i, j] = t_k · h_k[i] · x[j]        ∂L_k/∂h_k[i] = t_k · (W x)[i]

Weights are written W00 W01 W10 W11 and a0 a1, b0 b1, c0 c1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.trainables.sparsity.toys import LinearNetwork, SumTask, Toy, toy_context
from trainables.data.batch import Batch
from trainables.models.base import SHARED


def network(
    shared: Sequence[Sequence[float]], heads: Mapping[str, Sequence[float]]
) -> LinearNetwork:
    return LinearNetwork(torch.tensor(shared), {k: torch.tensor([h]) for k, h in heads.items()})


class AdditiveNetwork(nn.Module):
    """y_k = W · x + h_k · x, all rows: with L_k = y_k every gradient is x, whatever the weights."""

    def __init__(self, shared: Sequence[float], heads: Mapping[str, Sequence[float]]) -> None:
        super().__init__()
        self.tasks = tuple(heads)
        self.shared = _row(shared)
        self.heads = nn.ModuleDict({task: _row(head) for task, head in heads.items()})

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        x = images_BCHW.flatten(1)
        values = {task: self.shared(x) + self.heads[task](x) for task in tasks or self.tasks}
        return {task: value[:, :, None, None] for task, value in values.items()}

    def owners(self) -> dict[str, str]:
        return {"shared.weight": SHARED} | {f"heads.{task}.weight": task for task in self.tasks}


def _row(weights: Sequence[float]) -> nn.Linear:
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data.copy_(torch.tensor([list(weights)]))
    return layer


def example(x: Sequence[float], targets: Mapping[str, float]) -> Batch:
    """One input x, and per task its t."""
    return Batch(
        images_BCHW=torch.tensor(x, dtype=torch.float32).reshape(1, -1, 1, 1),
        targets={task: torch.full((1, 1), t) for task, t in targets.items()},
    )


def one_example_each(inputs: Mapping[str, Sequence[float]]) -> Batch:
    """A batch of one input per task, whose targets let each task see its own alone."""
    rows = torch.tensor([list(x) for x in inputs.values()], dtype=torch.float32)
    own = torch.eye(len(inputs))
    return Batch(
        images_BCHW=rows.reshape(*rows.shape, 1, 1),
        targets={task: own[i].reshape(-1, 1) for i, task in enumerate(inputs)},
    )


def worked_toy(model: nn.Module, batches: Sequence[Batch] | None = None, **overrides: Any) -> Toy:
    """The context of one call of a method; as many scoring batches as are given."""
    if batches is not None:
        overrides["sparsity__saliency_batches"] = len(batches)
    return toy_context(model, batches=batches, task_type=SumTask, **overrides)


def names_of(masks: Mapping[str, Tensor]) -> set[str]:
    """The kept weights by the names of the page: W01, a0, …"""
    found = set()
    for name, mask in masks.items():
        letter = "W" if name == "shared.weight" else name.split(".")[1]
        for i, j in mask.nonzero().tolist():
            found.add(f"W{i}{j}" if letter == "W" else f"{letter}{j}")
    return found


def row_of(layer: Tensor) -> list[int]:
    """The places kept in a layer of one row."""
    return layer[0].nonzero().flatten().tolist()

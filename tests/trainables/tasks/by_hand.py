"""Small predictions and targets by hand, and what both definitions of the metrics say of them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.tasks.catalogue import build_tasks

CHANNELS = {"normals": 3, "depth": 1, "keypoints": 1, "edges": 1}


def both(
    name: str, prediction: Tensor, target: Tensor, dataset: str | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """(corrected, published) metrics of one batch, by short name."""
    task = build_tasks([name], CHANNELS | {name: prediction.shape[1]}, dataset)[name]
    results = []
    for definition in ("corrected", "published"):
        accumulator = task.accumulator(definition, "cpu")
        accumulator.update(prediction, target)
        metrics = accumulator.compute().items()
        results.append({full.removeprefix(f"{name}/"): value for full, value in metrics})
    return results[0], results[1]


def logits_of(*labels: int, num_classes: int) -> Tensor:
    """(1, C, 1, N), sure of `labels`."""
    return 9.0 * F.one_hot(torch.tensor([[labels]]), num_classes).movedim(-1, 1).float()


def labels_of(*labels: int) -> Tensor:
    return torch.tensor([[labels]])


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[None, None, None, :]


def vectors(*values: tuple[float, float, float]) -> Tensor:
    """(1, 3, 1, N), made unit vectors."""
    return F.normalize(torch.tensor(values, dtype=torch.float32).T[None, :, None, :])

"""All tasks' gradients from one forward pass beside one forward pass per task.

The second side is kept fair: each of its passes runs the trunk and one head only.
"""

from collections.abc import Iterator

import torch

from benchmarks.measure import Measurement, compare
from benchmarks.workload import Workload, build_workload
from trainables.sparsity.gradients import task_gradients

TASK_SETS = (
    ("segmentation", "normals"),
    ("segmentation", "normals", "depth", "keypoints", "edges"),
)


def run(quick: bool) -> Iterator[Measurement]:
    """Yield the measurements of this part. quick: fewer repetitions."""
    for tasks in TASK_SETS:
        yield measure(tasks, preset="tiny", device="cpu", budget_seconds=1.0 if quick else 20.0)


def measure(
    tasks: tuple[str, ...], *, preset: str, device: str, budget_seconds: float
) -> Measurement:
    """The ratio for one set of tasks; both sides yield the same gradients."""
    workload = build_workload(preset, method="disparse-static", tasks=tasks, device=device)
    context = workload.context()

    def from_one_forward() -> None:
        for _ in task_gradients(context, workload.batch):
            pass

    comparison = compare(
        from_one_forward,
        lambda: one_forward_per_task(workload),
        budget_seconds=budget_seconds,
        device=device,
    )
    return Measurement(
        name=f"task_gradients/{len(tasks)}_tasks/{device}",
        statement="gradients of all tasks from one forward / from one forward per task",
        comparison=comparison,
    )


def one_forward_per_task(workload: Workload) -> dict[str, dict[str, torch.Tensor]]:
    """∂L_k/∂w of what task k sees, without loss weights, by task and parameter name."""
    gradients = {}
    for task in workload.tasks:
        names = workload.registry.visible(task)
        loss = workload.loss(workload.batch, (task,)) / workload.config.training.loss_weights[task]
        values = torch.autograd.grad(loss, [workload.registry.parameters[n] for n in names])
        gradients[task] = dict(zip(names, values, strict=True))
    return gradients

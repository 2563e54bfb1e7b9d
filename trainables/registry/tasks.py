"""Describes the tasks: what each one predicts, what it reads and how it is measured.

Losses and metric accumulators are classes in `trainables.tasks`, loaded when a trial needs them.
A user's own tasks are added to `known_tasks` when a configuration that names them is made
(`trainables.report.add_task`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trainables.errors import UserError, unknown_name

Direction = Literal["maximize", "minimize"]
Channels = int | Literal["classes"]

# labels: class ids, 255 where unlabelled. values: a map of numbers that magnifying the view does
# not change. depth: a map of distances (or disparities), which magnifying the view changes.
# vectors: unit vectors of the camera frame. response: strengths in [0, 1].
TARGET_KINDS = ("labels", "values", "depth", "vectors", "response")
_TAKEN = ("image", "frame", "scene", "multitask", "cost", "val", "test", "shared", "training")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """Describes one quantity that a trial reports; `name` is `task/metric`, without a split."""

    name: str
    unit: str
    direction: Direction
    description: str

    @property
    def sign(self) -> float:
        """Return the factor, 1 or -1, after which smaller is better."""
        return -1.0 if self.direction == "maximize" else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDescription:
    """Describes one task.

    name: its name on the command line and in metrics.
    summary: one line.
    implementation: import path `package.module:Class` of a `trainables.tasks.base.Task`; it is
      called with the number of channels, and with what the data set adds (`task_options`).
    metrics: all metrics it reports, each named `name/…`; a search optimises `primary`.
    channels: channels of the prediction: a number, or "classes" for one per class of the data set.
    kind: kind of the target, one of `TARGET_KINDS`; it determines resizing, augmentation and
      storage.
    target: the column of the store that it reads; its own name unless several tasks share one.

    Raises `UserError` for facts that contradict each other.
    """

    name: str
    summary: str
    implementation: str
    metrics: tuple[Metric, ...]
    primary: str
    channels: Channels
    kind: str
    target: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", self.target or self.name)
        for what, name in (("name", self.name), ("target", self.target)):
            if not name.replace("_", "").replace("-", "").isalnum() or name in _TAKEN:
                raise UserError(
                    f"the {what} of a task must be made of letters, digits, - and _ and be none "
                    f"of {', '.join(_TAKEN)}, got {name!r}; choose another"
                )
        if self.kind not in TARGET_KINDS:
            raise unknown_name(f"`kind` of task {self.name!r}:", self.kind, TARGET_KINDS)
        if self.channels != "classes" and not (
            isinstance(self.channels, int) and self.channels >= 1
        ):
            raise UserError(
                f"`channels` of task {self.name!r} must be a number of at least 1 or 'classes', "
                f"got {self.channels!r}; give what the network is to predict for a pixel"
            )
        names = [metric.name for metric in self.metrics]
        stray = [name for name in names if not name.startswith(f"{self.name}/")]
        if stray:
            raise UserError(
                f"every metric of task {self.name!r} must be named {self.name}/…, "
                f"got {stray[0]!r}; rename it"
            )
        if self.primary not in names:
            raise unknown_name(f"`primary` metric of task {self.name!r}:", self.primary, names)


def _metric(name: str, unit: str, direction: Direction, description: str) -> Metric:
    return Metric(name=name, unit=unit, direction=direction, description=description)


def _response(name: str, summary: str, implementation: str) -> TaskDescription:
    error = _metric(f"{name}/error", "response", "minimize", "mean |prediction - truth|")
    return TaskDescription(
        name=name,
        summary=summary,
        implementation=implementation,
        metrics=(error,),
        primary=error.name,
        channels=1,
        kind="response",
    )


TASKS: dict[str, TaskDescription] = {
    task.name: task
    for task in (
        TaskDescription(
            name="segmentation",
            summary="A class for every pixel: cross-entropy; mean IoU.",
            implementation="trainables.tasks.segmentation:Segmentation",
            metrics=(
                _metric(
                    "segmentation/miou", "fraction", "maximize", "mean intersection over union"
                ),
                _metric(
                    "segmentation/pixel_accuracy", "fraction", "maximize", "pixels labelled right"
                ),
                _metric("segmentation/error", "nats", "minimize", "mean cross-entropy per pixel"),
            ),
            primary="segmentation/miou",
            channels="classes",
            kind="labels",
        ),
        TaskDescription(
            name="normals",
            summary="The direction of the surface at every pixel: cosine distance; angle.",
            implementation="trainables.tasks.normals:Normals",
            metrics=(
                _metric(
                    "normals/mean_error_deg", "deg", "minimize", "mean angle to the true normal"
                ),
                _metric(
                    "normals/median_error_deg", "deg", "minimize", "median angle to the true normal"
                ),
                _metric(
                    "normals/within_11_25", "fraction", "maximize", "pixels with angle < 11.25 deg"
                ),
                _metric(
                    "normals/within_22_5", "fraction", "maximize", "pixels with angle < 22.5 deg"
                ),
                _metric("normals/within_30", "fraction", "maximize", "pixels with angle < 30 deg"),
            ),
            primary="normals/mean_error_deg",
            channels=3,
            kind="vectors",
        ),
        TaskDescription(
            name="depth",
            summary="The distance at every pixel: L1 loss; mean absolute and relative error.",
            implementation="trainables.tasks.depth:Depth",
            metrics=(
                _metric(
                    "depth/absolute_error", "dataset unit", "minimize", "mean |prediction - truth|"
                ),
                _metric(
                    "depth/relative_error",
                    "fraction",
                    "minimize",
                    "mean |prediction - truth| / truth",
                ),
                _metric("depth/within_1_25", "fraction", "maximize", "pixels with ratio < 1.25"),
                _metric(
                    "depth/within_1_25_squared",
                    "fraction",
                    "maximize",
                    "pixels with ratio < 1.25^2",
                ),
                _metric(
                    "depth/within_1_25_cubed", "fraction", "maximize", "pixels with ratio < 1.25^3"
                ),
            ),
            primary="depth/absolute_error",
            channels=1,
            kind="depth",
        ),
        _response(
            "keypoints",
            "How much of a keypoint every pixel is: L1 loss; mean absolute error.",
            "trainables.tasks.keypoints:Keypoints",
        ),
        _response(
            "edges",
            "How much of an edge every pixel is: L1 loss; mean absolute error.",
            "trainables.tasks.edges:Edges",
        ),
    )
}

_own: dict[str, TaskDescription] = {}  # a user's own tasks, in this process


def known_tasks() -> Mapping[str, TaskDescription]:
    """Return all tasks that this process knows by name: the built-in ones, then a user's own."""
    return {**TASKS, **_own}


def known_task(name: str) -> TaskDescription:
    """Return the task of that name. Raises `UserError` that lists the known names."""
    found = TASKS.get(name) or _own.get(name)
    if found is None:
        raise unknown_name("task", name, known_tasks())
    return found


def remember(task: TaskDescription) -> None:
    """Make a task known in this process; doing so again changes nothing.

    Raises `UserError` if another task has its name, or its target is known as another kind.
    """
    for known in known_tasks().values():
        if known.name == task.name and known != task:
            raise UserError(
                f"task names must be unique, got {task.name!r} of {task.implementation} beside "
                f"that of {known.implementation}; rename yours"
            )
        if known.target == task.target and known.kind != task.kind:
            raise UserError(
                f"tasks that share a target must agree on its kind, got {task.kind!r} of task "
                f"{task.name!r} for {task.target!r}, which task {known.name!r} reads as "
                f"{known.kind!r}; name another target"
            )
    if task.name not in TASKS:
        _own[task.name] = task

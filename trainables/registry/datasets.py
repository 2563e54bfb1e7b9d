"""Describes the data sets: what each one holds, and where its frames come from.

Readers of raw data are in `trainables.data.sources`; they are loaded when frames are needed.
Sizes, loss weights and learning rates of the built-in ones are defaults (`spaces`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import UserError, unknown_name

DEPTH_KINDS = ("metric", "disparity")


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetDescription:
    """Describes a data set, without opening any file.

    tasks: those it has targets for; a user's own task by its import path.
    num_classes: of `segmentation`; 0 without that task.
    depth_kind: "metric" (metres) or "disparity".
    open_source: opens the raw data in a folder for `convert`; None if there are none.
    generate: makes the frames of a procedural data set, from (num_train, num_test).
      Both give a `trainables.data.sources.source.Source`. They are functions or import paths
      `package.module:function`.
    layouts: layouts of the raw data, for messages.
    unknown_responses: whether keypoints and edges may have unknown pixels.
    task_options: by task, extra arguments of its implementation on this data set.
    loss_weights: by task; 1 for tasks left out. size, crop: (height, width) in pixels, as stored
      and as trained; None for those of the preset. These three are for a user's own data sets;
      defaults of the built-in ones depend on the preset.

    Raises `UserError` for facts that contradict each other.
    """

    summary: str
    tasks: tuple[str, ...]
    num_classes: int
    depth_kind: str
    name: str = ""
    open_source: str | Callable[..., Any] | None = None
    generate: str | Callable[..., Any] | None = None
    layouts: str = ""
    unknown_responses: bool = False
    task_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.depth_kind not in DEPTH_KINDS:
            raise unknown_name("depth kind", self.depth_kind, DEPTH_KINDS)
        if not self.tasks:
            raise UserError("`tasks` of a data set must name a task, got none; e.g. ('depth',)")
        least = 1 if "segmentation" in self.tasks else 0
        if not least <= self.num_classes <= 255:
            raise UserError(
                f"`num_classes` of a data set must be {least} to 255, got {self.num_classes}; "
                "give the number of classes of its segmentation (labels are bytes, 255 unlabelled)"
            )


_SOURCES = "trainables.data.sources"
_OFFICIAL_CITYSCAPES = "the official one (leftImg8bit/, gtFine/, disparity/, camera/)"
# The published evaluation of Cityscapes counts unlabelled pixels, which are -1 there.
_CITYSCAPES_OPTIONS: Mapping[str, Mapping[str, Any]] = {"segmentation": {"counts_ignored": True}}
# It also divides by p / 65535, where our disparity is (p - 1) / 65535 (docs/decisions/0007).
_DISPARITY_OPTIONS = {**_CITYSCAPES_OPTIONS, "depth": {"published_offset": 1 / 65535}}

DATASETS: dict[str, DatasetDescription] = {
    dataset.name: dataset
    for dataset in (
        DatasetDescription(
            name="scenes",
            summary="procedural indoor scenes, generated on first use; five tasks",
            tasks=("segmentation", "normals", "depth", "keypoints", "edges"),
            num_classes=12,
            depth_kind="metric",
            generate=f"{_SOURCES}.scenes:generate",
        ),
        DatasetDescription(
            name="nyu-v2",
            summary="NYU-Depth-v2, 40 classes, with normals and depth; convert it first",
            tasks=("segmentation", "normals", "depth"),
            num_classes=40,
            depth_kind="metric",
            open_source=f"{_SOURCES}.nyu_v2:open_source",
            layouts="the official nyu_depth_v2_labeled.mat, plain folders (splits.json, rgb/, "
            "seg/, depth/) and AdaShare's (nyu_v2_3task.json, img/, seg/, normal_mask/, depth/)",
        ),
        DatasetDescription(
            name="cityscapes",
            summary="Cityscapes, 19 classes, with disparity as depth; convert it first",
            tasks=("segmentation", "depth"),
            num_classes=19,
            depth_kind="disparity",
            open_source=f"{_SOURCES}.cityscapes:open_source",
            layouts=f"{_OFFICIAL_CITYSCAPES} and AdaShare's (cityscape.json, or train/ and val/ "
            "with image/, label_19/, depth/ of .npy files)",
            task_options=_DISPARITY_OPTIONS,
        ),
        DatasetDescription(
            name="cityscapes-metric",
            summary="Cityscapes, 19 classes, with depth in metres; convert it first",
            tasks=("segmentation", "depth"),
            num_classes=19,
            depth_kind="metric",
            open_source=f"{_SOURCES}.cityscapes:open_metric_source",
            layouts=_OFFICIAL_CITYSCAPES,
            task_options=_CITYSCAPES_OPTIONS,
        ),
        DatasetDescription(
            name="taskonomy",
            summary="Tiny-Taskonomy, indoor, 17 classes; five tasks; convert it first",
            tasks=("segmentation", "normals", "depth", "keypoints", "edges"),
            num_classes=17,
            depth_kind="metric",
            open_source=f"{_SOURCES}.taskonomy:open_source",
            layouts="domain folders BUILDING/DOMAIN/, DOMAIN/BUILDING/ or DOMAIN/taskonomy/"
            "BUILDING/ with point_X_view_Y_domain_NAME.png; domains: rgb, segment_semantic, "
            "normal, depth_zbuffer, keypoints2d, edge_texture",
            unknown_responses=True,
            # The published evaluation compares its normals as vectors; elsewhere as colours.
            task_options={"normals": {"as_colours": False}},
        ),
    )
}

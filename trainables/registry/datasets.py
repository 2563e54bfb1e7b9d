"""Describes the data sets: what each one holds, and where its frames come from.

Readers of raw data are in `trainables.data.sources`; they are loaded when frames are needed.
Sizes, loss weights and learning rates of the built-in ones are defaults (`spaces`).
"""

import re
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
    class_names, class_colours ("rrggbb"): of its classes in order, for legends; both may be left
      out, which gives numbers and colours that depend on the number alone.
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
    class_names: tuple[str, ...] = ()
    class_colours: tuple[str, ...] = ()
    unknown_responses: bool = False
    task_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.depth_kind not in DEPTH_KINDS:
            raise unknown_name("depth kind", self.depth_kind, DEPTH_KINDS)
        if not isinstance(self.tasks, (tuple, list)):
            raise UserError(
                f"`tasks` of a data set must be a tuple of names, got {self.tasks!r}; e.g. "
                "('depth',)"
            )
        if not self.tasks:
            raise UserError("`tasks` of a data set must name a task, got none; e.g. ('depth',)")
        for task in self.tasks:
            if self.tasks.count(task) > 1:
                raise UserError(
                    f"`tasks` of a data set must name each task once, got {task!r} twice; leave "
                    "one out"
                )
        least = 1 if "segmentation" in self.tasks else 0
        # True is a number to Python.
        if type(self.num_classes) is not int or not least <= self.num_classes <= 255:
            raise UserError(
                f"`num_classes` of a data set must be {least} to 255, got {self.num_classes!r}; "
                "give the number of classes of its segmentation (labels are bytes, 255 unlabelled)"
            )
        for field_name in ("class_names", "class_colours"):
            given = getattr(self, field_name)
            if given and len(given) != self.num_classes:
                raise UserError(
                    f"`{field_name}` of a data set must have one entry per class, got {len(given)} "
                    f"for num_classes={self.num_classes}; list them in the order of the class ids, "
                    "or leave them out"
                )
        for field_name in ("size", "crop"):
            given = getattr(self, field_name)
            sides = tuple(given) if isinstance(given, (tuple, list)) else ()
            if given is not None and [type(side) for side in sides] != [int, int]:
                raise UserError(
                    f"`{field_name}` of a data set must be (height, width) in pixels, got "
                    f"{given!r}; e.g. (120, 160)"
                )
        for colour in self.class_colours:
            if not re.fullmatch("[0-9a-fA-F]{6}", colour):
                raise UserError(
                    "`class_colours` of a data set must be six hexadecimal digits each, got "
                    f"{colour!r}; e.g. '804080'"
                )


_SOURCES = "trainables.data.sources"
_OFFICIAL_CITYSCAPES = "the official one (leftImg8bit/, gtFine/, disparity/, camera/)"
# The published evaluation of Cityscapes counts unlabelled pixels, which are -1 there.
_CITYSCAPES_OPTIONS: Mapping[str, Mapping[str, Any]] = {"segmentation": {"counts_ignored": True}}
# It also divides by p / 65535, where our disparity is (p - 1) / 65535 (docs/decisions/0007).
_DISPARITY_OPTIONS = {**_CITYSCAPES_OPTIONS, "depth": {"published_offset": 1 / 65535}}

# As the generator numbers them (`trainables.data.scenes.layout`; a change there makes new frames).
_SCENES_CLASSES = (
    "floor", "wall", "ceiling", "table", "cabinet", "crate", "pouf", "ball", "lamp", "pillar",
    "picture", "rug",
)  # fmt: skip
_NYU_CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror",
    "floor mat", "clothes", "ceiling", "books", "refrigerator", "television", "paper", "towel",
    "shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp",
    "bathtub", "bag", "other structure", "other furniture", "other prop",
)  # fmt: skip
# Train ids 0-18 with their official colours (cityscapesScripts, labels.py).
_CITYSCAPES_CLASSES = {
    "road": "804080", "sidewalk": "f423e8", "building": "464646", "wall": "66669c",
    "fence": "be9999", "pole": "999999", "traffic light": "faaa1e", "traffic sign": "dcdc00",
    "vegetation": "6b8e23", "terrain": "98fb98", "sky": "4682b4", "person": "dc143c",
    "rider": "ff0000", "car": "00008e", "truck": "000046", "bus": "003c64", "train": "005064",
    "motorcycle": "0000e6", "bicycle": "770b20",
}  # fmt: skip
_TASKONOMY_CLASSES = (
    "background", "bottle", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
)  # fmt: skip

DATASETS: dict[str, DatasetDescription] = {
    dataset.name: dataset
    for dataset in (
        DatasetDescription(
            name="scenes",
            summary="procedural indoor scenes, generated on first use; five tasks",
            tasks=("segmentation", "normals", "depth", "keypoints", "edges"),
            num_classes=len(_SCENES_CLASSES),
            class_names=_SCENES_CLASSES,
            depth_kind="metric",
            generate=f"{_SOURCES}.scenes:generate",
        ),
        DatasetDescription(
            name="nyu-v2",
            summary="NYU-Depth-v2, 40 classes, with normals and depth; convert it first",
            tasks=("segmentation", "normals", "depth"),
            num_classes=len(_NYU_CLASSES),
            class_names=_NYU_CLASSES,
            depth_kind="metric",
            open_source=f"{_SOURCES}.nyu_v2:open_source",
            layouts="the official nyu_depth_v2_labeled.mat, plain folders (splits.json, rgb/, "
            "seg/, depth/) and AdaShare's (nyu_v2_3task.json, img/, seg/, normal_mask/, depth/)",
        ),
        DatasetDescription(
            name="cityscapes",
            summary="Cityscapes, 19 classes, with disparity as depth; convert it first",
            tasks=("segmentation", "depth"),
            num_classes=len(_CITYSCAPES_CLASSES),
            class_names=tuple(_CITYSCAPES_CLASSES),
            class_colours=tuple(_CITYSCAPES_CLASSES.values()),
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
            num_classes=len(_CITYSCAPES_CLASSES),
            class_names=tuple(_CITYSCAPES_CLASSES),
            class_colours=tuple(_CITYSCAPES_CLASSES.values()),
            depth_kind="metric",
            open_source=f"{_SOURCES}.cityscapes:open_metric_source",
            layouts=_OFFICIAL_CITYSCAPES,
            task_options=_CITYSCAPES_OPTIONS,
        ),
        DatasetDescription(
            name="taskonomy",
            summary="Tiny-Taskonomy, indoor, 17 classes; five tasks; convert it first",
            tasks=("segmentation", "normals", "depth", "keypoints", "edges"),
            num_classes=len(_TASKONOMY_CLASSES),
            class_names=_TASKONOMY_CLASSES,
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

"""Read the papers' tables and curves (package data in `published/`), and state their protocol.

Numbers: DiSparse (Sun et al. 2022), see `published/README.md`. Protocol: section 4 of the paper
and the configuration files of its released code; what neither states is `NOT_STATED`.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from analysis.statistics.watershed import Curve, curve
from trainables.errors import UserError, unknown_name

# By column of the papers' tables: our metric, and one unit of the column in our units.
COLUMNS: dict[str, tuple[str, float]] = {
    "miou": ("segmentation/miou", 0.01),
    "pixel_accuracy": ("segmentation/pixel_accuracy", 0.01),
    "segmentation_error": ("segmentation/error", 1.0),
    "normal_mean_error_deg": ("normals/mean_error_deg", 1.0),
    "normal_median_error_deg": ("normals/median_error_deg", 1.0),
    "normal_within_11_25": ("normals/within_11_25", 0.01),
    "normal_within_22_5": ("normals/within_22_5", 0.01),
    "normal_within_30": ("normals/within_30", 0.01),
    "depth_absolute_error": ("depth/absolute_error", 1.0),
    "depth_relative_error": ("depth/relative_error", 1.0),
    "depth_within_1_25": ("depth/within_1_25", 0.01),
    "depth_within_1_25_squared": ("depth/within_1_25_squared", 0.01),
    "depth_within_1_25_cubed": ("depth/within_1_25_cubed", 0.01),
    "keypoint_error": ("keypoints/error", 1.0),
    "edge_error": ("edges/error", 1.0),
}
# By (system, setting) of the papers: our METHOD.
METHODS: dict[tuple[str, str], str] = {
    ("dense", "dense"): "dense",
    ("random", "static"): "random",
    ("snip", "static"): "snip",
    ("lth", "static"): "lth",
    ("rigl", "dynamic"): "rigl",
    ("imp", "pretrained"): "imp",
    ("random", "pretrained"): "random-pretrained",
    ("disparse", "static"): "disparse-static",
    ("disparse", "dynamic"): "disparse-dynamic",
    ("disparse", "pretrained"): "disparse-pretrained",
    ("cross-stitch", "mtl"): "cross-stitch",
    ("sluice", "mtl"): "sluice",
    ("den", "mtl"): "den",
}
FROM_ADASHARE = ("cross-stitch", "sluice", "den")
_FILES = {"nyu-v2": "nyu_v2.csv", "cityscapes": "cityscapes.csv", "taskonomy": "taskonomy.csv"}
_CURVES = {"nyu-v2": "nyuv2", "cityscapes": "cityscapes", "taskonomy": "taskonomy"}
_WORDS = ("source", "system", "setting", "pretrained", "sparsity_percent")

DATASETS = tuple(_FILES)

NOT_STATED = "not stated"
_NETWORK = "deeplab-resnet, width 64, blocks 3-4-6-3, head width 1024"
# The aspects are those that `analysis.studies.protocol` reads from a study.
PROTOCOLS: dict[str, dict[str, str]] = {
    "nyu-v2": {
        "data": "nyu-v2",
        "training frames": "795",
        "test frames": "654",
        "tasks": "segmentation, normals",
        "image size": "480×640",
        "training crop": "321×321",
        "training steps": "20000",
        "batch size": "16",
        "optimiser": "adam, learning rate 0.001, halving",
        "metric definition": "published",
        "network": _NETWORK,
        "seeds": NOT_STATED,
    },
    "cityscapes": {
        "data": "cityscapes",
        "training frames": "2975",
        "test frames": "500",
        "tasks": "segmentation, depth",
        "image size": "256×512",
        "training crop": "224×224",
        "training steps": "20000",
        "batch size": "16",
        "optimiser": "adam, learning rate 0.0001, halving",
        "metric definition": "published",
        "network": _NETWORK,
        "seeds": NOT_STATED,
    },
    "taskonomy": {
        "data": "taskonomy",
        "training frames": NOT_STATED,
        "test frames": NOT_STATED,
        "tasks": "segmentation, normals, depth, keypoints, edges",
        "image size": "256×256",
        "training crop": "224×224",
        "training steps": "100000",
        "batch size": "16",
        "optimiser": "adam, learning rate 0.0001, times 0.3 every 12000 steps",
        "metric definition": "published",
        "network": _NETWORK,
        "seeds": NOT_STATED,
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """Hold one row of a paper's table, by metric without split: in our units, and as printed."""

    source: str
    method: str
    sparsity: float
    metrics: Mapping[str, float]
    printed: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedTable:
    """Hold a paper's table.

    columns: by metric without split, our units per unit of the paper and the most decimals that the
    paper prints.
    """

    dataset: str
    columns: Mapping[str, tuple[float, int]]
    rows: tuple[PublishedRow, ...]


def published_table(dataset: str) -> PublishedTable:
    """Read a data set's published table. Raises `UserError` where there is none."""
    lines = _read(_file(dataset))
    names = [name for name in lines[0] if name not in _WORDS]
    columns = {
        COLUMNS[n][0]: (COLUMNS[n][1], max(len(row[n].partition(".")[2]) for row in lines))
        for n in names
    }
    rows = tuple(
        PublishedRow(
            source=line["source"],
            method=METHODS[line["system"], line["setting"]],
            sparsity=float(line["sparsity_percent"]) / 100,
            metrics={COLUMNS[n][0]: float(line[n]) * COLUMNS[n][1] for n in names},
            printed={COLUMNS[n][0]: line[n] for n in names},
        )
        for line in lines
    )
    return PublishedTable(dataset=dataset, columns=columns, rows=rows)


def published_agreement(dataset: str) -> dict[str, float]:
    """Return the agreement of the tasks' masks by published layer, in published order."""
    _file(dataset)
    wanted = _CURVES[dataset]
    lines = [line for line in _read("mask_iou_by_layer.csv") if line["dataset"] == wanted]
    lines.sort(key=lambda line: int(line["layer_index"]))
    return {line["layer"]: float(line["iou_among_tasks"]) for line in lines}


def published_curve(dataset: str) -> Curve:
    """Return the published agreement by relative depth, for the votes of the static method.

    `analysis/tables/published/README.md` says where the numbers come from.
    """
    return curve(published_agreement(dataset))


def published_layer(name: str) -> str:
    """Return a parameter's name as the papers write it: "backbone.ds.1.0.weight" → "ds.1.0"."""
    return name.removeprefix("backbone.").removesuffix(".weight")


def check_dataset(dataset: str) -> None:
    """Raise `UserError` for a data set without a published table."""
    _file(dataset)


def _file(dataset: str) -> str:
    if dataset not in _FILES:
        raise unknown_name("published dataset", dataset, _FILES)
    return _FILES[dataset]


def _read(name: str) -> list[dict[str, str]]:
    try:
        text = (
            resources.files("analysis.tables.published").joinpath(name).read_text(encoding="utf-8")
        )
    except OSError as error:
        raise UserError(
            f"analysis/tables/published/{name} must be readable, got {error.strerror}; "
            "restore the file"
        ) from None
    lines = list(csv.DictReader(text.splitlines()))
    if not lines or any(None in line or None in line.values() for line in lines):
        raise UserError(f"analysis/tables/published/{name} is incomplete; restore the file")
    return lines


def same_sparsity(first: float, second: float) -> bool:
    """Tell whether two sparsities agree to half a percent, as the papers round."""
    return math.isclose(first, second, abs_tol=0.005)

"""Writes the model card: what a shipped model is, in words and figures, for people."""

import contextlib
import json
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from trainables.errors import UserError
from trainables.registry.lookup import DATASET
from trainables.report import METRICS, Metric, rounded_to_worse, task_metrics
from trainables.shipping.formats.onnx_export import INPUT_NAME
from trainables.shipping.in_words import at_most, share

# Two-sided 95 % quantiles of Student's t by degrees of freedom, from 1. Beyond the last one it is
# used as it stands, which makes those intervals a little too wide.
_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def model_card(
    shipped: Mapping[str, Any],
    by_seed: Sequence[Mapping[str, float]] = (),
    seeds_are: str = "",
) -> str:
    """Return the card as Markdown.

    shipped: the object of `ship.json`. by_seed: the metrics, by full name, of runs of the same
    configuration with different seeds; with two or more, the card gives their intervals.
    seeds_are: which seeds these are, in words; "" for how many.
    """
    sections = [
        _what(shipped),
        _quality(shipped, by_seed, seeds_are),
        _sizes(shipped),
        _latency(shipped["latency"]),
        _data(shipped),
        _use(shipped),
        _origin(shipped),
        _limits(shipped),
    ]
    return "\n\n".join(sections) + "\n"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over seeds and half the width of its 95 % interval (Student's t).

    Raises `statistics.StatisticsError` for fewer than two values.
    """
    degrees = min(len(values) - 1, len(_T_95))
    deviation = statistics.stdev(values)
    return statistics.fmean(values), _T_95[degrees - 1] * deviation / len(values) ** 0.5


def _what(shipped: Mapping[str, Any]) -> str:
    config, masks = shipped["config"], shipped["masks"]
    tasks = config["data"]["tasks"]
    kept = (
        f"It was made sparse by `{config['method']}` and keeps {masks['kept']:,} of "
        f"{masks['total']:,} prunable weights ({_percent(masks['kept'] / masks['total'])})."
        if masks["kept"] < masks["total"]
        else f"It is dense: all of its {masks['total']:,} prunable weights are kept."
    )
    return (
        f"# {config['model']['name']}, {config['method']}: {', '.join(tasks)}\n\n"
        f"One network for {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'} on images of "
        f"{config['data']['dataset']}: {', '.join(tasks)}. {kept}"
    )


def _percent(density: float) -> str:
    """Write a density as reports do, rounded up: 0.10001 is "10.01 %"."""
    return f"{rounded_to_worse('cost/density', 100 * Decimal(repr(density))).normalize():f} %"


def _quality(
    shipped: Mapping[str, Any], by_seed: Sequence[Mapping[str, float]], seeds_are: str
) -> str:
    metrics, verification = shipped["metrics"], shipped["verification"]
    rows = []
    for task in shipped["config"]["data"]["tasks"]:
        for name in task_metrics(task):
            full = f"test/{name}"
            if full not in metrics:
                continue
            metric = METRICS[name]
            better = "higher" if metric.direction == "maximize" else "lower"
            row = [f"`{full}`", _value(full, metrics[full]), _unit(metric, shipped), better]
            if len(by_seed) > 1:
                values = [run[full] for run in by_seed if run.get(full) is not None]
                mean, half = interval(values) if len(values) > 1 else (metrics[full], float("nan"))
                row.insert(2, f"{_value(full, mean)} ± {at_most(half, 2)}")
            rows.append(row)
    if not rows:
        return (
            "## Quality\n\nNo data were at hand when this was shipped, so no metric was computed. "
            f"The files were compared on {verification['num_images']} random images only."
        )
    header = ["metric", "this model", "unit", "better"]
    if len(by_seed) > 1:
        header.insert(2, f"{seeds_are or f'{len(by_seed)} seeds'}, mean ± 95 %")
    worst = max(error for errors in verification["errors"].values() for error in errors.values())
    alone = f"\n\nThe values are of {seeds_are}." if seeds_are and len(by_seed) < 2 else ""
    return (
        f"## Quality\n\nOn the test split ({verification['num_images']} images, metrics "
        f"`{shipped['config']['metrics']}`), computed with the shipped file in "
        f"{shipped['verified_in']}. Its outputs differ from the trained network's by at most "
        f"{at_most(worst, 2)} of their largest value.\n\n" + _table(header, rows) + alone
    )


def _value(name: str, value: float) -> str:
    """Write a value as reports do: four digits, rounded to the worse side."""
    if not math.isfinite(value):
        return str(value)
    return f"{float(rounded_to_worse(name, Decimal(repr(float(value))))):.4g}"


def _unit(metric: Metric, shipped: Mapping[str, Any]) -> str:
    """Return a metric's unit; that of depth as far as the data set is known here."""
    if metric.unit == "dataset unit":
        with contextlib.suppress(UserError):  # a user's own without its code
            kind = DATASET.find(shipped["config"]["data"]["dataset"]).depth_kind
            return "m" if kind == "metric" else kind
    return metric.unit


def _sizes(shipped: Mapping[str, Any]) -> str:
    sizes = shipped["sizes"]
    rows = [
        ["parameters", f"{sizes['parameters_dense']:,}", f"{sizes['parameters']:,}"],
        ["parameters not zero by pruning", "", f"{sizes['parameters_kept']:,}"],
        ["FLOPs of one image", f"{sizes['flops_dense']:,}", f"{sizes['flops']:,}"],
        ["FLOPs if zeros were skipped", "", f"{sizes['flops_skipping_zeros']:,}"],
        ["bytes, weights.safetensors", f"{sizes['bytes_dense']:,}", f"{sizes['bytes']:,}"],
    ]
    for name, size in shipped["files"].items():
        if name in ("model.onnx", "model.pt2"):
            dense = sizes.get("onnx_bytes_dense") if name == "model.onnx" else None
            rows.append([f"bytes, {name}", "" if dense is None else f"{dense:,}", f"{size:,}"])
    return "## Size\n\n" + _table(["", "dense", "shipped"], rows)


def _latency(latency: Mapping[str, Any]) -> str:
    low, high = latency["fraction_quartiles"]
    height, width = latency["size"]
    return (
        f"## Time\n\nOne pass over a batch of {latency['batch']} at {height}x{width} (height x "
        f"width) takes "
        f"{at_most(latency['shipped_ms'], 3)} ms, the dense network "
        f"{at_most(latency['dense_ms'], 3)} ms: {share(latency['fraction'])} of its time "
        f"(median of {latency['pairs']} pairs, quartiles {share(low, down=True)} and "
        f"{share(high)}). {latency['runtime']}, {latency['device']} ({latency['device_name']}), "
        f"{latency['threads']} "
        f"{'thread' if latency['threads'] == 1 else 'threads'}. Both networks ran in turn in one "
        "process, each prepared in the same way."
    )


def _data(shipped: Mapping[str, Any]) -> str:
    data = shipped["config"]["data"]
    height, width = data["size"]
    return (
        f"## Data\n\nTrained and tested on `{data['dataset']}`, images of {height}x{width} (height "
        "x width). Images go in as float32 (batch, 3, height, width): (pixel / 255 - mean) / std, "
        "with mean "
        f"{_list(shipped['image_mean'])} and std {_list(shipped['image_std'])} for red, green and "
        "blue. The ONNX file's metadata holds them too. Predictions come out at the network's "
        "output stride; up-sample them to the image's size."
    )


def _use(shipped: Mapping[str, Any]) -> str:
    if "model.onnx" not in shipped["files"]:
        return (
            "## Use\n\nThere is no ONNX file, see the limits. In Python:\n\n```python\n"
            "from trainables.shipping.formats.packed import load_packed\n"
            'trained = load_packed("weights.safetensors")\n'
            "predictions = trained.model(images)\n```"
        )
    return "## Use\n\n```python\n" + predict_in_five_lines() + "```"


def predict_in_five_lines() -> str:
    """Return Python code that predicts with ONNX Runtime; `pixels` is uint8 (B, H, W, 3)."""
    return (
        "import json, numpy, onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        "about = session.get_modelmeta().custom_metadata_map\n"
        'mean, std = (numpy.float32(json.loads(about[k])) for k in ("image_mean", "image_std"))\n'
        "images = ((pixels / numpy.float32(255) - mean) / std).transpose(0, 3, 1, 2)\n"
        f'predictions = dict(zip(json.loads(about["tasks"]), session.run(None, '
        f'{{"{INPUT_NAME}": images}})))\n'
    )


def _origin(shipped: Mapping[str, Any]) -> str:
    trained = shipped.get("trained_by")
    lines = [shlex.join(command) for command in (trained, shipped["command"]) if command]
    versions = ", ".join(f"{name} {version}" for name, version in shipped["versions"].items())
    return (
        "## Made by\n\n```\n" + "\n".join(lines) + f"\n```\n\nSeed {shipped['seed']}; {versions}."
    )


def _limits(shipped: Mapping[str, Any]) -> str:
    limits = [
        "It was tested on images like those it was trained on, and says nothing about others.",
        "Time depends on the machine; measure on yours.",
        *shipped["notes"],
    ]
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["--:" if i else ":--" for i in range(len(header))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(values: Sequence[float]) -> str:
    return json.dumps([round(value, 6) for value in values])

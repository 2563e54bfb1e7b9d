"""Tell how a study trained and measured, in the aspects of `papers.PROTOCOLS`.

A trial's `summary.json` holds its whole configuration. Where that file is gone, the parameters of
`trials.parquet` and `study.json` are used, and what they lack is "not recorded".
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.studies.masks import read_summary
from analysis.studies.systems_by_seed import Grid
from analysis.studies.trials import Study, Trial

UNKNOWN = "not recorded"
# The aspects that are compared, and the settings that they are read from.
_SETTINGS: dict[str, tuple[str, ...]] = {
    "image size": ("data.size",),
    "training crop": ("data.crop",),
    "training steps": ("training.steps",),
    "pre-training steps": ("training.pretrain_steps",),
    "batch size": ("training.batch_size",),
    "optimiser": ("optimiser.name", "optimiser.learning_rate", "optimiser.rate_schedule"),
    "metric definition": ("metrics",),
    "network": ("model.name", "model.width", "model.blocks", "model.head_width"),
}


def protocol(grid: Grid) -> dict[str, str]:
    """Return the protocol by aspect, with "a / b" where the systems differ."""
    study = grid.study
    trials = [trial for system in grid.systems for trial in system.trials.values()]
    configs = [settings(study, trial) for trial in trials]
    aspects = {
        "data": str(study.facts.get("dataset") or _one(configs, "data.dataset")),
        "training frames": _frames(configs, "train"),
        "test frames": _frames(configs, "test"),
        "tasks": ", ".join(grid.tasks),
    }
    for aspect, names in _SETTINGS.items():
        texts = [_aspect(aspect, names, config) for config in configs]
        aspects[aspect] = _joined(texts)
    counts = sorted({len(system.seeds) for system in grid.systems})
    aspects["seeds"] = " / ".join(map(str, counts))
    return aspects


def settings(study: Study, trial: Trial) -> dict[str, Any]:
    """Return a trial's settings by dotted name, as far as recorded."""
    found: dict[str, Any] = {}
    pins = study.facts.get("settings")
    if isinstance(pins, Mapping):
        found |= pins
    if study.facts.get("data_root") is not None:
        found["data.root"] = study.facts["data_root"]
    found |= trial.params
    config = read_summary(study.directory, trial).get("config")
    if isinstance(config, Mapping):
        found |= _flat(config)
    # The configuration has steps of pre-training even for methods without any; the record has 0.
    used = trial.params.get("training.pretrain_steps")
    return found if used is None else found | {"training.pretrain_steps": used}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _aspect(aspect: str, names: Sequence[str], config: Mapping[str, Any]) -> str | None:
    values = [config.get(name) for name in names]
    if any(value is None for value in values):
        return None
    if aspect in ("image size", "training crop"):
        return "×".join(map(str, values[0])) if isinstance(values[0], list) else str(values[0])
    if aspect == "optimiser":
        return f"{values[0]}, learning rate {values[1]:g}, {_schedule(str(values[2]), config)}"
    if aspect == "network":
        blocks = "-".join(map(str, values[2])) if isinstance(values[2], list) else str(values[2])
        return f"{values[0]}, width {values[1]}, blocks {blocks}, head width {values[3]}"
    return str(values[0])


def _schedule(name: str, config: Mapping[str, Any]) -> str:
    """Return the rate's schedule in the words of `papers.PROTOCOLS`: "halving" by 0.5 alone."""
    factor = config.get("optimiser.decay_factor", 0.5)
    fraction = config.get("optimiser.halve_every_fraction")
    steps = config.get("training.pretrain_steps") or config.get("training.steps")
    if name != "halving" or factor == 0.5 or fraction is None or steps is None:
        return name
    return f"times {factor:g} every {round(fraction * steps)} steps"


def _one(configs: Sequence[Mapping[str, Any]], name: str) -> str:
    return _joined(None if c.get(name) is None else str(c[name]) for c in configs)


def _joined(texts: Iterable[str | None]) -> str:
    """Join the distinct values that are recorded."""
    known = list(dict.fromkeys(text for text in texts if text is not None))
    return " / ".join(known) or UNKNOWN


def _frames(configs: Sequence[Mapping[str, Any]], split: str) -> str:
    """Count the frames of a split; for training, name the share used for validation."""
    texts: list[str | None] = []
    for config in {(c.get(f"data.num_{split}"), c.get("data.root")): c for c in configs}.values():
        capped, stored = config.get(f"data.num_{split}"), _stored(config.get("data.root"), split)
        count = min((n for n in (capped, stored) if n is not None), default=None)
        if count is None:
            texts.append(None)
            continue
        held = config.get("data.validation_fraction")
        share = f", {100 * held:g} % of them for validation" if held and split == "train" else ""
        texts.append(f"{count}{share}")
    return _joined(texts)


def _stored(root: Any, split: str) -> int | None:
    """Count the frames of a converted store; None where none is there."""
    if not isinstance(root, str) or "://" in root:
        return None
    path = Path(root) / f"{split}.arrow"
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
    except (OSError, pa.ArrowException):
        return None

"""GRID.json: what it may hold, and every mistake in it as one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from spaces.presets import trial_config
from tests.trainables.sweep.grids import read, write
from trainables.errors import UserError
from trainables.sweep.grid import GridFile, GridTrial, write_grid

DENSE = {"method": "dense"}
SNIP = {"method": "snip", "sparsity": 0.9}


def test_options_are_those_of_train_and_its_defaults(tmp_path: Path) -> None:
    trial = {
        **SNIP,
        "tasks": ["segmentation", "depth"],
        "seed": 4,
        "steps": 30,
        "metrics": "published",
        "settings": {"optimiser.learning_rate": 0.001, "data.crop": [32, 48]},
    }
    grid = read(
        write(tmp_path, [{**DENSE, "tasks": "segmentation,depth"}, {**trial, "baseline": 0}])
    )
    assert grid.name == "micro"
    assert [t.baseline for t in grid.trials] == [None, 0]
    assert grid.trials[1].config == trial_config(
        "snip",
        "scenes",
        "tiny",
        tasks="segmentation,depth",
        sparsity=0.9,
        seed=4,
        steps=30,
        metrics="published",
        overrides={"optimiser.learning_rate": "0.001", "data.crop": "32x48"},
    )
    assert grid.objectives_of(grid.trials[1].config) == (
        "val/segmentation/miou",
        "val/depth/absolute_error",
        "cost/density",
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    trials = tuple(
        GridTrial(config=trial_config(m, "scenes", "tiny", seed=s), baseline=b)
        for m, s, b in (("dense", 0, None), ("rigl", 0, 0), ("dense", 1, None))
    )
    grid = GridFile(name="g", trials=trials, objectives=("cost/density",), study={"name": "s"})
    write_grid(tmp_path / "grid.json", grid)
    assert read(tmp_path / "grid.json") == grid


def test_a_damaged_grid_is_named(tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    write_grid(
        path, GridFile(name="g", trials=(GridTrial(config=trial_config("snip", "scenes", "tiny")),))
    )
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match=r"grid\.json' must hold one JSON object as it was written"):
        read(path)


@pytest.mark.parametrize(
    ("trials", "values", "message"),
    [
        ([SNIP], {"version": 2}, r"`version` of the grid .* must be 1, got 2"),
        ([SNIP], {"version": None}, r"`version` of the grid .* must be 1, got None"),
        ([SNIP], {"trails": []}, r"unknown key of the grid .*Did you mean 'trials'"),
        ([SNIP], {"name": "../up"}, r"`name` of the grid .* must be 1 to 63 letters.*'\.\./up'"),
        ([], {}, r"`trials` of the grid .* must be a list with at least one trial, got \[\]"),
        ({"method": "snip"}, {}, r"`trials` .* must be a list"),
        ([SNIP], {"objectives": "miou"}, r"`objectives` .* must be a list of metrics"),
        ([SNIP], {"study": 3}, r"`study` .* must be an object, got 3"),
        (["snip"], {}, r"trial 0 of the grid .* must be an object, got 'snip'"),
        ([DENSE, {"sparsity": 0.5}], {}, r"trial 1 .* must have a `method` or a whole `config`"),
        ([{**SNIP, "sparsty": 1}], {}, r"unknown key of trial 0 .*Did you mean 'sparsity'"),
        ([{**SNIP, "config": {}}], {}, r"unknown key of trial 0 .*'method'"),
        ([{**SNIP, "seed": "1"}], {}, r"`seed` of trial 0 .* must be a whole number, got '1'"),
        ([{**SNIP, "steps": True}], {}, r"`steps` of trial 0 .* must be a whole number, got True"),
        ([{**SNIP, "settings": []}], {}, r"`settings` of trial 0 .* must be an object of dotted"),
        ([DENSE, {**SNIP, "sparsity": 1.5}], {}, r"trial 1 .*`sparsity.target` must be in"),
        ([{**SNIP, "settings": {"a.b": 1}}], {}, r"trial 0 .*unknown setting 'a.b'"),
        ([{"config": {"method": "snip"}}], {}, r"trial 0 of the grid"),
        ([SNIP, DENSE, SNIP], {}, r"must differ, got trials 0 and 2 alike"),
        ([DENSE, {**SNIP, "baseline": 2}], {}, r"`baseline` of trial 1 .* got 2 \(no trial\)"),
        ([DENSE, {**SNIP, "baseline": -1}], {}, r"`baseline` of trial 1 .* got -1 \(no trial\)"),
        ([SNIP, {**SNIP, "seed": 1, "baseline": 0}], {}, r"`baseline` of trial 1 .* 0 \(snip\)"),
        (
            [{**DENSE, "tasks": "depth"}, {**SNIP, "baseline": 0}],
            {},
            r"`baseline` of trial 1 .* must have the same tasks, got trial 0 with depth",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_sentence(
    tmp_path: Path, trials: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read(write(tmp_path, trials, **values))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [None, "", "[]", "{", "\x00"])
def test_what_is_no_grid_at_all(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "grid.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"grid\.json'"):
        read(path)


def test_a_whole_configuration_is_what_train_writes(tmp_path: Path) -> None:
    config = trial_config("snip", "scenes", "tiny", seed=2)
    grid = read(write(tmp_path, [{"config": json.loads(json.dumps(config.to_dict()))}]))
    assert grid.trials[0].config == config

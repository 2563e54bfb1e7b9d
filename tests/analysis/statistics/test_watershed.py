"""Check agreement and density by layer: depth, correlation, published curves, files."""

import json
import math
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.plots.layers import files
from analysis.statistics import watershed
from analysis.statistics.chance import chance_agreement
from analysis.statistics.comparing.comparison import correlation_with_depth
from analysis.studies.systems_by_seed import read_grid
from analysis.studies.trials import load_study
from analysis.tables import layer_tables, papers
from tests.analysis.built_studies import BuiltStudy, Row
from tests.analysis.grids import LAYERS, grid_rows, write_summaries
from tests.analysis.test_command_line import is_picture, run
from trainables.errors import UserError

TASKS = ("segmentation", "depth")
Record = Callable[..., BuiltStudy]
VALUES = {
    (method, sparsity): [{"segmentation/miou": 0.4, "depth/absolute_error": 1.0}] * 3
    for method, sparsity in (("dense", 0.0), ("snip", 0.9), ("disparse-static", 0.9))
}


def falling(row: Row, layer: int) -> float:
    """Falls with depth; with seed 1 the first two layers change places."""
    order = [1, 0, 2, 3, 4] if row.seed == 1 else [0, 1, 2, 3, 4]
    return 0.9 - 0.2 * order[layer] if layer < 5 else 0.5


def read(record: Record, agreement=falling, layers=LAYERS):
    built = record("votes", grid_rows(VALUES), tasks=TASKS)
    write_summaries(built, agreement, layers)
    grid = read_grid(load_study("votes", built.storage))
    return built, grid, watershed.read_layers(grid)


def test_correlations_and_their_interval_by_hand(record: Record) -> None:
    """ρ = 1 - 6 Σd² / (n (n² - 1)): -1, and with one swap 1 - 6·38/120 = -0.9."""
    _, _, found = read(record)
    item = next(i for i in found if i.system.method == "disparse-static")
    assert item.depth.by_seed == pytest.approx({0: -1.0, 1: -0.9, 2: -1.0})
    mean, deviation = -2.9 / 3, np.std([-1, -0.9, -1], ddof=1)
    assert item.depth.interval.high == pytest.approx(mean + 4.302653 * deviation / math.sqrt(3))
    assert item.depth.interval.low == -1.0  # no correlation lies below
    assert {i.system.method for i in found} == {"snip", "disparse-static"}  # dense prunes nothing
    assert not next(i for i in found if i.system.method == "snip").depth.by_seed


@pytest.mark.parametrize(("density", "num_tasks"), [(0.1, 2), (0.7, 2), (0.5, 2)])
def test_random_votes_agree_to_chance(density: float, num_tasks: int) -> None:
    """Two votes of density d: |∪| = 2d − d², agreement d / (2 − d), which is all chance."""
    kept = 1 - (1 - density) ** num_tasks
    agreement = density / (2 - density)
    assert chance_agreement(kept, agreement, num_tasks) == pytest.approx(agreement)


def test_chance_by_hand() -> None:
    """Of 10 weights three tasks want 8, all of them 2: density 0.5, 0.125 / 0.875 = 1/7. Where
    all want the same half, chance is the same: agreement 1 is 6/7 beyond it."""
    assert chance_agreement(0.8, 0.25, 3) == pytest.approx(1 / 7)
    assert chance_agreement(0.5, 1.0, 3) == pytest.approx(1 / 7)
    assert chance_agreement(1.0, 1.0, 5) == 1.0
    assert math.isnan(chance_agreement(0.0, 1.0, 2))


def test_unequal_votes_agree_by_chance_to_less() -> None:
    p, q = 0.1, 0.5
    kept, both = p + q - p * q, p * q
    exact = p * q / (p + q - p * q)
    assert exact < chance_agreement(kept, both / kept, 2)


def test_random_votes_drawn_by_layer_have_no_agreement_beyond_chance() -> None:
    """Density falls from layer to layer and so does agreement; what is beyond chance does not."""
    random = np.random.default_rng(0)
    beyond, agreements = [], []
    for density in (0.9, 0.7, 0.5, 0.3, 0.1):
        votes = random.random((2, 200_000)) < density
        both, either = votes.all(0).mean(), votes.any(0).mean()
        agreements.append(both / either)
        beyond.append(both / either - chance_agreement(either, both / either, 2))
    assert correlation_with_depth(agreements) == pytest.approx(-1.0)
    assert beyond == pytest.approx([0.0] * 5, abs=0.005)


def test_shortcuts_are_no_step_along_the_path() -> None:
    names = ["conv1", "ds.1.0", "blocks.0.0.conv1", "downsample.0"]
    assert watershed.main_path(names) == ["conv1", "blocks.0.0.conv1"]
    curve = watershed.curve({"conv1": 1.0, "ds.1.0": 0.0, "a": 0.5, "b": 0.0})
    assert list(curve.depth_N) == [0.0, 0.5, 1.0]
    assert list(curve.values_N) == [1.0, 0.5, 0.0]
    assert curve.at(0.25) == 0.75


def test_the_published_curves_fall_with_depth() -> None:
    for dataset in papers.DATASETS:
        curve = papers.published_curve(dataset)
        assert len(curve.depth_N) == 33
        assert correlation_with_depth(list(curve.values_N)) < -0.8


def test_layers_meet_the_published_by_name_and_by_depth(record: Record) -> None:
    _, _, found = read(record)
    table = layer_tables.agreement_table(found, "nyu-v2")
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == [*LAYERS, "ds.1.0"]
    # Layer 3 of 5 is half-way: the published layer 16 of 0 … 32, blocks.2.0.conv2.
    assert rows["blocks.0.0.conv2"] == [
        "blocks.0.0.conv2",
        "0.50",
        "0.939",
        "0.129",
        "0.500 ± 0.000",
    ]
    assert rows["conv1"][4] == "0.833 ± 0.115"  # 0.9, 0.7, 0.9
    assert rows["ds.1.0"][1:] == ["–", "0.948", "–", "0.123 ± 0.000"]


def test_a_network_of_other_names_is_met_by_depth_alone(record: Record) -> None:
    _, _, found = read(record, layers=("a", "b", "c", "d", "e"))
    rows = layer_tables.agreement_table(found, "cityscapes").rows
    assert [row[2] for row in rows] == ["–"] * 5 + ["0.980"]  # but for its shortcut
    assert rows[0][3] == "0.992"
    assert rows[4][3] == "0.047"


def test_equal_agreement_has_no_correlation(record: Record) -> None:
    _, _, found = read(record, lambda row, layer: 1.0)
    assert all(not item.depth.by_seed for item in found)
    rows = layer_tables.correlation_table(found, papers.DATASETS).rows
    assert len(rows) == 3  # the published alone


def test_densities_are_pooled_over_seeds(record: Record) -> None:
    """The head keeps 50 or 51 of 500 by trial: (2 × 50 + 51) or (50 + 2 × 51) of 1,500."""
    _, _, found = read(record)
    heads = {
        item.system.method: next(
            layer for layer in files.pooled(item).layers if layer.owner == "depth"
        )
        for item in found
    }
    assert (heads["snip"].kept, heads["snip"].total) == (152, 1500)
    assert (heads["disparse-static"].kept, heads["disparse-static"].total) == (151, 1500)
    table = layer_tables.density_table(found)
    assert table.rows[0] == ["conv1", "shared", "10.00 ± 0.00", "10.00 ± 0.00"]
    assert table.rows[-1][1] == "depth"


def test_layers_writes_tables_and_pictures(record: Record, monkeypatch, capsys) -> None:
    built, _, _ = read(record)
    answer = built.directory / "answer.json"
    options = ("--storage", built.storage, "--json", answer)
    assert run(monkeypatch, "layers", "votes", *options) == 0
    assert "published, taskonomy" in capsys.readouterr().out
    for name in ("layers-density.png", "layers-agreement.png"):
        assert is_picture(built.directory / name), name
    table = pq.read_table(built.directory / "layers.parquet").to_pylist()
    assert len(table) == 2 * 3 * 7  # systems, seeds, layers
    conv1 = [r for r in table if r["published_layer"] == "conv1" and r["agreement"] is not None]
    assert [r["agreement"] for r in conv1] == pytest.approx([0.9, 0.7, 0.9])
    assert {r["depth"] for r in conv1} == {0.0}
    assert {r["depth"] for r in table if r["owner"] == "depth"} == {None}
    systems = json.loads(answer.read_text())["systems"]
    static = next(s for s in systems if s["method"] == "disparse-static")
    assert static["depth_correlation"]["mean"] == pytest.approx(-2.9 / 3)
    assert (built.directory / "layers.tex").read_text().isascii()


def test_without_votes_there_is_density_alone(record: Record, monkeypatch) -> None:
    rows = grid_rows({k: v for k, v in VALUES.items() if k[0] != "disparse-static"})
    built = record("quiet", rows, tasks=TASKS)
    write_summaries(built, falling)
    assert run(monkeypatch, "layers", "quiet", "--storage", built.storage, "--quiet") == 0
    assert not (built.directory / "layers-agreement.png").exists()
    assert "Agreement" not in (built.directory / "layers.md").read_text()


def test_without_masks_there_is_a_message(record: Record) -> None:
    built = record("bare", grid_rows(VALUES), tasks=TASKS)
    with pytest.raises(UserError, match="got none"):
        watershed.read_layers(read_grid(load_study("bare", built.storage)))

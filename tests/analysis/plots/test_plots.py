"""Check what the pictures show, as far as that can be done without looking."""

import itertools
import json
import re
from collections.abc import Callable

import pytest

from analysis.labels import admitting, layer_label
from analysis.methods import method_order, method_style
from analysis.plots import canvas, parallel, style
from analysis.plots.fronts import front, front_page
from analysis.plots.layers import agreement, density
from analysis.report import figures
from analysis.report.report import render
from analysis.studies.trials import load_study
from tests.analysis.built_studies import PRIMARY, BuiltStudy, realistic_rows, simple_row
from trainables.registry.methods import METHODS

TASKS = ("segmentation", "normals", "depth")
Record = Callable[..., BuiltStudy]


@pytest.fixture
def found(record: Record) -> figures.Findings:
    built = record("seen", realistic_rows(30, TASKS), tasks=TASKS, summaries=True)
    return figures.find(load_study("seen", built.storage))


@pytest.mark.parametrize(
    ("name", "owner", "label"),
    [
        ("backbone.conv1.weight", "shared", "conv1"),
        ("backbone.blocks.1.0.conv2.weight", "shared", "1.0.conv2"),
        ("backbone.ds.1.0.weight", "shared", "shortcut.1.0"),
        ("heads.depth.branches.3.conv1.weight", "depth", "3.conv1"),
        ("weight", "shared", "weight"),
        ("my.own.layer", "shared", "my.own.layer"),
    ],
)
def test_layers_have_short_names(name: str, owner: str, label: str) -> None:
    assert layer_label(name, owner) == label


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.0), (0.0173, 1.0), (0.3, 0.31), (1e-4, 1.0)])
def test_a_colour_bar_has_two_or_three_ticks_well_apart(low: float, high: float) -> None:
    ticks = style.bar_ticks(low, high)
    assert ticks[0] == low
    assert ticks[-1] == high
    assert 2 <= len(ticks) <= 3
    for first, second in itertools.pairwise(ticks):
        assert second / first >= (high / low) ** 0.24


@pytest.mark.parametrize("marker", [*(method.marker for method in METHODS.values()), (4, 1, 0)])
def test_every_marker_has_a_picture_that_fits(marker: str) -> None:
    svg = canvas.marker_svg(marker, "#123456")
    path = re.search(r' d="([^"]+)"', svg)
    assert path is not None
    places = [float(v) for v in re.findall(r"-?\d+\.\d+", path[1])]
    assert len(places) >= 6
    assert 5.9 < max(map(abs, places)) < 6.1


def test_a_method_of_a_users_own_has_a_look_that_stays() -> None:
    own = [f"my_package.rule_{i}:METHOD" for i in range(40)]
    looks = [method_style(name) for name in own]
    assert looks == [method_style(name) for name in own]
    assert looks[0].label == "rule_0"
    assert method_style("my_package.rules:FAST").label == "rules:FAST"
    assert method_style("from-an-entry-point").label == "from-an-entry-point"
    markers = {look.marker for look in looks}
    assert len({(look.colour, look.marker) for look in looks}) > 15
    assert len(markers) > 3
    assert markers.isdisjoint(method.marker for method in METHODS.values())
    assert method_order([own[0], "den", "dense"]) == ["dense", "den", own[0]]


def test_a_users_own_method_is_drawn_everywhere(record: Record) -> None:
    rows = realistic_rows(30, TASKS)
    for row in rows[2:20:3]:
        row.method = "my_package.my_rule:METHOD"
    built = record("own", rows, tasks=TASKS, summaries=True)
    result = figures.find(load_study("own", built.storage))
    figures.write_front(result, built.directory)
    assert len(figures.write_figures(result, built.directory)) >= 4
    text = render(result, "command")
    assert 'data-trace="my_rule"' in text
    symbol = method_style("my_package.my_rule:METHOD").symbol
    assert f'"symbol":"{symbol}"' in text


def test_every_trace_of_the_panels_is_in_the_legend(found: figures.Findings) -> None:
    """Nothing else is: a button of the legend always hides something."""
    hover = figures.hover_texts(found.study)
    drawn = {
        trace.name
        for task_front in found.fronts
        for trace in front_page.interactive(task_front, found.member_names, hover).data
    }
    assert drawn == {name for name, _ in front_page.legend(found.fronts)}
    assert {front.DENSE_LEVEL, front.RANDOM_FRONT, "Random", "Dense"} <= drawn


def test_dense_is_a_dashed_level_with_its_value(found: figures.Findings) -> None:
    for task_front in found.fronts:
        figure = front_page.interactive(task_front, found.member_names, {})
        level = next(t for t in figure.data if t.name == front.DENSE_LEVEL)
        dense = [t.metrics[task_front.quality] for t in task_front.dense]
        assert level.line.dash == "dash"
        assert list(level.y) == pytest.approx([sum(dense) / len(dense)] * 2)
        value = admitting(level.y[0], task_front.quality)
        assert figure.layout.annotations[0].text == f"dense {value}, mean of {len(dense)}"


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (5, (2, 3))])
def test_front_png_is_read_at_800_pixels(record: Record, count: int, shape: tuple) -> None:
    """Its smallest text is at least nine pixels high there."""
    tasks = tuple(PRIMARY)[:count]
    built = record("wide", realistic_rows(12, tasks), tasks=tasks)
    result = figures.find(load_study("wide", built.storage), with_masks=False)
    picture = front.draw(result.fronts, result.member_names, "title", "subtitle")
    assert front.grid(count) == shape
    pixels_per_point = min(1.0, 800 / (picture.get_figwidth() * 72))
    sizes = [label.get_fontsize() for axes in picture.axes for label in axes.get_xticklabels()]
    sizes += [text.get_fontsize() for axes in picture.axes for text in axes.texts]
    assert min(sizes) * pixels_per_point >= 9


def test_a_line_of_agreement_breaks_before_the_shortcuts(record: Record) -> None:
    built = record("cut", [simple_row(0, "disparse-static", 0.1, 0.4, 20.0, 0.5)], tasks=TASKS)
    votes = {"backbone.conv1.weight": 0.9, "backbone.ds.1.0.weight": 0.8, "backbone.b.weight": 0.7}
    kept = {name: {"kept": 1, "total": 10, "owner": "shared"} for name in votes}
    folder = built.directory / "trials" / "00000"
    folder.mkdir(parents=True)
    summary = {"masks": {"layers": kept, "agreement": votes}}
    (folder / "summary.json").write_text(json.dumps(summary))
    result = figures.find(load_study("cut", built.storage))
    (figure,) = agreement.interactive(result.votes)
    assert list(figure.data[0].y) == [0.9, 0.7, None, 0.8]
    assert list(figure.layout.xaxis.ticktext) == ["conv1", "b", "shortcut.1.0"]


def test_pre_training_is_a_choice_only_where_its_length_is(record: Record) -> None:
    def shown(*steps: int) -> list[str]:
        rows = [simple_row(i, "snip", 0.1, 0.4, 20.0, 0.5) for i in range(len(steps))]
        for row, count in zip(rows, steps, strict=True):
            row.params = {"training.pretrain_steps": count}
        built = record("pretrained" + "-".join(map(str, steps)), rows, tasks=TASKS)
        return parallel.varying_params(load_study(built.name, built.storage).trials)

    assert shown(0, 0, 200) == []
    assert shown(0, 100, 200) == ["training.pretrain_steps"]


def test_a_map_of_one_row_has_room_for_its_colour_bar(found: figures.Findings) -> None:
    one = density.draw(found.layers[:1], "title", "subtitle")
    many = density.draw(found.layers * 4, "title", "subtitle")
    assert 3.5 <= one.get_figheight() < many.get_figheight()

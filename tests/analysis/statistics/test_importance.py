"""Check the importance of parameters against functions whose answer is known."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.plots import importance as plot
from analysis.report import figures
from analysis.report.report import render
from analysis.statistics import importance
from analysis.statistics.importance import MIN_TRIALS, Importances, measure, to_table
from analysis.studies.trials import Study, Trial, load_study
from tests.analysis.built_studies import BuiltStudy, realistic_rows

MIOU, COST = "val/segmentation/miou", "cost/density"
TASKS = ("segmentation", "normals", "depth")
Record = Callable[..., BuiltStudy]


def trial(number: int, params: dict[str, Any], miou: float, cost: float, **changes: Any) -> Trial:
    return Trial(
        trial=f"s-{number:05d}",
        number=number,
        method=params.get("method", "snip"),
        seed=number,
        status="complete",
        params=params,
        metrics={MIOU: miou, COST: cost},
        **changes,
    )


def study_of(trials: list[Trial], objectives: tuple[str, ...] = (MIOU, COST)) -> Study:
    return Study(
        name="s",
        directory=Path("nowhere"),
        objectives=objectives,
        trials=tuple(trials),
        facts={},
        source="parquet",
    )


def random_trials(
    count: int,
    miou: Callable[[dict[str, Any]], float],
    cost: Callable[[dict[str, Any]], float],
    seed: int = 0,
    **changes: Any,
) -> list[Trial]:
    """Ten parameters of every kind, drawn independently; of RigL one more."""
    generator = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        params: dict[str, Any] = {f"plain.{i}": float(generator.random()) for i in range(4)}
        params |= {f"log.{i}": float(10 ** generator.uniform(-5, -1)) for i in range(2)}
        params |= {f"count.{i}": int(generator.integers(4, 40)) for i in range(2)}
        params |= {f"choice.{i}": str(generator.choice(["a", "b", "c"])) for i in range(2)}
        params["method"] = str(generator.choice(["snip", "rigl", "random"]))
        if params["method"] == "rigl":
            params["regrowth.fraction"] = float(generator.uniform(0.1, 0.6))
        trials.append(trial(number, params, miou(params), cost(params), **changes))
    return trials


def measured(trials: list[Trial], objectives: tuple[str, ...] = (MIOU, COST)) -> Importances:
    return measure(study_of(trials, objectives), trials)


def shares(found: Importances, objective: str = MIOU) -> dict[str, float]:
    return {name: item.share for name, item in found.of(objective).items()}


def told(found: Importances, objective: str = MIOU) -> set[str]:
    return {name for name, item in found.of(objective).items() if item.is_told}


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("plain.1", lambda p: p["plain.1"]),
        ("plain.1", lambda p: -abs(p["plain.1"] - 0.5)),
        ("log.0", lambda p: -abs(math.log10(p["log.0"]) + 3)),
        ("count.1", lambda p: -p["count.1"]),
        ("choice.0", lambda p: {"a": 0.0, "b": 1.0, "c": 0.2}[p["choice.0"]]),
        ("method", lambda p: float(p["method"] == "rigl")),
    ],
)
def test_one_parameter_that_alone_decides_has_the_share(
    name: str, outcome: Callable[[dict[str, Any]], float]
) -> None:
    """Whatever its kind and scale, and whether low, high or middle values are best."""
    found = measured(random_trials(60, outcome, lambda p: p["plain.2"]))
    assert max(shares(found), key=shares(found).__getitem__) == name
    assert shares(found)[name] > 0.7
    assert name in told(found)
    assert max(shares(found, COST), key=shares(found, COST).__getitem__) == "plain.2"
    assert found.parameters[:2] in ((name, "plain.2"), ("plain.2", name))
    for objective in (MIOU, COST):
        assert sum(shares(found, objective).values()) == pytest.approx(1)


def test_shares_of_an_additive_function_follow_its_weights() -> None:
    def outcome(params: dict[str, Any]) -> float:
        return 4 * params["plain.0"] + 2 * params["plain.1"] + params["plain.2"]

    found = measured(random_trials(600, outcome, lambda p: p["plain.3"]))
    share = shares(found)
    ordered = sorted(share, key=share.__getitem__, reverse=True)
    assert ordered[:3] == ["plain.0", "plain.1", "plain.2"]
    assert told(found) == {"plain.0", "plain.1", "plain.2"}
    assert max(share[name] for name in ordered[3:]) < 0.02


def test_noise_is_not_told_from_chance() -> None:
    """At 5 % over all parameters together: at most 4 of 20 such objectives with a probability
    of 99.7 %."""
    count = 0
    for seed in range(10):
        generator = np.random.default_rng(1000 + seed)
        draw = lambda p, g=generator: float(g.random())  # noqa: E731
        found = measured(random_trials(MIN_TRIALS, draw, draw, seed))
        count += bool(told(found)) + bool(told(found, COST))
    assert count <= 4


def test_the_merit_of_a_method_is_not_that_of_its_parameters() -> None:
    """RigL is best whatever its `regrowth.fraction`; within RigL, `plain.0` decides the cost."""
    generator = np.random.default_rng(5)
    trials = random_trials(
        90,
        lambda p: float(p["method"] == "rigl") + 0.1 * float(generator.random()),
        lambda p: p["regrowth.fraction"] if p["method"] == "rigl" else 2 + p["plain.0"],
    )
    found = measured(trials)
    assert told(found) == {"method"}
    assert shares(found)["regrowth.fraction"] < 0.1
    assert found.of(MIOU)["regrowth.fraction"].num_trials == sum(t.method == "rigl" for t in trials)
    # Of the cost, RigL's trials are the cheapest third: among them its own parameter decides.
    assert told(found, COST) == {"method", "regrowth.fraction"}


def test_order_changes_nothing() -> None:
    trials = random_trials(50, lambda p: p["plain.0"] + p["log.0"], lambda p: p["choice.0"] == "a")
    trials = [
        dataclasses.replace(t, metrics={**t.metrics, "val/depth/absolute_error": t.params["log.1"]})
        for t in trials
    ]
    names = (MIOU, "val/depth/absolute_error", COST)
    found = measured(trials, names)
    turned = [
        dataclasses.replace(t, params=dict(reversed(t.params.items()))) for t in reversed(trials)
    ]
    other = measured(turned, (names[1], names[0], names[2]))
    for name in names:
        assert other.of(name) == found.of(name)
    assert other.parameters == found.parameters
    assert measured(trials, (MIOU, COST)).of(MIOU) == found.of(MIOU)


def test_scale_and_direction_change_nothing() -> None:
    """A logarithm of a parameter, a stretched objective, and one that is turned with its sign."""
    trials = random_trials(50, lambda p: -p["log.0"] + p["plain.0"], lambda p: p["log.0"])
    stretched = [
        dataclasses.replace(
            t,
            params={**t.params, "log.0": math.log(t.params["log.0"])},
            metrics={MIOU: math.exp(t.metrics[MIOU]), COST: t.metrics[COST] ** 3},
        )
        for t in trials
    ]
    assert measured(stretched).items == measured(trials).items
    error = "val/depth/absolute_error"  # to be minimised, where the mIoU is to be maximised
    turned = [
        dataclasses.replace(t, metrics={error: -t.metrics[MIOU], COST: t.metrics[COST]})
        for t in trials
    ]
    found = shares(measured(turned, (error, COST)), error)
    assert found == shares(measured(trials))


def test_what_never_varied_is_left_out() -> None:
    """Constants, what goes with the method, seeds, and no pre-training."""
    trials = random_trials(40, lambda p: p["plain.0"], lambda p: p["plain.1"])
    more: list[Trial] = []
    for t in trials:
        added = {
            "optimiser.name": "adam",
            "training.steps": 200 if t.method == "snip" else 100,
            "training.pretrain_steps": 0 if t.number % 2 else 100,
            "seed": t.number,
        }
        more.append(dataclasses.replace(t, params={**t.params, **added}))
    assert measured(more).items == measured(trials).items
    alone = [dataclasses.replace(t, params={"x": 1}, method="snip") for t in trials]
    assert measured(alone).reason is not None


def test_only_trials_that_ran_to_the_end_count(record: Record) -> None:
    rows = realistic_rows(60, TASKS)
    built = record("some", rows, tasks=TASKS)
    found = figures.find(load_study("some", built.storage)).importances
    ended = [r for r in rows if r.status == "complete" and r.method != "dense"]
    assert found.num_trials == len(ended)
    assert found.num_stopped == sum(r.status == "stopped" for r in rows)
    assert "stopped early are left out" in importance.explanation(found)
    assert found.of(COST)["sparsity.target"].share > 0.6
    table = to_table(found)
    assert table.num_rows == len(found.items) == len(found.parameters) * 4
    assert table["share"].to_pylist() == [item.share for item in found.items]


def test_a_grid_of_systems_has_two_parameters() -> None:
    """Sparsities as levels; the seeds are no parameter, and dense trials no choice."""
    grid = [
        (method, target, seed)
        for method in ("random", "snip", "rigl")
        for target in (0.3, 0.6, 0.9)
        for seed in range(5)
    ]
    generator = np.random.default_rng(0)
    trials = [
        trial(
            number,
            {"method": method, "sparsity.target": target, "training.steps": 100},
            miou=float(method == "rigl") + 0.1 * float(generator.random()),
            cost=1 - target,
        )
        for number, (method, target, _) in enumerate(grid)
    ]
    dense = [trial(100 + i, {"method": "dense"}, miou=2.0, cost=1.0) for i in range(5)]
    found = measured([*trials, *dense])
    assert set(found.parameters) == {"method", "sparsity.target"}
    assert found.num_trials == 45
    assert told(found) == {"method"}
    assert told(found, COST) == {"sparsity.target"}
    assert measured(trials).items == found.items


def test_too_few_trials_are_said_not_drawn(record: Record) -> None:
    trials = random_trials(MIN_TRIALS - 1, lambda p: p["plain.0"], lambda p: p["plain.1"])
    found = measured(trials)
    assert not found.items
    assert f"has {MIN_TRIALS - 1}" in str(found.reason)
    assert measured(random_trials(MIN_TRIALS, lambda p: p["plain.0"], lambda p: 1.0)).items
    built = record("few", realistic_rows(14, TASKS), tasks=TASKS)
    few = figures.find(load_study("few", built.storage))
    written = figures.write_figures(few, built.directory)
    assert not [path for path in written if path.name.startswith("importance")]
    page = render(few, "command")
    assert 'id="importance"' not in page
    assert 'href="#importance"' not in page
    assert measure(study_of([]), []).reason is not None


def test_an_objective_without_differences_is_named_not_drawn() -> None:
    trials = random_trials(40, lambda p: p["plain.0"], lambda p: 0.5)
    found = measured(trials)
    assert found.flat == (COST,)
    assert not found.of(COST)
    texts = [text.get_text() for text in plot.draw(found, "title", "about").axes[1].texts]
    assert any("share" in text for text in texts)
    assert "best value" in str([a.text for a in plot.interactive(found).layout.annotations])
    same = measured(random_trials(40, lambda p: 0.5, lambda p: 0.5))
    assert same.reason is not None


def test_figure_table_and_page_show_the_same(record: Record) -> None:
    built = record("seen", realistic_rows(70, TASKS), tasks=TASKS)
    found = figures.find(load_study("seen", built.storage))
    written = {path.name: path for path in figures.write_figures(found, built.directory)}
    assert written["importance.png"].stat().st_size > 10_000
    rows = pq.read_table(written["importance.parquet"]).to_pylist()
    assert len(rows) == len(found.importances.items)
    figure = plot.interactive(found.importances)
    drawn = {
        (item, bar) for trace in figure.data for item, bar in zip(trace.y, trace.x, strict=True)
    }
    wanted = {(row["parameter"], 100 * row["share"]) for row in rows}
    assert drawn == wanted
    assert {trace.name for trace in figure.data} == {name for name, _ in plot.legend()}
    text = render(found, "command")
    assert 'id="importance"' in text
    assert "PED-ANOVA" in text


def test_many_long_names_fit() -> None:
    """The figure grows with its rows, and names the first of too many."""
    trials = random_trials(40, lambda p: p["plain.0"], lambda p: p["plain.1"])
    generator = np.random.default_rng(0)
    wide = []
    for t in trials:
        added = {f"sparsity.saliency_weights_{i}": float(generator.random()) for i in range(15)}
        wide.append(dataclasses.replace(t, params={**t.params, **added}))
    found = measured(wide)
    picture = plot.draw(found, "title", "about")
    labels = [label.get_text() for label in picture.axes[0].get_yticklabels()]
    assert labels == list(found.parameters[: importance.MAX_SHOWN])
    assert picture.get_figheight() * 72 / len(labels) > 1.9 * 9.5
    assert found.parameters[-1] in importance.explanation(found)

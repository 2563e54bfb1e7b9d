"""Run `python -m analysis pick`: what it says, what it writes, and what it refuses."""

import json
import re
import shlex
from collections.abc import Callable, Sequence

import pytest

from tests.analysis.built_studies import BuiltStudy, Row, simple_row, summary
from tests.analysis.test_command_line import run
from trainables.terminal.as_typed import python

TASKS = ("segmentation", "normals")
Record = Callable[..., BuiltStudy]
LATENCY = "cost/latency_fraction"


def hand_rows() -> list[Row]:
    """Return the trials of `test_choice`: the knee is 2, and 4 is dominated by 1."""
    values: Sequence[tuple[str, float, float, float]] = [
        ("dense", 1.0, 0.50, 16.0),
        ("snip", 0.5, 0.48, 18.0),
        ("disparse-static", 0.1001, 0.44, 20.0),
        ("rigl", 0.05, 0.30, 26.0),
        ("random", 0.5, 0.47, 19.0),
    ]
    rows = [simple_row(i, *value) for i, value in enumerate(values)]
    rows[2].params = {"method": "disparse-static", "optimiser.name": "adam", "seed": 2}
    return rows


@pytest.fixture
def built(record: Record) -> BuiltStudy:
    return record("demo", hand_rows(), tasks=TASKS)


def pick(monkeypatch, built: BuiltStudy, *arguments: str) -> int:
    return run(monkeypatch, "pick", built.name, "--storage", built.storage, *arguments)


def answer(monkeypatch, capsys, built: BuiltStudy, *arguments: str) -> dict:
    assert pick(monkeypatch, built, "--json", "-", *arguments) == 0
    return json.loads(capsys.readouterr().out)  # nothing else is printed


def test_the_knee_and_why(built: BuiltStudy, monkeypatch, capsys) -> None:
    assert pick(monkeypatch, built) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0] == "demo-00002: DiSparse static"
    assert "of the 4 models on the front, the knee: farthest below the line" in lines[1]
    rows = {cells[0]: cells[1:] for line in lines if len(cells := re.split(r" {2,}", line)) > 5}
    assert {name: cells for name, cells in rows.items() if len(cells) == 6} == {
        "val": ["value", "dense", "price", "best of front", "of trial", "given up"],
        "Segmentation mIoU ↑": ["0.44", "0.5", "0.06 worse (12 %)", "0.5", "demo-00000", "0.06"],
        "Surface normals mean angular error ↓": [
            *("20°", "16°", "4° worse (25 %)", "16°", "demo-00000", "4°"),
        ],
        "density ↓": ["10.01 %", "100 %", "–", "5 %", "demo-00003", "5.01 percentage points"],
    }
    assert "settings optimiser.name=adam" in said
    assert (
        "Δ_T      -18.5 %: the mean change of all metrics of a task, not only of" in said
    )  # (-12 - 25) / 2
    assert "python -m search ship demo --trial 2 --out shipped/demo-00002 --storage" in said
    assert "model.pt, which is not there" in said


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        *(("0", "demo-00000"), ("12.5", "demo-00001"), ("25", "demo-00002")),
        *(("62.5", "demo-00003"), ("12.5%", "demo-00001"), (" 25 % ", "demo-00002")),
    ],
)
def test_every_task_within_a_loss(loss, expected, built: BuiltStudy, monkeypatch, capsys) -> None:
    found = answer(monkeypatch, capsys, built, "--max-loss", loss, "--best", "cost/density")
    assert found["trial"] == expected
    assert found["plain_conditions"] == []


def test_plain_conditions_stand_below_the_knee(built: BuiltStudy, monkeypatch, capsys) -> None:
    listed = answer(monkeypatch, capsys, built)["plain_conditions"]
    taken = {one["condition"]: one["trial"] for one in listed}
    assert taken == {
        "At most 1 % loss on every task": "demo-00000",
        "At most 5 % loss on every task": "demo-00000",
        "Density at most 10 %": "demo-00003",  # 2 keeps 10.01 %
        "Best bargain (the front's knee)": "demo-00002",
    }
    for one in listed:  # each command makes the choice that it stands beside
        words = shlex.split(one["command"])[5:]
        again = answer(monkeypatch, capsys, built, *words[: words.index("--storage")])
        assert again["trial"] == one["trial"]
    (tenth,) = [one for one in listed if one["trial"] == "demo-00003"]
    assert tenth["loss_percent"] == pytest.approx(
        {"val/segmentation/miou": 40.0, "val/normals/mean_error_deg": 62.5}
    )


def test_without_a_dense_model_no_loss_is_promised(record: Record, monkeypatch, capsys) -> None:
    built = record("demo", hand_rows()[1:], tasks=TASKS)
    listed = answer(monkeypatch, capsys, built)["plain_conditions"]
    assert [one["condition"] for one in listed] == [
        "Density at most 10 %",
        "Best bargain (the front's knee)",
    ]
    assert pick(monkeypatch, built, "--max-loss", "5") == 2
    assert "no dense trial of the study has segmentation/miou" in capsys.readouterr().err


def test_a_condition_that_nothing_meets_names_the_nearest(record, monkeypatch, capsys) -> None:
    built = record("demo", hand_rows()[:2], tasks=TASKS)
    assert pick(monkeypatch, built) == 0
    assert (
        "Density at most 10 %: no model of the front meets cost/density<=0.1. The nearest is "
        in (capsys.readouterr().out)
    )


def test_the_model_and_its_weights(built: BuiltStudy, monkeypatch, capsys) -> None:
    import numpy as np

    folder = built.directory / "trials" / "00002"
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"weights")
    written = summary(built.rows[2], TASKS, np.random.default_rng(0))
    (folder / "summary.json").write_text(json.dumps(written))
    result = answer(monkeypatch, capsys, built)
    assert result["model"] == str(folder / "model.pt")
    assert result["model_exists"]
    assert result["weights"] == {k: written["masks"][k] for k in ("kept", "total")}
    assert pick(monkeypatch, built) == 0
    said = capsys.readouterr().out
    assert f"load_model('{folder / 'model.pt'}').model" in said
    assert (
        f"{written['masks']['kept']:,} of {written['masks']['total']:,} prunable ones kept" in said
    )


def test_json_has_the_whole_answer(built: BuiltStudy, monkeypatch, capsys) -> None:
    where = ("--where", "segmentation/miou>=95%", "--where", "cost/density<1")
    result = answer(monkeypatch, capsys, built, *where, "--best", "cost/density")
    assert (result["trial"], result["number"], result["method"]) == ("demo-00001", 1, "snip")
    assert (result["rule"], result["best"]) == ("best", "cost/density")
    assert [bound["bound"] for bound in result["bounds"]] == [0.475, 1.0]
    assert [bound["value"] for bound in result["bounds"]] == [0.48, 0.5]
    assert result["front"] == [f"demo-0000{i}" for i in (3, 2, 1, 0)]
    assert result["admitted"] == ["demo-00001"]
    miou = result["objectives"]["val/segmentation/miou"]
    assert miou["price"] == pytest.approx(0.02)
    assert miou["price_percent"] == pytest.approx(4)
    assert miou["gives_up"] == pytest.approx(0.02)
    assert result["ship"].startswith(f"{python()} -m search ship demo --trial 1 --out shipped/")
    file = built.storage / "answer.json"
    assert pick(monkeypatch, built, "--json", str(file), "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert json.loads(file.read_text())["trial"] == "demo-00002"


def test_a_bound_is_shown_as_it_compares(built: BuiltStudy, monkeypatch, capsys) -> None:
    """0.1001 is not written as 10 % beside a bound of 10 %."""
    assert pick(monkeypatch, built, "--where", "cost/density>10%", "--best", "cost/density") == 0
    said = capsys.readouterr().out
    assert "cost/density is 10.01 %, > 10 % (10 % of dense 100 %)" in said
    assert "the best density ↓, 10.01 %" in said


def test_what_was_measured_is_shown(record: Record, monkeypatch, capsys) -> None:
    rows = hand_rows()
    for row in rows:
        row.metrics |= {LATENCY: 0.6, "cost/latency_ms": 5.25, "cost/model_bytes": 250_000}
        row.metrics |= {"cost/flops_fraction": 0.3, "val/multitask/delta_percent": -7.5}
    built = record("measured", rows, tasks=TASKS)
    assert pick(monkeypatch, built, "--where", "cost/latency_fraction<=0.7") == 0
    said = capsys.readouterr().out
    assert (
        "forward FLOPs 30 %, latency per image 5.25 ms, latency 60 %, weights.safetensors 0.25 MB"
    ) in said
    assert "Δ_T      -7.5 %: the mean change" in said
    assert "cost/latency_fraction is 60 %, <= 70 %" in said


def test_without_a_dense_trial_there_is_no_price(record: Record, monkeypatch, capsys) -> None:
    built = record("sparse", hand_rows()[1:], tasks=TASKS)
    result = answer(monkeypatch, capsys, built)
    assert result["objectives"]["val/segmentation/miou"]["price"] is None
    assert result["delta_percent"] is None
    assert pick(monkeypatch, built, "--where", "segmentation/miou>=95%") == 2
    assert "no dense trial of the study has segmentation/miou" in capsys.readouterr().err


def test_the_front_is_that_of_the_study(record: Record, monkeypatch, capsys) -> None:
    """A stopped, failed or infeasible trial is never picked, however good."""
    rows = hand_rows()
    for status in ("stopped", "infeasible", "failed"):
        rows.append(simple_row(len(rows), "rigl", 0.001, 0.9, 1.0, status=status))
    built = record("unfair", rows, tasks=TASKS)
    assert answer(monkeypatch, capsys, built)["trial"] == "unfair-00002"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--where", "cost/density<=1%"],
            "no model of the front meets cost/density<=1%. The nearest is demo-00003: cost/density "
            "is 5 %, must be <= 1 % (missed by 4 percentage points); --where 'cost/density<=5%' "
            "would admit it",
        ),
        (["--where", "cost/latency_fraction<=0.5"], "--set objective.cost=cost/latency_fraction`"),
        (["--best", "cost/latency_ms"], "--set objective.cost=cost/latency_fraction`"),
        (["--best", "cost/model_bytes"], "--set objective.cost=cost/model_bytes`"),
        (["--where", "cost/densty<=1"], "Did you mean 'cost/density'"),
        (
            ["--best", "depth/absolute_error"],
            "unknown metric 'depth/absolute_error'. The study has cost/density",
        ),
        (["--best", "test/segmentation/miou"], "must be chosen on val"),
        (["--best", "miou"], "unknown metric 'miou'. Did you mean 'segmentation/miou'? The study"),
        (["--max-loss", "little"], "`--max-loss` must be a percentage of the dense model's values"),
        (["--max-loss", "-1"], "`--max-loss` must be a percentage of the dense model's values"),
        (["--max-loss", "nan"], "`--max-loss` must be a percentage of the dense model's values"),
        (
            ["--max-loss", "5", "--where", "cost/density<=0.2"],
            "all bounds together: 2 of 4 models meet cost/density<=0.2, 2 of 4 models meet segm",
        ),
        (["--where", "cost/density"], "`--where` must be a metric, one of <=, >=, < and >"),
        (
            ["--where", "cost/density<=10"],
            "from 0 to 1, got 'cost/density<=10'; write 0.1, or cost",
        ),
        (
            ["--where", "segmentation/miou>=95"],
            "write 0.95, or segmentation/miou>=95% of the dense",
        ),
    ],
)
def test_refusals(arguments, message: str, built: BuiltStudy, monkeypatch, capsys) -> None:
    assert pick(monkeypatch, built, *arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("error: ")
    assert printed.out == ""


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "got none of 0 in study 'empty'"),
        (
            [Row(number=0, method="snip", status="failed"), simple_row(1, "snip", 0.1, 0.3)],
            "got none of 2 (1 complete, 1 failed) in study 'empty'",
        ),
    ],
)
def test_a_study_without_a_model(rows, said: str, record: Record, monkeypatch, capsys) -> None:
    built = record("empty", rows, tasks=TASKS)
    assert pick(monkeypatch, built) == 2
    err = capsys.readouterr().err
    assert (
        f"error: a model must be picked from complete trials with finite objectives, {said}; "
        in err
    )
    assert f"`{python()} -m search resume empty --storage " in err


def test_a_loss_is_rounded_alike_in_both_tables(record: Record, monkeypatch, capsys) -> None:
    rows = hand_rows()
    rows[2].metrics["val/segmentation/miou"] = 0.44444  # 11.112 % worse: 11.2, never 11.1
    built = record("demo", rows, tasks=TASKS)
    assert pick(monkeypatch, built) == 0
    said = capsys.readouterr().out
    assert "0.05556 worse (11.2 %)" in said
    assert said.count("11.2 % worse") == 1  # of the knee, in the list below
    assert "11.1" not in said


def test_an_unknown_metric_lists_those_of_the_study_alone(
    built: BuiltStudy, monkeypatch, capsys
) -> None:
    for options in (("--best", "cost/densitee"), ("--where", "cost/densitee<=1")):
        assert pick(monkeypatch, built, *options) == 2
        said = capsys.readouterr().err
        assert said.strip().endswith(
            "The study has cost/density, normals/mean_error_deg, segmentation/miou"
        )


def test_help_has_examples(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "pick", "--help") == 0
    assert "python -m analysis pick demo --where" in capsys.readouterr().out

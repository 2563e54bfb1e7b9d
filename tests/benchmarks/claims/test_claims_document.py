"""The document says what the data says, and the README what the document says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.claims.jobs import Options, settle
from benchmarks.claims.protocol import SETTINGS
from benchmarks.claims.results.document import BEGIN, END, readme_section, render, write_readme
from benchmarks.claims.results.figure import draw
from benchmarks.claims.results.findings import collect
from benchmarks.claims.studies import run_setting
from tests.benchmarks.claims.claims_studies import FakeSearch
from trainables.errors import UserError

SMALL = ("data.num_train=24", "data.num_test=4", "data.size=32x32", "data.crop=32x32")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scenes run with all systems, by rule; the rest not run."""
    folder = tmp_path_factory.mktemp("claims")
    options = Options(
        storage=folder / "runs",
        data_roots={"scenes": str(folder / "scenes")},
        steps=40,
        overrides=SMALL,
    )

    def rule(system: str, sparsity: float | None, seed: int, settings: Any) -> float | None:
        if system == "den" and seed == 3:
            return None
        better = 0.1 if system.startswith("disparse") else -0.1 if system == "rigl" else 0.0
        worse = 0.04 if sparsity == 0.9 else 0.0
        return 1.0 - better + worse + 0.004 * ((7 * seed + len(system)) % 5)

    run_setting(settle(SETTINGS["scenes"], options), options, FakeSearch(rule), lambda text: None)
    # As it is written and read again: what JSON cannot hold must not be relied on.
    return json.loads(json.dumps(collect(options.storage)))


def rows(text: str, start: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith(start)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_verdict_stands_in_the_summary(found: dict[str, Any]) -> None:
    text = render(found, pictured=True)
    (row,) = rows(text, "| DiSparse dynamic ≥ RigL | 90 % | **")
    claim = next(
        c for c in found["settings"][0]["pairs"] if c["name"] == "disparse-dynamic-rigl-90"
    )
    low, mean, high = (f"{claim['delta'][k]:+.2f}" for k in ("low", "mean", "high"))
    assert row[2] == f"**holds**: {mean} [{low}, {high}] %, n = 5".replace("-", "−")
    assert row[3:] == ["not run", "not run"]
    assert "![Delta_T" in text
    assert "![Delta_T" not in render(found, pictured=False)


def test_what_is_missing_is_said(found: dict[str, Any]) -> None:
    text = render(found, pictured=False)
    assert text.count("**Not run**: no study is finished") == 2
    assert "4 of 5 pairs are complete" in text  # den failed at seed 3
    assert re.search(r"`claims-scenes-\d{5}` failed: diverged", text)
    assert "run-of-claims-scenes-tuning" in text
    assert "python -m search baselines scenes-tiny --name claims-scenes " in text
    assert "cannot give a p below 0.0625" in text  # 2^(1 − 5)


def test_agreement_stands_beside_what_chance_gives(found: dict[str, Any]) -> None:
    """Layers keep 1 of 10 and five tasks agree to 0.9: density 0.095, whose fifth power over
    1 − 0.905^5 is 7.7e-6 / 0.393, nothing."""
    text = render(found, pictured=False)
    below = text.partition("| layer | agreement | by chance | beyond chance |\n")[2]
    first = [cell.strip() for cell in below.splitlines()[1].strip("|").split("|")]
    assert first[1:] == ["0.900", "0.000", "+0.900"]
    assert "Second reading, which decides nothing: beyond chance, ρ −1.00 [−1.00, −1.00]" in text


def test_eligible_reports_and_lengths_stand_beside_the_verdicts(found: dict[str, Any]) -> None:
    text = render(found, pictured=False)
    imp = [row for row in rows(text, "| IMP |") if "**chosen**" in row]
    assert imp[0][-2] == "3 of 5 at 30 %, 1 of 5 at 90 %"
    assert [row[-2] for row in rows(text, "| SNIP | default |")] == ["5 of 5"]
    # Of 40 steps 20 are dense and 20 are divided by eleven.
    assert "IMP 90 %: a dense run of 20, then 11 levels of 1 to 2" in text
    assert "methods at equal training budgets" in text


def test_a_score_that_all_tasks_share_is_said(found: dict[str, Any]) -> None:
    assert "nothing is disentangled" not in render(found, pictured=False)
    changed = json.loads(json.dumps(found))
    for row in changed["settings"][0]["variants"]:
        if row["system"] == "disparse-pretrained":
            row["chosen"] = row["settings"] == {"sparsity.score": "magnitude"}
    assert render(changed, pictured=False).count("nothing is disentangled") == 1


def test_every_setting_of_the_trials_is_in_the_protocol(found: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(found))
    scenes = changed["settings"][0]
    given = ("training.precision=bf16", "training.num_reports=3", "data.crop=32x32")
    scenes["asked"]["overrides"] = [*given, "data.num_test=4"]
    scenes["tuning"]["command"] += ["--set", "data.crop=32x32", "--set", "data.num_test=2"]
    text = render(changed, pictured=False)
    (row,) = rows(text, "| settings of all trials |")
    assert row[1] == ", ".join([*given, "data.num_test=4"])
    (row,) = rows(text, "| settings of the tuning trials alone |")
    assert "data.num_test=2" in row[1]
    assert "data.crop" not in row[1]
    assert rows(text, "| reports per trial |")[0][1:] == ["5", "not run", "not run"]
    assert rows(text, "| resolution (crop) |")[0][1] == "32×32 (32×32)"


def test_no_table_is_ragged(found: dict[str, Any]) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", render(found, pictured=True), re.MULTILINE):
        widths = {line.count("|") for line in block.splitlines()}
        assert len(widths) == 1, block


def test_tuning_shows_every_variant_and_one_choice_each(found: dict[str, Any]) -> None:
    variants = found["settings"][0]["variants"]
    chosen = [row["system"] for row in variants if row["chosen"]]
    assert len(variants) == 4 * 13
    assert len(chosen) == len(set(chosen)) == 13


def test_the_readme_is_replaced_between_its_markers(found: dict[str, Any], tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme(readme, found)
    text = readme.read_text()
    assert text == f"before\n{readme_section(found)}\nafter\n"
    (row,) = rows(text, "| DiSparse dynamic ≥ RigL")
    assert row[1:] == ["30 % / 90 %", "holds / holds"]
    assert "Not run yet: NYU-v2, segmentation and normals; NYU-v2, segmentation and depth." in text
    readme.write_text("no markers")
    with pytest.raises(UserError, match="markers"):
        write_readme(readme, found)


def test_the_figure_is_drawn_where_there_is_something_to_show(
    found: dict[str, Any], tmp_path: Path
) -> None:
    from PIL import Image

    path = tmp_path / "claims.png"
    assert draw(found, path)
    with Image.open(path) as image:
        width, height = image.size
    assert width > 600
    assert height > 900
    nothing = {**found, "settings": found["settings"][1:]}
    assert not draw(nothing, path)
    assert not path.exists()  # no picture of an earlier state


def test_the_readmes_table_is_that_of_the_documents_data(repository: Path) -> None:
    data = json.loads((repository / "docs" / "claims.json").read_text())
    assert readme_section(data) in (repository / "README.md").read_text()
    pictured = (repository / "docs" / "images" / "claims.png").is_file()
    document = (repository / "docs" / "claims.md").read_text()
    assert document == render(data, pictured=pictured)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_two_systems_end_to_end(repository: Path, tmp_path: Path) -> None:
    """Real studies of a few steps, then the same command again, which trains nothing."""
    command = [sys.executable, "-m", "benchmarks.claims", "--only", "scenes"]
    command += ["--storage", str(tmp_path / "runs"), "--out", str(tmp_path / "docs")]
    again = list(command)
    command += ["--data-root", f"scenes={tmp_path / 'scenes'}", "--steps", "6", "--seeds", "2"]
    command += ["--systems", "random,disparse-static", "--concurrency", "2"]
    small = (*SMALL, "training.batch_size=2", "training.num_reports=1")
    for item in (*small, "sparsity.saliency_batches=1", "model.head_width=8"):
        command += ["--set", item]
    for line in (command, again):
        done = subprocess.run(
            line,
            cwd=repository,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "claims-scenes: finished, 8 trials" in done.stdout
    found = json.loads((tmp_path / "docs" / "claims.json").read_text())["settings"][0]
    judged = [c for c in found["pairs"] if c["verdict"] != "not run"]
    assert [c["name"] for c in judged] == [
        "disparse-static-random-30", "disparse-static-random-90",
    ]  # fmt: skip
    assert all(c["pairs"] == 2 for c in judged)
    assert all(w["mean"] is not None for w in found["watersheds"])
    assert len(found["final"]["parent_run_id"]) == 32
    assert len([row for row in found["variants"] if row["status"] == "complete"]) == 8
    assert "docs/claims.json" not in (tmp_path / "docs" / "claims.md").read_text()
    assert (tmp_path / "docs" / "images" / "claims.png").is_file()

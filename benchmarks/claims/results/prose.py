"""The sentences of docs/claims.md: fixed ones about the protocol, computed ones about results."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.methods import method_style
from analysis.studies.systems_by_seed import percent
from benchmarks.claims.protocol import VERDICTS

Setting = Mapping[str, Any]  # one entry of claims.json's `settings`

# DeepLab-ResNet for NYU-v2 segmentation + normals, and the published training (docstring of
# spaces.presets, preset `paper`).
_PAPER_PARAMETERS = 67.61e6
_PAPER_STEPS = 20_000
_SCORE = "sparsity.score"

QUESTION = (
    "DiSparse (Sun et al., CVPR 2022) claims to prune multitask networks better than methods that "
    "see one joint loss: its static masks beat SNIP, LTH and random ones, its dynamic masks RigL, "
    "its masks of a trained network IMP and random ones; sparse, it beats the dense multitask "
    "networks Cross-Stitch, Sluice and DEN; 30 % sparsity costs nothing; and tasks agree on the "
    "first shared layers and part company deeper. Here each claim is put to small networks, with "
    "a verdict that was not known when its rule was written.\n\n"
    "This file is written by `make claims` from the studies named below; edit the code, not the "
    "file. `claims.json` holds all its numbers."
)

README_LEAD = (
    "Verdicts on the paper's claims for these small networks, with every system tuned alike and\n"
    "paired by seed. Effects, intervals and limits: [docs/claims.md](docs/claims.md)."
)


CHANCE = (
    "By chance: votes drawn at random at a layer's density agree as well, two of densities p and q "
    "to p q / (p + q − p q), T of density d to d^T / (1 − (1 − d)^T). So agreement falls where a "
    "layer is pruned harder, and the verdict above would be *holds* for random votes too whose "
    "density falls with depth. What each task alone would keep is not recorded; the mask is, which "
    "here is the union of the votes, and with the agreement gives their intersection. d is taken "
    "as the mean density of the votes where a weight that is not unanimous is wanted by half of "
    "the tasks (exact for two tasks), equal for all tasks. A fall of agreement *beyond* chance is "
    "what the paper's explanation needs."
)


def protocol(found: Mapping[str, Any]) -> str:
    """How systems were tuned and compared."""
    tuning = found["tuning"]
    return (
        "Claims, margins and the rule of a verdict are constants of "
        "`benchmarks/claims/protocol.py`, written before the first run; there is no other "
        "stopping rule than the number of seeds.\n\n"
        f"1. **The same search for every system.** {_COUNTS.get(tuning['variants'], '')} variants "
        f"each (the default, half and twice its learning rate, one setting of its own), trained "
        f"at {percent(tuning['sparsity'])} sparsity with seed {tuning['seed']}, which no final "
        "run uses. The variant with the least mean over tasks of validation error relative to the "
        "default's (or, where that failed, to the first's that ended; 1 − mIoU, an angle, a "
        "distance) is kept, at both sparsities. Nothing else is "
        "tuned, and no test metric plays a part.\n"
        "2. **The same budget.** Total training steps are equal for all systems; a method that "
        "needs a trained dense network pays for it from them, one that trains in levels divides "
        "them.\n"
        "3. **Paired seeds.** The final study trains every system with its chosen settings at "
        "every seed; the same seed means the same data order and, for the same network, the same "
        "initial weights. "
        "Each trial is represented by its best report by validation among those after its last "
        "pruning, and sees test once: a system that prunes in levels chooses among fewer reports "
        "than one that prunes at the start, fewest at 90 % (*eligible reports* in the tables of "
        "chosen settings).\n"
        "4. **Judged on test**, by the rule above. Wilcoxon's signed-rank test (exact, with "
        "Holm's adjustment over the comparisons of a data set) and Hedges' g_z stand beside it; "
        "they decide nothing.\n\n"
        "Exact kept counts, metrics with the `corrected` definition unless the table says "
        "otherwise; segmentation's primary metric is mIoU, normals' the mean angle, depth's the "
        "mean absolute error, that of keypoints and edges the mean absolute error. Δ_T is over "
        "all of a task's metrics, tasks weighing the same (AdaShare, Sun et al. 2020); a metric "
        "that is 0 in the reference at one seed is left out at all seeds of the pair, and named."
    )


_COUNTS = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}


def not_run(setting: Setting) -> str:
    """What is missing of a setting."""
    final = setting["final"]
    if final is None:
        done = "the tuning study is finished" if setting["variants"] else "no study is finished"
        return f"**Not run**: {done}, the final study has not begun."
    return (
        f"**Not run to the end**: {final['finished_trials']} of {final['expected_trials']} trials "
        "of the final study are finished; nothing is judged before all are."
    )


def left_out(setting: Setting) -> str:
    """Which metrics are not in the Δ_T of the table of systems; empty where all are."""
    named = [
        f"{method_style(row['system']).label} {percent(row['sparsity'] or 0.0)} without "
        f"{', '.join(row['delta_left_out'])}"
        for row in setting["systems"]
        if row["delta_left_out"] and row["delta_to_dense"] is not None
    ]
    if not named:
        return ""
    return f"0 in the dense reference at some seed, so left out of Δ_T at all: {'; '.join(named)}."


def significance(setting: Setting) -> str:
    """What the test beside the intervals can say with so few pairs."""
    smallest = [c["smallest_p"] for c in setting["pairs"] if c["smallest_p"] is not None]
    text = "g_z is Hedges' (the mean over the standard deviation of the differences, corrected)."
    if smallest:
        text += (
            f" With the pairs at hand the two-sided Wilcoxon test cannot give a p below "
            f"{number(min(smallest), 4)}, before any adjustment."
        )
    return text


def eligible(rows: Sequence[Mapping[str, Any]]) -> str:
    """ "5 of 5 at 30 %, 1 of 5 at 90 %"; once where it is the same."""
    counts = [f"{row['eligible']} of {row['reports']}" for row in rows]
    if len(set(counts)) == 1:
        return counts[0]
    return ", ".join(
        f"{count} at {percent(row['sparsity'])}" for count, row in zip(counts, rows, strict=True)
    )


def beside_comparisons(setting: Setting) -> list[str]:
    """What a reader of the comparisons must know of the systems' training and settings."""
    parts = []
    if setting["lengths"]:
        divided = "; ".join(
            f"{method_style(row['system']).label} {percent(row['sparsity'])}: a dense run of "
            f"{row['pretrain_steps']}, then {_levels(row['levels'])}"
            for row in setting["lengths"]
        )
        parts.append(
            f"All systems have {setting['asked']['steps']} steps in total. Those that prune in "
            f"levels divide them: {divided}. So their runs are short, and a verdict on them is "
            "about methods at equal training budgets, not about levels each trained to the end."
        )
    if any(_by_magnitude(row) for row in setting["variants"] if row["chosen"]):
        parts.append(
            "DiSparse pretrained was tuned to `sparsity.score` = magnitude: all tasks then give a "
            "shared weight the same score, and nothing is disentangled on shared weights there."
        )
    return parts


def _by_magnitude(row: Mapping[str, Any]) -> bool:
    settings = row["settings"]
    return row["system"] == "disparse-pretrained" and settings.get(_SCORE) == "magnitude"


def _levels(lengths: Sequence[int]) -> str:
    least, most = min(lengths), max(lengths)
    count = "one level" if len(lengths) == 1 else f"{len(lengths)} levels"
    return f"{count} of {least}" if least == most else f"{count} of {least} to {most}"


def tuning_lead(setting: Setting) -> str:
    """Return the sentence that introduces the table of tuned settings."""
    failed = [row for row in setting["variants"] if row["status"] != "complete"]
    text = (
        "Score: mean validation error relative to the default's, less is better. Eligible reports: "
        "those after the last pruning, among which a trial's best is chosen, at each sparsity."
    )
    for row in setting["variants"]:
        name = method_style(row["system"]).label
        if row["chosen"] and row["relative_to"] != "default":
            text += (
                f" {name}: the default did not end, so scores are relative to the first variant "
                f"that did ({row['relative_to']})."
            )
        if row["chosen"] and not row["best"]:
            text += f" {name}: chosen by an earlier rule, the first variant that ended."
    if failed:
        named = ", ".join(f"{method_style(r['system']).label} {r['label']}" for r in failed)
        text += f" Not complete, so out of the choice: {named}."
    return text


def study(found: Mapping[str, Any]) -> str:
    """One study: its run in MLflow, time, failures, command."""
    text = (
        f"`{found['study']}`: {found['finished_trials']} of {found['expected_trials']} trials"
        f", {duration(found['seconds'])} in {_times(len(found['launches']))}"
    )
    if found.get("training_seconds"):
        text += f" ({duration(found['training_seconds'])} of trials, some side by side)"
    text += f"; MLflow parent run `{found.get('parent_run_id') or 'none recorded'}`."
    for trial in found.get("not_complete", ()):
        text += f"\n- `{trial['trial']}` {trial['status']}: {trial['reason'] or 'no reason given'}"
    return f"{text}\n\n```\n{shlex.join(found['command'])}\n```"


def limits(found: Mapping[str, Any]) -> str:
    """Facts that bound what the verdicts mean, as far as there is data."""
    lines = []
    for setting in found["settings"]:
        if not setting["systems"]:
            lines.append(f"- **{setting['title']}**: not run; nothing is known here.")
            continue
        verdicts = Counter(c["verdict"] for c in (*setting["pairs"], *setting["watersheds"]))
        counted = ", ".join(f"{verdicts[v]} × {v}" for v in VERDICTS if verdicts[v])
        facts, asked = setting["facts"], setting["asked"]
        passes = asked["steps"] * facts["batch_size"] / facts["frames"]["train"]
        lines.append(
            f"- **{setting['title']}**: {counted}. The dense network has "
            f"{number(100 * facts['parameters'] / _PAPER_PARAMETERS, 2)} % of the paper's 67.61 M "
            f"parameters, and {asked['steps']} of its {_PAPER_STEPS:,} steps "
            f"({passes:.1f} passes over the training frames)."
            f"{_dense_quality(setting)}{_width(setting)}"
        )
    return "\n".join(
        [
            *lines,
            "- A verdict is about these networks, data and budgets. `holds` means better on "
            "average over seeds, not for every seed or task; the tables by task say which. "
            "`undecided` means that so few seeds cannot tell, not that the systems are equal.",
            "- Δ_T weighs relative changes: a metric close to 0 (few pixels within 11.25°, few "
            "classes learnt) moves it far. The tables by task have the primary metrics in their "
            "own units.",
            "- Seeds vary initial weights, data order and masks; the split is one and the same, so "
            "intervals do not cover another choice of frames.",
            "- Verdicts are not adjusted for their number: of twenty comparisons without any "
            "difference, one is expected to be decided by chance.",
            "- The same few variants for every system are a small search. A system whose best "
            "settings lie outside of it is underrated, the paper's own as well as its rivals.",
            "- The watershed's verdict rests on agreement, which falls with a layer's density for "
            "random votes too. `holds` therefore does not show that tasks part company; the "
            "second reading, of agreement beyond chance, bears on that. Its chance levels are "
            "exact for two tasks of equal densities, else an estimate.",
            "- Levels, rewinding and pre-training share one short budget here: a level of LTH or "
            "IMP, or the dense network that is pruned, gets a fraction of few steps. How these "
            "methods fare at the paper's length is not shown.",
        ]
    )


def _dense_quality(setting: Setting) -> str:
    dense = next((row for row in setting["systems"] if row["system"] == "dense"), None)
    if dense is None or "segmentation" not in dense["test"]:
        return ""
    return f" The dense network's test mIoU is {number(dense['test']['segmentation']['mean'], 3)}."


def _width(setting: Setting) -> str:
    halves = sorted(
        (c["delta"]["high"] - c["delta"]["low"]) / 2
        for c in setting["pairs"]
        if c["delta"] and c["delta"]["low"] is not None
    )
    if not halves:
        return ""
    return (
        f" Intervals of Δ_T are ±{number(halves[0], 1)} to ±{number(halves[-1], 1)} points wide: "
        "smaller differences cannot be told."
    )


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Fixed digits with a proper minus sign; "–" for null (no value, no bound)."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "−")


def quantity(value: float) -> str:
    """Return a number as the document writes it."""
    return f"{value:g}"


def duration(seconds: float) -> str:
    """ "2 h 05 min", "3 min", "12 s"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _times(count: int) -> str:
    return "one launch" if count == 1 else f"{count} launches"

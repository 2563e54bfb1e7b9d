"""Sentences of docs/search.md that surround its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

LEVEL = 0.05

QUESTION = (
    "Does a search that stops trials early by several objectives at once, and learns from them, "
    "find better fronts than others at the same number of epochs? Written by "
    "`make bench-search`, which resumes with what is missing; every figure is from "
    "[search-yahpo.json](search-yahpo.json) and [search.json](search.json)."
)

YAHPO = (
    "Six multi-objective multi-fidelity tasks of CARP-S 1.1.0 on surrogates of YAHPO Gym "
    "(Pfisterer, Schneider et al. 2022), which were fitted to real searches. Nobody here had a "
    "hand in them, no starting point is given to anyone, and neither objective is known with "
    "the configuration. 40 full lengths, 4 workers (PriMO has one); reports: every epoch of 52 "
    "(lcbench), every repetition of 10, or 27 shares of the data. Hypervolume has its ideal at "
    "the best of 20,000 random configurations and six generations of mutants of the best, and "
    "its nadir at the 95 % quantiles of the random ones. The searches were developed on seeds 0 "
    "to 7; these are 100 and up. The two tasks of xgboost on instance 12 share their surrogate "
    "and their front and differ in the fidelity alone, so that searches that train every trial "
    "at full length do the same on both: those that take minutes run on one of them, whose seconds "
    "stand in both tables."
)


def earlier(titles: Sequence[str]) -> str:
    """What is said of workloads on which ours was run before its code changed."""
    return (
        f"Ours has changed since it was run on: {'; '.join(titles)}. What has changed, what it is "
        "worth, and what newer runs say so far, is in "
        "[decision 0021](decisions/0021-refining-proposals.md); those that take minutes each are "
        "kept in [search-runs.jsonl](search-runs.jsonl)."
    )


POOLED = (
    "Hypervolume as a share of the best that is known, mean over tasks and seeds; ours minus it"
    " over the pairs (task and seed) that both have, with a 95 % interval, Wilcoxon's "
    "signed-rank test, and Holm's correction over the peers. `ours there`: ours at the end over"
    " the same pairs."
)

YAHPO_PEERS = (
    "Peers, at the versions of `constraints.txt`: Optuna's TPE through Ray's OptunaSearch, its "
    "NSGA-II with a population of 10 (the default of 50 would not leave the first generation), "
    "its TPE multivariate with a constant liar, and its GPSampler; Syne Tune's MOASHA with "
    "rungs from 1/9; BoTorch's qLogNEHVI, four restarts of 128 raw samples (its tutorial has 10"
    " of 512), whose first call compiles C++ for a minute or two, uncounted. Optuna's "
    "AutoSampler is no package: OptunaHub fetches it from the network when it is called, so "
    "that it cannot be pinned; by its source it is the multivariate TPE where a space has "
    "categories (xgboost, rpart) and GPSampler where it has none (lcbench, glmnet). Seconds are "
    "of one processor, of the computer that ran the search, and hold for all that a system does "
    "for a trial."
)

PRIMO = (
    "NePS's PriMO (0.17) runs in an environment of its own (`make peers-primo`), because its "
    "versions of gpytorch, BoTorch and pandas clash with those here. It has its defaults, and "
    "fidelities from one report to all: at first it pauses trials and promotes some of them, "
    "whose earlier epochs are not paid again; then every trial trains at full length. Three "
    "things favour it. It has **one worker**, so that it knows every result before it proposes: "
    "in its second phase it numbers a new trial by counting those that have ended, and several "
    "workers would get the same number. It alone is told the objectives on the scale of the "
    "score, ideal 0 and nadir 1, for it adds them up, and its documentation asks for comparable "
    "scales. And the weights of that sum are drawn anew for every proposal, as its documentation "
    "says, where the code draws them once. Three things do not. It has no priors, for which it was "
    "made. It knows of no conditions, of which the spaces of xgboost have eight, so that it also "
    "models parameters that a trial does not read. And it counts a promoted trial's earlier epochs "
    "once more when it decides that its first phase is over. The row *ours, but one worker* has "
    "as many workers as PriMO."
)

LONG = "As many full lengths as CARP-S gives evaluations; all else is the same."

NOT_LONG = (
    "`make bench-search ARGS=--long` runs them (77 to 170 full lengths, for each task as many "
    "as CARP-S gives evaluations). That has not been run yet."
)

SUMMARY = (
    f"Final hypervolume, mean over seeds; 1 would be the whole box. Behind a peer's value: `<` it "
    f"is below ours by Wilcoxon's signed-rank test over paired seeds with Holm's correction over "
    f"the peers, p < {LEVEL:g}; `>` above ours; `=` no difference shown."
)

GOALS = (
    "The epochs that ours needs to reach the final hypervolume of OptunaSearch's TPE at full "
    "fidelity, as a share of the budget that took TPE there: where the mean curve of ours reaches "
    "the mean of TPE as Ray ships it, and of TPE that begins with our starting points, which is "
    "the harder peer; then, of the latter, the median over seeds of each seed's own share. The "
    "goal is at most a half on crossing curves, a third is hoped for; and nowhere to be worse "
    "than a peer."
)

PARTS = (
    "Final hypervolume with the part changed, minus that of ours, at the same seeds; **bold** "
    f"where the signed-rank test with Holm's correction over the parts gives p < {LEVEL:g}. What "
    "costs nothing to leave out does not earn its place."
)


def protocol(found: Mapping[str, Any]) -> str:
    """The rules, the same for every system."""
    surrogates = [w for w in found["workloads"] if w["front_hypervolume"] or w["name"] != "scenes"]
    lengths = sorted({w["budget_epochs"] // w["num_epochs"] for w in surrogates})
    epochs = sorted({w["num_epochs"] for w in surrogates})
    rungs, ours = found["peer_rungs"], found["our_rungs"]
    text = [
        f"- **Virtual time.** {found['concurrency']} workers; an epoch takes about one unit of "
        "time, the same for trial number n of every system; a report follows every epoch. Epochs "
        "are counted over all trials. With the last one everything ends, and a trial that is "
        "under way then counts for nothing.",
        "- **Score.** Only feasible trials at full length count, by their true values: the noise "
        "of measuring misleads a search but not its score. Hypervolume and IGD+ are on the scale "
        "of the true front (ideal 0, nadir 1; reference point 1.1), which is known or densely "
        "sampled, and is the same for every system and seed. The real trainable has no known "
        "front: its scale is that of the front of all trials of all systems.",
        "- **Systems.** Every one is driven through its own class. Early-stopping peers "
        f"have rungs from {rungs['grace_fraction']:.2g} of training, factor "
        f"{rungs['reduction_factor']:g}; ours from {ours['grace']:.2g}, factor "
        f"{ours['reduction_factor']:g}. No peer hears of constraints. Every system "
        "begins with the same points: the space's defaults under every method, at sparsities "
        "spread over the range, and at both ends of it.",
    ]
    if surrogates:
        text.append(
            "- **Surrogates** (`benchmarks/search/workloads/surrogates.py` has the equations, "
            "which were committed before anything was compared): "
            f"{_list(lengths)} full lengths of "
            f"{_list(epochs)} epochs; noise of deviation {found['noise']:g} on every error."
        )
    real = next((w for w in found["workloads"] if w["name"] == "scenes"), None)
    if real is not None:
        lengths_real = real["budget_epochs"] // real["num_epochs"]
        text.append(
            f"- **Scenes** is the real trainable: every epoch trains a ninth of a trial of 90 "
            f"steps, {lengths_real} full lengths in all."
        )
    return "\n".join(text)


def limits(found: Mapping[str, Any]) -> str:
    """Return the paragraph on what the benchmark does not show."""
    seeds = {len(s["seeds"]) for w in found["workloads"] for s in w["systems"]}
    count = f"Between {min(seeds)} and {max(seeds)}" if len(seeds) > 1 else str(*seeds)
    text = [
        "- Surrogates are smooth and their best settings drift slowly along the front, which a "
        "real space need not do. They tell systems apart at little cost; the real trainable is "
        "the check.",
        "- Time is counted in epochs alone: what a sampler thinks costs nothing here.",
        f"- {count} seeds; the test says which differences these "
        "can show, not how large a difference matters.",
    ]
    real = [
        len(s["seeds"]) for w in found["workloads"] if w["name"] == "scenes" for s in w["systems"]
    ]
    if real:
        text.append(
            f"- Few seeds of the real trainable: with {min(real)} pairs the signed-rank test "
            f"cannot fall below {2 ** (1 - min(real)):.2g}, and its intervals are wide."
        )
    return "\n".join(text)


def _list(values: list[int]) -> str:
    return " or ".join(map(str, values))

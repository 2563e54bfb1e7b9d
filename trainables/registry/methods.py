"""The sparsity methods: what each one is, when it acts and what it reads.

The rules themselves are classes in `trainables.sparsity.methods`; they are loaded when a trial
needs them. Everything else that is known of a method is here, and is read by the presets, the
search spaces, the plots and the README.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import UserError, unknown_name

# never: a dense method. once: to the target at the start. schedule: at once or gradually, as
# `sparsity.schedule` says. levels: a fixed share of what remains at a time, over all of training.
PRUNINGS = ("never", "once", "schedule", "levels")


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodDescription:
    """Describes one sparsity method.

    name: how it is named on the command line and in a study.
    summary: one line. paper: its source, "RigL, Evci et al. 2020".
    implementation: import path `package.module:Class` of a `trainables.sparsity.method.Method`.
    prunes: when `Method.prune` is called, one of `PRUNINGS`.
    needs_pretraining: it starts from a model that was trained dense for `training.pretrain_steps`.
    rewinds: after each pruning, training starts again from step k of that dense run.
    regrows: `Method.regrow` is called every `regrowth.interval_steps`.
    regrows_by_gradient: that call looks at a batch's gradients and replaces the optimiser's step.
    votes: tasks vote on shared weights, so the arbiter has a say.
    reads: dotted settings that the rule looks at and that are worth searching, beyond those that
      the facts above imply (`settings`). A rule that ranks all layers together by default leaves
      `sparsity.allocation` out, although it obeys one that is set.
    defaults: its settings, by dotted name, where they differ from those of all methods.
    family: of methods that plots and tables put side by side.
    label, colour, marker, symbol: how plots draw it; `marker` is Matplotlib's name of the shape,
      `symbol` Plotly's name of the same one. `label` defaults to `name`.

    Raises `UserError` for facts that contradict one another.
    """

    name: str
    summary: str
    implementation: str
    paper: str = ""
    prunes: str = "schedule"
    needs_pretraining: bool = False
    rewinds: bool = False
    regrows: bool = False
    regrows_by_gradient: bool = False
    votes: bool = False
    reads: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    family: str = "own"
    label: str = ""
    colour: str = "#374151"
    marker: str = "P"
    symbol: str = "cross"

    def __post_init__(self) -> None:
        if self.prunes not in PRUNINGS:
            raise unknown_name(f"`prunes` of method {self.name!r}:", self.prunes, PRUNINGS)
        if self.rewinds and not self.needs_pretraining:
            raise UserError(
                f"method {self.name!r} rewinds to a dense run, so it must need pre-training, got "
                "needs_pretraining=False; set it to True"
            )
        if self.regrows_by_gradient and not self.regrows:
            raise UserError(
                f"method {self.name!r} regrows by gradient, so it must regrow, got "
                "regrows=False; set it to True"
            )

    @property
    def sparse(self) -> bool:
        """Whether any weight is pruned; False for the dense systems."""
        return self.prunes != "never"

    @property
    def settings(self) -> tuple[str, ...]:
        """Every dotted setting of `sparsity` and `regrowth` that a search may vary for it."""
        implied = {
            "sparsity.target": self.sparse,
            "sparsity.schedule": self.prunes == "schedule",
            "sparsity.level_fraction": self.prunes == "levels",
            "sparsity.rewind_fraction": self.rewinds,
            "sparsity.arbiter": self.votes,
            "regrowth.fraction": self.regrows,
            "regrowth.annealing": self.regrows,
            "regrowth.interval_steps": self.regrows,
            "regrowth.end_fraction": self.regrows,
            "regrowth.budget": self.regrows and self.votes,
        }
        named = [name for name, holds in implied.items() if holds]
        return (*named, *(name for name in self.reads if name not in named))

    @property
    def default_settings(self) -> dict[str, Any]:
        """Its settings by dotted name where they differ, with those that its facts imply."""
        implied = {"sparsity.schedule": "levels"} if self.prunes == "levels" else {}
        return {**implied, **self.defaults}


_RULES = "trainables.sparsity.methods"

METHODS: dict[str, MethodDescription] = {
    method.name: method
    for method in (
        MethodDescription(
            name="dense",
            summary="every weight kept; the reference",
            paper="DeepLab-ResNet with hard sharing, as in AdaShare, Sun et al. 2020",
            implementation=f"{_RULES}.dense:Dense",
            prunes="never",
            family="dense",
            label="Dense",
            colour="#000000",
            marker="s",
            symbol="square",
        ),
        MethodDescription(
            name="random",
            summary="random weights at initialisation",
            paper="Liu et al. 2022, The Unreasonable Effectiveness of Random Pruning",
            implementation=f"{_RULES}.random:Random",
            reads=("sparsity.allocation",),
            defaults={"sparsity.allocation": "uniform"},
            family="random",
            label="Random",
            colour="#8c8c8c",
            marker="X",
            symbol="x",
        ),
        MethodDescription(
            name="snip",
            summary="connection sensitivity |g·w| of the joint loss at initialisation",
            paper="SNIP, Lee et al. 2019",
            implementation=f"{_RULES}.snip:Snip",
            reads=("sparsity.saliency_weights",),
            # Saliency at initialisation is taken on a Xavier copy, as in the released DiSparse
            # code; on the He initialisation the deep trunk collapses (docs/decisions/0003).
            defaults={"sparsity.saliency_weights": "xavier"},
            family="saliency",
            label="SNIP",
            colour="#CC79A7",
            marker="v",
            symbol="triangle-down",
        ),
        MethodDescription(
            name="lth",
            summary="lottery ticket: magnitude in levels, rewound to step k at each",
            paper="LTH, Frankle & Carbin 2019; rewinding, Frankle et al. 2020",
            implementation=f"{_RULES}.magnitude:LotteryTicket",
            prunes="levels",
            needs_pretraining=True,
            rewinds=True,
            family="magnitude",
            label="LTH",
            colour="#56B4E9",
            marker="h",
            symbol="hexagon",
        ),
        MethodDescription(
            name="lth-one-shot",
            summary="lottery ticket with one level: pruned at once, rewound to step k",
            paper="LTH, Frankle & Carbin 2019; rewinding, Frankle et al. 2020",
            implementation=f"{_RULES}.magnitude:OneShotTicket",
            prunes="once",
            needs_pretraining=True,
            rewinds=True,
            family="magnitude",
            label="LTH one-shot",
        ),
        MethodDescription(
            name="imp",
            summary="trained dense model, pruned by magnitude and fine-tuned in levels",
            paper="Han et al. 2015, as in DiSparse, Sun et al. 2022",
            implementation=f"{_RULES}.magnitude:IterativeMagnitude",
            prunes="levels",
            needs_pretraining=True,
            family="magnitude",
            label="IMP",
            colour="#332288",
            marker=">",
            symbol="triangle-right",
        ),
        MethodDescription(
            name="rigl",
            summary="dynamic: drop by magnitude, grow by the joint loss's dense gradient",
            paper="RigL, Evci et al. 2020",
            implementation=f"{_RULES}.rigl:RigL",
            regrows=True,
            regrows_by_gradient=True,
            reads=("sparsity.allocation",),
            defaults={"sparsity.allocation": "erk", "regrowth.fraction": 0.3},
            family="dynamic",
            label="RigL",
            colour="#E69F00",
            marker="p",
            symbol="pentagon",
        ),
        MethodDescription(
            name="set",
            summary="dynamic: drop by magnitude, grow at random",
            paper="SET, Mocanu et al. 2018",
            implementation=f"{_RULES}.rigl:Set",
            regrows=True,
            reads=("sparsity.allocation",),
            defaults={"sparsity.allocation": "erk", "regrowth.fraction": 0.3},
            family="dynamic",
            label="SET",
            colour="#999933",
            marker="<",
            symbol="triangle-left",
        ),
        MethodDescription(
            name="gmp",
            summary="gradual magnitude pruning from scratch on the cubic schedule",
            paper="GMP, Zhu & Gupta 2017",
            implementation=f"{_RULES}.magnitude:GradualMagnitude",
            reads=("sparsity.allocation",),
            defaults={"sparsity.allocation": "uniform", "sparsity.schedule": "cubic"},
            family="magnitude",
            label="GMP",
            colour="#882255",
            marker="*",
            symbol="star",
        ),
        MethodDescription(
            name="random-pretrained",
            summary="random weights of a trained dense model, then fine-tuning",
            paper="DiSparse, Sun et al. 2022, table 1",
            implementation=f"{_RULES}.random:RandomPretrained",
            needs_pretraining=True,
            reads=("sparsity.allocation",),
            defaults={"sparsity.allocation": "uniform"},
            family="random",
            label="Random pretrained",
            colour="#5f5f5f",
            marker="P",
            symbol="cross",
        ),
        MethodDescription(
            name="disparse-static",
            summary="per-task saliency at initialisation; tasks vote on shared weights",
            paper="DiSparse, Sun et al. 2022",
            implementation=f"{_RULES}.disparse:DisparseStatic",
            votes=True,
            reads=("sparsity.score", "sparsity.saliency_weights"),
            defaults={"sparsity.saliency_weights": "xavier"},  # as of snip
            family="disparse",
            label="DiSparse static",
            colour="#0072B2",
            marker="o",
            symbol="circle",
        ),
        MethodDescription(
            name="disparse-dynamic",
            summary="dynamic: drop by magnitude, grow the union of the tasks' gradients",
            paper="DiSparse, Sun et al. 2022",
            implementation=f"{_RULES}.disparse:DisparseDynamic",
            regrows=True,
            regrows_by_gradient=True,
            votes=True,
            reads=("sparsity.allocation",),
            defaults={"sparsity.allocation": "erk", "regrowth.fraction": 0.5},
            family="disparse",
            label="DiSparse dynamic",
            colour="#D55E00",
            marker="D",
            symbol="diamond",
        ),
        MethodDescription(
            name="disparse-pretrained",
            summary="the vote of disparse-static on a trained dense model",
            paper="DiSparse, Sun et al. 2022",
            implementation=f"{_RULES}.disparse:DisparsePretrained",
            needs_pretraining=True,
            votes=True,
            reads=("sparsity.score",),
            family="disparse",
            label="DiSparse pretrained",
            colour="#009E73",
            marker="^",
            symbol="triangle-up",
        ),
        MethodDescription(
            name="cross-stitch",
            summary="dense: a network per task, mixed channel by channel",
            paper="Cross-Stitch Networks, Misra et al. 2016",
            implementation=f"{_RULES}.dense:Dense",
            prunes="never",
            needs_pretraining=True,  # of the tasks' networks, each trained alone
            defaults={"model.name": "cross-stitch"},
            family="multitask",
            label="Cross-Stitch",
            colour="#44AA99",
            marker="d",
            symbol="diamond-tall",
        ),
        MethodDescription(
            name="sluice",
            summary="dense: a network per task, mixed by subspaces, with skip mixture",
            paper="Sluice Networks, Ruder et al. 2019",
            implementation=f"{_RULES}.dense:Dense",
            prunes="never",
            defaults={"model.name": "sluice"},
            family="multitask",
            label="Sluice",
            colour="#AA4499",
            marker="H",
            symbol="hexagon2",
        ),
        MethodDescription(
            name="den",
            summary="dense: a selector picks each block's width for image and task",
            paper="DEN, Ahn et al. 2019",
            implementation=f"{_RULES}.dense:Dense",
            prunes="never",
            defaults={"model.name": "den"},
            family="multitask",
            label="DEN",
            colour="#661100",
            marker="8",
            symbol="octagon",
        ),
    )
}

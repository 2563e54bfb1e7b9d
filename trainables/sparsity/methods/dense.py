"""No sparsity: the reference of every comparison, and the multitask systems of the papers.

The multitask systems are networks (`trainables.models`); the presets pair each with its method.
"""

from typing import ClassVar

from trainables.sparsity.method import Method, MethodContext, Proposal


class Dense(Method):
    """Keeps every weight, whatever density is asked for."""

    name: ClassVar[str] = "dense"
    summary: ClassVar[str] = "every weight kept; the reference"
    paper: ClassVar[str] = "DeepLab-ResNet with hard sharing, as in AdaShare, Sun et al. 2020"
    sparse: ClassVar[bool] = False

    def prune(self, context: MethodContext, density: float) -> Proposal:
        return Proposal(masks=context.registry.keep())


class CrossStitch(Dense):
    """Cross-Stitch networks: one network per task, trained alone first (`pretrain_steps`)."""

    name: ClassVar[str] = "cross-stitch"
    summary: ClassVar[str] = "dense: a network per task, mixed channel by channel"
    paper: ClassVar[str] = "Cross-Stitch Networks, Misra et al. 2016"
    needs_pretraining: ClassVar[bool] = True


class Sluice(Dense):
    """Sluice networks: subspaces mixed between the tasks' networks."""

    name: ClassVar[str] = "sluice"
    summary: ClassVar[str] = "dense: a network per task, mixed by subspaces, with skip mixture"
    paper: ClassVar[str] = "Sluice Networks, Ruder et al. 2019"


class DeepElastic(Dense):
    """Deep Elastic Networks: a selector picks the width of every block for each image and task."""

    name: ClassVar[str] = "den"
    summary: ClassVar[str] = "dense: a selector picks each block's width for image and task"
    paper: ClassVar[str] = "DEN, Ahn et al. 2019"

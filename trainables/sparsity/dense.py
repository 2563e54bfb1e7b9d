"""No sparsity: the reference of every comparison."""

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

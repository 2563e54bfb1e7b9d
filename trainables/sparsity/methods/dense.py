"""Keeps every weight, for the dense reference and for the multitask systems of the papers.

The multitask systems are networks (`trainables.models`); their descriptions name them.
"""

from trainables.sparsity.method import Method, MethodContext, Proposal


class Dense(Method):
    """Keeps every weight, whatever the density."""

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Keep all masks as they are."""
        return Proposal(masks=context.registry.keep())

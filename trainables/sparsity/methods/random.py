"""Draws random masks, the baseline that a method must beat."""

from trainables.sparsity.method import Method, MethodContext, Proposal


class Random(Method):
    """Keeps a random set of the allocated size in each layer; gradual levels nest.

    Allocation "global" draws from all layers together, so counts are proportional to sizes only
    on average.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Keep a random subset of the weights that are still kept."""
        return Proposal(masks=context.structure.draw(density, context.generator))


class RandomPretrained(Random):
    """Keeps random weights of a trained dense model (DiSparse's "pretrained" tables)."""

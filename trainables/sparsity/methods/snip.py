"""Implements SNIP, which prunes before training by connection sensitivity of the joint loss."""

from trainables.sparsity.method import Method, MethodContext, Proposal
from trainables.sparsity.saliency import joint_saliency


class Snip(Method):
    """Keeps the top-k of |Σ_batches g · w| (SNIP, Lee et al. 2019, eq. 5 and Algorithm 1).

    Deviations. The loss is the weighted sum over tasks. Gradients are summed over several
    batches before the absolute value, so the sensitivity is that of one large batch. The
    actual initial weights are scored (the released code does what `saliency_weights` "xavier"
    does). With a per-layer allocation the top-k is taken in each layer. Under a gradual
    schedule the remaining weights are scored again at every pruning.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Keep the weights of largest connection sensitivity."""
        scores = joint_saliency(context)
        return Proposal(masks=context.structure.prune(scores, density, context.generator))

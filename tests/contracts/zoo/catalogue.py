"""Every network of the zoo, by name."""

from tests.contracts.zoo.layers import (
    Attention,
    DataParallelPart,
    Grouped,
    OtherDimensions,
    ScriptedPart,
    UNet,
)
from tests.contracts.zoo.network import Zoo
from tests.contracts.zoo.passes import (
    Checkpointed,
    CheckpointedReentrant,
    Dropout,
    Functional,
    KeepsTensors,
    OwnFunction,
    ReadsValues,
    StochasticDepth,
)
from tests.contracts.zoo.weights import (
    AlreadyPruned,
    Frozen,
    SharedNorm,
    Spectral,
    SpectralOfOld,
    TiedByAnotherName,
    TiedHeads,
    TiedToEmbedding,
    TwoNames,
    UnusedBranch,
    WithoutGradient,
)

ZOO: dict[str, type[Zoo]] = {
    kind.__name__: kind
    for kind in (
        TwoNames, KeepsTensors, SharedNorm, TiedToEmbedding, TiedByAnotherName, TiedHeads, Frozen,
        WithoutGradient, Checkpointed, CheckpointedReentrant, UnusedBranch, StochasticDepth,
        Spectral, SpectralOfOld, AlreadyPruned, UNet, OtherDimensions, Grouped, DataParallelPart,
        Attention, ScriptedPart, Dropout, Functional, ReadsValues, OwnFunction,
    )
}  # fmt: skip

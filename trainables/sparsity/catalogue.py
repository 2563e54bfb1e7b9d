"""The sparsity methods by name."""

from trainables.errors import unknown_name
from trainables.sparsity.method import Method
from trainables.sparsity.methods.dense import CrossStitch, DeepElastic, Dense, Sluice
from trainables.sparsity.methods.disparse import DisparseDynamic, DisparsePretrained, DisparseStatic
from trainables.sparsity.methods.magnitude import (
    GradualMagnitude,
    IterativeMagnitude,
    LotteryTicket,
    OneShotTicket,
)
from trainables.sparsity.methods.random import Random, RandomPretrained
from trainables.sparsity.methods.rigl import RigL, Set
from trainables.sparsity.methods.snip import Snip

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Dense(),
        Random(),
        Snip(),
        LotteryTicket(),
        OneShotTicket(),
        IterativeMagnitude(),
        RigL(),
        Set(),
        GradualMagnitude(),
        RandomPretrained(),
        DisparseStatic(),
        DisparseDynamic(),
        DisparsePretrained(),
        CrossStitch(),
        Sluice(),
        DeepElastic(),
    )
}


def get_method(name: str) -> Method:
    """Raises `UserError`, listing the valid names, for an unknown one."""
    try:
        return METHODS[name]
    except KeyError:
        raise unknown_name("method", name, METHODS) from None

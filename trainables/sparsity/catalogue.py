"""The sparsity methods by name."""

from trainables.errors import unknown_name
from trainables.sparsity.dense import Dense
from trainables.sparsity.disparse import DisparseDynamic, DisparsePretrained, DisparseStatic
from trainables.sparsity.method import Method
from trainables.sparsity.random import Random
from trainables.sparsity.rigl import RigL
from trainables.sparsity.snip import Snip

METHODS: dict[str, Method] = {
    "dense": Dense(),
    "random": Random(),
    "snip": Snip(),
    "rigl": RigL(),
    "disparse-static": DisparseStatic(),
    "disparse-dynamic": DisparseDynamic(),
    "disparse-pretrained": DisparsePretrained(),
}


def get_method(name: str) -> Method:
    """Raises `UserError`, listing the valid names, for an unknown one."""
    try:
        return METHODS[name]
    except KeyError:
        raise unknown_name("method", name, METHODS) from None

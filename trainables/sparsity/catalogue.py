"""Loads the rules of sparsity methods by their descriptions."""

from trainables.errors import UserError
from trainables.registry.lookup import METHOD, implementation
from trainables.registry.methods import METHODS as DESCRIPTIONS
from trainables.registry.methods import MethodDescription
from trainables.sparsity.method import Method


def load_method(description: MethodDescription) -> Method:
    """Return the rule of a description. Raises `UserError` if it is not a `Method`."""
    rule = implementation(description.implementation, METHOD.noun)
    if not (isinstance(rule, type) and issubclass(rule, Method)):
        raise UserError(
            f"the implementation of method {description.name!r} must be a subclass of "
            f"trainables.sparsity.method.Method, got {description.implementation}; name the class"
        )
    return rule(description)


def get_method(reference: str) -> Method:
    """Return the method of that name, or a user's own by import path.

    Raises `UserError`, listing the valid names, for an unknown one.
    """
    return METHODS.get(reference) or load_method(METHOD.find(reference))


METHODS: dict[str, Method] = {
    name: load_method(description) for name, description in DESCRIPTIONS.items()
}

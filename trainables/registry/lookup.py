"""Finds what a name stands for: built in, an entry point, or a user's own by import path.

Methods, models, tasks and data sets follow one rule. A reference is a built-in name, the name of
an entry point (groups `disparse.methods`, `disparse.models`, `disparse.tasks`,
`disparse.datasets`) of an installed package, or `package.module:ATTRIBUTE`. Built-in names come
first. A user's module is imported here, and any error it raises becomes a `UserError`.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, TypeVar

from trainables.errors import UserError, unknown_name
from trainables.registry.datasets import DATASETS, DatasetDescription
from trainables.registry.methods import METHODS, MethodDescription
from trainables.registry.models import MODELS, ModelDescription
from trainables.registry.tasks import TASKS, TaskDescription
from trainables.user_code import is_interruption, told

Description = TypeVar("Description")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind(Generic[Description]):
    """Finds the descriptions of one kind: methods, models, tasks or data sets.

    noun: name of the kind in messages. group: group of entry points. form: form of import paths.
    described_by: class of the descriptions.
    wrap: makes a description of another accepted value, or returns None.
    """

    noun: str
    group: str
    form: str
    described_by: type[Description]
    built_in: Mapping[str, Description]
    wrap: Callable[[str, Any], Description | None] = lambda reference, value: None

    def find(self, reference: str) -> Description:
        """Return the description that `reference` stands for.

        Raises `UserError` for an unknown name, which lists the valid ones, for an import path
        that leads nowhere, and for a module that does not import or holds something else.
        """
        if reference in self.built_in:
            return self.built_in[reference]
        return self._described(self.path(reference))

    def path(self, reference: str) -> str:
        """Return the import path of a reference that is not built in. Raises `UserError`."""
        if ":" in reference:
            return reference
        installed = _installed(self.group)
        if reference not in installed:
            raise UserError(
                f"{unknown_name(self.noun, reference, {*self.built_in, *installed})} "
                f"One of your own is named by its import path, `{self.form}`."
            )
        return installed[reference]

    def is_installed(self, name: str) -> bool:
        """Return whether an installed package has an entry point of that name."""
        return name in _installed(self.group)

    def listed(self) -> Iterator[tuple[str, Description | UserError]]:
        """Yield every name with its description, or with the error if its entry point fails."""
        yield from self.built_in.items()
        for name in _installed(self.group):
            if name not in self.built_in:
                try:
                    yield name, self.find(name)
                except UserError as error:
                    yield name, error

    def _described(self, path: str) -> Description:
        value = load(path, self.noun, self.form)
        found = value if isinstance(value, self.described_by) else self.wrap(path, value)
        if found is None:
            raise UserError(
                f"{self.noun} {path!r} must be a {self.described_by.__name__}, "
                f"got {type(value).__name__}; CONTRIBUTING.md shows one"
            )
        return found


def _factory(path: str, value: Any) -> ModelDescription | None:
    """Return the description of a model that is named by its factory."""
    if not callable(value):
        raise UserError(
            f"model {path!r} must be callable as factory(config, num_channels), "
            f"got {type(value).__name__}; name a class or a function"
        )
    summary = (value.__doc__ or path).strip().partition("\n")[0]
    return ModelDescription(name=path, summary=summary, implementation=path)


METHOD = Kind(
    noun="method",
    group="disparse.methods",
    form="package.module:METHOD",
    described_by=MethodDescription,
    built_in=METHODS,
)
MODEL = Kind(
    noun="model",
    group="disparse.models",
    form="package.module:factory",
    described_by=ModelDescription,
    built_in=MODELS,
    wrap=_factory,
)
TASK = Kind(
    noun="task",
    group="disparse.tasks",
    form="package.module:TASK",
    described_by=TaskDescription,
    built_in=TASKS,
)
DATASET = Kind(
    noun="data set",
    group="disparse.datasets",
    form="package.module:SPEC",
    described_by=DatasetDescription,
    built_in=DATASETS,
)


def tasks_of(dataset: DatasetDescription) -> dict[str, TaskDescription]:
    """Return the tasks that a data set has targets for, by name. Raises `UserError`."""
    described = (TASK.find(reference) for reference in dataset.tasks)
    return {task.name: task for task in described}


def implementation(value: str | Callable[..., Any], noun: str) -> Callable[..., Any]:
    """Return a description's implementation, loaded if it is an import path."""
    loaded = load(value, noun, "package.module:Class") if isinstance(value, str) else value
    if not callable(loaded):
        raise UserError(
            f"the implementation of a {noun} must be callable, got {type(loaded).__name__} for "
            f"{value!r}; name a class or a function"
        )
    return loaded


def load(path: str, noun: str, form: str) -> Any:
    """Load the attribute behind an import path.

    noun, form: its kind and the form of its path, for messages. Raises `UserError` for a path of
    another form, an unknown module or attribute, and any error of the module on import.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or module_name.startswith(".") or not attribute:
        raise UserError(
            f"a {noun}'s import path must read `{form}`, got {path!r}; "
            "name an absolute module and what it holds"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # If the module exists but lacks a dependency, the message names the dependency.
        raise UserError(
            f"{noun} {path!r}: no module named {error.name!r}; put its folder on PYTHONPATH "
            f"(searched: {', '.join(entry or '.' for entry in sys.path[:3])}, …)"
        ) from error
    except BaseException as error:
        if is_interruption(error):
            raise
        raise UserError(
            f"{noun} {path!r}: the module must import, got {told(error)}; "
            f"try `python -c 'import {module_name}'`"
        ) from error
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            public = [name for name in vars(value) if not name.startswith("_")]
            raise unknown_name(f"attribute of {module_name}", attribute, public)
        value = getattr(value, part)
    return value


@functools.cache
def _installed(group: str) -> dict[str, str]:
    """Return the import paths of installed entry points by name; a process reads them once."""
    return {point.name: point.value for point in metadata.entry_points(group=group)}

"""Recipes say what a study searches, on which data and with which budget. They are TOML files.

The built-in ones lie in `recipes/` beside this module. A user's own is any file with the same
keys; names of methods, models, tasks and data sets may be import paths (`my_package.rules:METHOD`).
"""

import re
import sys
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Self

from trainables.coercion import to_plain
from trainables.config import flatten
from trainables.errors import UserError, unknown_name

_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SAMPLERS = ("curves", "tpe", "gp", "random")
GRID_SAMPLER = "grid"  # draws nothing: every trial of a grid is given
SCHEDULERS = ("pareto-asha", "none")
_SUFFIX = ".toml"
_FOLDER = resources.files(__package__) / "recipes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Holds a study's defaults; everything here can be overridden on the command line.

    methods: what the sampler chooses from.
    references: methods that are trained once each and never sampled.
    trials: the budget where the command line names none.
    concurrency: trials at once; None for one per GPU, or per CPU where there is none.
    num_startup_trials: trials before a sampler uses what it knows.
    flagship: the method whose sparsest and densest models a study begins with.
    settings: dotted names of `TrialConfig` that differ from the presets.
    constraints: bounds by metric, `{"segmentation/miou": ">=0.3"}`.
    scheduling: settings of the scheduler, `{"grace": 0.3}`.
    folder: of the file that it was read from, whose modules its names may refer to.
    """

    name: str
    summary: str
    dataset: str
    preset: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    space: str = "compact"
    trials: int = 24
    concurrency: int | None = None
    references: tuple[str, ...] = ("dense",)
    cost: str = "cost/density"
    sampler: str = "curves"
    scheduler: str = "pareto-asha"
    flagship: str = "disparse-static"
    num_startup_trials: int = 10
    settings: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, str] = field(default_factory=dict)
    scheduling: Mapping[str, float] = field(default_factory=dict)
    folder: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `from_mapping` takes them."""
        return dict(to_plain(self))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str) -> Self:
        """Make the recipe that a TOML file, or `to_json`, holds.

        where: what holds them, for messages. Raises `UserError` for a key or a value that does
        not fit.
        """
        for key in values:
            if key not in _TYPES:
                raise unknown_name(f"key of the recipe {where}", key, _TYPES)
        missing = [name for name in _REQUIRED if name not in values]
        if missing:
            raise UserError(
                f"the recipe {where} must have {', '.join(_REQUIRED[1:])}, got no "
                f"{', '.join(missing)}; `python -m search recipe demo` prints one to start from"
            )
        given = {k: _typed(where, k, v) for k, v in values.items() if v is not None}
        # `{"training": {"steps": 3}}` and `{"training.steps": 3}` are the same settings.
        recipe = cls(**given | {"settings": flatten(given.get("settings", {}))})
        for name in ("tasks", "methods"):
            if not getattr(recipe, name):
                raise UserError(f"`{name}` of the recipe {where} must name at least one, got none")
        return recipe


_TYPES = typing.get_type_hints(Recipe)
_REQUIRED = ("name", "summary", "dataset", "preset", "tasks", "methods")


def recipe_names() -> tuple[str, ...]:
    """Return the names of the built-in recipes, sorted."""
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in _FOLDER.iterdir()))


def recipe_text(name: str) -> str:
    """Return a built-in recipe as TOML. Raises `UserError` for an unknown name."""
    if name not in recipe_names():
        raise unknown_name("recipe (or path of a .toml file)", name, recipe_names())
    return (_FOLDER / f"{name}{_SUFFIX}").read_text(encoding="utf-8")


def get_recipe(reference: str) -> Recipe:
    """Return the built-in recipe of that name, or the one that a file of the user's holds.

    Raises `UserError` for an unknown name, and for a file that cannot be read or makes no sense.
    """
    where, given = repr(reference), {"name": reference}
    try:
        if reference.endswith(_SUFFIX) or "/" in reference:
            path = Path(reference).expanduser()
            where = repr(str(path))
            given = {"name": path.stem, "folder": str(path.absolute().parent)}
            text = path.read_text(encoding="utf-8-sig")  # Windows' editors begin with a mark
        else:
            text = recipe_text(reference)
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"the recipe {where} must be valid TOML, got: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
        raise UserError(
            f"the recipe {where} must be a TOML file that can be read, got: {said}; "
            f"the built-in ones are {', '.join(recipe_names())}"
        ) from None
    return Recipe.from_mapping({**given, **values}, where)


def _typed(where: str, key: str, value: Any) -> Any:
    """Return `value` as the field holds it. Raises `UserError` for another type."""
    kind = _TYPES[key]
    if type(None) in typing.get_args(kind):  # which a file leaves out
        kind = typing.get_args(kind)[0]
    kind = typing.get_origin(kind) or kind
    if kind is tuple:
        fits = isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
    else:
        fits = isinstance(value, kind) and not isinstance(value, bool)
    if not fits:
        words = {tuple: "a list of names", Mapping: "a table", str: "a text", int: "a whole number"}
        raise UserError(f"`{key}` of the recipe {where} must be {words[kind]}, got {value!r}")
    return tuple(value) if kind is tuple else value


def make_importable(folder: str | None) -> None:
    """Let this process import the modules in `folder`; trials get it with their configuration."""
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)


def check_study_name(name: str) -> None:
    """Raise `UserError` for a name that could not be a folder beside the storage's own files."""
    if not _STUDY_NAME.fullmatch(name):
        raise UserError(
            "a study's name must be 1 to 63 letters, digits, '.', '_' or '-' and begin with a "
            f"letter or digit, got {name!r}; it becomes a folder and a tag"
        )
    if name in ("data", "mlartifacts") or name.startswith("mlflow.db"):
        raise UserError(
            f"a study's name must not be one that the storage folder uses itself, got {name!r}; "
            "choose another --name"
        )

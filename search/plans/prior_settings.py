"""What `--prior` says: values that settings are thought to be best near, and earlier studies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from spaces.space import Parameter, Space
from trainables.errors import UserError, unknown_name


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorSettings:
    """Holds what a study's prior is made of; without either there is none.

    values: typed, by parameter. studies: names or folders, whose fronts are meant; where both are
    given, the values replace theirs.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    studies: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values or self.studies)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as `from_json` takes them."""
        return {"values": dict(self.values), "studies": list(self.studies)}

    @classmethod
    def from_json(cls, known: Mapping[str, Any] | None) -> Self:
        """Return what `to_json` gave; None is of a study that is older than priors."""
        if known is None:
            return cls()
        return cls(values=dict(known["values"]), studies=tuple(known["studies"]))


def prior_text(known: Mapping[str, Any] | None) -> str:
    """Return what `to_json` gave as it could be asked for; empty where there is no prior."""
    prior = PriorSettings.from_json(known)
    return ", ".join([*prior.studies, *(f"{name}={value}" for name, value in prior.values.items())])


def parse_prior(items: Sequence[str], space: Space, pins: Mapping[str, Any]) -> PriorSettings:
    """Return the prior of `["optimiser.learning_rate=3e-3", "demo"]`.

    What has a `/` before its `=` is a folder. pins: settings that are fixed. Raises `UserError`
    for a parameter that is not drawn or named twice, and for a value that cannot be drawn.
    """
    values: dict[str, Any] = {}
    studies = []
    for item in items:
        name, separator, text = (part.strip() for part in item.partition("="))
        if not separator or "/" in name:
            studies.append(item)
            continue
        if name in values:
            raise UserError(
                f"`--prior` must name a parameter once, got {name} twice; leave one out"
            )
        values[name] = _value_of(_parameter_of(name, text, space, pins), text)
    if not all(studies):
        raise UserError("`--prior` must be NAME=VALUE or a study, got nothing; leave it out")
    return PriorSettings(values=values, studies=tuple(studies))


def _parameter_of(name: str, text: str, space: Space, pins: Mapping[str, Any]) -> Parameter:
    free = {p.name: p for p in space.parameters if p.name not in space.fixed}
    if name in free:
        return free[name]
    if name in pins:
        raise UserError(
            f"`--prior {name}={text}` must name a parameter that is drawn, got one that is fixed "
            f"at {pins[name]}; leave it out, or do not fix it"
        )
    raise unknown_name(f"parameter of a prior in the space {space.name!r}", name, free)


def _value_of(parameter: Parameter, text: str) -> Any:
    """Return the value in the parameter's type; raise `UserError` for one it could not draw."""
    value: Any = None
    if parameter.kind == "categorical":
        value = next((choice for choice in parameter.choices if str(choice) == text), None)
        within = value is not None
    else:
        try:
            value = float(text)
        except ValueError:
            within = False
        else:
            within = parameter.contains(value)
    if not within:
        raise UserError(
            f"`--prior {parameter.name}` must lie in what is drawn, {parameter.range_text()}, got "
            f"{text!r}; name a value in there"
        )
    return int(value) if parameter.kind == "int" else value

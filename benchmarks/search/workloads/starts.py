"""The points that every system begins with, so that none is helped by knowing good settings."""

from typing import Any

from spaces.space import Space


def starts_of(space: Space) -> list[dict[str, Any]]:
    """The defaults under every choice of the first parameter, at sparsities spread over the
    range; then the defaults at both ends of it. None where no sparsity is searched."""
    first = space.parameters[0]
    sparsity = space.parameter("sparsity.target")
    if sparsity is None:
        return []
    low, high = sparsity.low, sparsity.high
    assert low is not None
    assert high is not None
    num_choices = len(first.choices)
    starts = []
    for index, choice in enumerate(first.choices):
        known = space.known(space.pinned({first.name: choice}).defaults()) | {first.name: choice}
        spread = low + (high - low) * (index + 0.5) / num_choices
        starts.append({**known, sparsity.name: spread})
    ends = [{**space.defaults(), sparsity.name: end} for end in (low, high)]
    return [*starts, *ends]

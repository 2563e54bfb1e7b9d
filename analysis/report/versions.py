"""Which versions made a result, read without loading them."""

import platform
from collections.abc import Iterable
from importlib import metadata

_PACKAGES = ("numpy", "pyarrow", "moocore", "mlflow", "matplotlib", "plotly")


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Of Python and of those `packages` that are installed; default: what makes fronts and
    reports."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

"""Tell which versions made a result, without loading the packages."""

import platform
from collections.abc import Iterable
from importlib import metadata

_PACKAGES = (
    *("disparse-search", "torch", "ray", "optuna", "mlflow", "numpy", "pyarrow", "moocore"),
    *("matplotlib", "plotly"),
)


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of those `packages` that are installed.

    By default these are the packages that make fronts and reports.
    """
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

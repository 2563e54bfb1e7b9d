"""Which versions made a result, read without loading them."""

import platform
from importlib import metadata

_PACKAGES = ("numpy", "pyarrow", "moocore", "mlflow", "matplotlib", "plotly")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that fronts and reports are made with."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

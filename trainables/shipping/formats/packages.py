"""Checks that the packages of the extra `ship` are there, and keeps their exporters quiet."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator

from trainables.errors import UserError

PACKAGES = ("onnx", "onnxscript", "onnxruntime", "safetensors")


def require_packages(*names: str) -> None:
    """Raise `UserError` unless the named packages, or all of `PACKAGES`, are installed."""
    missing = [name for name in names or PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"shipping needs {', '.join(names or PACKAGES)}, got no {', '.join(missing)}; "
            "in the clone, run `make setup`, or `pip install -e '.[ship]'`"
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters, which say much that a user cannot act on. Errors still come."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield  # torch.export prints its graph before it raises
    finally:
        logging.disable(before)

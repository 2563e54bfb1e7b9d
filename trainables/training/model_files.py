"""Finds the file of a trained model, and says what another file or folder is."""

import re
import zipfile
from pathlib import Path

from trainables.errors import Failure, UserError

MODEL = "model.pt"
WANTED = (
    "the model.pt of a trial (runs/NAME/trials/NNNNN/model.pt, or demo-00003) or of `train --out "
    "DIR` (DIR/model.pt)"
)
_SHIPPED = (".onnx", ".pt2", ".safetensors")
_TRIAL = re.compile(r"(.+)-(\d+)")
_DIGITS = 5  # of a trial's number in names


def model_file(path: Path | str) -> Path:
    """Return the file of a model that is named by itself, by its folder, or as a trial.

    A trial such as demo-00003, or demo-3, is looked for in runs/, if there is no file or folder of
    that name.
    """
    named = Path(path)
    require_reachable(named)
    if named.is_dir():
        return named / MODEL
    inside = _of_trial(named)
    return inside if inside is not None and inside.is_file() else named


def require_reachable(path: Path) -> None:
    """Raise `UserError` where the system does not say whether there is a file of this name."""
    try:
        path.stat()
    except PermissionError as error:
        raise unreadable(path, error) from None
    except (OSError, ValueError):
        return  # whoever opens it says what it is


def _of_trial(named: Path) -> Path | None:
    """Return where the model of a trial lies whose name this is; None for anything else."""
    trial = _TRIAL.fullmatch(str(named))
    if trial is None or named.exists():
        return None
    return Path("runs", trial[1], "trials", trial[2].zfill(_DIGITS), MODEL)


def not_there(path: Path | str, wanted: str = WANTED) -> UserError:
    """Return the error for a name at which no model lies."""
    named = Path(path)
    folder = named.parent if named.name == MODEL else named
    what = f"no model in {str(path)!r}"
    inside = _of_trial(named)
    if inside is not None and (study := inside.parents[2]).is_dir():
        what = f"no model of trial {str(path)!r}, whose file {str(inside)!r} is missing; restore it"
        if not inside.parent.is_dir():
            what = f"no trial {str(path)!r} in {str(study)!r}"
        return UserError(f"{what}; {_one_of(study)}")
    if (folder / "summary.json").is_file():  # of a trial that has ended
        return UserError(
            f"{what}, where a trained model's files are: its {MODEL} is missing; restore it from a "
            f"copy, or name {wanted}"
        )
    if (folder / "study.json").is_file():
        return UserError(f"{what}, which is a study's folder; {_one_of(folder)}")
    if (folder / "ship.json").is_file():
        return UserError(
            f"{what}, which `ship` wrote: `predict` reads that folder, and load_packed its "
            f"weights.safetensors; here name {wanted}"
        )
    return UserError(f"{what}; name {wanted}")


def _one_of(study: Path) -> str:
    """Return the advice to name a trial of a study whose model is there."""
    models = sorted(study.glob(f"trials/*/{MODEL}"))
    return f"name one of its trials{f', e.g. {models[0]}' if models else ''}"


def unreadable(path: Path | str, error: OSError) -> UserError | Failure:
    """Return the error for a file that the system does not let us read, however good it may be."""
    said = f"{str(path)!r} cannot be read ({error.strerror or error})"
    if isinstance(error, PermissionError):
        return UserError(f"{said}; allow it")
    return Failure(f"{said}; mend that, and give the same command again")


def refused(path: Path, said: str = "") -> UserError:
    """Return the error for a file that is no model. said: what is wrong, where that is known."""
    if path.stat().st_size == 0:
        said = "an empty file"
    elif path.suffix in _SHIPPED:
        said = "a file that `ship` wrote"
    elif path.name == "state.pt":
        said = "a checkpoint, from which `train --resume` goes on"
    elif not zipfile.is_zipfile(path):
        said = "a file that PyTorch did not write, or not to its end"
    return UserError(
        f"{str(path)!r} must be {WANTED}, got {said or 'a file that another program wrote'}; name "
        "one of these (`predict` takes the folder that `ship` wrote, too), restore the file from a "
        "copy, or train it again"
    )

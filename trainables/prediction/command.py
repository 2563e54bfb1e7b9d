"""Reads the command line of `python -m trainables predict`."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from trainables.errors import UserError
from trainables.terminal.answers import require_json, require_writable, write_json
from trainables.terminal.command_line import parse_size

EXAMPLES = """\b
Examples:
  python -m trainables predict runs/demo/trials/00003/model.pt photo.jpg --out predictions
  python -m trainables predict demo-00003 photo.jpg --out predictions
  python -m trainables predict runs/rigl holiday/*.jpg --out predictions --json -
  python -m trainables predict shipped photo.png --out predictions --quiet
  python -m trainables predict model.pt street.png --out predictions --size 256x512 --device cuda

\b
demo-00003 is that trial of the study in runs/demo.
"""

_STDOUT = "-"


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            help="A model.pt, a folder with one, a trial's name, or the folder that `ship` wrote."
        ),
    ],
    images: Annotated[list[Path], typer.Argument(help="Pictures of any size: PNG, JPEG, …")],
    out: Annotated[
        Path,
        typer.Option(help="Folder for the results, one folder in it for each picture."),
    ],
    size: Annotated[
        str | None,
        typer.Option(
            help="HEIGHTxWIDTH at which pictures go into the network, e.g. 240x320 for 240 pixels "
            "high and 320 wide; default: as many pixels as the frames of its training, in the "
            "picture's proportions. Results have the picture's own size."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write what was done as JSON here, or - (stdout).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no results.")] = False,
) -> None:
    """Predict all tasks of IMAGES with a trained MODEL, at the pictures' own size.

    For each picture: TASK.png in colours, TASK.npy with the prediction itself, and overview.png
    with all of them, legends and scales. Pictures that cannot be read are named at the end; the
    others are predicted nevertheless.
    """
    from trainables.prediction.images import read_picture
    from trainables.prediction.network import SMALLEST_SIDE, load_network
    from trainables.prediction.predict import Predictor, unique_names
    from trainables.training.summary import versions

    started = time.perf_counter()
    asked = None if size is None else parse_size(size)
    if asked is not None and min(asked) < SMALLEST_SIDE:
        raise UserError(
            f"`--size` must be at least {SMALLEST_SIDE} pixels high and wide, got {size}; raise it"
        )
    network = load_network(model, device)
    require_writable(out, "--out")
    require_json(json_file)
    predictor = Predictor(network, out, asked)
    to_stdout = json_file == _STDOUT
    done: list[dict[str, Any]] = []
    unread: dict[str, str] = {}
    if not quiet:
        print(f"note: {predictor.trained_on}", file=sys.stderr)
    for path, name in zip(images, unique_names(images), strict=True):
        try:
            picture = read_picture(path)
        except UserError as error:
            unread[str(path)] = str(error)
            continue
        if not done:
            predictor.write_classes()
        done.append(predictor.predict(picture, name))
        if not quiet and (squeezed := network.squeezes(picture.size)):
            print(f"note: {path}: {squeezed}", file=sys.stderr)
        for note in () if quiet else picture.notes:
            print(f"note: {path}: {note}", file=sys.stderr)
        if not (quiet or to_stdout):
            print(_line(done[-1], out / name))
    result = {
        "command": [Path(sys.executable).name, "-m", "trainables", *sys.argv[1:]],
        "model": str(model),
        "trained_on": predictor.trained_on,
        "config": network.config.to_dict(),
        "seed": network.config.seed,
        "pictures": done,
        "unread": unread,
        "timing": {"total_seconds": time.perf_counter() - started, "device": network.device},
        "versions": versions(),
    }
    if to_stdout:
        write_json(_STDOUT, result)
    elif json_file is not None:
        write_json(json_file, result)
    if unread:
        listed = "; ".join(f"{path!r} ({reason})" for path, reason in unread.items())
        others = ""
        if done:
            others = f"; the other {'is' if len(done) == 1 else f'{len(done)} are'} in {out}"
        raise UserError(
            f"IMAGE must be a picture, such as PNG or JPEG, got {listed}; "
            f"correct or leave {'it' if len(unread) == 1 else 'them'} out{others}"
        )


def _line(done: dict[str, Any], folder: Path) -> str:
    sizes = ("x".join(map(str, done[key])) for key in ("size", "network_size"))
    own, inside = sizes
    names = ",".join(("overview", *done["predictions"]))
    return (
        f"{done['image']} (height x width {own}, in the network {inside}): {folder}/{{{names}}}.png"
    )

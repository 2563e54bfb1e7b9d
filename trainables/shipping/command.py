"""Reads the command line of `python -m trainables ship`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from trainables.errors import Failure, UserError
from trainables.shipping.in_words import costs_in_words
from trainables.terminal.answers import require_json, require_writable, write_answer, write_json
from trainables.terminal.command_line import parse_size
from trainables.user_code import running

EXAMPLES = """\b
Examples:
  python -m trainables ship runs/rigl/model.pt --out runs/rigl/shipped
  python -m trainables ship model.pt --out shipped --data-root runs/data/nyuv2 --threads 4
  python -m trainables ship model.pt --out shipped --runtime torch --device cuda --batch 8
  python -m trainables ship model.pt --out shipped --no-data --size 240x320 --json -
"""

_STDOUT = "-"


def ship(
    model: Annotated[
        Path,
        typer.Argument(
            help="A model.pt, or its folder: of `train --out`, or of a trial; or a trial's name."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for model.onnx, model.pt2, weights.safetensors, card.md and ship.json."
        ),
    ],
    runtime: Annotated[
        str, typer.Option(help="onnxruntime or torch: what the time is measured in.")
    ] = "onnxruntime",
    device: Annotated[str, typer.Option(help="cpu or cuda: where the time is measured.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of one pass on the CPU.")] = 1,
    batch: Annotated[int, typer.Option(help="Images in one timed pass.")] = 1,
    data_root: Annotated[
        str | None,
        typer.Option(
            help="The data set's store or raw data; default: where the model was trained on it."
        ),
    ] = None,
    no_data: Annotated[
        bool,
        typer.Option("--no-data", help="Compare on random images; no metric is computed."),
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(help="HEIGHTxWIDTH of the images, e.g. 120x160; default: as trained."),
    ] = None,
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="Leave height and width open in the files.")
    ] = False,
    summary: Annotated[
        list[Path] | None,
        typer.Option(
            help="--json file of the same configuration with another seed; repeatable. The card "
            "then gives intervals."
        ),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write ship.json's object here too, or - (stdout).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Ship a trained MODEL: compact, export, verify and measure it, and write a model card."""
    from trainables.shipping.options import ShipOptions, check
    from trainables.shipping.ship import ship as ship_model
    from trainables.training.export import load_model
    from trainables.training.model_files import model_file
    from trainables.training.watching.progress import TrialProgress

    options = ShipOptions(
        runtime=runtime,
        device=device,
        threads=threads,
        batch=batch,
        size=None if size is None else parse_size(size),
        dynamic_size=dynamic_size,
        data_root=data_root,
        with_data=not no_data,
    )
    check(options)
    if no_data and data_root is not None:
        raise UserError("`--no-data` needs no data, got --data-root too; leave out one of them")
    trained = load_model(model)
    config: dict[str, Any] = json.loads(json.dumps(trained.config.to_dict()))  # as files hold it
    runs = [_summary(path, config) for path in summary or []]
    own = _beside(model_file(model), config)
    require_writable(out, "--out")
    require_json(json_file)
    own_code = running({f"model {trained.config.model.name!r}": trained.model})
    with TrialProgress("shipping", quiet=quiet) as progress, own_code:
        result = ship_model(
            trained,
            out,
            options,
            command=[Path(sys.executable).name, "-m", "trainables", *sys.argv[1:]],
            trained_by=None if own is None else own.get("command"),
            by_seed=_by_seed([*([own] if own else []), *runs]),
            progress=progress.step,
        )
    if json_file == _STDOUT:
        write_answer((out / "ship.json").read_text())
    else:
        _print_result(result, out)
        if json_file is not None:
            write_json(json_file, result)
    if result["problems"]:
        missing = [n for n in ("model.pt2", "model.onnx") if n not in result["files"]]
        raise Failure(
            f"shipped without {' and '.join(missing)}: {'; '.join(result['problems'])}. "
            f"The other files are in {out}"
        )


def _summary(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's --json object. Raises `UserError` if it is of another configuration."""
    rule = f"`--summary` must be the --json file of `train` with another seed, got {str(path)!r}"
    try:
        run = json.loads(path.read_text())
        differing = sorted(
            name for name in config if name != "seed" and run["config"][name] != config[name]
        )
        dict(run["metrics"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{rule} ({type(error).__name__}: {error}); leave it out") from None
    # Where the data lie does not matter.
    if differing == ["data"] and _without_root(run["config"]) == _without_root(config):
        differing = []
    if differing:
        raise UserError(
            f"{rule}, whose {', '.join(differing)} differ from the model's; leave it out"
        )
    return run


def _beside(model: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the summary.json that `train --out` wrote beside the model, if it is still there."""
    try:
        run = json.loads((model.parent / "summary.json").read_text())
    except (OSError, ValueError):
        return None
    return run if isinstance(run, dict) and run.get("config") == config else None


def _by_seed(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return the metrics of one run of each seed."""
    return list({run["config"]["seed"]: dict(run["metrics"]) for run in runs}.values())


def _without_root(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config["data"].items() if name != "root"}


def _print_result(result: Mapping[str, Any], out: Path) -> None:
    for name, size in result["files"].items():
        print(f"{out / name}  {size:,} bytes")
    print(f"{out / 'card.md'}\n{out / 'ship.json'}")
    print(costs_in_words(result))

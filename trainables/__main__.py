"""Trains one trial, ships its model, converts data, lists what there is: `python -m trainables`.

This is the only module of the package that may import `spaces.presets`.
"""

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from trainables.terminal.installed import packages_needed

# On a busy machine, idle OpenMP threads that spin make a step a hundred times slower. This must
# be in the environment before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

with packages_needed():
    import typer

    from trainables import listing
    from trainables.checks import parse_share, require_given_once
    from trainables.errors import UserError
    from trainables.prediction import command as prediction
    from trainables.shipping.command import EXAMPLES, ship
    from trainables.sweep import command as sweeping
    from trainables.terminal.answers import STDOUT, require_json, require_writable, write_json
    from trainables.terminal.command_line import (
        Commands,
        parse_settings,
        parse_size,
        run_command_line,
    )

app = typer.Typer(
    name="python -m trainables",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train one sparse multitask model and ship it, convert a data set, or list what there is.",
)


_TRAIN_EXAMPLES = """\b
Examples:
  python -m trainables train disparse-static --dataset scenes --preset tiny --sparsity 0.9
  python -m trainables train rigl --dataset nyu-v2 --data-root runs/data/nyuv2 --preset small \\
      --tasks segmentation,depth --sparsity 0.95 --out runs/rigl --json runs/rigl.json
  python -m trainables train snip --dataset scenes --set optimiser.learning_rate=0.001
  python -m trainables train lth --dataset scenes --sparsity 0.9 --dense-cache runs/.dense
  python -m trainables train my_lab.methods:OUTLIER --dataset my_lab.datasets:ROOMS \\
      --data-root runs/data/rooms --tasks depth,my_lab.tasks:HEIGHT
"""


@app.command(epilog=_TRAIN_EXAMPLES)
def train(
    method: Annotated[str, typer.Argument(help="See `list methods`, or package.module:METHOD.")],
    dataset: Annotated[
        str, typer.Option(help="See `list datasets`, or package.module:SPEC.")
    ] = "scenes",
    data_root: Annotated[
        str | None,
        typer.Option(help="Folder or URI of the store, or raw data, which is converted once."),
    ] = None,
    preset: Annotated[str, typer.Option(help="tiny, small or paper.")] = "tiny",
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated, see `list tasks`, or package.module:TASK; default: usual ones."
        ),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(help="Share of prunable weights at zero, 0.9 or 90%; dense ignores it."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random stream.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    metrics: Annotated[
        str, typer.Option(help="corrected, or published (with the papers' quirks and grid).")
    ] = "corrected",
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, key=value; repeatable.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the checkpoint, model.pt, predictions.npz and summary.json."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(help="A dense run's --json file; adds multitask/delta_percent."),
    ] = None,
    dense_cache: Annotated[
        Path | None,
        typer.Option(help="Folder of dense runs, which are reused and not trained again."),
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Use repeatable, slower kernels on CUDA.")
    ] = False,
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure cost/latency_ms at the end.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE|-", help="Write the result as one JSON object; - prints it."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Train one METHOD and evaluate it on test."""
    from spaces.presets import trial_config, without_effect
    from trainables.data.catalogue import open_dataset
    from trainables.shipping.trial_costs import deployment_costs
    from trainables.sparsity.catalogue import get_method
    from trainables.training.attended import train_to_end
    from trainables.training.dense_runs.cache import DenseCache
    from trainables.training.device import resolve_device
    from trainables.training.summary import (
        coarse_blocks,
        require_numbers,
        unscored,
    )
    from trainables.training.test_frames import FILE, save_predictions
    from trainables.training.trial import TrialRun
    from trainables.training.watching.progress import TrialProgress

    get_method(method)
    resolved_device = resolve_device(device)
    settings = parse_settings(setting or [])
    share = None if sparsity is None else parse_share(sparsity, "--sparsity")
    require_given_once(
        settings,
        {
            "sparsity.target": ("--sparsity", sparsity),
            "data.tasks": ("--tasks", tasks),
            "data.root": ("--data-root", data_root),
            "metrics": ("--metrics", metrics),
        },
    )
    config = trial_config(
        method,
        dataset,
        preset,
        tasks=tasks,
        sparsity=share,
        seed=seed,
        root=data_root,
        steps=steps,
        metrics=metrics,
        overrides=settings,
    )
    asked = settings if share is None else {**settings, "sparsity.target": share}
    for name in without_effect(config, asked):
        print(f"note: {method} does not read {name}", file=sys.stderr)
    if resume and out is None:
        raise UserError("`--resume` continues the run in `--out`, got no --out; name its folder")
    checkpoint = None if out is None else out / "checkpoint"
    if checkpoint is not None:
        require_writable(checkpoint.parent, "--out")
    to_stdout = str(json_file) == STDOUT
    require_json(json_file)
    reference = None if baseline is None else _baseline_metrics(baseline, config.data.tasks)
    title = f"{method} on {dataset}"
    with TrialProgress(title, quiet=quiet) as progress:
        open_dataset(
            config.data,
            None
            if quiet
            else lambda split, done, total: progress.step(f"preparing {split}", done, total),
        )
        arguments: dict[str, Any] = {
            "device": resolved_device,
            "baseline": reference,
            "dense_cache": dense_cache
            and DenseCache(dense_cache, resolved_device, deterministic=deterministic),
            "deterministic": deterministic,
            "latency": latency,
            "deployment": deployment_costs(config),
        }
        if resume and checkpoint is not None:
            run = TrialRun.resume(checkpoint, config, **arguments)
        else:
            run = TrialRun(config, **arguments)
            if checkpoint is not None and checkpoint.exists():
                print(
                    f"note: training begins anew; {str(out)!r} holds a checkpoint, from which "
                    "--resume would have gone on",
                    file=sys.stderr,
                )
        for note in run.notes:
            print(f"note: {note}", file=sys.stderr)
        train_to_end(run, progress, checkpoint)
    summary = run.summary([Path(sys.executable).name, "-m", "trainables", *sys.argv[1:]])
    # Before the files are written: a full disk must not lose it.
    if to_stdout:
        write_json(STDOUT, summary)
    else:
        _print_result(summary)
    flops = summary["metrics"]["cost/flops_fraction"]
    for note in (coarse_blocks(config, run.registry, flops), unscored(run.registry)):
        if note:
            print(f"note: {note}", file=sys.stderr)
    if out is not None:
        run.export(out / "model.pt")
        write_json(out / "summary.json", summary)
        save_predictions(out / FILE, run)
    if json_file is not None and not to_stdout:
        write_json(json_file, summary)
    require_numbers(summary["metrics"])


def _trial_config(**options: Any) -> Any:
    from spaces.presets import trial_config

    return trial_config(**options)


app.command(epilog=sweeping.EXAMPLES)(sweeping.sweep_command(_trial_config))
app.command(epilog=EXAMPLES)(ship)
app.command(epilog=prediction.EXAMPLES)(prediction.predict)


@app.command(
    epilog="""\b
Example:
  python -m trainables convert nyu-v2 /data/nyuv2 runs/data/nyuv2 --size 120x160
"""
)
def convert(
    dataset: Annotated[str, typer.Argument(help="See `list datasets`, or package.module:SPEC.")],
    source: Annotated[
        Path, typer.Argument(help="The raw data, in any supported layout.", readable=False)
    ],
    # Text, because a path would make one slash of an address's two.
    destination: Annotated[str, typer.Argument(help="Folder for the store.")],
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH in pixels, e.g. 120x160.")] = None,
    allow_outside: Annotated[
        bool,
        typer.Option("--allow-outside", help="Read files that links or lists name outside SOURCE."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Convert DATASET from SOURCE into the columnar store at DESTINATION."""
    from trainables.data.store.convert import convert as convert_dataset
    from trainables.training.watching.progress import ConversionProgress

    parsed = None if size is None else parse_size(size)
    with ConversionProgress(f"converting {dataset}", quiet=quiet) as progress:
        summary = convert_dataset(
            dataset, source, destination, parsed, progress.step, allow_outside=allow_outside
        )
    for note in summary.notes:
        print(f"note: {note}", file=sys.stderr)
    counts = ", ".join(f"{count} {split}" for split, count in summary.num_frames.items())
    print(f"{destination}: {counts}")


app.command("list", epilog=listing.EXAMPLES)(listing.list_names)


def _baseline_metrics(path: Path, tasks: Sequence[str]) -> dict[str, float]:
    """Return the finite metrics of a dense run, read from its --json file.

    Raises `UserError` if no metric can be compared for `tasks`. A metric of 0 cannot be compared,
    because it has no relative change.
    """
    from trainables.report import SPLITS, task_metrics

    rule = f"`--baseline` must be the --json file of a dense run, got {str(path)!r}"
    remedy = "write one with `train dense … --json FILE`"
    try:
        run = json.loads(path.read_text())
        listed = run["metrics"].items()
        method = run.get("config", {}).get("method", "dense")
        # These files hold null for values that are not finite.
        metrics = {str(name): float(value) for name, value in listed if value is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{rule} ({type(error).__name__}: {error}); {remedy}") from None
    if method != "dense":
        raise UserError(f"{rule}, which is of {method}; {remedy}")
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    names = [name for task in tasks for name in task_metrics(task)]
    for split in SPLITS:
        if not any(metrics.get(f"{split}/{name}") for name in names):
            raise UserError(
                f"{rule}, which has no metric of {', '.join(tasks)} on {split}; "
                f"train it on the same tasks: {remedy}"
            )
    return metrics


def _print_result(summary: dict[str, object]) -> None:
    from trainables.report import PRIMARY_METRICS

    metrics: dict[str, float] = summary["metrics"]  # type: ignore[assignment]
    masks: dict[str, int] = summary["masks"]  # type: ignore[assignment]
    print(f"kept {masks['kept']:,} of {masks['total']:,} prunable weights")
    for name in PRIMARY_METRICS.values():
        if f"test/{name}" in metrics:
            print(f"test/{name} {metrics[f'test/{name}']:.4f}")


if __name__ == "__main__":
    run_command_line(app)

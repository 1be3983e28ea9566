"""`mattecli eval`: the field's metrics of a folder of predictions, or of a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mattecli.cli.console import complain, emit_json, progress, say
from mattecli.cli.options import Device, Precision, Size, Weights
from mattecli.errors import UsageError

if TYPE_CHECKING:
    from mattecli.evaluation.dataset import Dataset
    from mattecli.evaluation.report import Report
    from mattecli.evaluation.run import Predict

HEADINGS = {"sad": "SAD", "mse": "MSE ×10³", "mad": "MAD ×10³", "grad": "Grad", "conn": "Conn", "iou": "IoU"}
REGIONS = {"whole": "whole", "trimap": "unknown"}
SHOWN = 20
"""How many missing or failed images are named."""


WIDTH_OF_FILES = 200
"""What a table may take where no terminal limits it."""


def evaluate(
    predictions: Annotated[
        Path | None,
        typer.Argument(metavar="PREDICTIONS", help="Folder of mattes to measure, named as the ground truth."),
    ] = None,
    gt: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Ground truth of PREDICTIONS: mattes, or masks.")
    ] = None,
    trimaps: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Trimaps: measure their unknown region (128) too.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Data set with images/ and alphas/ or masks/, for --model. Repeatable."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A network of `mattecli models`.", show_default="realtime")] = None,
    weights: Weights = None,
    size: Size = None,
    device: Device = "auto",
    precision: Precision = "auto",
    match: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only images of such a name, as '*0' or 'street/*'.")
    ] = "*",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    per_image: Annotated[bool, typer.Option("--per-image", help="The scores of every image too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a data set, a line each.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the scores and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """SAD, MSE, MAD, Grad, Conn and IoU of mattes, exactly as the field's official MATLAB code.

    SAD, Grad and Conn are sums divided by 1000, MSE and MAD means (the table shows them times 1000), IoU is that of
    alpha > 0.5; all are averaged over the images. A network's mattes are measured at the photo's full size, in 8 bits.

    Exit status: 0 all done, 1 some images are missing or failed, 2 wrong use, 130 interrupted.

    Examples:

    mattecli eval mattes/ --gt alphas/ --trimaps trimaps/

    mattecli eval --model modnet --weights modnet.ckpt --data PPM-100/ --per-image

    mattecli eval --data street/ --data studio/ --match '*0' --json
    """
    from mattecli.evaluation import dataset as files

    jobs: list[tuple[str, Dataset]] = []
    asked = data or model or weights or size or device != "auto" or precision != "auto"
    if predictions is not None and gt is not None and not asked:
        jobs.append((str(predictions), files.pair(predictions, gt, trimaps, match=match, limit=limit)))
    elif data and predictions is None and gt is None:
        if trimaps is not None and len(data) > 1:
            raise UsageError("--trimaps goes with one --data; keep the trimaps of several in their trimaps/ folders.")
        jobs += [(str(root), files.open_data(root, trimaps, match=match, limit=limit)) for root in data]
    else:
        raise UsageError("Give PREDICTIONS and --gt FOLDER, or --data FOLDER with --model NAME and its options.")

    about: dict[str, object] = {}
    predict: Predict = files.read_matte
    if data:
        about, predict = _network(model or "realtime", weights, size, device, precision, quiet)
    complete = [_run(name, found, predict, about, per_image, json, quiet) for name, found in jobs]
    if not all(complete):
        raise typer.Exit(1)


def _network(
    model: str, weights: Path | None, size: int | None, device: str, precision: str, quiet: bool
) -> tuple[dict[str, object], Predict]:
    from mattecli.evaluation.run import network
    from mattecli.inference.network import Matter, describe

    matter = Matter(model, device, precision, size=size, weights=weights)
    if not quiet:
        say(f"{model} on {describe(matter)}")
    about: dict[str, object] = {"model": model, "weights": None if weights is None else str(weights), "size": size}
    return about | {"device": str(matter.device), "precision": matter.precision}, network(matter)


def _run(
    name: str, found: Dataset, predict: Predict, about: dict[str, object], per_image: bool, json: bool, quiet: bool
) -> bool:
    """Whether all of one data set could be scored."""
    from mattecli.evaluation.run import evaluate as score

    with progress(name, sum(item.source is not None for item in found.items), quiet) as advance:
        report = score(found, predict, advance)
    if json:
        emit_json({("data" if about else "predictions"): name, **about, **report.record(per_image)})
    else:
        _print(name, report, per_image)
    _complain(name, report, "photo" if about else "prediction", quiet)
    return report.complete


def _print(name: str, report: Report, per_image: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{name}: {len(report.rows)} of {report.expected} images"), title_justify="left")
    table.add_column("image" if per_image else "")
    table.add_column("region")
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right")
    listed = [(row.name, row.scores) for row in report.rows] if per_image else []
    for label, scores in [*listed, ("mean", report.mean())]:
        table.add_section()
        for region, values in scores.items():
            style = "bold" if label == "mean" else ""
            table.add_row(Text(label), REGIONS[region], *_cells(values), style=style)
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = WIDTH_OF_FILES
    output.print(table)
    if report.truth == "masks":
        output.print("The ground truth is masks: IoU counts, the edge metrics measure their stairs.", soft_wrap=True)


def _cells(values: dict[str, float]) -> list[str]:
    scale = {"mse": 1e3, "mad": 1e3}
    return [f"{values[metric] * scale.get(metric, 1):.4f}" for metric in HEADINGS]


def _complain(name: str, report: Report, source: str, quiet: bool) -> None:
    problems = [f"{missing} has ground truth, but no {source}." for missing in report.missing]
    problems += report.failed.values()
    for problem in problems[:SHOWN]:
        complain(f"{name}: {problem}")
    if len(problems) > SHOWN:
        complain(f"{name}: {len(problems) - SHOWN} more could not be scored (--json lists them).")
    if problems:
        complain(f"{name}: the means leave {len(problems)} of {report.expected} images out.")
    if report.surplus and not quiet:
        say(f"{name}: without ground truth, so left out: {len(report.surplus)}.", "yellow")

"""`mattecli eval`: the field's metrics of predictions, or of a network, on photos or clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mattecli.cli.console import complain, emit_json, print_table, progress, say
from mattecli.cli.options import Device, Precision, Size, Weights
from mattecli.errors import UsageError

if TYPE_CHECKING:
    from mattecli.evaluation.clip_dataset import ClipDataset
    from mattecli.evaluation.dataset import Dataset
    from mattecli.evaluation.report import Report
    from mattecli.inference.network import Matter

Steady = Literal["state", "delay", "none"]

HEADINGS = {"sad": "SAD", "mse": "MSE ×10³", "mad": "MAD ×10³", "grad": "Grad", "conn": "Conn", "iou": "IoU"}
CLIP_HEADINGS = {"dtssd": "dtSSD", "messddt": "MESSDdt"}
SCALE = {"mse": 1e3, "mad": 1e3}
REGIONS = {"whole": "whole", "trimap": "unknown"}
SHOWN = 20
"""How many missing or failed images are named."""


def evaluate(
    predictions: Annotated[
        Path | None,
        typer.Argument(
            metavar="PREDICTIONS", help="Folder of mattes to measure, named as the ground truth; or a clip."
        ),
    ] = None,
    gt: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Ground truth of PREDICTIONS: mattes, masks or a clip.")
    ] = None,
    trimaps: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Trimaps: measure their unknown region (128) too.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Data set with images/ and alphas/ or masks/, for --model. Repeatable."),
    ] = None,
    clips: Annotated[
        bool, typer.Option("--clips", help="All folders hold clips: folders of frames, or video files.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="A network of `mattecli models`.", show_default="realtime")] = None,
    weights: Weights = None,
    size: Size = None,
    steady: Annotated[
        Steady | None,
        typer.Option(
            help="What joins a clip's frames: the network's state as in `video`, one frame of delay to mend flicker as "
            "in `video --stateless`, or nothing.",
            show_default="state; delay for networks that have none",
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino (CPU; extra 'cpu').")] = "auto",
    match: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only images or clips of such a name, as '*0' or 'street/*'.")
    ] = "*",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images or clips.")] = None,
    per_image: Annotated[bool, typer.Option("--per-image", help="The scores of every image too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a data set, a line each.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the scores and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """SAD, MSE, MAD, Grad, Conn and IoU of mattes, exactly as the field's official MATLAB code; of clips flicker too.

    SAD, Grad and Conn are sums divided by 1000, MSE and MAD means (the table shows them times 1000), IoU is that of
    alpha > 0.5; all are averaged over the images. A network's mattes are measured at the photo's full size, in 8 bits.

    With --clips, a folder with numbered pictures is a clip, and so is a video file (its alpha, else its grey). The
    same metrics are averaged over a clip's frames, and beside them over its T - 1 pairs of frames: dtSSD in RVM's
    scale (--json has RVM's own average, which is (T - 1) / T of it, as dtssd_rvm) and MESSDdt, a sum over pixels
    with Farneback's flow of the ground truth (--json has it per pixel times 10000 as messddt_mean). The mean is that
    of the clips. --data holds CLIP/images and CLIP/alphas, or CLIP/com and CLIP/pha. A network sees a clip as `video`
    shows it: in the same engine, each scene begun with its next frames.

    Exit status: 0 all done, 1 some images or clips are missing or failed, 2 wrong use, 130 interrupted.

    Examples:

    mattecli eval mattes/ --gt alphas/ --trimaps trimaps/

    mattecli eval --model modnet --weights modnet.ckpt --data PPM-100/ --per-image

    mattecli eval --data street/ --data studio/ --match '*0' --json

    mattecli eval matted.mp4 --gt frames/ --clips

    mattecli eval --data VideoMatte/ --clips --steady none
    """
    asked = data or model or weights or size or steady or (device, precision, engine) != ("auto", "auto", "auto")
    if not (predictions and gt and not asked) and not (data and not predictions and not gt):
        raise UsageError("Give PREDICTIONS and --gt FOLDER, or --data FOLDER with --model NAME and its options.")
    if clips and (trimaps or per_image):
        raise UsageError("--trimaps and --per-image go with photos, not with --clips.")
    if steady and not clips:
        raise UsageError("--steady goes with --clips.")
    if data and trimaps and len(data) > 1:
        raise UsageError("--trimaps goes with one --data; keep the trimaps of several in their trimaps/ folders.")

    jobs = _datasets(predictions, gt, data or [], trimaps, clips, match, limit)
    about: dict[str, object] = {}
    matter: Matter | None = None
    if data:
        matter, about = _network(model or "realtime", weights, size, device, precision, engine, clips, quiet)
        if clips:
            if steady in (None, "state"):
                steady = "state" if matter.spec.recurrent else "delay"
            about["steady"] = steady
    score = _scorer(matter, clips, steady or "state")
    complete = [_run(name, found, score, about, per_image, json, quiet) for name, found in jobs]
    if not all(complete):
        raise typer.Exit(1)


def _datasets(
    predictions: Path | None,
    gt: Path | None,
    data: list[Path],
    trimaps: Path | None,
    clips: bool,
    match: str,
    limit: int | None,
) -> list[tuple[str, Dataset | ClipDataset]]:
    """What to measure, by the name that the user gave it."""
    from mattecli.evaluation import dataset

    options: dict[str, Any] = {"match": match, "limit": limit}
    if clips:
        from mattecli.evaluation import clip_dataset

        if predictions and gt:
            return [(str(predictions), clip_dataset.pair(predictions, gt, **options))]
        return [(str(root), clip_dataset.open_data(root, **options)) for root in data]
    if predictions and gt:
        return [(str(predictions), dataset.pair(predictions, gt, trimaps, **options))]
    return [(str(root), dataset.open_data(root, trimaps, **options)) for root in data]


def _network(
    model: str,
    weights: Path | None,
    size: int | None,
    device: str,
    precision: str,
    engine: str,
    clips: bool,
    quiet: bool,
) -> tuple[Matter, dict[str, object]]:
    """The network, and what JSON says of it."""
    from mattecli.inference.devices import describe
    from mattecli.inference.network import Matter

    matter = Matter(model, device, precision, size=size, weights=weights, engine=engine, clip=clips)
    if matter.spec.needs != "image":
        command = "video" if clips else "matte"
        raise UsageError(
            f"{model} needs a {matter.spec.needs} beside each picture: give it to `mattecli {command}`, "
            "and measure what that writes with PREDICTIONS and --gt."
        )
    if not quiet:
        say(f"{model} on {describe(matter)}")
    about: dict[str, object] = {"model": model, "weights": None if weights is None else str(weights), "size": size}
    return matter, about | {"device": str(matter.device), "precision": matter.precision, "engine": matter.engine}


def _scorer(matter: Matter | None, clips: bool, steady: Steady) -> Callable[..., Report]:
    """`evaluate` for photos or for clips, of predictions or of a network."""
    from functools import partial

    if clips:
        from mattecli.evaluation import clip_run

        if matter is None:
            return clip_run.evaluate
        from mattecli.evaluation import networks

        return partial(clip_run.evaluate, predict=networks.clips(matter, steady))
    from mattecli.evaluation import run

    if matter is None:
        return run.evaluate
    from mattecli.evaluation import networks

    return partial(run.evaluate, predict=networks.photos(matter))


def _run(
    name: str,
    found: Dataset | ClipDataset,
    score: Callable[..., Report],
    about: dict[str, object],
    per_image: bool,
    json: bool,
    quiet: bool,
) -> bool:
    """Whether all of one data set could be scored."""
    with progress(name, found.steps, quiet) as advance:
        report = score(found, progress=advance)
    if json:
        emit_json({("data" if about else "predictions"): name, **about, **report.record(per_image)})
    elif report.rows:
        _print(name, report, per_image)
    source = ("clip" if report.unit == "clips" else "photo") if about else "prediction"
    _complain(name, report, source, quiet)
    return report.complete


def _print(name: str, report: Report, per_image: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    clips = report.unit == "clips"
    headings = HEADINGS | CLIP_HEADINGS if clips else HEADINGS
    table = Table(title=Text(f"{name}: {len(report.rows)} of {report.expected} {report.unit}"), title_justify="left")
    table.add_column("clip" if clips else "image" if per_image else "")
    table.add_column("frames" if clips else "region", justify="right" if clips else "left")
    for heading in headings.values():
        table.add_column(heading, justify="right")
    listed = [(row.name, row.scores, row.frames) for row in report.rows] if per_image or clips else []
    for label, scores, frames in [*listed, ("mean", report.mean(), sum(row.frames for row in report.rows))]:
        table.add_section()
        for region, values in scores.items():
            style = "bold" if label == "mean" else ""
            cells = [f"{values[metric] * SCALE.get(metric, 1):.4f}" for metric in headings]
            table.add_row(Text(label), str(frames) if clips else REGIONS[region], *cells, style=style)
    print_table(table)
    if report.truth == "masks":
        print("The ground truth is masks: IoU counts, the edge metrics measure their stairs.")


def _complain(name: str, report: Report, source: str, quiet: bool) -> None:
    problems = [f"{missing} has ground truth, but no {source}." for missing in report.missing]
    problems += report.failed.values()
    for problem in problems[:SHOWN]:
        complain(f"{name}: {problem}")
    if len(problems) > SHOWN:
        complain(f"{name}: {len(problems) - SHOWN} more could not be scored (--json lists them).")
    if problems:
        complain(f"{name}: the means leave {len(problems)} of {report.expected} {report.unit} out.")
    if report.surplus and not quiet:
        say(f"{name}: without ground truth, so left out: {len(report.surplus)}.", "yellow")

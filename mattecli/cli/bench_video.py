"""`mattecli bench video`: how fast clips go through on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mattecli.cli.console import emit_json, print_table, progress, say
from mattecli.cli.options import Device, Precision, Size

if TYPE_CHECKING:
    from mattecli.benchmark.video import Row

ALONE = ("decode", "network", "render", "network, render", "encode")


def bench_video(
    clip: Annotated[
        str | None,
        typer.Argument(metavar="CLIP", help="What to measure with.", show_default="1080p, a person, made for it"),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, metavar="N", help="How many frames of it.")] = 300,
    model: Annotated[str, typer.Option(help="A network of `mattecli models`.")] = "realtime",
    size: Size = None,
    device: Device = "auto",
    precision: Precision = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino (CPU; extra 'cpu').")] = "auto",
    codec: Annotated[str, typer.Option(metavar="NAME", help="As for `video`; the file is an .mp4.")] = "auto",
    hwaccel: Annotated[str, typer.Option(metavar="NAME", help="As for `video`.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a measurement, a line each.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the figures and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Frames a second from file to file, and of each stage alone.

    Decode, network, render (a composite over a picture) and encode are timed
    alone, then a plain transcode with the same encoder settings, then the
    whole way, once in eager fp32 and once as `video` does it. `busy` is the
    CPU time of the process as a share of all cores. Memory should be the same
    after 300 frames and at the end: see --frames 3000.

    Examples:

    mattecli bench video

    mattecli bench video clip.mp4 --frames 3000 --json
    """
    from mattecli import zoo
    from mattecli.benchmark.video import Setting
    from mattecli.benchmark.video import bench_video as measure

    zoo.card(model)  # an unknown network is told before seconds of measuring
    setting = Setting(model, size, device, precision, engine, codec, hwaccel)
    with progress("bench video", None, quiet) as advance:

        def report(row: Row) -> None:
            advance(1)
            if json:
                emit_json(_record(row))

        rows = measure(clip, frames, setting, report)
    if not json:
        _print(rows)
    if not quiet:
        _explain({row.name: row for row in rows})


def _record(row: Row) -> dict[str, Any]:
    return {
        **{"name": row.name, "how": row.how, "frames": row.frames, "seconds": row.seconds, "fps": row.fps},
        **{"busy": row.cores / row.of, "cores": row.cores, "memory_after_300": row.early, "memory": row.memory},
    }


def _print(rows: list[Row]) -> None:
    from rich.table import Table

    table = Table()
    for heading in ("stage", "how"):
        table.add_column(heading)
    for heading in ("frames", "fps", "busy", "MiB at 300", "MiB at the end"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        memory = ["-" if size is None else f"{size / 2**20:.0f}" for size in (row.early, row.memory)]
        table.add_row(row.name, row.how, str(row.frames), f"{row.fps:.1f}", f"{row.cores / row.of:.0%}", *memory)
    print_table(table)


def _explain(rows: dict[str, Row]) -> None:
    fps = {name: row.fps for name, row in rows.items()}
    whole, slowest = fps["end to end"], min(fps[name] for name in ALONE if name in fps)
    said = f"{whole / fps['transcode']:.2f} of the transcode, {whole / slowest:.2f} of the slowest stage alone"
    if "end to end, eager" in fps:
        said += f", {whole / fps['end to end, eager']:.1f} times eager fp32"
    say(f"end to end is {said}.")

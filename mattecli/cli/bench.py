"""`mattecli bench`: how fast networks, and clips, are on this machine."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mattecli.cli.console import complain, emit_json, print_table, progress, say
from mattecli.errors import UsageError

if TYPE_CHECKING:
    from mattecli.benchmark.networks import Result, Variant

MOST_PIXELS = 2**28
USUAL = ("realtime", "modnet", "rvm-mobilenetv3")
"""The networks timed where none is named: those that run on any picture in real time."""


class _Networks(typer.core.TyperGroup):
    """`bench realtime` is short for `bench networks realtime`, and so is `bench` alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args[:1] in (["video"], ["networks"]) else ["networks", *args])


app = typer.Typer(cls=_Networks, help="Speed, memory and arithmetic of networks; `bench video`: of clips.")


@app.command()
def networks(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Networks of `mattecli models`.", show_default=", ".join(USUAL)),
    ] = None,
    all_models: Annotated[bool, typer.Option("--all", help="The whole zoo.")] = False,
    size: Annotated[str, typer.Option(metavar="WxH,...", help="What the network sees, in pixels.")] = "512x512",
    batch: Annotated[str, typer.Option(metavar="N,...", help="Pictures at once.")] = "1",
    precision: Annotated[str, typer.Option(metavar="NAME,...", help="auto, fp32, bf16 or fp16.")] = "auto",
    device: Annotated[str, typer.Option(metavar="NAME,...", help="auto, cuda, cuda:N, mps or cpu.")] = "auto",
    engine: Annotated[str, typer.Option(metavar="NAME,...", help="torch or openvino (CPU; extra 'cpu').")] = "torch",
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="Timed passes of each variant, at most.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a variant, a line each.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the figures and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Forward speed, memory and arithmetic of networks. For clips: `mattecli bench video --help`.

    Options with commas are crossed with one another and with the networks. Every variant is warmed up, then they are
    timed in turn (as many together as 2 GiB hold the weights of), so that the ratios (to the first row) are fair on a
    busy machine too. Times are the median of one forward pass with its interquartile range; of slow networks, of fewer
    passes than --runs, down to 3. Weights are random, since speed does not depend on them. OpenVINO computes what
    inference takes from it: of `realtime` slope and intercept, which become alpha at the photo's own size.

    Exit status: 0 all done, 1 some variants failed, 2 wrong use, 130 interrupted.

    Examples:

    mattecli bench

    mattecli bench --all --size 256

    mattecli bench realtime --size 512x512,1920x1088 --precision fp32,bf16 --device cpu --engine torch,openvino

    mattecli bench realtime modnet --device cuda --batch 1,16 --json
    """
    sizes, batches = [_size(text) for text in _list("--size", size)], [_count(text) for text in _list("--batch", batch)]

    from mattecli import zoo

    if models and all_models:
        raise UsageError("--all times every network; leave it out or leave out the names.")
    names = [zoo.card(name).name for name in (zoo.names() if all_models else models or USUAL)]

    from mattecli.benchmark.networks import Variant
    from mattecli.benchmark.networks import bench as measure

    variants = [
        Variant(name, height, width, count, numbers, where, how)
        for name, (width, height), count, numbers, where, how in itertools.product(
            names, sizes, batches, _list("--precision", precision), _list("--device", device), _list("--engine", engine)
        )
    ]
    with progress("bench", len(variants) * (runs + 1), quiet) as advance:
        results = measure(variants, runs, advance)
    if json:
        for result in results:
            emit_json(_record(result, results[0]))
    else:
        _print(results)
        if not quiet:
            _explain([result.variant for result in results])
    failed = [result for result in results if result.error]
    for result in failed:
        complain(f"{_label(result.variant)}: {result.error}")
    if failed:
        raise typer.Exit(1)


def _list(option: str, text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{option} {text!r} is no list; give one or more with commas between them.")
    return parts


def _size(text: str) -> tuple[int, int]:
    """(width, height) of `512x288`, or of `512` for a square."""
    found = re.fullmatch(r"(\d{1,6})(?:[x×](\d{1,6}))?", text)
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < width * height <= MOST_PIXELS:
        raise UsageError(f"--size {text} is no size; give WIDTHxHEIGHT, as 512x288.")
    return width, height


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch {text} is no number of pictures; give 1 or more.")
    return int(text)


def _label(variant: Variant) -> str:
    shape = f"{variant.width}x{variant.height}, batch {variant.batch}"
    return f"{variant.model}, {shape}, {variant.precision}, {variant.device}, {variant.engine}"


def _ratio(result: Result, first: Result) -> float | None:
    """How many times as many samples a second as the first."""
    if result.per_second is None or first.per_second is None:
        return None
    return result.per_second / first.per_second


def _record(result: Result, first: Result) -> dict[str, Any]:
    import torch

    from mattecli.benchmark.networks import machine

    record = dataclasses.asdict(result)
    variant = record.pop("variant")
    about = {"machine": machine(result.variant.device), "torch": torch.__version__}
    return {**variant, **record, "ratio": _ratio(result, first), **about}


def _print(results: list[Result]) -> None:
    from rich.table import Table

    table = Table()
    for heading in ("network", "size", "batch", "precision", "device", "engine"):
        table.add_column(heading, justify="right" if heading == "batch" else "left")
    for heading in ("ms", "IQR", "per s", "ratio", "GMACs", "M par.", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        v = result.variant
        table.add_row(
            *(v.model, f"{v.width}x{v.height}", str(v.batch), v.precision, v.device, v.engine),
            *_figures(result, results[0]),
        )
    print_table(table)


def _figures(result: Result, first: Result) -> list[str]:
    if result.seconds is None or result.quartiles is None:
        return ["failed"]
    low, high = result.quartiles
    return [
        f"{result.seconds * 1e3:.2f}",
        f"{(high - low) * 1e3:.2f}",
        f"{result.per_second:.1f}",
        "-" if (ratio := _ratio(result, first)) is None else f"{ratio:.2f}",
        f"{result.macs / 1e9:.2f}" if result.macs else "-",
        f"{(result.parameters or 0) / 1e6:.2f}",
        "-" if result.memory is None else f"{result.memory / 2**20:.0f}",
    ]


def _explain(variants: list[Variant]) -> None:
    from mattecli.benchmark.networks import machine

    for device in dict.fromkeys(variant.device for variant in variants):
        say(f"{device}: {machine(device)}")
    say("per s and ratio count pictures; MiB is the peak of weights and activations (on a CPU the process's growth).")

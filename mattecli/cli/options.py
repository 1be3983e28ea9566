"""Options that several subcommands share."""

from pathlib import Path
from typing import Annotated

import typer

from mattecli.cli.console import say
from mattecli.zoo import cache


def not_empty(text: str | None) -> str | None:
    """For names of files: an empty one, as of a script's unset variable, is not the same as none."""
    if text == "":
        raise typer.BadParameter("it is empty; name a file, or leave the option out.")
    return text


Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights for it, instead of those that come with it.")
]
Size = Annotated[
    int | None,
    typer.Option(
        min=32,
        metavar="N",
        help="Reference length in pixels it sees pictures at (realtime: 512; 768 finds people who are small in "
        "them, in twice the time); far from its own it fails.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cuda, cuda:N, mps or cpu.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]

Trimap = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOLDER|auto",
        callback=not_empty,
        help="Black background, white foreground, grey unknown, for networks that need it; a folder has one for each "
        "photo, of its name; auto makes it from the default network's matte.",
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOLDER",
        callback=not_empty,
        help="A rough mask, white on the subject: nothing far from it is kept; a folder has one for each photo.",
    ),
]
Align = Annotated[
    bool,
    typer.Option("--align", help="Bring the plate into register, where the camera was held by hand or moved."),
]


def tell_licence(model: str, weights: Path | None) -> None:
    """A line on stderr where the weights in use are not free for every use."""
    if notice := cache.licence_notice(model, weights):
        say(notice, "yellow")

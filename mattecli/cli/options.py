"""Options that several subcommands share."""

from pathlib import Path
from typing import Annotated

import typer

Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights for it, instead of those that come with it.")
]
Size = Annotated[
    int | None, typer.Option(min=32, metavar="N", help="Reference length in pixels that it sees pictures at.")
]
Device = Annotated[str, typer.Option(help="auto, cuda, cuda:N, mps or cpu.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]

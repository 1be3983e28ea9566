"""The command line: one file a subcommand. Nothing here imports torch; subcommands do when they run."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

import mattecli
from mattecli.cli import bench, console, models
from mattecli.cli.bench_video import bench_video
from mattecli.cli.clip_ending import leave_threads
from mattecli.cli.eval import evaluate
from mattecli.cli.matte import matte
from mattecli.cli.train import train
from mattecli.cli.video import video

app = typer.Typer(name="mattecli", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
_commands: dict[str, Callable[..., None]] = {"matte": matte, "video": video, "train": train, "eval": evaluate}
for _name, _command in _commands.items():
    app.command(_name)(console.guard(_command))
bench.app.command("video")(bench_video)
app.add_typer(console.guard_all(bench.app), name="bench")
app.add_typer(console.guard_all(models.app), name="models")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mattecli {mattecli.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Cut people out of photos, train the networks that do it, and measure both."""


def main() -> None:
    """What `mattecli` and `python -m mattecli` run. Exits with 0, 1 (some inputs failed), 2 (wrong use) or 130."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell (<&-, >&-)
            setattr(sys, name, io.TextIOWrapper(io.BytesIO()))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names and signs that the terminal's encoding lacks
    try:
        app(prog_name="mattecli")
    except SystemExit as ending:
        leave_threads(ending.code if isinstance(ending.code, int) else 1)
        raise

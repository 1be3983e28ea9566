"""`mattecli train`: train networks from recipes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mattecli.cli.console import console, say
from mattecli.errors import MatteError, UsageError

if TYPE_CHECKING:
    from mattecli.training import Event


def train(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE", help="TOML files, or packaged names; run in order."),
    ],
    data: Annotated[Path | None, typer.Option(help="Folder that the recipe's sources lie in.", metavar="DIR")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for weights, checkpoints and logs.", metavar="DIR"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint, where there is one.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="auto, cuda, cuda:1, mps or cpu.", show_default="recipe")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps in all.", min=1, show_default="recipe")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train a network.

    The output folder gets best.safetensors (averaged weights of the best validation), last.ckpt (everything
    that --resume needs), train.log and log.jsonl, and TensorBoard files where that is installed. Ctrl-C saves
    a checkpoint and stops. Start it with torchrun to train in several processes.

    Examples:

    mattecli train realtime-teacher realtime --data photos/

    mattecli train my.toml --resume

    torchrun --nproc-per-node 4 -m mattecli train my.toml --data photos/
    """
    from mattecli.training import check_recipes, read_recipe
    from mattecli.training import train as run

    if output is not None and len(recipes) > 1:
        raise UsageError("--output names one folder, but there are several recipes: let each name its own.")
    plans = [read_recipe(r, data=data, output=output, device=device, steps=steps) for r in recipes]
    check_recipes(plans, resume=resume)
    leads = os.environ.get("RANK", "0") == "0"
    quiet = quiet or not leads
    for plan in plans:
        with Display(f"train {plan.model}", plan.optimizer.steps, quiet) as display:
            best = run(plan, display, resume=resume)
        if leads and not plan.best.exists():
            raise MatteError(
                f"{plan.best} was not written, since no validation gave figures: the training diverged; "
                "try a smaller optimizer.lr."
            )
        if best and not quiet:
            figures = ", ".join(f"{name} {best[name]:.4f}" for name in ("iou", "mad", "mse"))
            say(f"{plan.best}: {figures} (step {best['step']:.0f})")


class Display:
    """Events on stderr, a line each; on a terminal also a bar with loss, rate and time left."""

    def __init__(self, title: str, steps: int, quiet: bool) -> None:
        self.quiet = quiet
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=steps, said="")

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        from mattecli.training import Progress, sentence

        if self.quiet:
            return
        self._bar.update(self._task, completed=event.step)
        if isinstance(event, Progress):
            self._bar.update(self._task, said=f"loss {event.loss:.3f} · {event.rate:.2f} steps/s")
        say(sentence(event))

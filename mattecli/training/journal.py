"""What a training says while it runs: events, and the logs they are written to."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Progress:
    """Every `log_every` steps: mean weighted loss terms since the last, and how fast it goes.

    `rate` in steps a second, `eta` in seconds, `waiting` the share of the time spent waiting for data.
    """

    step: int
    steps: int
    loss: float
    terms: dict[str, float]
    lr: float
    rate: float
    eta: float
    waiting: float
    skipped: int


@dataclass(frozen=True)
class Validated:
    """A validation: mean figures over the held-out photos; `best` if its MAD is the lowest yet."""

    step: int
    figures: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Note:
    """One sentence: started on which device, resumed, a step skipped, done."""

    step: int
    text: str


Event = Progress | Validated | Note
Report = Callable[[Event], None]


def sentence(event: Event) -> str:
    """An event as one line of plain text."""
    if isinstance(event, Note):
        return f"step {event.step}: {event.text}"
    if isinstance(event, Validated):
        figures = "  ".join(f"{name} {value:.4f}" for name, value in event.figures.items())
        return f"step {event.step}: validation  {figures}{'  (best)' if event.best else ''}"
    terms = "  ".join(f"{name} {value:.4f}" for name, value in event.terms.items())
    return (
        f"step {event.step}/{event.steps}: loss {event.loss:.4f}  {terms}  lr {event.lr:.2e}  "
        f"{event.rate:.2f} steps/s  {_duration(event.eta)} left  waiting for data {event.waiting:.0%}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class Journal:
    """Writes events to `train.log`, `log.jsonl` and, where TensorBoard is installed, `tensorboard/`."""

    def __init__(self, folder: Path, report: Report | None) -> None:
        self._report = report
        self._text = (folder / "train.log").open("a", encoding="utf-8")
        self._lines = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._board: Any = None
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"))

    def __call__(self, event: Event) -> None:
        print(time.strftime("%Y-%m-%d %H:%M:%S"), sentence(event), file=self._text, flush=True)
        line = {"event": type(event).__name__.lower(), **asdict(event)}
        print(json.dumps(line), file=self._lines, flush=True)
        self._scalars(event)
        if self._report is not None:
            self._report(event)

    def pictures(self, step: int, strips: dict[str, NDArray[np.uint8]]) -> None:
        """Show `{name: [H, W, 3] uint8}` on the board."""
        if self._board is not None:
            for name, picture in strips.items():
                self._board.add_image(f"validation/{name}", picture, step, dataformats="HWC")

    def close(self) -> None:
        self._text.close()
        self._lines.close()
        if self._board is not None:
            self._board.close()

    def _scalars(self, event: Event) -> None:
        if self._board is None or isinstance(event, Note):
            return
        if isinstance(event, Validated):
            scalars = {f"validation/{name}": value for name, value in event.figures.items()}
        else:
            scalars = {f"loss/{name}": value for name, value in event.terms.items()}
            scalars |= {"loss": event.loss, "lr": event.lr, "steps per second": event.rate}
            scalars["waiting for data"] = event.waiting
        for name, value in scalars.items():
            self._board.add_scalar(name, value, event.step)

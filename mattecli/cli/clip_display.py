"""What `mattecli video` says while it works: sentences and a bar on stderr, or events for machines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn

from mattecli.cli.console import console, emit_json, say
from mattecli.errors import MatteError

if TYPE_CHECKING:
    from mattecli.inference.clips import Progress as Work
    from mattecli.inference.clips import Summary
    from mattecli.media.clips.reading.camera import Camera
    from mattecli.media.clips.reading.clip import Clip
    from mattecli.media.clips.writing.sink import Sink

EVERY = 1.0
"""Seconds between two events of progress."""


class Display:
    """Talk about one clip. With `json`, events go to stdout, or while that carries the clip, alone to stderr.

    Events are objects with `event`: `start`, `progress`, `note`, and at last `done` or `error`.
    """

    def __init__(self, *, json: bool, quiet: bool, data_on_stdout: bool) -> None:
        self._json, self._to_stderr = json, data_on_stdout
        self._talks = not quiet and not (json and data_on_stdout)
        self._next, self._noted = 0.0, list[str]()
        self._bar = Progress(
            TextColumn("video"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            transient=True,
            disable=not self._talks or not console.is_terminal,
        )
        self._task = self._bar.add_task("video", total=None, said="")

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Makes an event of an error, which goes on."""
        try:
            yield
        except (MatteError, OSError, KeyboardInterrupt) as error:
            self._emit("error", error=str(error) or "interrupted")
            raise

    def start(self, clip: Clip | Camera, network: str, output: str, sink: Sink) -> None:
        """What goes in, what works, what comes out."""
        form, rate = clip.format, float(clip.rate)
        count = "" if clip.frames is None else f", {clip.frames} frames"
        self._say(f"{clip.name}: {form.width}x{form.height}, {rate:.5g} fps{count} ({clip.decoder})")
        self._say(network)
        self._say(f"{_called(output)}: {sink.encoder}")
        self._emit(
            "start",
            **{"input": clip.name, "width": form.width, "height": form.height, "fps": round(rate, 4)},
            **{"frames": clip.frames, "duration": clip.duration, "decoder": clip.decoder},
            **{"network": network, "output": output, "encoder": sink.encoder},
        )
        for sentence in sink.notes:
            self._note(sentence)

    def __call__(self, work: Work) -> None:
        """Progress, as often as you like."""
        if work.ending:
            self._say("Finishing the file; Ctrl-C again gives it up.")
        self._bar.update(self._task, total=work.total, completed=work.frames, said=_where(work))
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            busy = {name: round(share, 3) for name, share in work.busy.items()}
            left = None if work.left is None else round(work.left, 1)
            self._emit(
                "progress",
                **{"frames": work.frames, "total": work.total, "seconds": round(work.seconds, 2)},
                **{"fps": round(work.fps, 2), "left": left, "bottleneck": work.bottleneck, "busy": busy},
            )

    def done(self, output: str, summary: Summary, sink: Sink) -> None:
        """What became of it; where a run went on, of the file and of this run."""
        frames = new = summary.frames
        duration = summary.duration
        if sink.whole:
            frames, new, duration = sink.whole.frames, sink.whole.new, sink.whole.seconds
        speed = summary.frames / max(summary.seconds, 1e-9)
        shares = {name: seconds / max(summary.seconds, 1e-9) for name, seconds in summary.busy.items()}
        busy = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        for sentence in summary.notes:
            self._note(sentence)
        if not summary.interrupted:
            told = f"{frames} frames" if new == frames else f"{frames} frames, {new} of them new,"
            told += f", {summary.dropped} dropped to be on time," if summary.dropped else ""
            done = f"{_called(output)}: {told} in {clock(summary.seconds)}"
            self._say(f"{done}, {speed:.1f} a second ({busy}).")
        self._emit(
            "done",
            **{"output": output, "frames": frames, "new": new, "duration": round(duration, 3)},
            **{"seconds": round(summary.seconds, 3), "fps": round(speed, 2), "dropped": summary.dropped},
            **{"busy": {name: round(share, 3) for name, share in shares.items()}, "interrupted": summary.interrupted},
        )

    def _note(self, sentence: str) -> None:
        if sentence not in self._noted:
            self._noted.append(sentence)
            self._say(sentence, "yellow")
            self._emit("note", note=sentence)

    def _say(self, sentence: str, style: str = "") -> None:
        if self._talks:
            say(sentence, style)

    def _emit(self, event: str, **facts: Any) -> None:
        if self._json:
            emit_json({"event": event, **facts}, to_stderr=self._to_stderr)


def _called(output: str) -> str:
    return "stdout" if output == "-" else output


def _where(work: Work) -> str:
    total = "" if work.total is None else f"/{work.total}"
    left = "" if work.left is None else f" · {clock(work.left)} left"
    return f"{work.frames}{total} · {work.fps:.1f} fps{left} · {work.bottleneck} is the bottleneck"


def clock(seconds: float) -> str:
    """`0:05`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

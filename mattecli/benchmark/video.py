"""Frames a second of a clip, from file to file, and of each stage alone, beside a plain transcode of the same clip.

Alone, a stage gets frames that lie ready in memory, again and again. What runs from file to file is what `video` runs:
a composite over a picture, without sound.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
from av.video.frame import PictureType

from mattecli.benchmark.clip import make_clip, scene
from mattecli.benchmark.networks import process_memory
from mattecli.inference import behind
from mattecli.inference.clips import Progress, process, seen_size
from mattecli.inference.coarse import Coarse
from mattecli.inference.devices import describe
from mattecli.inference.frames import follow
from mattecli.inference.guided import Picture
from mattecli.inference.network import Matter
from mattecli.inference.on_device import OnDevice, suits
from mattecli.inference.rendering import Renderer
from mattecli.media.clips.planes.frame import Frame
from mattecli.media.clips.reading.clip import Clip, open_clip
from mattecli.media.clips.writing.codecs import encoding
from mattecli.media.clips.writing.sink import Target, open_sink
from mattecli.processors import processors

T = TypeVar("T")

EARLY = 300
"""Frames after which memory should not grow any more."""
EAGER = 60
"""Frames that are enough for eager fp32."""
RUNS = 200
"""On a device, where time is taken without the transfers."""
HELD = 24
"""Frames that lie in memory for stages alone, and pass there and back, so that nothing jumps."""


@dataclass(frozen=True)
class Row:
    """One measurement. `cores`: CPU seconds of the process over wall seconds; there are `of`.

    memory: bytes of the process at the end, and `early` after `EARLY` frames, None where not looked at.
    """

    name: str
    how: str
    frames: int
    seconds: float
    cores: float
    of: int
    early: int | None = None
    memory: int | None = None

    @property
    def fps(self) -> float:
        return self.frames / self.seconds


@dataclass(frozen=True)
class Setting:
    """What `bench video` may be told, as `video` is."""

    model: str = "realtime"
    size: int | None = None
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    codec: str = "auto"
    hwaccel: str = "auto"


def bench_video(
    clip: str | None = None,
    frames: int = 300,
    setting: Setting | None = None,
    report: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Measure `frames` frames of `clip`, by default of a generated one in 1080p; `report` gets each row at once.

    The rows: decode, network, render and encode alone; a transcode; the network and the whole way in eager fp32; the
    whole way as asked. On CUDA network and render are one row, and another without transfers; eager is left out.
    Raises UsageError and InputError.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = clip or str(make_clip(Path(folder, "clip.mp4"), frames))
        for row in _Bench(path, frames, setting or Setting(), Path(folder, "out.mp4")).rows():
            rows.append(row)
            report(row)
    return rows


class _Bench:
    """What all measurements share: a few frames, what the network says of them, and what is made of them.

    Each measurement is an iterator that yields once a frame.
    """

    def __init__(self, path: str, count: int, setting: Setting, goal: Path) -> None:
        self._path, self._count, self._setting = path, count, setting
        self._target = Target(goal, setting.codec, audio="none", hwaccel=setting.hwaccel)
        self._fast = Matter(
            setting.model, setting.device, setting.precision, size=setting.size, engine=setting.engine, clip=True
        )
        self._eager = Matter(setting.model, str(self._fast.device), "fp32", size=setting.size, engine="torch")
        self._early: int | None = None
        with self._open(HELD) as clip:
            self._decoder, self._seen = clip.decoder, seen_size(self._fast, clip.format)
            self._frames = list(clip)
            self._pictures = [frame.view(*self._seen) for frame in self._frames if frame.view]
            self._renderer = Renderer("composite", clip.format, behind.still(scene(1080, 1920, seed=1)))
            self._device = None
            if suits(self._fast):
                self._device = OnDevice(self._fast, self._renderer, clip.format, self._seen)
                self._device.seconds(self._frames[0], 1)  # its graph is captured when it is first run
        self._answers = [coarse for _, coarse in self._follow(self._fast, self._pictures)]
        deque(self._follow(self._eager, self._pictures[:2]), 0)
        self._made = encoding(self._target.suffix, setting.codec, self._renderer.format, hwaccel=self._target.hwaccel)

    def rows(self) -> Iterator[Row]:
        """All measurements, one after the other."""
        eager, fast, few = describe(self._eager), describe(self._fast), min(self._count, EAGER)
        yield self._row("decode", self._decoder, self._decode())
        if self._device:
            yield self._row("network, render", fast, self._on_device(self._device))
            seconds = self._device.seconds(self._frames[0], RUNS)
            yield Row("without transfers", fast, RUNS, seconds * RUNS, 0.0, processors())
        else:
            yield self._row("network", fast, self._network(self._fast, self._count))
            yield self._row("render", self._renderer.kind, self._render())
        yield self._row("encode", self._made.words, self._encode())
        yield self._row("transcode", self._made.words, self._transcode())
        if not self._device:
            yield self._row("network, eager", eager, self._network(self._eager, few))
            yield self._row("end to end, eager", eager, self._whole(self._eager, few))
        whole = self._row("end to end", fast, self._whole(self._fast, self._count))
        yield replace(whole, early=self._early, memory=process_memory())

    def _row(self, name: str, how: str, work: Iterator[Any]) -> Row:
        started, spent = time.perf_counter(), time.process_time()
        frames = sum(1 for _ in work)
        seconds = time.perf_counter() - started
        return Row(name, how, frames, seconds, (time.process_time() - spent) / seconds, processors())

    def _open(self, frames: int) -> Clip:
        """The first `frames` frames."""
        clip = open_clip(self._path, hwaccel=self._setting.hwaccel, passing=False)
        if clip.frames is not None and clip.frames > frames:
            clip.close()
            end = float((frames - Fraction(1, 2)) / clip.rate)
            clip = open_clip(self._path, hwaccel=self._setting.hwaccel, passing=False, end=end)
        assert isinstance(clip, Clip)
        return clip

    def _decode(self) -> Iterator[Any]:
        with self._open(self._count) as clip:
            for frame in clip:
                yield self._device.look(frame) if self._device else frame.view and frame.view(*self._seen)

    def _follow(self, matter: Matter, pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Coarse]]:
        return follow(matter, pictures, lambda picture: picture)

    def _network(self, matter: Matter, count: int) -> Iterator[Any]:
        return self._follow(matter, _there_and_back(self._pictures, count))

    def _render(self) -> Iterator[Frame]:
        pairs = list(zip(self._frames, self._answers, strict=True))
        return (self._renderer.render(*pair) for pair in _there_and_back(pairs, self._count))

    def _on_device(self, device: OnDevice) -> Iterator[Frame]:
        return device.frames((frame, device.look(frame)) for frame in _there_and_back(self._frames, self._count))

    def _encode(self) -> Iterator[Any]:
        frames = [self._renderer.render(*pair) for pair in zip(self._frames, self._answers, strict=True)]
        with self._open(HELD) as clip:
            sink = open_sink(self._target, self._renderer.format, clip)
            step = max(1, round(1 / clip.rate / clip.time_base))
            for number, frame in enumerate(_there_and_back(frames, self._count)):
                sink.write(replace(frame, pts=number * step, duration=step, passing=[]))
                yield
            sink.close()

    def _transcode(self) -> Iterator[Any]:
        """As short as PyAV can say it, with the encoder's settings of the whole way."""
        with av.open(self._path) as source, av.open(str(self._target.path), "w") as goal:
            video = source.streams.video[0]
            video.thread_type = "AUTO"
            stream: Any = goal.add_stream(self._made.encoder, video.average_rate, dict(self._made.options))
            stream.width, stream.height, stream.pix_fmt = video.width, video.height, self._made.pixels
            stream.codec_context.thread_type = "AUTO"
            for frame in itertools.islice(source.decode(video), self._count):
                frame.pict_type = PictureType.NONE  # else the encoder repeats the source's keyframes
                goal.mux(stream.encode(frame))
                yield
            goal.mux(stream.encode(None))

    def _whole(self, matter: Matter, count: int) -> Iterator[Any]:
        """What `video` does."""

        def watch(progress: Progress) -> None:
            if self._early is None and progress.frames >= EARLY:
                self._early = process_memory()

        self._early = None
        clip = self._open(count)
        sink = open_sink(self._target, self._renderer.format, clip)
        summary = process(clip, matter, self._renderer, sink, report=watch)
        yield from range(summary.frames)


def _there_and_back(items: Sequence[T], count: int) -> Iterator[T]:
    return itertools.islice(itertools.cycle([*items, *items[-2:0:-1]]), count)

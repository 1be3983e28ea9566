"""A clip through a network into another clip: decode, network, and render with encode, each in a thread of its own."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from av.error import FFmpegError

from mattecli.errors import InputError, reason
from mattecli.inference import pipeline
from mattecli.inference.coarse import Coarse
from mattecli.inference.cuts import LEAD
from mattecli.inference.devices import lacks_memory
from mattecli.inference.frames import Steady, follow
from mattecli.inference.guidance.clips import FrameHinting
from mattecli.inference.guidance.hints import NOTHING, Hints
from mattecli.inference.guided import Picture
from mattecli.inference.network import Matter
from mattecli.inference.on_device import OnDevice, suits
from mattecli.inference.on_device.stage import AHEAD
from mattecli.inference.pipeline import Progress
from mattecli.inference.rendering import Renderer
from mattecli.inference.tracking import Tracker
from mattecli.media.clips.planes.frame import Format, Frame
from mattecli.media.clips.reading.camera import Camera
from mattecli.media.clips.reading.clip import Clip
from mattecli.media.clips.writing.sink import Sink

__all__ = ["Progress", "Summary", "process"]

WARM_UP = 1
"""Seconds of a clip that the network sees again before the frames that are still to be written."""


@dataclass(frozen=True)
class Summary:
    """What became of a clip: frames written, how many seconds of it they last, wall seconds, what is worth telling.

    `busy` has the seconds that each stage did not wait for others; `dropped` counts the frames of a live source that
    were left out so that the rest is on time. `interrupted`: the file ends early, yet it is whole; without a frame
    (as where it was given up), or with `discard`, there is none.
    """

    frames: int
    duration: float
    seconds: float
    busy: dict[str, float]
    notes: list[str] = field(default_factory=list)
    dropped: int = 0
    interrupted: bool = False


def process(
    clip: Clip | Camera,
    matter: Matter,
    renderer: Renderer,
    sink: Sink,
    *,
    steady: Steady = "state",
    hint: FrameHinting | None = None,
    tracker: Tracker | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    discard: bool = False,
) -> Summary:
    """Every frame of `clip` through `matter` and `renderer` into `sink`; closes clip and sink, however it ends.

    A sink that says by `done_until` (a stamp) which frames it has already gets only the last second of those again.
    `steady` is that of `frames.follow`, `hint` says what the network is told beside a frame, and `tracker` whom to keep
    of those it finds; such a sink goes on only with the tracker's memory. `report` is called about ten times a second.
    Ctrl-C ends the file after the last frame rendered, or with `discard` leaves none; either way the summary is
    `interrupted`. Where no frame is missing any more, it comes too late. Another one, a second later, gives the file
    up; where it can't be ended soon, by KeyboardInterrupt.
    Any other exception, of whatever stage, leaves no file and goes on from here.
    """
    size = seen_size(matter, clip.format)
    ahead, lead = (0, 0) if clip.live else (AHEAD, LEAD)
    way: _OnHost | _OnDevice
    job = None
    try:
        if suits(matter) and hint is None and tracker is None:
            way = _OnDevice(OnDevice(matter, renderer, clip.format, size, steady=steady, ahead=ahead, lead=lead))
        else:
            way = _OnHost(matter, renderer, size, steady, lead, hint, tracker)
        job = _Job(clip, way, sink, tracker)
        stages = {"decode": job.decode, "network": way.network, "encode": job.encode}
        work = pipeline.run(
            stages, total=job.total, report=report, discard=discard, merge=job.overtake if clip.live else None
        )
    except Exception as error:
        if job is None:
            sink.abort()
        if lacks_memory(error):
            raise InputError("There is not enough memory; try a smaller --size or --device cpu.") from error
        raise
    finally:
        if job is None or not job.holding:  # a thread that waits for a silent source, or a reader of what it writes
            clip.close()
    notes = list(dict.fromkeys([*sink.notes, *clip.notes, *(tracker.notes if tracker else [])]))
    frames = 0 if work.given_up and not discard else work.frames
    return Summary(frames, job.duration, work.seconds, work.busy, notes, job.dropped, work.interrupted)


def warm_up(matter: Matter, format: Format) -> None:
    """Compiles `matter` for frames of `format`, which takes seconds, before a live clip begins."""
    if matter.spec.needs == "image":
        matter.step(np.zeros((*seen_size(matter, format), 3), np.uint8))


def seen_size(matter: Matter, format: Format) -> tuple[int, int]:
    """`(height, width)` that the network sees frames of `format` at: square pixels, by its own rule."""
    return matter.size_for(format.height, max(1, round(format.width * format.aspect)))


@dataclass
class _Seen:
    """A frame, what the network sees of it, and what it is told."""

    frame: Frame
    picture: Picture
    hints: Hints = NOTHING


class _OnHost:
    """The network anywhere, frames on the CPU; what the last stage gets must still be rendered."""

    def __init__(
        self,
        matter: Matter,
        renderer: Renderer,
        size: tuple[int, int],
        steady: Steady,
        lead: int,
        hint: FrameHinting | None,
        tracker: Tracker | None,
    ) -> None:
        self._matter, self._renderer, self._size = matter, renderer, size
        self._steady, self._lead, self._hint, self._tracker = steady, lead, hint, tracker

    def look(self, frame: Frame) -> _Seen:
        assert frame.view is not None
        hints = self._hint(frame, *self._size) if self._hint else NOTHING
        return _Seen(frame, frame.view(*self._size), hints)

    def network(self, seen: Iterable[_Seen]) -> Generator[tuple[_Seen, Coarse], None, None]:
        yield from follow(
            self._matter,
            seen,
            lambda one: one.picture,
            steady=self._steady,
            lead=self._lead,
            hint=lambda one: one.hints,
            select=self._selected,
        )

    def _selected(self, seen: _Seen, coarse: Coarse, begins: bool) -> Coarse:
        """What of the answer lies in the region, and is of whom to keep."""
        coarse = coarse.refined_for(seen.frame.format.height, seen.frame.format.width)
        if seen.hints.region is not None:
            coarse = coarse.times(seen.hints.region)
        return self._tracker(seen.frame, coarse, begins) if self._tracker else coarse

    def finish(self, answer: tuple[_Seen, Coarse]) -> Frame:
        seen, coarse = answer
        return self._renderer.render(seen.frame, coarse)


class _OnDevice:
    """Frames on the device from their planes to those that are written."""

    def __init__(self, device: OnDevice) -> None:
        self._device = device

    def look(self, frame: Frame) -> _Seen:
        return _Seen(frame, self._device.look(frame))

    def network(self, seen: Iterable[_Seen]) -> Generator[Frame, None, None]:
        yield from self._device.frames((one.frame, one.picture) for one in seen)

    def finish(self, answer: Frame) -> Frame:
        return answer


class _Job:
    """The first and the last stage of one clip. `holding`: those that are at work on it."""

    def __init__(self, clip: Clip | Camera, way: _OnHost | _OnDevice, sink: Sink, tracker: Tracker | None) -> None:
        self.clip, self.way, self.sink, self.tracker = clip, way, sink, tracker
        self.duration, self.dropped = 0.0, 0
        self.holding = set[str]()
        known = [sink.done_until, *([tracker.known_until] if tracker else [])]
        stamps = [stamp for stamp in known if stamp is not None]
        self._begin = min(stamps) - round(WARM_UP / clip.time_base) if len(stamps) == len(known) else None

    @property
    def total(self) -> int | None:
        """Frames to come, as far as is known."""
        if self.clip.frames is None or self._begin is None:
            return self.clip.frames
        return max(1, self.clip.frames - max(0, round(self._begin * self.clip.time_base * self.clip.rate)))

    def decode(self, _: Iterator[Any]) -> Generator[_Seen, None, None]:
        self.holding.add("decode")
        try:
            if self._begin is not None and not isinstance(self.clip, Camera):
                self.clip.skip_to(self._begin)
            for frame in self.clip:
                seen = self.way.look(frame)
                frame.view = None  # it holds the decoder's own picture
                yield seen
        finally:
            self.holding.discard("decode")

    def overtake(self, old: _Seen, new: _Seen) -> _Seen:
        """The newer of two frames, with the sound of both."""
        new.frame.passing[:0] = old.frame.passing
        self.dropped += 1
        return new

    def encode(self, answers: Iterable[Any]) -> Generator[None, None, None]:
        first = None
        self.holding.add("encode")
        try:
            for answer in answers:
                frame = self.way.finish(answer)
                self.sink.write(frame)
                if self.tracker:
                    self.tracker.written(frame.pts, stays=frame.pts == self.sink.done_until)
                first = frame.time if first is None else first
                self.duration = frame.time + float(frame.duration * frame.time_base) - first
                yield
            if first is None:
                self.sink.abort()
            else:
                self.sink.close()
        except BaseException as error:
            self.sink.abort()
            if isinstance(error, OSError | FFmpegError) and error.errno != errno.EPIPE:  # who reads it may stop
                rest = "its whole segments stay" if self.sink.done_until is not None else "nothing is left of it"
                raise InputError(f"The output can't be written: {reason(error)}; {rest}.") from error
            raise
        finally:
            self.holding.discard("encode")

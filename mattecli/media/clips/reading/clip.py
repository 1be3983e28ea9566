"""Clips in: whatever FFmpeg opens, sequences of pictures, stdin, URLs and webcams, as upright frames in order."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from types import TracebackType
from typing import Any, Self

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.packet import Packet
from av.video.frame import VideoFrame

from mattecli.errors import InputError, UsageError, reason
from mattecli.media.clips.planes.frame import ROUNDED, Frame
from mattecli.media.clips.reading.camera import Camera, find_camera
from mattecli.media.clips.reading.decoding import Decoding
from mattecli.media.clips.reading.opening import Source, errors_of, find_source
from mattecli.media.clips.reading.pictures import Pictures
from mattecli.media.clips.reading.sequence import Sequence
from mattecli.media.clips.reading.timecode import moved
from mattecli.media.clips.reading.timing import Part, begins

HARDWARE = ("cuda", "videotoolbox", "d3d11va", "vaapi", "qsv")
"""What "auto" tries, in this order."""
BACK = (0, 2, 10)
"""Seconds that seeking goes back further where no picture before the start was found."""
FLUENT = 0.1
"""Seconds that a clip may begin later, and the last picture of an even one stay longer, than the part that was asked
for: so that pictures are shown in full.
"""


def open_clip(
    source: str,
    *,
    start: float | None = None,
    end: float | None = None,
    hwaccel: str = "none",
    passing: bool = True,
    rate: Fraction | None = None,
) -> Clip | Camera:
    """Opens a clip and decodes its first picture.

    source: a path, a pattern of numbered pictures (shot_%04d.png, shot_*.png), "-" for stdin, a URL, or "webcam:N" (or
        "webcam:N@1280x720").
    start, end: seconds from the beginning of the file; the frames in [start, end) are read (and the one before where it
        is shown for long at `start`), and with `start` all is moved so that the first of them is at 0. A file that
        begins elsewhere is moved to begin there. Packets of sound stay whole.
    hwaccel: "none", "auto" (a hardware decoder where one answers) or a name of FFmpeg's, such as "cuda", or "cuda:1"
        where there are several.
    passing: hand on the packets of sound, subtitles and data with the frames.
    rate: frames a second of sequences (else 25) and of raw bitstreams; all others have their own.

    Raises InputError where the source is missing, no clip, damaged, or has no picture to be decoded, and UsageError for
    a decoder by name that doesn't work here, or times that leave nothing.
    """
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise UsageError(f"The part to read must end after it starts, not run from {start or 0:g} s to {end} s.")
    if camera := find_camera(source):
        return Camera(*camera, end=end)
    found = find_source(source, rate)
    if isinstance(found, Sequence):
        return Clip(found, start, end, found.codec)
    tried = []
    for device in _devices(hwaccel, found):
        try:
            kind, _, place = device.partition(":")
            accelerated = HWAccel(kind, device=place or None, allow_software_fallback=False)
            decoding = Decoding(found, accelerated, passing)
            return Clip(decoding, start, end, f"{decoding.codec}, {device}")
        except (av.FFmpegError, OSError, InputError) as error:
            tried.append(f"{device}: {reason(error)}")
        except RuntimeError:
            tried.append(f"{device}: it has no decoder for this video")
        except ValueError:
            tried.append(f"{device}: there is no such device")
    refusal = UsageError(f"{found.name} can't be decoded by {'; '.join(tried)}. Leave it to auto or none.")
    named = hwaccel not in ("none", "auto")
    if named and found.once:
        raise refusal
    with errors_of(found):
        decoding = Decoding(found, None, passing)
        clip = Clip(decoding, start, end, f"{decoding.codec}, software{' (no hardware answered)' if tried else ''}")
    if named:
        clip.close()
        raise refusal
    return clip


class Clip:
    """An open clip: its frames in the order they are shown, once. Close it, or use it in a `with`.

    format, time_base: of its frames. rate: frames a second, on average. frames, duration: how many, and how many
    seconds, are to come; None where unknown. container, video: PyAV's, None for a sequence of pictures. others: the
    streams whose packets pass with the frames: with each those that begin before it ends, with the last all others.
    metadata, chapters: the file's, chapters cut and moved like the frames. timecode: of the first frame, "" where there
    is none. decoder: words such as "h264, software". notes: sentences on what isn't as it should be, complete with the
    last frame; cut_short: whether less was there then than the file says.
    """

    def __init__(self, reel: Decoding | Sequence, start: float | None, end: float | None, decoder: str) -> None:
        self._reel = reel
        self.name, self.live, self.decoder = reel.name, reel.live, decoder
        self.container, self.video, self.others = reel.container, reel.video, reel.others
        self.metadata, self.time_base, self.rate = reel.metadata, reel.time_base, reel.rate
        self._ahead: dict[int, deque[Packet[Any]]] = {}
        self.cut_short = False
        self._beyond: int | None = None
        self._part = Part.between(start, end, reel.origin, reel.time_base)
        self.duration, self.frames = _extent(reel, start or 0, end)
        try:
            self._decoded = reel.pictures()
            first, self._part.first = self._find_first()
            self._found: tuple[VideoFrame, int] | None = (first, self._part.first)
            self._pictures = Pictures(
                first, reel.turn, codec=reel.codec, aspect=reel.aspect, crop=reel.crop, said=reel.said
            )
        except BaseException:
            self.close()
            raise
        self.format, self.notes = self._pictures.format, list(self._pictures.notes)
        self.chapters = list(self._part.cut_chapters(reel.chapters))
        self.timecode = self._timecode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Streams and packets are gone with it: PyAV's would point to memory that is freed."""
        self.container, self.video, self.others, self._ahead = None, None, [], {}
        self._reel.close()

    def skip_to(self, pts: int) -> None:
        """Before any frame was taken: the first shall be the one that is shown at `pts`, and packets of what was
        before don't pass. Where the source can't seek, all until there is decoded. Raises InputError where its
        times lead nowhere.
        """
        if self._found is None:
            raise RuntimeError("A clip that is being read can't be skipped.")
        goal = pts + self._part.shift
        if self._reel.exact and goal > self._part.first:
            found = self._seek(goal)
            if found is None or found[1] > goal:
                found = self._seek(self._part.first)
            if found is None or found[1] > max(goal, self._part.first):
                raise InputError(f"{self.name} can't be gone on with: its times lead to other places.")
            self._found = found[0], max(found[1], self._part.first)
        for picture, time in self._decoded:
            self._reel.waiting.clear()
            if time > goal:
                self._decoded = chain([(picture, time)], self._decoded)
                return
            self._found = picture, max(time, self._part.first)

    def __iter__(self) -> Iterator[Frame]:
        """Each lasts until the next; what can't be decoded is skipped, as players do."""
        held: Frame | None = None
        before = told = round(1 / self.rate / self.time_base)
        for picture, pts in self._wanted():
            frame = self._pictures.frame(picture, pts - self._part.shift, 0, self.time_base, [])
            if held is not None:
                before = frame.pts - held.pts
                yield dataclasses.replace(held, duration=before, passing=self._take_passing(pts))
            held, told = frame, picture.duration or before
        self._reel.drain(self._part)
        self.notes += self._reel.notes(self._part)
        self.cut_short = bool(self._reel.shortage(self._part))
        if held is not None:
            length = self._length(held.pts, before, told)
            yield dataclasses.replace(held, duration=length, passing=self._take_passing(None))

    def _length(self, pts: int, before: int, told: int) -> int:
        """Of the last picture: until the next or, unless all last as long as the one `before`, the end of the part."""
        length = told if self._beyond is None else self._beyond - self._part.shift - pts
        even = abs(length - before) <= max(Fraction(1), ROUNDED / self.time_base) and length * self.time_base <= FLUENT
        if self._part.end is None or even:
            return length
        return min(length, self._part.end - self._part.shift - pts)

    def _wanted(self) -> Iterator[tuple[VideoFrame, int]]:
        if self._found is None:
            raise RuntimeError("A clip can be read only once.")
        found, self._found = self._found, None
        yield found
        for picture, pts in self._decoded:
            if self._part.end is not None and pts >= self._part.end:
                self._beyond = pts
                return
            yield picture, pts

    def _take_passing(self, until: int | None) -> list[Packet[Any]]:
        """Of the packets met so far those that begin before `until`; None for all."""
        met, self._reel.waiting = self._reel.waiting, []
        for packet in met:
            self._ahead.setdefault(packet.stream_index, deque()).append(packet)
        taken = []
        for queue in self._ahead.values():
            while queue and (until is None or begins(queue[0]) < until * self.time_base):
                taken.append(queue.popleft())
        return self._part.cut(taken)

    def _timecode(self) -> str:
        if self.video is None or self.video.start_time is None:
            return ""
        told = {key.lower(): tag for key, tag in (self.metadata | self.video.metadata).items()}.get("timecode", "")
        later = round((self._part.first - self.video.start_time) * self.time_base * self.rate)
        return moved(told, later, self.rate) if later else told

    def _find_first(self) -> tuple[VideoFrame, int]:
        """The first picture of the part, with its time. Raises InputError where there is none."""
        begin, end, reel = self._part.begin, self._part.end, self._reel
        found = self._seek(begin) if begin is not None and reel.seekable else None
        found = found or next(self._decoded, None)
        before = None
        while found and begin is not None and found[1] < begin:
            before, found = found, next(self._decoded, None)
        if before and begin is not None:
            until = found[1] if found else before[1] + (before[0].duration or 0)
            if (until - begin) * reel.time_base > FLUENT:
                self._decoded = chain([found] if found else [], self._decoded)
                return before[0], begin
        if found is None:
            if reel.found:
                raise InputError(f"{self.name} ends before the part that is to be read.")
            raise InputError(
                f"{self.name} has no picture that can be decoded ({reel.codec}); it may be {reel.trouble}."
            )
        if end is not None and found[1] >= end:
            raise InputError(f"{self.name} has no picture in the part that is to be read.")
        return found

    def _seek(self, tick: int) -> tuple[VideoFrame, int] | None:
        """The first picture at or before `tick` that decoding can begin with, or one after it where there is none;
        None, and nothing is moved, where the source can't.
        """
        found = None
        for back in BACK:
            if not self._reel.seek(tick - round(back / self.time_base)):
                break
            self._decoded = self._reel.pictures()
            found = next(self._decoded, None)
            if found and found[1] <= tick:
                break
        return found


def _devices(hwaccel: str, source: Source) -> list[str]:
    available = hwdevices_available()
    if hwaccel == "none" or (hwaccel == "auto" and source.once):
        return []
    if hwaccel == "auto":
        return [name for name in HARDWARE if name in available]
    if hwaccel.partition(":")[0] not in available:
        known = ", ".join(available) or "no hardware"
        raise UsageError(f"FFmpeg was built without {hwaccel}; it knows {known}, besides auto and none.")
    return [hwaccel]


def _extent(reel: Decoding | Sequence, start: float, end: float | None) -> tuple[float | None, int | None]:
    """Seconds and frames from `start` to `end`, as far as the source says."""
    if not reel.seconds:
        return None if end is None else end - start, None
    length = max(0.0, min(float(reel.seconds), end or float("inf")) - start)
    if not reel.frames:
        return length, None
    whole, part = reel.seconds * reel.rate, Part.between(start, end, Fraction(0), reel.time_base)

    def before(tick: int | None) -> Fraction:
        """How many come before `tick`, evenly spaced and each at its nearest."""
        number = whole if tick is None else Fraction(math.ceil((tick - Fraction(1, 2)) * reel.time_base * reel.rate))
        return min(number, whole)

    return length, max(1, round(reel.frames * (before(part.end) - before(part.begin)) / whole))

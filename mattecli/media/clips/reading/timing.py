"""When each picture of a clip is shown, and which part of a clip is read."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame


class Clock:
    """Presentation times of decoded pictures, in ticks of their stream, strictly increasing.

    They are the file's own. Where it has none, a picture follows the one before by `step`; where a time goes back, it
    is put right after the one before if it is off by less than a step, else a step later. `ordered`: the file (AVI)
    only says in which order packets come, so the n-th picture gets the n-th packet's time.
    """

    def __init__(self, step: int, *, ordered: bool = False) -> None:
        self._step, self._ordered = max(step, 1), ordered
        self.mended = 0
        self._last: int | None = None
        self._sent: deque[int] = deque()
        self._sought = False

    def seek(self) -> None:
        """Forgets what was before: the file is read from another place on."""
        self._last, self._sought = None, True
        self._sent.clear()

    def sent(self, packet: Packet[Any]) -> None:
        """`packet` was given to the decoder."""
        if self._ordered and packet.dts is not None:
            self._sent.append(packet.dts)

    def stamp(self, picture: VideoFrame) -> int | None:
        """None as long as nothing says where in the file it is."""
        time = picture.pts
        if self._ordered:
            time = self._sent.popleft() if self._sent else None
        if time is None:
            if self._last is None and self._sought:
                return None
            time = 0 if self._last is None else self._last + self._step
        elif self._last is not None and time <= self._last:
            self.mended += 1
            time = self._last + (1 if self._last - time < self._step else self._step)
        self._last = time
        return time


class Chunks:
    """Times of AVI's sound, of which the file says how long a tick is, and FFmpeg counts chunks.

    Most chunks are one tick. Where they hold more, their number becomes their time. Other files keep their times.
    """

    def __init__(self, container: InputContainer) -> None:
        self._counted = container.format.name == "avi"
        self._ticks: dict[int, Fraction] = {}

    def restamp(self, packet: Packet[Any]) -> None:
        """Does nothing to what isn't sound."""
        if self._counted and packet.stream.type == "audio" and packet.dts is not None:
            ticks = self._ticks.setdefault(packet.stream_index, _ticks(packet))
            packet.pts = packet.dts = round(packet.dts * ticks)


class Seams:
    """Stamps of recordings that were joined byte by byte in one MPEG-TS or MPEG-PS, where each begins anew.

    Whatever comes behind such a seam is moved to begin where the longest stream before it ended, all streams alike, so
    that sound stays with its picture. `count` says how many there were. Other files keep their times.
    """

    def __init__(self, container: InputContainer) -> None:
        self._joined = container.format.name in ("mpegts", "mpeg")
        self._shifts = [Fraction(0)]
        self._passed: dict[int, int] = {}
        self._last: dict[int, Fraction] = {}
        self._due = Fraction(0)

    @property
    def count(self) -> int:
        return len(self._shifts) - 1

    def restamp(self, packet: Packet[Any]) -> None:
        if not self._joined or packet.dts is None:
            return
        stream, time = packet.stream_index, packet.dts * packet.time_base
        if time < self._last.get(stream, time):
            self._passed[stream] = self._passed.get(stream, 0) + 1
            if self._passed[stream] > self.count:
                self._shifts.append(self._due - time)
        self._last[stream] = time
        shift = self._shifts[self._passed.get(stream, 0)]
        if packet.stream.type in ("audio", "video"):
            self._due = max(self._due, time + shift + (packet.duration or 0) * packet.time_base)
        if ticks := round(shift / packet.time_base):
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts += ticks


def _ticks(packet: Packet[Any]) -> Fraction:
    """Of a chunk, where the file's index counts nothing else: by the samples in it, since FFmpeg's are rounded."""
    index, sound = packet.stream.index_entries, packet.stream.codec_context
    counted = len(index) > 1 and index[-1].timestamp - index[0].timestamp == len(index) - 1
    if not counted or (packet.duration or 0) <= 1:
        return Fraction(1)
    exact = Fraction(sound.frame_size, sound.sample_rate) / packet.time_base
    return exact if abs(exact - (packet.duration or 0)) < 1 else Fraction(packet.duration or 1)


def begins(packet: Packet[Any]) -> Fraction | float:
    """In seconds; always before now where the packet doesn't say it."""
    time = packet.pts if packet.dts is None else packet.dts
    return -math.inf if time is None else time * packet.time_base


@dataclass
class Part:
    """The part of a file that is read: `begin` and `end` in ticks of the video, None for all of it.

    With a begin, all is moved so that the video's first frame (`first`, set when it is known) is at 0. Without one, a
    file that begins later than 0 (by the clock of a broadcast), or whose first frame is before, is moved so that its
    `origin` is at 0: players of MP4 show nothing before 0, and wait for what is later.
    """

    begin: int | None
    end: int | None
    time_base: Fraction
    first: int = 0
    origin: int = 0

    @classmethod
    def between(cls, start: float | None, end: float | None, origin: Fraction, time_base: Fraction) -> Part:
        """start, end: seconds after `origin`, to the nearest tick."""

        def tick(seconds: float | None) -> int | None:
            return None if seconds is None else math.ceil((origin + Fraction(seconds)) / time_base - Fraction(1, 2))

        return cls(tick(start), tick(end), time_base, origin=round(origin / time_base))

    @property
    def shift(self) -> int:
        """What is taken off every time, in ticks."""
        if self.begin is not None:
            return self.first
        begin = min(self.origin, self.first)
        return 0 if begin <= 0 <= self.first else begin

    def is_over(self, packet: Packet[Any], later: int = 0) -> bool:
        """Whether `packet` starts `later` seconds or more after the end."""
        return self.end is not None and begins(packet) >= self.end * self.time_base + later

    def cut(self, packets: Iterable[Packet[Any]]) -> list[Packet[Any]]:
        """Those that start within the part, sound that goes on into it (.mp4 and .mov tell players where in a packet to
        begin), and subtitles that are seen in it, shortened to it; moved; in their own time base.
        """
        kept = []
        for packet in packets:
            if packet.stream.type == "subtitle":
                self._shorten(packet)
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None:
                seconds, first = time * packet.time_base, self.first * self.time_base
                goes_on = packet.stream.type == "audio" and seconds + (packet.duration or 0) * packet.time_base > first
                if self.begin is not None and seconds < first and not goes_on:
                    continue
                if self.end is not None and seconds >= self.end * self.time_base:
                    continue
            if ticks := round(self.shift * self.time_base / packet.time_base):
                packet.pts = None if packet.pts is None else packet.pts - ticks
                packet.dts = None if packet.dts is None else packet.dts - ticks
            kept.append(packet)
        return kept

    def _shorten(self, packet: Packet[Any]) -> None:
        """To the part, if it is seen in it at all and says for how long."""
        if packet.pts is None or not packet.duration:
            return
        ticks = self.time_base / packet.time_base
        begin, end = max(packet.pts, math.ceil(self.shift * ticks)), packet.pts + packet.duration
        if self.end is not None:
            end = min(end, math.ceil(self.end * ticks))
        if begin < end:
            packet.pts = packet.dts = begin
            packet.duration = end - begin

    def cut_chapters(self, chapters: Iterable[Any]) -> Iterator[Any]:
        """Those that touch the part, shortened to it and moved; in their own time base."""
        for chapter in chapters:
            base = chapter["time_base"] or Fraction(1, 1000)
            shift = round(self.shift * self.time_base / base)
            start, end = max(chapter["start"], shift), chapter["end"]
            if self.end is not None:
                end = min(end, round(self.end * self.time_base / base))
            if start < end:
                yield {**chapter, "start": start - shift, "end": end - shift}

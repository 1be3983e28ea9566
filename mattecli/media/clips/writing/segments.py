"""Long clips in segments: what was written survives an end at any moment, and the next run goes on behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from mattecli.errors import InputError, UsageError
from mattecli.media.clips.planes.frame import Format, Frame
from mattecli.media.clips.reading.timing import Chunks, Seams
from mattecli.media.clips.writing.clipsink import ClipSink
from mattecli.media.clips.writing.codecs import Encoding
from mattecli.media.clips.writing.goal import Goal
from mattecli.media.clips.writing.muxing import Origin, Output, file_name
from mattecli.media.clips.writing.segment_folder import Segment, SegmentFolder

SECONDS = 20.0
"""Length of a segment."""


@dataclasses.dataclass(frozen=True)
class Whole:
    """A file that more than one run may have made: its frames, how many of them are new, and its seconds."""

    frames: int
    new: int
    seconds: float


@dataclasses.dataclass
class _Again:
    """A clip for `Output`: alone, or opened again."""

    time_base: Fraction
    rate: Fraction
    container: Any = None
    video: Any = None
    others: Sequence[Stream] = ()
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    chapters: Sequence[Any] = ()
    timecode: str = ""
    live: bool = False


class SegmentSink:
    """A sink whose segments, finished files of the picture alone, gather in `folder` until `close` joins them.

    All that is unfinished is in there too, so that nothing is left elsewhere even where the program is killed.

    They are joined without encoding again, with the other streams of the clip, which are read once more for it. An
    `abort` leaves whole segments; a sink opened later for the same folder goes on with them: `done_until` (the stamp of
    the last frame they hold, None where there are none) says up to where frames needn't come again, and such frames are
    passed over. Raises UsageError where the folder's segments come from another clip, other settings or another `key`,
    while another run is at work in it, and for what can't be read twice.
    """

    def __init__(
        self,
        path: Path,
        suffix: str,
        made: Encoding,
        format: Format,
        clip: Origin,
        folder: Path,
        *,
        sound: bool,
        key: str = "",
        seconds: float = SECONDS,
    ) -> None:
        self.encoder, self.notes = made.words, list(made.notes)
        self._path, self._suffix, self._made, self._format = path, suffix, made, format
        Goal(path).discard()  # raises where nothing can be written
        self._sound, self._seconds = sound, seconds
        self._clip = _Again(
            clip.time_base, clip.rate, metadata=clip.metadata, chapters=clip.chapters, timecode=clip.timecode
        )
        self._segment: ClipSink | None = None
        self._start = self._last = self._length = self._new = 0
        self.whole: Whole | None = None
        self._source = _Source(clip)
        settings = (self._source, made.encoder, made.options, made.format, clip.time_base, key)
        self._folder = SegmentFolder(folder, suffix, "\n".join(map(str, settings)))
        self._segments = self._folder.segments
        self.notes.append(self._found())

    @property
    def done_until(self) -> int | None:
        """In ticks of the clip."""
        return self._segments[-1].last if self._segments else None

    def write(self, frame: Frame) -> None:
        """Raises OSError as the system gave it (a full disk); then whole segments stay."""
        if self.done_until is not None and frame.pts <= self.done_until:
            return
        try:
            if self._segment is None:
                goal = Goal(self._folder.path / f"open{self._suffix}")
                self._segment = ClipSink(
                    goal, self._suffix, self._made, self._format, self._clip, sound=False, alone=True
                )
                self._start = frame.pts
            self._segment.write(dataclasses.replace(frame, passing=[]))
            self._last, self._length = frame.pts, frame.duration
            self._new += 1
            if (frame.pts + frame.duration - self._start) * frame.time_base >= self._seconds:
                self._end_segment()
        except OSError:
            self.abort()
            raise

    def close(self) -> None:
        """Joins the segments under the clip's name and removes them. Raises like `write`, and InputError where there
        was no frame.
        """
        try:
            if self._segment:
                self._end_segment()
            if not self._segments:
                raise InputError(f"{self._path} is not written: there was no frame.")
            self._join()
        except BaseException:
            self.abort()
            raise
        self._folder.leave(remove=True)

    def abort(self) -> None:
        """Leaves the whole segments with their folder, and nothing else; does nothing after `close`."""
        if self._segment:
            self._segment.abort()
            self._segment = None
        self._folder.leave(remove=not self._segments)

    def _found(self) -> str:
        if not self._segments:
            return "No segments of an earlier run were found: this one begins at the start, and can be gone on with."
        end = float(self._segments[-1].end * self._clip.time_base)
        return f"Segments of an earlier run were found: this one goes on at {end:.1f} s."

    def _end_segment(self) -> None:
        assert self._segment
        self._segment.close()
        self._segment = None
        self._folder.add(self._folder.path / f"open{self._suffix}", self._last, self._length)

    def _join(self) -> None:
        whole = self._folder.path / f"whole{self._suffix}"
        output = Output(Goal(whole), self._suffix, self._clip.time_base)
        try:
            with self._source.open() as (video, others, packets), av.open(str(self._segments[0].path)) as first:
                template = first.streams.video[0]
                stream = output.container.add_stream_from_template(template, opaque=True)
                stream.codec_context.framerate = self._clip.rate
                stream.codec_context.sample_aspect_ratio = self._made.format.aspect
                output.name_codec(stream, self._made.tag)
                if "alpha_mode" in template.metadata:
                    stream.metadata["alpha_mode"] = template.metadata["alpha_mode"]
                output.begin(dataclasses.replace(self._clip, video=video, others=others), sound=self._sound)
                begin, frames = self._mux(output, stream, packets)
                output.finish()
        except BaseException:
            output.discard()
            raise
        whole.replace(self._path)
        end = self._segments[-1].end * self._clip.time_base
        self.whole = Whole(frames, self._new, float(end - begin))
        self.notes += output.notes

    def _mux(self, output: Output, stream: VideoStream, others: Iterator[Packet[Any]]) -> tuple[Fraction, int]:
        """Segments one after the other, the packets of the clip's other streams between them by their time.

        Gives the time of the first frame, in seconds, and how many there are.
        """
        waiting, last, shown = next(others, None), None, list[Fraction]()
        for segment in self._segments:
            for packet in _packets(segment, stream.codec_context.extradata, self._clip.time_base):
                assert packet.dts is not None
                shown.append((packet.pts or 0) * packet.time_base)
                packet.dts = last = packet.dts if last is None else max(packet.dts, last + 1)
                while waiting and _time(waiting) <= packet.dts * packet.time_base:
                    output.pass_on([waiting])
                    waiting = next(others, None)
                packet.stream = stream
                output.container.mux(packet)
        while waiting:
            output.pass_on([waiting])
            waiting = next(others, None)
        return min(shown), len(shown)


class _Source:
    """The file of a clip, to be read again for what isn't its picture."""

    def __init__(self, clip: Any) -> None:
        self._name = file_name(clip)
        self._video = clip.video.index if clip.video else 0
        self._others = [stream.index for stream in clip.others]
        self._part = getattr(clip, "_part", None)
        if getattr(clip, "live", False):
            raise UsageError("A live clip can't be gone on with: what it showed is over.")
        if self._others and not self._name:
            raise UsageError("Only a clip in a file can be gone on with, since its sound must be read again.")

    def __str__(self) -> str:
        return f"{self._name} {self._part}"

    @contextmanager
    def open(self) -> Iterator[tuple[Any, list[Stream], Iterator[Packet[Any]]]]:
        """The picture's stream, the others, and their packets."""
        if not self._name:
            yield None, [], iter(())
            return
        with av.open(self._name, metadata_errors="replace") as again:
            others = [again.streams[index] for index in self._others]
            video = again.streams[self._video]
            yield video, others, self._packets(again, video, others)

    def _packets(self, again: InputContainer, video: Stream, others: list[Stream]) -> Iterator[Packet[Any]]:
        chunks, seams = Chunks(again), Seams(again)
        for packet in again.demux(video, *others) if others else ():
            chunks.restamp(packet)
            seams.restamp(packet)
            if packet.size and packet.dts is not None and packet.stream is not video:
                yield from self._part.cut([packet]) if self._part else [packet]


def _packets(segment: Segment, extradata: bytes | None, time_base: Fraction) -> Iterator[Packet[VideoStream]]:
    """The packets of a segment, with decoding times of our own: not every container keeps them."""
    with av.open(str(segment.path)) as container:
        order = [packet.pts for packet in container.demux(video=0) if packet.size and packet.pts is not None]
    shown = sorted(order)
    rank = {pts: index for index, pts in enumerate(shown)}
    delay = max(index - rank[pts] for index, pts in enumerate(order))
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    with av.open(str(segment.path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.extradata != extradata:
            raise UsageError(f"{segment.path.parent} holds segments of different encoders; remove it to start anew.")
        packets = (packet for packet in container.demux(stream) if packet.size and packet.pts is not None)
        for index, packet in enumerate(packets):
            packet.dts = shown[index - delay] if index >= delay else shown[0] - (delay - index) * step
            if packet.pts == shown[-1]:
                packet.duration = round(segment.length * time_base / packet.time_base)
            yield packet


def _time(packet: Packet[Any]) -> Fraction:
    return (packet.dts or 0) * packet.time_base

"""From a source to decoded pictures with their times, whatever is wrong with it on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mattecli.errors import reason
from mattecli.media.clips.reading.deinterlacing import Deinterlacer
from mattecli.media.clips.reading.fragments import is_cut
from mattecli.media.clips.reading.opening import STILL, Source, best_video, container_crop
from mattecli.media.clips.reading.orientation import Turn, turn_of
from mattecli.media.clips.reading.timing import Chunks, Clock, Part, Seams

PASSING = ("audio", "subtitle", "data", "attachment")
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these leave their alpha out."""
FASTEST = 999
"""Frames a second; what a file says above this is no rate but its time base."""
HARDWARE_DECODERS = {"libdav1d": "av1", "libaom-av1": "av1"}
"""FFmpeg's own decoders, which hardware can be asked through, by those it prefers."""
PATIENCE = 30
"""Packets after which hardware that has decoded none of them is given up."""
INTERLEAVED = 10
"""Seconds after the end in which packets that still belong to the part are looked for."""


class Decoding:
    """The pictures of a source's best video, in the order they are shown; `waiting` gathers the packets of `others` met
    meanwhile.

    seconds, frames: of the whole source, None where unknown. origin: the time of its beginning in seconds. turn: what
    makes its pictures upright, where they don't say it themselves, known with the first of them. said: the container's
    tags of colour.
    What can't be decoded is skipped; `notes` says so afterwards. Raises what `Source.open` raises, RuntimeError where
    `hwaccel` isn't for this codec, and InputError where there is no video.
    """

    def __init__(self, source: Source, hwaccel: HWAccel | None, passing: bool) -> None:
        self.name, self.live, self.trouble = source.name, source.live, source.trouble
        self.container, self.turn = _opened(source, hwaccel), Turn()
        try:
            self._choose(passing, source.rate, hwaccel)
        except BaseException:
            self.close()
            raise
        self._accelerated = hwaccel is not None
        if hwaccel and not self._decoder.is_hwaccel:
            self.close()
            raise RuntimeError(f"no decoder for {self.codec}")
        timed = self.container.start_time is not None and self.container.format.name != "mpeg"  # whose times go wrong
        self.seekable = timed and not source.piped and not self.live
        self.exact = self.seekable and self.container.format.name != "avi"  # whose packets don't tell the order shown
        self.metadata, self.chapters = dict(self.container.metadata), self.container.chapters()
        self.waiting: list[Packet[Any]] = []
        self.found, self._deinterlacer = 0, Deinterlacer()
        self._packets = self._demux()
        self._failed = self._damaged = 0
        self._reached, self._last, self._torn = Fraction(0), 0, False
        self._broke = ""

    def close(self) -> None:
        self.container.close()

    def seek(self, tick: int) -> bool:
        """To the last key frame that isn't after `tick`; False, and nothing is moved, where the source can't."""
        try:
            self.container.seek(tick, stream=self.video)
        except (av.FFmpegError, OSError):
            return False
        self._decoder.flush_buffers()
        self._clock.seek()
        self._packets, self.waiting, self._seams = self._demux(), [], Seams(self.container)
        return True

    def pictures(self) -> Iterator[tuple[VideoFrame, int]]:
        """Each with its time in ticks, deinterlaced."""
        return self._deinterlacer(self._decoded())

    def _decoded(self) -> Iterator[tuple[VideoFrame, int]]:
        for packet in self._packets:
            if packet.stream is self.video:
                yield from self._decode(packet)
            else:
                self.waiting.append(packet)
        yield from self._decode(None)

    def drain(self, part: Part) -> None:
        """Gathers what other packets of `part` stand behind its last picture."""
        going_on = {stream.index for stream in self.others if stream.type == "audio"}
        for packet in self._packets:
            if packet.stream is not self.video:
                self.waiting.append(packet)
            if part.is_over(packet):
                going_on.discard(packet.stream_index)
            if not going_on or part.is_over(packet, INTERLEAVED):
                return

    def notes(self, part: Part) -> list[str]:
        """Sentences, once all of `part` was read."""
        notes = []
        if shortage := self.shortage(part):
            notes.append(shortage)
        videos = [one for one in self.container.streams.video if not one.disposition & STILL and one is not self.video]
        if videos:
            what = ", ".join(f"{_codec(one)}, {one.width}x{one.height}" for one in videos)
            one = "Another picture track was" if len(videos) == 1 else f"{len(videos)} other picture tracks were"
            notes.append(f"{one} left out ({what}).")
        if self._deinterlacer.count:
            notes.append("Its interlaced pictures were deinterlaced, at the same frame rate.")
        if self._failed:
            notes.append(f"What could not be decoded was skipped ({_count(self._failed, 'packet')}).")
        if self._damaged:
            notes.append(f"{_count(self._damaged, 'picture')} came out damaged.")
        if self._seams.count:
            notes.append(f"Its times begin anew {_count(self._seams.count, 'time')}; what follows was moved on.")
        if self._clock.mended:
            notes.append(
                f"{_count(self._clock.mended, 'picture')} had a time before the last one's, and got a later one."
            )
        return notes

    def shortage(self, part: Part) -> str:
        """A sentence where less than `part` was there; known like `notes`."""
        if self._broke:
            return f"Reading stopped early: {self._broke}."
        if part.end is None and self._is_short():
            return f"It ends at {float(self._reached):.1f} s, earlier than it says; it may have been cut short."
        return ""

    def _choose(self, passing: bool, wanted: Fraction | None, hwaccel: HWAccel | None) -> None:
        video = self.video = best_video(self.container, self.name)
        self.others: list[Stream] = [one for one in self.container.streams if passing and one.type in PASSING]
        other = _alpha_decoder(video) or _hardware_decoder(video, hwaccel)
        self._decoder, self._telling = other or video.codec_context, video.codec_context if other else None
        if self._telling:
            self._telling.thread_count = 1  # with more, its first picture comes later
        self._decoder.thread_type = "SLICE" if self.live else "AUTO"
        self.codec = str(self._decoder.name)
        self.time_base = video.time_base or Fraction(1, 90000)
        context = video.codec_context
        self.said = context.colorspace, context.color_primaries, context.color_trc, context.color_range
        self.aspect, self.crop = video.sample_aspect_ratio, container_crop(self.container, video)
        start = self.container.start_time
        self.origin = Fraction(0) if start is None else Fraction(start, av.time_base)
        self.seconds = _seconds(self.container.duration, Fraction(1, av.time_base))
        self.seconds = _seconds(video.duration, self.time_base) or self.seconds
        known = video.frames or _number(video, "NUMBER_OF_FRAMES")
        if len(video.index_entries) > known:  # the header of a fragmented MP4 may speak of its first fragment alone
            known = 0
        self.rate = _rate(video, known, self.seconds)
        if start is None:  # a raw bitstream
            self.rate = wanted or video.guessed_rate or self.rate
        self.frames = known or (round(self.seconds * self.rate) if self.seconds else None)
        self._clock = Clock(round(1 / self.rate / self.time_base), ordered=self.container.format.name == "avi")
        self._chunks, self._seams = Chunks(self.container), Seams(self.container)

    def _demux(self) -> Iterator[Packet[Any]]:
        packets = self.container.demux(self.video, *self.others)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                self._broke = reason(error)
                return
            if packet.stream is self.video and packet.dts is not None:
                self._last, self._torn = packet.dts, packet.is_corrupt  # less than the index says
            self._chunks.restamp(packet)
            self._seams.restamp(packet)
            if packet.pts is not None:
                self._reached = max(self._reached, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.size:  # PyAV's empty last packets mean what the end of this loop means
                yield packet

    def _decode(self, packet: Packet[Any] | None) -> Iterator[tuple[VideoFrame, int]]:
        """None at the end: what the decoder still holds."""
        try:
            pictures = self._decoder.decode(packet)
        except av.FFmpegError:
            self._failed += packet is not None
            if self._accelerated and not self.found and self._failed >= PATIENCE:
                raise RuntimeError(f"hardware decodes none of the first {PATIENCE} packets") from None
            return
        if packet is not None:
            self._clock.sent(packet)
            self._learn_turn(packet)
        for picture in pictures:
            self.found += 1
            self._damaged += picture.is_corrupt
            if (time := self._clock.stamp(picture)) is not None:
                yield picture, time

    def _learn_turn(self, packet: Packet[Any]) -> None:
        """From the decoder that FFmpeg prefers, which is told what the container says of the stream; others aren't."""
        if self._telling is None:
            return
        with suppress(av.FFmpegError):
            for picture in self._telling.decode(packet):
                self.turn, self._telling = turn_of(picture), None

    def _is_short(self) -> bool:
        """Whether less was there than the header says: Matroska's of all streams together, an MP4's of each frame."""
        if "mp4" in self.container.format.name:
            index, path = self.video.index_entries, Path(self.container.name.removeprefix("file:"))
            less = self._torn or (len(index) > 0 and self._last < index[-1].timestamp)
            return less or (path.is_file() and is_cut(path))
        length = self.container.duration
        if not length or self.container.format.name != "matroska,webm":
            return False
        unheard = any(one.type == "audio" and one not in self.others for one in self.container.streams)
        # what is decoded only to begin with (of Opus, AAC) is in the length, but not in what is reached
        return not unheard and self._reached < Fraction(length, av.time_base) * Fraction(95, 100) - Fraction(1, 10)


def _opened(source: Source, hwaccel: HWAccel | None) -> InputContainer:
    try:
        return source.open(hwaccel)
    except RuntimeError:  # no stream's preferred decoder takes it
        return source.open()


def _hardware_decoder(video: VideoStream, hwaccel: HWAccel | None) -> Any:
    """Another decoder for what the preferred one doesn't decode in hardware; None for all else."""
    name = HARDWARE_DECODERS.get(video.codec_context.name)
    if hwaccel is None or name is None:
        return None
    with suppress(UnknownCodecError):
        decoder = CodecContext.create(name, "r", hwaccel)
        decoder.extradata = video.codec_context.extradata
        return decoder
    return None


def _alpha_decoder(video: VideoStream) -> Any:
    """Another decoder for VP8 and VP9 with alpha; None for all else, and where FFmpeg was built without it."""
    name = ALPHA_DECODERS.get(video.codec_context.name)
    tags = {key.lower(): tag for key, tag in video.metadata.items()}  # ALPHA_MODE where it is a tag besides
    if name is None or tags.get("alpha_mode") != "1":
        return None
    with suppress(UnknownCodecError):
        decoder = CodecContext.create(name, "r")
        decoder.extradata = video.codec_context.extradata
        return decoder
    return None


def _seconds(ticks: int | None, time_base: Fraction) -> Fraction | None:
    return ticks * time_base if ticks else None


def _rate(video: VideoStream, frames: int, seconds: Fraction | None) -> Fraction:
    if (rate := video.average_rate) and rate <= FASTEST:
        return rate
    if frames and seconds:
        return Fraction(frames / seconds).limit_denominator(1001)
    return rate if (rate := video.guessed_rate) and rate <= FASTEST else Fraction(25)


def _number(video: VideoStream, tag: str) -> int:
    text = video.metadata.get(tag, "")
    return int(text) if text.isdigit() else 0


def _codec(video: VideoStream) -> str:
    return str(video.codec_context.codec.canonical_name) if video.codec_context else "unknown"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"

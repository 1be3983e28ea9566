"""Frames through an encoder into one file."""

from __future__ import annotations

from fractions import Fraction

from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mattecli.errors import InputError, UsageError
from mattecli.media.clips.planes.frame import Format, Frame
from mattecli.media.clips.writing.codecs import Encoding, open_encoder
from mattecli.media.clips.writing.goal import Goal
from mattecli.media.clips.writing.muxing import Origin, Output
from mattecli.media.clips.writing.packing import Packer, tag


class ClipSink:
    """A sink for one container file or stream. With `alone`, the picture only."""

    done_until = whole = None

    def __init__(
        self, goal: Goal, suffix: str, made: Encoding, format: Format, clip: Origin, *, sound: bool, alone: bool = False
    ) -> None:
        self.encoder = made.words
        self._packer, self._done = Packer(format, made), False
        self._stamps = _Stamps(clip.time_base, clip.rate)
        self._output = Output(goal, suffix, self._stamps.time_base)
        try:
            self._stream = self._add_stream(made, clip)
            self._output.begin(clip, sound=sound, alone=alone)
        except BaseException:
            self._output.discard()
            raise
        self.notes = made.notes + self._output.notes

    def write(self, frame: Frame) -> None:
        """Raises OSError as the system gave it (a full disk); then nothing is left behind."""
        try:
            self._output.pass_on(frame.passing)
            picture = self._packer(frame.planes)
            picture.pts, picture.time_base = self._stamps.stamp(frame), self._stamps.time_base
            self._encode(picture)
        except OSError:
            self.abort()
            raise

    def close(self) -> None:
        """Finishes the file, which now gets its name. Raises like `write`, and InputError where there was no frame."""
        if self._done:
            return
        try:
            if self._stamps.last is None:
                raise InputError(f"{self._output.goal.name} is not written: there was no frame.")
            self._encode(None)
            self._output.finish()
        except BaseException:
            self.abort()
            raise
        self._done = True

    def abort(self) -> None:
        """Leaves nothing; does nothing after `close`."""
        if not self._done:
            self._done = True
            self._output.discard()

    def _encode(self, picture: VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            self._stamps.complete(packet)
            self._output.container.mux(packet)

    def _add_stream(self, made: Encoding, clip: Origin) -> VideoStream:
        form = made.format
        stream = self._output.container.add_stream(made.encoder, clip.rate, dict(made.options))
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = form.width, form.height, made.pixels
        context.time_base, context.sample_aspect_ratio = self._stamps.time_base, form.aspect
        context.thread_type = "AUTO"
        tag(context, form.colour)
        self._output.name_codec(stream, made.tag)
        try:
            open_encoder(context)
        except FFmpegError as error:
            size = f"{form.width}x{form.height} pixels ({made.pixels})"
            raise UsageError(f"{made.words}: it doesn't take {size}; choose another codec or size.") from error
        return stream


class _Stamps:
    """Frames' stamps as they are, and what encoders forget of them."""

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        self.time_base, self._rate = time_base, rate
        self.last: int | None = None
        self._first: int | None = None
        self._decoded: int | None = None
        self._durations: dict[int, int] = {}

    def stamp(self, frame: Frame) -> int:
        """In `time_base`."""
        length = frame.duration * frame.time_base or 1 / self._rate
        self.last = round(frame.pts * frame.time_base / self.time_base)
        self._first = self.last if self._first is None else self._first
        self._durations[self.last] = max(1, round(length / self.time_base))
        return self.last

    def complete(self, packet: Packet[VideoStream]) -> None:
        """Says how long the frame stays, and makes good a decoding time that can't be."""
        if packet.pts is None or self.last is None or self._first is None:
            return
        packet.duration = self._durations.pop(packet.pts, 0)
        # x265 leaves it unset in clips of one or two frames
        known = packet.dts is not None and 2 * self._first - self.last <= packet.dts <= packet.pts
        dts = packet.dts if known and packet.dts is not None else packet.pts
        packet.dts = self._decoded = dts if self._decoded is None else max(dts, self._decoded + 1)

"""Sound, subtitles and attachments beside the picture: copied where the container takes them, transcoded where it
takes something near, else left out with a sentence.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from typing import Any, Protocol

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream

from mattecli.media.clips.writing.codecs import CONTAINERS
from mattecli.media.clips.writing.goal import Stream as Pipe

MOVIES = (".mp4", ".m4v", ".mov")
SOUND = {".webm": "libopus", ".mkv": "flac", ".mov": "pcm_s24le"}
"""Encoders of sound that can't be copied; AAC elsewhere."""
TEXT = {".webm": "webvtt", ".mkv": "srt"}
"""Those of subtitles; mov_text elsewhere."""
_WORDS = {"libopus": "Opus", "flac": "FLAC", "aac": "AAC", "pcm_s24le": "PCM", "srt": "SubRip", "webvtt": "WebVTT"}
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_BITS = {"libopus": 96_000, "aac": 128_000}
"""Bits a second and channel."""
_GAP = Fraction(1, 10)
"""Seconds without sound that are no inaccuracy of the stamps."""
_LONGEST = 3600
"""Seconds of silence that are written; more is a damaged stamp's, and skipped."""
_NO_TEXT = b"\0\0"
"""Between subtitles of .mp4 and .mov, whose muxers write it themselves."""
_OF_THE_FILE = (
    *("encoder", "duration", "vendor_id", "rotate", "alpha_mode", "bps", "number_of_", "_statistics"),
    *("major_brand", "minor_version", "compatible_brands"),
)
"""How tags begin (in lower case) that describe the old file, not what is in it."""
_QUICKTIME = {
    **{"deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "sqi": "alb", "zho": "chi", "fre": "fra", "cze": "ces"},
    **{"slo": "slk", "rum": "ron", "fas": "per", "mkd": "mac", "msa": "may", "hye": "arm", "eus": "baq", "mya": "bur"},
    **{"kat": "geo", "bod": "tib", "cym": "wel", "swe": "sve"},
}
"""Languages whose other code of ISO 639-2 is the one that .mov has a number for."""


class Track(Protocol):
    """Makes packets of the output of packets of the input (None: what is still held back)."""

    def __call__(self, packet: Packet[Any] | None) -> Iterable[Packet[Any]]: ...


class Passing:
    """The streams that pass from a clip into `container`, which must not have been started.

    `notes` says of each stream that was transcoded or left out. The clip may be closed once this is made.
    """

    def __init__(
        self, container: OutputContainer, suffix: str, streams: Iterable[Stream], *, sound: bool, streamed: bool
    ) -> None:
        self.notes: list[str] = []
        self._streamed = streamed
        self._container = container
        self._tracks: dict[int, Track] = {}
        for stream in streams:
            if stream.type == "audio" and not sound:
                continue
            track = self._copied(suffix, stream) or self._transcoded(suffix, stream)
            if track:
                self._tracks[stream.index] = track
            elif not _is_told_otherwise(stream):
                self._tell(suffix, stream, "left out")

    def mux(self, packet: Packet[Any]) -> None:
        """Writes what becomes of a packet of the input."""
        track = self._tracks.get(packet.stream_index)
        if track and packet.dts is not None:
            self._container.mux(list(track(packet)))

    def finish(self) -> None:
        """Writes what encoders still hold back."""
        for track in self._tracks.values():
            self._container.mux(list(track(None)))

    def _copied(self, suffix: str, stream: Stream) -> Track | None:
        # muxers take the headers of data that they fail on later
        if stream.type == "data" or not takes(suffix, stream, self._streamed):
            return None
        made = self._container.add_stream_from_template(stream, opaque=True)
        sound = made.codec_context
        if isinstance(sound, AudioCodecContext) and sound.layout.name == f"{sound.layout.nb_channels} channels":
            # Matroska says how many there are, MP4 must say which
            sound.layout = _LAYOUTS.get(sound.layout.nb_channels, sound.layout)
        return _Copy(_describe(made, stream, suffix), stream.codec_context, movie=suffix in MOVIES)

    def _transcoded(self, suffix: str, stream: Stream) -> Track | None:
        decoder = stream.codec_context
        track: _Sound | _Text | None = None
        with suppress(FFmpegError, ValueError):
            if isinstance(decoder, AudioCodecContext):
                track = _Sound(self._container, SOUND.get(suffix, "aac"), decoder)
            elif isinstance(decoder, SubtitleCodecContext) and decoder.codec.text_sub:
                track = _Text(self._container, TEXT.get(suffix, "mov_text"), decoder)
        if track:
            _describe(track.stream, stream, suffix)
            self._tell(suffix, stream, f"transcoded to {_WORDS.get(track.encoder, track.encoder)}")
        return track

    def _tell(self, suffix: str, stream: Stream, fate: str) -> None:
        kind = {"audio": "Sound", "subtitle": "Subtitles", "attachment": "An attachment"}.get(stream.type, "Data")
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else stream.name or "unknown"
        many = kind == "Subtitles"
        are, them, they = ("were", "them", "they are") if many else ("was", "it", "it is")
        self.notes.append(f"{kind} ({codec}) {are} {fate}: {suffix} can't hold {them} as {they}.")


class _Copy:
    def __init__(self, stream: Stream, decoder: Any, *, movie: bool) -> None:
        self._stream, self._decoder = stream, decoder
        self._rate = decoder.sample_rate if movie and isinstance(decoder, AudioCodecContext) else 0
        self._due: Fraction | None = None
        self._last: int | None = None

    def __call__(self, packet: Packet[Any] | None) -> list[Packet[Any]]:
        if packet is None or packet.dts is None or (self._stream.type == "subtitle" and bytes(packet) == _NO_TEXT):
            return []
        if self._rate:
            self._count(packet)
        if self._last is not None and packet.dts <= self._last:  # which muxers refuse
            packet.dts = self._last + 1
            packet.pts = max(packet.pts or 0, packet.dts)
        self._last = packet.dts
        packet.stream = self._stream
        return [packet]

    def _count(self, packet: Packet[Any]) -> None:
        """Times by the samples, where the container rounds them (Matroska to milliseconds) or doesn't say how long a
        packet lasts (ALAC there): the tables of MP4 must say it, and what they say is heard.
        """
        size, tick, told = self._decoder.frame_size, packet.time_base, packet.duration or 0
        if told and (not size or tick <= Fraction(1, self._rate)):
            return
        length = Fraction(size if told else _samples(self._decoder, packet), self._rate)
        if told and abs(length - told * tick) >= tick:  # cut short, or of another kind than its header says
            length = told * tick
        time = (packet.dts or 0) * tick
        if self._due is not None and abs(self._due - time) < tick:
            time = min(max(self._due, time - tick / 2), time + tick / 2)
        self._due = time + length
        packet.time_base = Fraction(1, self._rate)
        packet.pts = packet.dts = round(time * self._rate)
        packet.duration = round(length * self._rate)


def _samples(decoder: AudioCodecContext, packet: Packet[Any]) -> int:
    with suppress(FFmpegError):
        return sum(frame.samples for frame in decoder.decode(packet))
    return 0


class _Sound:
    def __init__(self, container: OutputContainer, encoder: str, decoder: AudioCodecContext) -> None:
        self.encoder, self._decoder = encoder, decoder
        self._due: Fraction | None = None
        self._kind: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None
        channels = decoder.layout.nb_channels
        layout = _LAYOUTS.get(channels, "stereo")
        rate = {"libopus": 48000, "aac": min(decoder.sample_rate, 96000)}.get(encoder, decoder.sample_rate)
        _probe_sound(encoder, rate, layout)
        self.stream: AudioStream = container.add_stream(encoder, rate=rate)  # type: ignore[assignment]
        _set_sound(self.stream.codec_context, layout)

    def __call__(self, packet: Packet[Any] | None) -> list[Packet[Any]]:
        try:
            frames = self._decoder.decode(packet)
        except FFmpegError:  # a damaged packet is a gap in the sound
            frames = []
        ready = [it for frame in frames for each in self._stamped(frame) for it in self._uniform(each)]
        if packet is None and self._resampler:
            ready += [it for it in self._resampler.resample(None) if it]
        made = [it for frame in ready for it in self.stream.encode(frame)]
        return made + self.stream.encode(None) if packet is None and self._due is not None else made

    def _uniform(self, frame: AudioFrame) -> list[AudioFrame]:
        """Broadcasts change from stereo to 5.1 and back; what is written does not."""
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != self._kind or not self._resampler:
            context = self.stream.codec_context
            self._kind = kind
            self._resampler = AudioResampler(context.format, context.layout, context.sample_rate)
        return self._resampler.resample(frame)

    def _stamped(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        """Time runs by the samples, whatever a damaged file says; gaps become silence, which PCM in .mov can't skip."""
        rate = frame.sample_rate
        told = frame.pts * frame.time_base if frame.pts is not None and frame.time_base else self._due or Fraction(0)
        self._due = told if self._due is None or told > self._due + _LONGEST else self._due
        missing = round((told - self._due) * rate) if told > self._due + _GAP else 0
        silence = (_silence(frame, min(rate, missing - done)) for done in range(0, missing, rate))
        for each in chain(silence, [frame]):
            each.sample_rate, each.time_base, each.pts = rate, Fraction(1, rate), round(self._due * rate)
            self._due += Fraction(each.samples, rate)
            yield each


def _silence(like: AudioFrame, samples: int) -> AudioFrame:
    frame = AudioFrame(like.format, like.layout, samples)
    for plane in frame.planes:
        plane.update((b"\x80" if like.format.name.startswith("u8") else b"\0") * plane.buffer_size)
    return frame


def _set_sound(context: AudioCodecContext, layout: str) -> None:
    context.layout = layout
    if context.name in _BITS:
        context.bit_rate = _BITS[context.name] * context.layout.nb_channels


def _probe_sound(encoder: str, rate: int, layout: str) -> None:
    """Raises FFmpegError or ValueError where the encoder can't be opened so."""
    with av.open(io.BytesIO(), "w", format="matroska") as probe:
        stream: AudioStream = probe.add_stream(encoder, rate=rate)  # type: ignore[assignment]
        _set_sound(stream.codec_context, layout)
        stream.codec_context.open()


class _Text:
    def __init__(self, container: OutputContainer, encoder: str, decoder: SubtitleCodecContext) -> None:
        self.encoder, self._decoder = encoder, decoder
        decoder.open(strict=False)
        self.stream: SubtitleStream = container.add_stream(encoder)  # type: ignore[assignment]
        self.stream.codec_context.time_base = Fraction(1, 1000)
        self.stream.codec_context.subtitle_header = decoder.subtitle_header
        self.stream.codec_context.open()

    def __call__(self, packet: Packet[Any] | None) -> list[Packet[Any]]:
        if packet is None or not packet.size:
            return []
        try:
            text = self._decoder.decode2(packet)
        except FFmpegError:
            return []
        if not text:
            return []
        made = self.stream.codec_context.encode_subtitle(text)
        made.stream, made.time_base = self.stream, packet.time_base
        made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
        return [made]


def takes(suffix: str, stream: Stream, streamed: bool = False) -> bool:
    """Whether files of `suffix` hold the stream as it is: tried with a header that goes nowhere.

    `streamed`: no header can be mended later, as Matroska's is for AAC of MPEG-TS.
    """
    nowhere = Pipe(io.BytesIO()) if streamed and suffix not in MOVIES else io.BytesIO()
    try:
        with av.open(nowhere, "w", format=CONTAINERS[suffix]) as probe:
            probe.add_stream_from_template(stream, opaque=True)
            probe.start_encoding()
    except (FFmpegError, ValueError):
        return False
    return True


def _is_told_otherwise(stream: Stream) -> bool:
    """Time code, which is the picture's tag too, and what FFmpeg has made chapters of."""
    return stream.type == "data" and ("timecode" in stream.metadata or stream.discard == Discard.all)


def tags(metadata: dict[str, str]) -> dict[str, str]:
    """Those tags that are true of a copy too."""
    return {key: value for key, value in metadata.items() if not key.lower().startswith(_OF_THE_FILE)}


def _describe(stream: Any, origin: Stream, suffix: str) -> Any:
    """Language, title and what the stream is for."""
    stream.metadata.update(tags(origin.metadata))
    if suffix == ".mov" and (language := origin.metadata.get("language")):
        stream.metadata["language"] = _QUICKTIME.get(language, language)
    stream.disposition = origin.disposition
    return stream

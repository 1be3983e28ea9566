"""Small clips to write, and files read again."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.subtitles.subtitle import SubtitleSet

from mattecli.media.clips.planes.frame import Format, Frame
from mattecli.media.clips.writing.sink import Target, open_sink


@dataclass
class Origin:
    """What a sink asks of a clip."""

    time_base: Fraction = Fraction(1, 600)
    rate: Fraction = Fraction(30)
    container: Any = None
    video: Any = None
    others: list = field(default_factory=list)
    metadata: dict = field(default_factory=dict)
    chapters: list = field(default_factory=list)
    timecode: str = ""
    live: bool = False


def smooth(format: Format, number: int = 0) -> list[np.ndarray]:
    """Planes with gradients that move with `number`; a soft edge in alpha, from 0 to opaque."""
    black, span, zero, wide = format.colour.levels(format.depth)
    planes = []
    for index, (height, width) in enumerate(format.shapes):
        y, x = np.mgrid[:height, :width]
        wave = 0.5 + 0.4 * np.sin((x + 2 * number) / width * 5 + index) * np.cos(y / height * 3)
        if index == 0:
            level = black + span * wave
        elif index < 3:
            level = zero + wide * 0.5 * (wave - 0.5)
        else:
            level = ((1 << format.depth) - 1) * np.clip(x / width * 1.5 - 0.25, 0, 1)
        planes.append(np.rint(level).astype(format.dtype))
    return planes


@pytest.fixture
def origin():
    return Origin


@pytest.fixture
def frames():
    """`frames(format, pts, last=20)`: one frame a stamp; the last one stays for `last` ticks."""

    def make(format: Format, pts=(0, 20, 40, 60), *, time_base=Fraction(1, 600), last=20) -> list[Frame]:
        lengths = [b - a for a, b in itertools.pairwise(pts)] + [last]
        return [
            Frame(format, smooth(format, k), stamp, length, time_base)
            for k, (stamp, length) in enumerate(zip(pts, lengths, strict=True))
        ]

    return make


@dataclass
class Reread:
    """A file's picture stream, decoded, and the packets of its other streams."""

    container: Any
    video: Any
    pictures: list
    others: dict

    @property
    def times(self) -> list[Fraction]:
        return [picture.pts * picture.time_base for picture in self.pictures]

    @property
    def end(self) -> Fraction:
        return self.times[-1] + self.pictures[-1].duration * self.pictures[-1].time_base

    def planes(self, index: int = 0) -> list[np.ndarray]:
        return levels(self.pictures[index])

    def md5(self, index: int) -> str:
        return hashlib.md5(b"".join(bytes(packet) for packet in self.others[index])).hexdigest()


def levels(picture: Any) -> list[np.ndarray]:
    dtype = np.uint8 if picture.format.components[0].bits == 8 else np.uint16
    return [np.frombuffer(p, dtype).reshape(p.height, -1)[:, : p.width].copy() for p in picture.planes]


@pytest.fixture
def reread():
    opened = []

    def read(path: Path | Any, decoder: str = "") -> Reread:
        container = av.open(str(path) if isinstance(path, Path) else path)
        opened.append(container)
        video = container.streams.video[0]
        context = video.codec_context
        if decoder:
            context = av.CodecContext.create(decoder, "r")
            context.extradata = video.codec_context.extradata
        pictures, others = [], {s.index: [] for s in container.streams if s is not video}
        for packet in container.demux():
            if packet.stream is video:
                pictures += context.decode(packet if packet.size else None)
            elif packet.dts is not None:
                others[packet.stream.index].append(packet)
        for picture in pictures:
            picture.time_base = picture.time_base or video.time_base
        return Reread(container, video, pictures, others)

    yield read
    for container in opened:
        container.close()


@pytest.fixture
def input_clip(tmp_path):
    """`input_clip("a.mp4", sound="aac", text="mov_text")`: a clip of 12 frames, with sound and subtitles."""

    def make(
        name, *, sound="", text="", layout="stereo", font=b"", chapters=(), timecode="", cues=((0, 200), (250, 450))
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as out:
            out.metadata.update(title="A title", creation_time="2020-02-02T10:00:00.000000Z")
            if chapters:
                out.set_chapters(list(chapters))
            video = out.add_stream("libx264" if path.suffix != ".webm" else "libvpx-vp9", rate=24, width=96, height=64)
            video.codec_context.time_base = Fraction(1, 24)
            if timecode:
                video.metadata["timecode"] = timecode
            audio = out.add_stream(sound, rate=48000, layout=layout) if sound else None
            if audio:
                audio.metadata["language"] = "deu"
            words = out.add_stream(text) if text else None
            if words:
                words.codec_context.time_base = Fraction(1, 1000)
                words.codec_context.subtitle_header = ASS.encode()
                words.metadata["language"] = "fra"
            if font:
                out.add_attachment("font.ttf", "application/x-truetype-font", font)
            for k in range(12):
                planes = smooth(Format(64, 96), k)
                picture = av.VideoFrame(96, 64, "yuv420p")
                for plane, level in zip(picture.planes, planes, strict=True):
                    np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = level
                picture.pts, picture.time_base = k, Fraction(1, 24)
                out.mux(video.encode(picture))
                if audio:
                    out.mux(audio.encode(tone(k, audio.layout)))
                if words and k % 6 == 0:
                    begin, end = cues[k // 6]
                    said = SubtitleSet.create(f"0,0,Default,,0,0,0,,Line {k}".encode(), 0, end - begin)
                    packet = words.codec_context.encode_subtitle(said)
                    packet.stream, packet.time_base = words, Fraction(1, 1000)
                    packet.pts = packet.dts = begin
                    packet.duration = end - begin
                    out.mux(packet)
            out.mux(video.encode(None))
            if audio:
                out.mux(audio.encode(None))
        return path

    return make


ASS = """[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def tone(number: int, layout: Any) -> Any:
    """The 1/24 s of a tone that belong to a frame."""
    wave = 0.4 * np.sin((np.arange(2000) + 2000 * number) * 0.05)
    samples = np.tile(wave.astype(np.float32), (layout.nb_channels, 1))
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout.name)
    frame.rate, frame.pts, frame.time_base = 48000, 2000 * number, Fraction(1, 48000)
    return frame


@pytest.fixture
def rewrite(origin):
    """`rewrite(path, target)`: the clip at `path` through a sink, its streams passing; gives the sink."""

    def run(path: Path, target: Target, **options: Any) -> Any:
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            format = Format(video.height, video.width)
            others = [stream for stream in container.streams if stream is not video]
            clip = origin(video.time_base, video.average_rate, container, video, others)
            clip.metadata, clip.chapters = dict(container.metadata), container.chapters()
            sink = open_sink(target, format, clip, **options)
            frames, passing = [], []
            for packet in container.demux():
                if packet.stream is not video:
                    passing.append(packet)
                    continue
                for picture in packet.decode():
                    length = picture.duration or 1
                    frames.append(Frame(format, levels(picture), picture.pts, length, picture.time_base, None, passing))
                    passing = []
            frames[-1].passing += passing
            for frame in frames:
                sink.write(frame)
        sink.close()
        return sink

    return run

"""Tiny clips for tests, made by PyAV."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame

from mattecli.media.clips.planes.colour import to_planes
from mattecli.media.clips.planes.frame import Colour, Format, Plane
from mattecli.media.clips.planes.swscale import picture_of
from mattecli.media.clips.writing.codecs import open_encoder

LOSSLESS = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=none"}}
SD = Colour(6, 6, 6)
SAMPLES = 8000
"""A second of the sound."""


def rgb_of(index: int, size: tuple[int, int] = (64, 96)) -> np.ndarray[Any, Any]:
    """`[H, W, 3]` uint8: smooth colours, brighter with each frame, and a red corner that shows which way is up."""
    y, x = np.mgrid[: size[0], : size[1]]
    ramps = (40 + 100 * x / size[1], 60 + 90 * y / size[0], 150 - 80 * x / size[1] + 0 * y)
    rgb = np.stack(ramps, -1) + 4 * (index % 16)
    rgb[: size[0] // 4, : size[1] // 4] = (200, 30, 40)
    return np.rint(rgb).astype(np.uint8)


def with_ticks(path: Path, ticks: float) -> None:
    """Makes the header of an AVI say of its sound that a chunk holds so many ticks, each as much shorter."""
    file = bytearray(path.read_bytes())
    header = file.find(b"strh", file.find(b"strh") + 4) + 8
    rate, start, length = struct.unpack_from("<3I", file, header + 24)
    struct.pack_into("<3I", file, header + 24, round(ticks * rate), start, round(ticks * length))
    path.write_bytes(file)


def index_of(levels: Plane, first: Plane, step: float) -> int:
    """Which frame this luma is, told by its brightness; `step` in levels a frame."""
    return round(float(levels.astype(float).mean() - first.astype(float).mean()) / step)


def make_clip(
    path: Path,
    frames: int = 8,
    size: tuple[int, int] = (64, 96),
    *,
    codec: str = "",
    pixel: str = "",
    rate: Fraction | int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    colour: Colour = SD,
    tags: bool | Colour = True,
    turn: tuple[float, bool, bool] | None = None,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    alpha: Sequence[Plane] | None = None,
    sound: str = "",
    timecode: str = "",
    subtitles: Sequence[tuple[int, int, str]] = (),
    metadata: dict[str, str] | None = None,
    chapters: Sequence[tuple[int, int, str]] = (),
    options: dict[str, str] | None = None,
) -> list[list[Plane]]:
    """Writes `rgb_of` each index in `colour`, and returns the planes that were encoded.

    codec: libx264 without loss where the suffix is .mp4 or .mov, else FFV1, unless said otherwise. pixel: yuv420p, a
    deeper or less subsampled one of its family, or with alpha ("yuva444p10le"), whose levels `alpha` gives.
    pts: in `time_base` (else 1/rate). tags: whether the stream says its colour, or which it says instead.
    turn: degrees counter-clockwise, mirrored, flipped, as PyAV's set_display_rotation has it; matrix: the 9 numbers.
    timecode: of the first frame. sound: an encoder's name; a second is `SAMPLES`, each sample its number.
    subtitles (in .mkv), chapters: (start ms, end ms, text).
    """
    codec = codec or ("libx264" if path.suffix in (".mp4", ".mov") else "ffv1")
    pixel = pixel or "yuv420p"
    depth = 10 if "10" in pixel else 12 if "12" in pixel else 8
    chroma = next(one for one in ("420", "422", "444") if one in pixel)
    form = Format(*size, colour, depth, chroma)  # type: ignore[arg-type]
    made = []
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        video: Any = container.add_stream(
            codec, rate=Fraction(rate), options={**LOSSLESS.get(codec, {}), **(options or {})}
        )
        video.height, video.width, video.pix_fmt = *size, pixel
        context = video.codec_context
        context.time_base = time_base or 1 / Fraction(rate)
        if aspect:
            context.sample_aspect_ratio = aspect
        said = colour if tags is True else tags
        if said:
            context.colorspace, context.color_primaries, context.color_trc = said.matrix, said.primaries, said.transfer
            context.color_range = 2 if said.full else 1
        if turn:
            video.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        if matrix:
            video.set_display_matrix(matrix)
        if timecode:
            video.metadata["timecode"] = timecode
        heard: Any = container.add_stream(sound, rate=SAMPLES, layout="mono") if sound else None
        written = _subtitles(path.with_suffix(".srt"), subtitles) if subtitles else None
        template: Any = container.add_stream_from_template(written.streams[0]) if written else None
        if chapters:
            container.set_chapters(
                [
                    {"id": n, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": text}}
                    for n, (a, b, text) in enumerate(chapters)
                ]
            )
        open_encoder(context)
        for index in range(frames):
            planes = to_planes(rgb_of(index, size), form)
            if "a4" in pixel:
                planes.append(alpha[index] if alpha is not None else np.full(size, (1 << depth) - 1, form.dtype))
            made.append(planes)
            picture = picture_of(planes, pixel)
            picture.pts, picture.time_base = index if pts is None else pts[index], context.time_base
            container.mux(video.encode(picture))
            if heard is not None:
                container.mux(heard.encode(_sound(index, Fraction(rate), heard.codec_context.format.name)))
        container.mux(video.encode(None))
        if heard is not None:
            container.mux(heard.encode(None))
        if written:
            with written:
                for packet in written.demux():
                    if packet.dts is not None:
                        packet.stream = template
                        container.mux(packet)
    return made


def _sound(index: int, rate: Fraction, form: str) -> AudioFrame:
    first, past = round(index / rate * SAMPLES), round((index + 1) / rate * SAMPLES)
    samples = np.arange(first, past)[None]
    whole = {"s16": np.int16, "s32": np.int32}.get(form[:3])
    values = samples.astype(whole) if whole else (samples / 32768).astype(np.float32)
    frame = AudioFrame.from_ndarray(values, format=form, layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLES, first, Fraction(1, SAMPLES)
    return frame


def _subtitles(path: Path, lines: Sequence[tuple[int, int, str]]) -> Any:
    """Open for reading."""

    def time(ms: int) -> str:
        return f"00:00:{ms // 1000:02d},{ms % 1000:03d}"

    path.write_text("\n\n".join(f"{n}\n{time(a)} --> {time(b)}\n{text}" for n, (a, b, text) in enumerate(lines, 1)))
    return av.open(str(path))

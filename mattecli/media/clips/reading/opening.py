"""From what the user typed to an open container: a file, a sequence of pictures, stdin or a URL."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from mattecli.errors import InputError, UsageError, reason
from mattecli.media.clips.reading.sequence import Sequence, find_sequence

RATE = Fraction(25)
"""Pictures a second of a sequence that nothing is said of."""
LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt")
TIMEOUT = (15, 30)
"""Seconds to open a URL, and to wait for its next packet."""
STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass
class Source:
    """How to open what the user typed. `name` is what messages call it."""

    name: str
    file: Any
    rate: Fraction | None = None
    remote: bool = False
    piped: bool = False

    @property
    def once(self) -> bool:
        """Whether it can't be opened a second time."""
        return self.piped or self.live or not isinstance(self.file, str)

    @property
    def live(self) -> bool:
        return self.remote and self.name.split(":")[0].lower() in LIVE

    @property
    def trouble(self) -> str:
        """What may be wrong with a clip that can't be read."""
        late = "damaged, cut short, or an MP4 or MOV whose index is at its end, which can't be read"
        if self.piped:
            return f"{late} from a pipe (Matroska and MPEG-TS can)"
        if self.remote and not self.live:
            return f"{late} from a server that sends no parts of files (byte ranges); download it first"
        return "damaged or cut short"

    def open(self, hwaccel: HWAccel | None = None) -> InputContainer:
        container: InputContainer = av.open(
            self.file,
            "r",
            options={"framerate": str(self.rate)} if self.rate else {},
            metadata_errors="replace",
            timeout=TIMEOUT if self.remote else None,
            hwaccel=hwaccel,
        )
        return container


def find_source(text: str, rate: Fraction | None) -> Source | Sequence:
    """What `text` names: "-", a file, a pattern such as shot_%04d.png or shot_*.png, or a URL.

    rate: pictures a second of a sequence, or of a raw bitstream; others have their own. Raises InputError where there
    is no such file.
    """
    if text == "-":
        return _stdin(rate)
    if "://" in text:
        return Source(text, text, remote=True)
    path = Path(text)
    if path.is_dir():
        raise InputError(f"{text} is a folder; give a clip, or a pattern such as {path / 'shot_%04d.png'}.")
    if path.exists():
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{text} is empty.")
        return Source(text, f"file:{text}", rate, piped=not path.is_file())
    if re.search(r"%0?\d*d", path.name) or glob.has_magic(path.name):
        return find_sequence(path, rate or RATE)
    raise InputError(f"{text} does not exist.")


def best_video(container: InputContainer, name: str) -> VideoStream:
    """The stream that players would show, never a cover picture. Raises InputError where there is none."""
    videos = [one for one in container.streams.video if not one.disposition & STILL]
    playable = [one for one in videos if one.codec_context is not None]
    if not playable:
        if videos:
            raise InputError(f"{name} holds video of a kind that can't be decoded.")
        raise InputError(f"{name} has {'sound but ' if container.streams.audio else ''}no picture.")
    best = container.streams.best("video")
    return best if best in playable else max(playable, key=lambda one: (one.frames, one.width * one.height))


def container_crop(container: InputContainer, video: VideoStream) -> tuple[int, int, int, int]:
    """Left, right, top, bottom: what Matroska's or QuickTime's header cuts off, which no decoder does.

    PyAV shows it only in FFmpeg's description of the container.
    """
    describes: Any = container
    before = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        described = describes.dumps_format()
    finally:
        av.logging.set_level(before)
    own = re.split(r"Stream #0:(\d+)", described)
    for index, part in zip(own[1::2], own[2::2], strict=True):
        found = re.search(r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", part)
        if int(index) == video.index and found:
            left, right, top, bottom = map(int, found.groups())
            return left, right, top, bottom
    return 0, 0, 0, 0


@contextmanager
def errors_of(source: Source) -> Iterator[None]:
    """FFmpeg's errors as InputError, in one sentence."""
    try:
        yield
    except (av.InvalidDataError, av.EOFError) as error:
        raise InputError(f"{source.name} is no clip of a known format, or it is {source.trouble}.") from error
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{source.name} can't be opened: {reason(error)}.") from error


def _stdin(rate: Fraction | None) -> Source:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise UsageError(
            "- reads a clip from stdin, and there is none; pipe one in, as in: mattecli video - < clip.mp4"
        )
    raw = getattr(stream, "raw", stream)  # a thread that waits in a buffered read would keep the program from ending
    return Source("stdin", raw, rate, piped=not stream.seekable())

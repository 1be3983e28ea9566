"""Frames into a file: any clip goes out as it came in, with its timing, colour tags, sound, chapters and metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from mattecli.errors import UsageError
from mattecli.media.clips.planes.frame import Format, Frame
from mattecli.media.clips.writing.clipsink import ClipSink
from mattecli.media.clips.writing.codecs import PICTURES, encoding, suffix_of
from mattecli.media.clips.writing.goal import Goal
from mattecli.media.clips.writing.mastering import mastering
from mattecli.media.clips.writing.muxing import Origin
from mattecli.media.clips.writing.picturesink import PictureSink, numbered
from mattecli.media.clips.writing.segments import SegmentSink, Whole


@dataclass(frozen=True)
class Target:
    """Where and how a clip is written.

    path: the suffix says the container; `out_%05d.png` makes numbered pictures; None is stdout.
    codec: "auto", a name of `codecs.CODECS`, or one of a hardware encoder (`h264_nvenc`).
    quality: on the codec's own scale (crf, …), lower is better; None for a visually lossless default.
    audio: "none" leaves sound out.
    hwaccel: hardware encoders to try: "none", "auto" for any, or a kind such as "cuda".
    container: the suffix for stdout, and for devices whose names have none; .mp4 and .mov are fragmented there.
    """

    path: Path | None
    codec: str = "auto"
    quality: int | None = None
    audio: Literal["copy", "none"] = "copy"
    hwaccel: str = "none"
    container: str = ".mkv"

    @property
    def suffix(self) -> str:
        """Raises UsageError where nothing can be written under it."""
        unnamed = self.path is None or (not self.path.suffix and self.path.exists())
        return suffix_of(self.container if unnamed or self.path is None else self.path.name)


class Sink(Protocol):
    """Takes the frames of one clip, in order. Their planes may not be changed once they are written."""

    @property
    def encoder(self) -> str:
        """Words, such as "H.264, libx264, crf 17"."""

    @property
    def notes(self) -> list[str]:
        """A sentence for everything that is not as it was in the clip."""

    @property
    def done_until(self) -> int | None:
        """The stamp, in ticks of the clip, of the last frame that an earlier run has written; None: there is none."""

    @property
    def whole(self) -> Whole | None:
        """What the file holds, once it is closed, where an earlier run may have written part of it; else None."""

    def write(self, frame: Frame) -> None:
        """Raises OSError as the system gave it (a full disk); then nothing is left behind."""

    def close(self) -> None:
        """Finishes the file, which now gets its name. Raises like `write`, and InputError where there was no frame."""

    def abort(self) -> None:
        """Leaves nothing; does nothing after `close`."""


def open_sink(target: Target, format: Format, clip: Origin, *, segments: Path | None = None, key: str = "") -> Sink:
    """A sink for frames of `format` that come from `clip`, whose other streams pass into the file.

    Keep the clip open until the sink is closed. With `segments`, a folder, it is a `segments.SegmentSink`, which can go
    on after an end at any moment; `key` names what else decides on the pictures. Raises UsageError where path, codec
    and format don't go together, and InputError where nothing can be written.
    """
    suffix = target.suffix
    sound = target.audio == "copy"
    if suffix in PICTURES:
        _check_pictures(suffix, target, segments)
        return PictureSink(numbered(target.path, suffix), suffix, format, clip.others, sound=sound)
    made = encoding(suffix, target.codec, format, quality=target.quality, hwaccel=target.hwaccel)
    if format.colour.hdr:
        options, notes = mastering(made.encoder, clip)
        made.options.update(options)
        made.notes.extend(notes)
    if not segments:
        goal = Goal(target.path)
        made = made.prompt if goal.streamed and clip.live else made
        return ClipSink(goal, suffix, made, format, clip, sound=sound)
    if target.path is None:
        raise UsageError("Only files are written in segments that can be gone on with, not what goes to stdout.")
    return SegmentSink(target.path, suffix, made, format, clip, segments, sound=sound, key=key)


def _check_pictures(suffix: str, target: Target, segments: Path | None) -> None:
    if target.codec not in ("auto", suffix[1:]):
        raise UsageError(f"{suffix} pictures hold no {target.codec}; leave the codec out.")
    if target.quality is not None:
        raise UsageError(f"{suffix} pictures take no quality.")
    if segments:
        raise UsageError(f"Only clips are written in segments that can be gone on with, not {suffix} pictures.")

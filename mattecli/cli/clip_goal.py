"""Where `mattecli video` writes, what it writes there, and what is left of it after Ctrl-C."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mattecli.cli.console import check_stdout
from mattecli.errors import UsageError

if TYPE_CHECKING:
    from mattecli.inference.clips import Summary
    from mattecli.media.clips.planes.frame import Format
    from mattecli.media.clips.reading.camera import Camera
    from mattecli.media.clips.reading.clip import Clip
    from mattecli.media.clips.writing.sink import Sink

Kind = Literal["composite", "cutout", "alpha", "foreground", "side-by-side"]
STDOUT = "-"
KEPT = (".mp4", ".m4v", ".mov", ".mkv")
"""Suffixes that an output takes over from its input; .mp4 stands for all others."""
TRANSPARENT = {".mov", ".webm", ".png", ".webp", ".tif", ".tiff", ".avif", ".exr"}
TRANSPARENT_CODECS = ("prores", "vp9", "ffv1")
LINEAR = 8
"""The transfer code of numbers that are to stay what they are."""


def default_kind(out: str | None, bg: str | None, codec: str) -> Kind:
    """Composites where there is something behind, else cutouts where the file can hold them, else mattes."""
    if bg is not None:
        return "cutout" if bg == "transparent" else "composite"
    suffix = Path(out or "").suffix.lower()
    if codec == "auto":
        return "cutout" if suffix in TRANSPARENT else "alpha"
    return "cutout" if codec in TRANSPARENT_CODECS and suffix != ".mp4" else "alpha"


def check_behind(kind: Kind, bg: str | None) -> None:
    behind = None if bg == "transparent" else bg
    if kind == "composite" and behind is None:
        raise UsageError("--output composite needs --bg COLOUR, IMAGE, VIDEO or blur[:R].")
    if behind is not None and kind not in ("composite", "side-by-side"):
        raise UsageError(f"--bg {bg} goes behind composites; leave it out, or --output {kind}.")


def checked_goal(source: str, out: str | None, kind: Kind, codec: str, given: list[str], overwrite: bool) -> str:
    """Where to write: a path, `-` or `camera`. Raises UsageError where that would destroy a file."""
    from mattecli.media.clips.writing import naming
    from mattecli.media.clips.writing.codecs import CODECS
    from mattecli.media.clips.writing.virtual_camera import NAME, camera_device

    if out is None and source == "-":
        out = STDOUT
    if out is None and source.startswith("webcam"):
        out = NAME
    if out is None:
        fitting = CODECS[codec].suffixes if codec in CODECS else KEPT
        usual = (".mov",) if kind == "cutout" else (Path(source).suffix.lower(), *KEPT)
        suffix = next((one for one in usual if one in fitting and one in (*KEPT, ".mov")), fitting[0])
        out = str(naming.beside(source, kind.replace("side-by-side", "beside"), suffix))
    if out == STDOUT:
        check_stdout("a clip")
    if out != STDOUT and not camera_device(out)[0]:
        naming.check_goal(Path(out), given, overwrite)
    return out


def segments_of(goal: str) -> Path:
    """The hidden folder in which the work of a run can be found again."""
    if goal == STDOUT or goal.split(":")[0] == "camera":
        raise UsageError("--resume needs a file to go on with; name one with -o.")
    path = Path(goal)
    return path.with_name(f".{path.name}.segments")


def identity(source: str) -> str:
    """By which another clip of the same name is told."""
    path = Path(source)
    if not path.is_file():
        return source
    facts = path.stat()
    return f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"


def sink_for(
    goal: str,
    kind: Kind,
    format: Format,
    clip: Clip | Camera,
    codec: str,
    quality: int | None,
    audio: Literal["copy", "none"],
    hwaccel: str,
    segments: Path | None,
    key: str,
) -> Sink:
    """Opens the goal for frames of `kind` in `format`. Raises what `writing.sink.open_sink` raises."""
    from mattecli.media.clips.writing.sink import Target, open_sink
    from mattecli.media.clips.writing.virtual_camera import VirtualCamera, camera_device

    is_camera, device = camera_device(goal)
    if is_camera:
        return VirtualCamera(device, format, clip)
    if kind == "alpha" and Path(goal).suffix.lower() == ".exr":  # which holds light: alpha is none
        format = replace(format, colour=replace(format.colour, transfer=LINEAR))
    target = Target(None if goal == STDOUT else Path(goal), codec, quality, audio, hwaccel)
    return open_sink(target, format, clip, segments=segments, key=key)


def what_is_left(goal: str, summary: Summary, discard: bool, segments: Path | None) -> str:
    """A sentence for who pressed Ctrl-C."""
    if segments and discard:
        shutil.rmtree(segments, ignore_errors=True)
    elif segments and not segments.exists():
        return "interrupted before a segment was whole; nothing was written."
    elif segments:
        return "interrupted; the same command goes on from the last whole segment."
    if discard or not summary.frames:
        return "interrupted; nothing was written."
    if goal == STDOUT:
        return f"interrupted; {summary.duration:.1f} s were written."
    if goal.split(":")[0] == "camera":
        return "interrupted; the camera is off."
    first = f"interrupted; {goal} holds the first {summary.duration:.1f} s and plays"
    return f"{first}; only a run with --resume can be gone on with."

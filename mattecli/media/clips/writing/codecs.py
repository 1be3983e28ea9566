"""What each suffix and codec can hold, and the encoder settings that look like the input.

Quality is constant (crf and the like), never a bitrate: the defaults are meant to be visually lossless.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
from av import VideoCodecContext
from av.error import FFmpegError

from mattecli.errors import UsageError, reason
from mattecli.media import photos
from mattecli.media.clips.planes.frame import Chroma, Format

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""FFmpeg's muxer by suffix. None for .avi: it keeps no times, no start of the sound, no colours."""
PICTURES = photos.WRITABLE | {".exr"}
"""Suffixes of numbered pictures (`out_%05d.png`)."""


@dataclass(frozen=True)
class Codec:
    """What a codec holds, and how it is asked for constant quality (`scale`, of which lower is better)."""

    words: str
    encoder: str
    suffixes: tuple[str, ...]
    chromas: tuple[Chroma, ...]
    depths: tuple[int, ...]
    scale: str = ""
    quality: int = 0
    worst: int = 0
    settings: Callable[[int], dict[str, str]] = lambda quality: {}
    transparent: tuple[Chroma, ...] = ()
    """Chromas that may come with alpha."""
    even: bool = False
    """Sizes must be whole numbers of chroma samples."""
    tells_aspect: bool = False
    """The stream itself says how wide a pixel is, so that any container will do."""
    tells_range: bool = True
    """The stream, or each of its containers, says whether levels have full range; else it is limited."""
    hardware: bool = False
    """There are hardware encoders: `h264_nvenc` and the like."""


CODECS: dict[str, Codec] = {
    "h264": Codec(
        words="H.264",
        encoder="libx264",
        suffixes=(".mp4", ".m4v", ".mov", ".mkv"),
        chromas=("420", "422"),
        depths=(8, 10),
        scale="crf",
        quality=17,
        worst=51,
        settings=lambda crf: {"crf": f"{crf}", "preset": "medium"},
        even=True,
        tells_aspect=True,
        hardware=True,
    ),
    "hevc": Codec(
        words="HEVC",
        encoder="libx265",
        suffixes=(".mp4", ".m4v", ".mov", ".mkv"),
        chromas=("420", "422"),
        depths=(8, 10),
        scale="crf",
        quality=18,
        worst=51,
        settings=lambda crf: {"crf": f"{crf}", "preset": "fast", "x265-params": "log-level=error"},
        even=True,
        tells_aspect=True,
        hardware=True,
    ),
    "av1": Codec(
        words="AV1",
        encoder="libsvtav1",
        suffixes=(".mp4", ".m4v", ".mkv", ".webm"),
        chromas=("420",),
        depths=(8, 10),
        scale="crf",
        quality=22,
        worst=63,
        settings=lambda crf: {"crf": f"{crf}", "preset": "8"},
        hardware=True,
    ),
    "vp9": Codec(
        words="VP9",
        encoder="libvpx-vp9",
        suffixes=(".webm", ".mkv", ".mp4"),
        chromas=("420",),
        depths=(8,),
        scale="crf",
        quality=20,
        worst=63,
        settings=lambda crf: {"crf": f"{crf}", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
        transparent=("420",),
    ),
    "prores": Codec(
        words="ProRes",
        encoder="prores_ks",
        suffixes=(".mov",),
        chromas=("422", "444"),
        depths=(10,),
        scale="quantiser",
        quality=4,
        worst=31,
        # a fixed quantiser is 7 times as fast as the encoder's own search
        settings=lambda q: {"flags": "+qscale", "global_quality": f"{q * 118}", "vendor": "apl0"},
        transparent=("444",),
        tells_range=False,
    ),
    "ffv1": Codec(
        words="FFV1",
        encoder="ffv1",
        suffixes=(".mkv",),
        chromas=("420", "422", "444"),
        depths=(8, 10, 12, 16),
        settings=lambda _: {"level": "3", "g": "1", "slicecrc": "1"},
        transparent=("420", "422", "444"),
    ),
}
"""By the names that `--codec` takes, beside "auto" and those of hardware encoders, such as `h264_nvenc`."""

_FAMILIES: dict[str, tuple[str, Callable[[int], dict[str, str]]]] = {
    "nvenc": ("NVENC", lambda q: {"preset": "p5", "tune": "hq", "rc": "vbr", "cq": f"{q}", "b": "0"}),
    "videotoolbox": ("VideoToolbox", lambda q: {"flags": "+qscale", "global_quality": f"{max(1, 100 - 2 * q) * 118}"}),
    "qsv": ("Quick Sync", lambda q: {"preset": "slow", "global_quality": f"{q}"}),
    "amf": ("AMF", lambda q: {"quality": "quality", "rc": "cqp", "qp_i": f"{q}", "qp_p": f"{q}"}),
}
"""Hardware encoders: words and settings by the ends of their names, in the order in which they are tried."""
_FAMILY_OF = {"cuda": "nvenc", "d3d11va": "amf", "dxva2": "amf"}
"""Of the names of hardware that decode, those whose encoders are called otherwise."""


_PROMPT = {
    "libx264": {"preset": "veryfast", "tune": "zerolatency", "thread_type": "slice"},
    "libx265": {"preset": "ultrafast", "tune": "zerolatency"},
    "libsvtav1": {"preset": "11", "svtav1-params": "pred-struct=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
}
"""Settings of encoders that would otherwise look at many frames before they give the first."""


@dataclass(frozen=True)
class Encoding:
    """A codec's encoder made ready for pictures of one format.

    `format` is what is stored (size, chroma and depth may differ from the frames'), `pixels` FFmpeg's name for it.
    """

    codec: Codec
    encoder: str
    pixels: str
    format: Format
    options: dict[str, str]
    words: str
    notes: list[str] = field(default_factory=list)

    @property
    def prompt(self) -> Encoding:
        """The same for a player of a live clip: no frame waits for later ones."""
        return replace(self, options=self.options | _PROMPT.get(self.encoder, {}))

    @property
    def tag(self) -> str:
        """The four characters by which players of .mp4 and .mov know the codec; "" where the muxer knows best."""
        if self.codec is CODECS["hevc"]:
            return "hvc1"
        return {"422": "apch", "444": "ap4h"}[self.format.chroma] if self.codec is CODECS["prores"] else ""


def suffix_of(name: str) -> str:
    """The suffix of a file's name, in lower case. Raises UsageError where nothing can be written under it."""
    suffix = "." + name.rpartition(".")[2].lower() if "." in name else ""
    if suffix not in CONTAINERS and suffix not in PICTURES:
        known = ", ".join(CONTAINERS)
        problem = f"{suffix} is no format" if suffix else "A name without suffix is none"
        raise UsageError(f"{problem} that can be written; use {known}, or numbered pictures such as out_%05d.png.")
    return suffix


def automatic(suffix: str, format: Format) -> str:
    """The codec for `--codec auto`: what plays everywhere, unless transparency or depth ask for more.

    Raises UsageError where files of `suffix` can't hold transparency.
    """
    if format.alpha:
        holds = {".mov": "prores", ".webm": "vp9", ".mkv": "ffv1"}
        if suffix not in holds:
            raise UsageError(f"{suffix} can't hold transparency; use .mov, .webm, .mkv or numbered .png pictures.")
        return holds[suffix]
    deep = format.depth > 8
    if suffix == ".webm":
        return "av1" if deep else "vp9"
    return "hevc" if deep else "h264"


def encoding(suffix: str, codec: str, format: Format, *, quality: int | None = None, hwaccel: str = "none") -> Encoding:
    """How frames of `format` are encoded into files of `suffix`.

    `codec` is "auto", a name of CODECS or of a hardware encoder; `quality` replaces the codec's own on its scale.
    `hwaccel` "auto" takes the first hardware encoder that works, the name of a kind ("cuda", "cuda:1", "qsv", …) only
    that kind, "none" none; software it is where none works. Raises UsageError where suffix, codec and format don't go
    together, or a hardware encoder asked for by name doesn't work.
    """
    name = automatic(suffix, format) if codec == "auto" else codec
    base, _, family = name.partition("_")
    kind, _, place = hwaccel.partition(":")
    if base not in CODECS or (family and not (family in _FAMILIES and CODECS[base].hardware)):
        raise UsageError(f"{codec} is no codec that can be written; use one of auto, {', '.join(CODECS)}.")
    _check(suffix, base, format, quality)
    quality = CODECS[base].quality if quality is None else quality
    if family:
        made = _hardware(base, family, suffix, format, quality, place)
        if problem := refusal(made) if made else f"it can't hold these pictures in {suffix}":
            raise UsageError(f"{name} doesn't work here: {problem}; use {base}.")
        assert made
        return made
    software = _software(base, suffix, format, quality)
    # hardware encoders are asked for 4:2:0 only, which is no reason to lose chroma
    for family in _families(kind) if software.format.chroma == "420" else []:
        made = _hardware(base, family, suffix, format, quality, place)
        if made and not refusal(made):
            return made
    return software


def pixel_name(format: Format) -> str:
    """FFmpeg's name of planes such as yuva444p10le."""
    deep = f"{format.depth}le" if format.depth > 8 else ""
    return f"yuv{'a' * format.alpha}{format.chroma}p{deep}"


def refusal(made: Encoding) -> str:
    """Why the encoder can't be opened; "" where it can."""
    try:
        context = av.Codec(made.encoder, "w").create("video")
        context.width, context.height, context.pix_fmt = made.format.width, made.format.height, made.pixels
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.options = dict(made.options)
        open_encoder(context)
    except (FFmpegError, ValueError) as error:
        return reason(error)
    return ""


def open_encoder(context: VideoCodecContext) -> None:
    """Open `context`, whose encoder may print errors only.

    SVT-AV1 makes the process real-time where it may (as root, in containers); it is put back among the others.
    """
    os.environ.setdefault("SVT_LOG", "1")
    if sys.platform != "linux":
        return context.open()
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    context.open()
    if os.sched_getscheduler(0) != policy:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(int(thread.name), policy, priority)


def _check(suffix: str, name: str, format: Format, quality: int | None) -> None:
    codec = CODECS[name]
    if suffix not in codec.suffixes:
        fitting = ", ".join(other for other, it in CODECS.items() if suffix in it.suffixes)
        raise UsageError(f"{suffix} can't hold {name}; use {' or '.join(codec.suffixes)}, or one of {fitting}.")
    if format.alpha and not codec.transparent:
        raise UsageError(f"{name} can't hold transparency; use prores (.mov), vp9 (.webm, .mkv) or ffv1 (.mkv).")
    if format.alpha and (suffix, name) == (".mp4", "vp9"):
        raise UsageError(".mp4 can't hold vp9 with transparency; use .webm or .mkv.")
    if quality is not None and not codec.scale:
        raise UsageError(f"{name} is lossless and takes no quality.")
    if quality is not None and not 0 < quality <= codec.worst:
        raise UsageError(f"The quality of {name} is a {codec.scale} from 1 (best) to {codec.worst}, not {quality}.")


def _stored(suffix: str, codec: Codec, format: Format) -> tuple[Format, list[str]]:
    """The nearest format that can be stored, and a sentence for each loss."""
    chromas = codec.transparent if format.alpha else codec.chromas
    # few players show 4:4:4 of codecs that deliver, so these don't offer it, and 4:2:0 is what plays everywhere
    chroma = format.chroma if format.chroma in chromas else chromas[0]
    depths = [d for d in codec.depths if not (format.alpha and chroma == "420" and d == 12)]
    depth = min((d for d in depths if d >= format.depth), default=max(depths))
    notes = []
    if depth < format.depth:
        notes.append(f"{format.depth} bits became {depth}: {codec.words} in {suffix} holds no more.")
    if chroma < format.chroma:
        notes.append(f"Chroma {':'.join(format.chroma)} became {':'.join(chroma)}, as players of {codec.words} expect.")
    colour = format.colour
    if colour.full and not codec.tells_range:
        colour = replace(colour, full=False)
        notes.append(f"Levels of full range became limited: {codec.words} has no others.")
    height, width = format.height, format.width
    aspect = format.aspect
    if aspect != 1 and not (codec.tells_aspect or suffix in (".mp4", ".m4v", ".mov")):
        height, width = (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)
        aspect = Fraction(1)
        notes.append(f"Pixels became square, {width}x{height}: {codec.words} in {suffix} has none of other shapes.")
    if codec.even:
        odd = height, width
        height, width = (height + height % 2 if chroma == "420" else height), width + width % 2
        if (height, width) != odd:
            now = f"{width}x{height}"
            notes.append(f"{odd[1]}x{odd[0]} became {now}, its edge repeated: {codec.words} has even sizes only.")
    stored = replace(format, height=height, width=width, colour=colour, chroma=chroma, depth=depth, aspect=aspect)
    return stored, notes


def _software(name: str, suffix: str, format: Format, quality: int) -> Encoding:
    codec = CODECS[name]
    stored, notes = _stored(suffix, codec, format)
    options = codec.settings(quality)
    if name == "prores":
        options |= {"profile": "4444" if stored.chroma == "444" else "hq", "alpha_bits": "16" if stored.alpha else "0"}
    if name == "vp9" and stored.alpha:
        options["auto-alt-ref"] = "0"
    words = f"{codec.words}, {codec.encoder}, " + (f"{codec.scale} {quality}" if codec.scale else "lossless")
    return Encoding(codec, codec.encoder, pixel_name(stored), stored, options, words, notes)


def _hardware(name: str, family: str, suffix: str, format: Format, quality: int, place: str = "") -> Encoding | None:
    """The hardware encoder of `family`, which takes 4:2:0 of 8 or 10 bits; None where it doesn't hold the format.

    `place`: which of several devices, as FFmpeg counts them.
    """
    codec, encoder = CODECS[name], f"{name}_{family}"
    deep = format.depth > 8
    if not codec.hardware or encoder not in av.codecs_available or (name == "h264" and deep):
        return None
    stored, notes = _stored(suffix, replace(codec, chromas=("420",), even=True), format)
    words, settings = _FAMILIES[family]
    words = f"{codec.words}, {words}, quality {quality}"
    options = settings(4 * quality if encoder == "av1_amf" else quality)  # which has quantisers up to 255
    options |= {"gpu": place} if place and family == "nvenc" else {}
    return Encoding(codec, encoder, "p010le" if deep else "nv12", stored, options, words, notes)


def _families(hwaccel: str) -> list[str]:
    if hwaccel == "auto":
        return list(_FAMILIES)
    family = _FAMILY_OF.get(hwaccel, hwaccel)
    return [family] if family in _FAMILIES else []

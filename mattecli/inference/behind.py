"""What goes behind the subject of a clip, frame by frame and in its own planes: a colour, a picture, a blur, a clip.

Colours and pictures are SDR with BT.709 primaries. Their numbers stay as they are in SDR clips but those of BT.2020 and
P3, whose wider primaries they are converted to; in PQ and HLG their white is at 203 nits (ITU-R BT.2408) and their
gamma 2.4. A clip behind an SDR clip is tone-mapped if it is HDR (`media.clips.planes.hdr`); else as a picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from mattecli.errors import InputError, MatteError, UsageError
from mattecli.inference.background import DEFAULT_BLUR, named_colour
from mattecli.inference.guided import Floats, Picture, resize
from mattecli.inference.planes import Size, enlarge, shrink, steps
from mattecli.inference.spill import ENOUGH, NONE, fill
from mattecli.media import profiles, spaces
from mattecli.media.clips.planes import hdr
from mattecli.media.clips.planes.colour import to_planes, to_rgb
from mattecli.media.clips.planes.frame import PQ, ROUNDED, Colour, Format, Frame, Plane
from mattecli.media.clips.planes.swscale import levels, picture_of, reformat
from mattecli.media.photos import READABLE, read_photo

Behind = Callable[[Frame, Floats], list[Plane]]
"""`(frame, alpha [h, w] at the network's size) → Y, Cb and Cr` in the frame's format; not to be written to."""

GAMMA = 2.4


class Source(Protocol):
    """What is read of an open clip."""

    format: Format

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


def parse(text: str) -> Behind | None:
    """What `--bg` names; None for `transparent`, which is no background but a cutout.

    `#rgb`, `#rrggbb`, `r,g,b` or a name (`background.COLOURS`); `blur` or `blur:RADIUS`, a standard deviation in
    pixels; else a picture or a clip: a path, a pattern of numbered pictures or a URL. A clip starts over when it ends.
    Raises UsageError for anything else and for what can't be read.
    """
    if text == "transparent":
        return None
    if match := re.fullmatch(r"blur(?::(\d+(?:\.\d+)?))?", text):
        if match[1] and float(match[1]) == 0:
            raise UsageError(f"--bg {text} would leave the clip as it is; give a radius above 0.")
        return Blur(float(match[1]) if match[1] else None)
    if (colour := named_colour(text)) is not None:
        return plain(colour.tolist())
    if text == "-" or text.startswith("webcam:"):
        raise UsageError(f"--bg {text} can be read only once; save it to a file first.")
    try:
        if Path(text).suffix.lower() in READABLE and Path(text).is_file():
            return still(_picture(Path(text)))
        return Moving(lambda: _open(text))
    except MatteError as error:
        if "://" in text or re.search(r"[%*?]", text) or Path(text).exists():
            raise UsageError(f"--bg {error}") from error
        raise UsageError(
            f"--bg {text} is no file, no colour ('white', '#1e90ff', '30,144,255'), not 'blur[:RADIUS]' and not "
            "'transparent'."
        ) from error


def _picture(path: Path) -> Picture:
    """A photo in sRGB. Raises InputError, also where its colour profile is damaged."""
    photo = read_photo(path)
    try:
        return profiles.convert(photo.rgb, photo.icc, None)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _open(text: str) -> Source:
    from mattecli.media.clips.reading.clip import open_clip

    return open_clip(text, passing=False)


def plain(rgb: Sequence[int]) -> Behind:
    """One colour, 8-bit R′G′B′."""
    return still(np.array(rgb, np.uint8).reshape(1, 1, 3))


def still(picture: Picture) -> Behind:
    """A picture `HxWx3`, scaled to fill the frame and cropped about its centre; converted once."""
    made: dict[Format, list[Plane]] = {}

    def behind(frame: Frame, alpha: Floats) -> list[Plane]:
        form = replace(frame.format, alpha=False)
        if form not in made:
            made[form] = _planes(picture, form)
        return made[form]

    return behind


def _planes(picture: Picture, form: Format, own: Format | None = None) -> list[Plane]:
    """SDR R′G′B′ as planes of `form`."""
    rows, columns = _cover(picture.shape[:2], own.aspect if own else Fraction(1), form)
    scaled = resize(picture[rows, columns], form.height, form.width)
    return to_planes(in_colour(scaled, form.colour, own.colour if own else hdr.SDR), form)


def _cover(size: Size, aspect: Fraction, form: Format) -> tuple[slice, slice]:
    """Rows and columns about the centre that have the shape of `form`'s frame, beginning at even ones."""
    high, wide = size
    shape = form.width * form.aspect / form.height / aspect  # columns over rows
    kept_high, kept_wide = min(high, max(1, round(wide / shape))), min(wide, max(1, round(high * shape)))
    top, left = (high - kept_high) // 4 * 2, (wide - kept_wide) // 4 * 2
    return slice(top, top + kept_high), slice(left, left + kept_wide)


def in_colour(rgb: Picture, goal: Colour, own: Colour = hdr.SDR) -> Picture:
    """SDR R′G′B′ in numbers of `goal`: as it is, or uint16 where numbers change. `own` tells its primaries."""
    source, target = _space(own), _space(goal)
    if source == target and not goal.hdr:
        return rgb
    linear = np.power(rgb.astype(np.float32) / np.iinfo(rgb.dtype).max, GAMMA)
    if source != target:
        mixed = np.linalg.solve(spaces.to_xyz(target), spaces.to_xyz(source))
        linear = (linear @ mixed.T.astype(np.float32)).clip(0, 1)
    if not goal.hdr:
        signal = np.power(linear, 1 / GAMMA)
    elif goal.transfer == PQ:
        signal = hdr.nits_to_pq(np.float32(hdr.WHITE) * linear)
    else:
        signal = _hlg(np.float32(hdr.WHITE / hdr.PEAK) * linear)
    levels: Picture = np.rint(signal.clip(0, 1) * 65535).astype(np.uint16)
    return levels


def _hlg(display: Floats) -> Floats:
    """Signal of display light in [0, 1] of 1000 nits, system gamma 1.2 (ITU-R BT.2100, table 5)."""
    luminance = display @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    scene: Floats = display * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    bright = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    signal: Floats = np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)
    return signal


@dataclass(frozen=True)
class Blur:
    """The frame out of focus by a Gaussian of `radius` pixels (default: `DEFAULT_BLUR`), without a halo of the subject.

    As `background.blur`: pixels count by (1 − α)¹⁶, and deep behind the subject what is seen around it goes on.
    """

    radius: float | None = None

    def __call__(self, frame: Frame, alpha: Floats) -> list[Plane]:
        form = frame.format
        sigma = self.radius or DEFAULT_BLUR * max(form.height, form.width)
        high, wide = steps(form)
        factor = max(high, wide)
        while factor * 4 <= sigma:
            factor *= 2
        fine = max(high, wide, factor // 4)
        sizes = [(1, 1), (high, wide), (high, wide)]
        seen = [shrink(p, (fine // by[0], fine // by[1])) for p, by in zip(frame.planes, sizes, strict=False)]
        clear = 1 - cv2.resize(alpha, seen[0].shape[::-1], interpolation=cv2.INTER_LINEAR)
        weight = cv2.pow(clear, 16) * np.float32(ENOUGH) + np.float32(NONE)
        parts = [*(cv2.multiply(weight, plane, dtype=cv2.CV_32F) for plane in seen), weight]
        parts = [shrink(part, (factor // fine, factor // fine)) for part in parts]
        soft = [cv2.GaussianBlur(p, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE) for p in parts]
        top = (1 << form.depth) - 1
        filled = [np.rint(p).clip(0, top).astype(form.dtype) for p in fill(soft[:3], soft[3])]
        return [
            enlarge(plane, (factor // by[0], factor // by[1]), *shape)
            for plane, by, shape in zip(filled, sizes, form.shapes, strict=False)
        ]


class Moving:
    """A clip as a background: at time t the frame that it shows at t modulo its length, by its own timestamps.

    `open` opens it anew for each pass. Its first frame is shown at 0, and an only one for good.
    """

    def __init__(self, open: Callable[[], Source]) -> None:
        self._open = open
        self._begin(Fraction(0))
        self._fitted: tuple[Frame, Format, list[Plane]] | None = None
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Frame, alpha: Floats) -> list[Plane]:
        form = replace(frame.format, alpha=False)
        shown = self._at(frame.pts * frame.time_base + ROUNDED)
        if self._fitted is None or self._fitted[0] is not shown or self._fitted[1] != form:
            self._fitted = shown, form, self._fit(shown, form)
        return self._fitted[2]

    def _begin(self, begins: Fraction) -> None:
        """A new pass, whose first frame is shown from `begins` on."""
        self._clip = self._open()
        self._frames = iter(self._clip)
        self._shown = next(self._frames)
        self._next = next(self._frames, None)
        self._shift = begins - _start(self._shown)
        self._begins = begins

    def _at(self, time: Fraction) -> Frame:
        if time < _start(self._shown) + self._shift:
            self._clip.close()
            self._begin(Fraction(0))
        while True:
            while self._next is not None and _start(self._next) + self._shift <= time:
                self._shown, self._next = self._next, next(self._frames, None)
            start = _start(self._shown) + self._shift
            end = start + self._shown.duration * self._shown.time_base
            if self._next is not None or time < end or start == self._begins:  # the last: a clip of one frame
                return self._shown
            length = end - self._begins
            self._clip.close()
            self._begin(self._begins + (time - self._begins) // length * length)

    def _fit(self, shown: Frame, form: Format) -> list[Plane]:
        """Its planes at the size and in the colours of `form`."""
        if shown.format.colour.hdr and _light(shown.format.colour) != _light(form.colour):
            shown = hdr.to_sdr(shown)
        own = shown.format
        if replace(own, alpha=False) == form:
            return shown.planes[:3]
        if _light(own.colour) != _light(form.colour):
            return _planes(to_rgb(shown.planes, own, 16), form, own)
        rows, columns = _cover((own.height, own.width), own.aspect, form)
        high, wide = steps(own)
        chroma = [
            p[rows.start // high : -(-rows.stop // high), columns.start // wide : -(-columns.stop // wide)]
            for p in shown.planes[1:3]
        ]
        picture = picture_of([shown.planes[0][rows, columns], *chroma], _name(own))
        size = form.width, form.height
        way = Interpolation.AREA if size[0] * size[1] < picture.width * picture.height else Interpolation.BICUBIC
        return levels(reformat(self._reformatter, picture, _name(form), own.colour, form.colour, size=size, way=way))


def _start(frame: Frame) -> Fraction:
    return frame.pts * frame.time_base


def _light(colour: Colour) -> tuple[Any, ...]:
    """Equal where levels of two colours differ by matrix and range alone, or by next to nothing."""
    return colour.hdr and colour.transfer, _space(colour)


def _space(colour: Colour) -> spaces.Space:
    """By its primaries."""
    return spaces.BY_PRIMARIES.get(colour.primaries, spaces.SRGB)


def _name(form: Format) -> str:
    return f"yuv{form.chroma}p{'' if form.depth == 8 else f'{form.depth}le'}"

"""Decoded pictures as planes, and small: pixel format, colour tags, cropping and orientation are settled here.

Planar YUV of 8, 10 or 12 bits stays as the decoder made it; everything else becomes the nearest of it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import cv2
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from mattecli.media.clips.planes.frame import (
    BT601,
    BT709,
    BT2020,
    CENTRE,
    LEFT,
    LUMA,
    TOP_LEFT,
    Chroma,
    Colour,
    Format,
    Frame,
    Plane,
    Siting,
)
from mattecli.media.clips.planes.hdr import ToneMapper
from mattecli.media.clips.planes.swscale import FULL, LIMITED, levels, picture_of, reformat
from mattecli.media.clips.reading.orientation import Turn, turn_of

UNKNOWN = 2
UNTAGGED = (UNKNOWN, UNKNOWN, UNKNOWN, 0)
PRIMARIES = {1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22}
TRANSFERS = {1, *range(4, 19)}
SRGB = 13
ODD_MATRICES = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "Y′D′zD′x",
    13: "chromaticity-derived",
    14: "ICtCp",
    15: "IPT (Dolby Vision)",
    16: "YCgCo",
    17: "YCgCo",
}
PHOTOS = {"jpg", "jpeg", "webp"}
"""Codecs whose YUV stands for sRGB."""
CENTRED = PHOTOS | {"mjpeg", "mpeg1video", "h263", "theora"}
"""Codecs whose chroma lies between its pixels; elsewhere it lies left of them, in BT.2020 on the first of them."""
LIMITED_GREY = {"h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp9"}
"""Decoders whose untagged grey has limited range; of all others (PNG, JPEG, FFV1) it is full."""

Crop = tuple[int, int, int, int]
"""Left, right, top, bottom, in pixels as stored."""
Tags = tuple[int, int, int, int]
"""Codes of matrix, primaries, transfer and range."""


class Pictures:
    """Makes `Frame`s of the decoded pictures of one clip, whose first settles the format of all.

    A later picture of another size, pixel format, matrix or range is converted to the first's.
    """

    def __init__(
        self,
        first: VideoFrame,
        turn: Turn | None = None,
        *,
        codec: str = "",
        aspect: Fraction | None = None,
        crop: Crop = (0, 0, 0, 0),
        said: Tags = UNTAGGED,
    ) -> None:
        self.notes: list[str] = []
        self._codec, self._said = codec, said
        told = turn_of(first)
        self._turn = told if turn is None or any(told) else turn
        self._crop = _cropper(first, crop)
        self._converter, self._viewer, self._lock = VideoReformatter(), VideoReformatter(), threading.Lock()
        self._colour, note = colour_of(self._crop(first), codec, said)
        picture = self._prepare(first)
        self._kind, self._size = _kind(picture), (picture.width, picture.height)
        self._target, chroma, depth, alpha = _target(picture, self._turn)
        self._tone_map = ToneMapper(self._colour) if self._colour.hdr else None
        width, height = self._size[::-1] if self._turn.transpose else self._size
        aspect = aspect or Fraction(1)
        aspect = 1 / aspect if self._turn.transpose else aspect
        siting = CENTRE if chroma == "444" else _siting(codec, self._colour, self._turn)
        self.format = Format(height, width, self._colour, depth, chroma, alpha, aspect, siting)
        if note:
            self.notes.append(note)

    def frame(self, picture: VideoFrame, pts: int, duration: int, time_base: Fraction, passing: list[Any]) -> Frame:
        """Planes are read-only where they are the decoder's own memory."""
        key = bool(picture.key_frame)
        picture = self._prepare(picture)
        colour = self._colour if _kind(picture) == self._kind else colour_of(picture, self._codec, self._said)[0]
        planes = [self._turn(plane) for plane in levels(self._convert(picture, colour))]
        return Frame(self.format, planes, pts, duration, time_base, partial(self._view, picture, colour), passing, key)

    def _prepare(self, picture: VideoFrame) -> VideoFrame:
        """Cropped, and grey with neutral chroma, as which it keeps its levels: swscale takes any for full range."""
        picture = self._crop(picture)
        if not _is_grey(picture) or _has_alpha(picture):
            return picture
        depth, full = _depth(picture), Colour(full=True)
        if picture.format.name != (grey := "gray" + _suffix(depth)):
            picture = reformat(self._converter, picture, grey, full, full)
        (luma,) = levels(picture)
        _, *shapes = Format(picture.height, picture.width, depth=depth).shapes
        neutral = [np.full(shape, 1 << (depth - 1), luma.dtype) for shape in shapes]
        return picture_of([luma, *neutral], "yuv420p" + _suffix(depth))

    def _convert(self, picture: VideoFrame, colour: Colour) -> VideoFrame:
        if _kind(picture) == self._kind and picture.format.name.replace("yuvj", "yuv") == self._target:
            return picture
        size = None if (picture.width, picture.height) == self._size else self._size
        return reformat(self._converter, picture, self._target, colour, self._colour, size=size)

    def _view(self, picture: VideoFrame, colour: Colour, height: int, width: int) -> NDArray[np.uint8]:
        size = (height, width) if self._turn.transpose else (width, height)
        shrinks = size[0] <= picture.width and size[1] <= picture.height
        way = Interpolation.AREA if shrinks else Interpolation.BILINEAR
        name = "gbrp16le" if self._tone_map else "gbrap" if self.format.alpha else "gbrp"
        with self._lock:
            small = reformat(self._viewer, picture, name, colour, Colour(full=True), size=size, way=way)
            if self._tone_map:
                small = self._tone_map(small)
        green, blue, red, *alpha = levels(small)
        rgb = cv2.merge((red, green, blue))
        if rgb.dtype == np.uint16:
            rgb = cv2.convertScaleAbs(rgb, alpha=1 / 257)
        if alpha:
            rgb = _over_white(rgb, alpha[0])
        return np.asarray(self._turn(rgb), np.uint8)


def colour_of(picture: VideoFrame, codec: str = "", said: Tags = UNTAGGED) -> tuple[Colour, str]:
    """What the picture's levels mean, and a sentence where that can only be taken for something near.

    What its own tags leave open, those that the container `said` tell.
    Untagged, and with codes that are wrong or reserved: BT.709 from 720 lines (or 1280 columns) up, BT.601 below,
    BT.2020 with its primaries; limited range, but full for RGB and what only pictures use. Of RGB and photos all but
    the matrix is sRGB's.
    """
    own = (picture.colorspace, picture.color_primaries, picture.color_trc, picture.color_range)
    matrix, primaries, transfer, span = (b if a == none else a for a, b, none in zip(own, said, UNTAGGED, strict=True))
    primaries = primaries if primaries in PRIMARIES else UNKNOWN
    transfer = transfer if transfer in TRANSFERS else UNKNOWN
    high = picture.height >= 720 or picture.width >= 1280
    rgb, photo, note = _is_rgb(picture), codec in PHOTOS, ""
    if rgb or matrix not in LUMA:
        if not rgb and matrix in ODD_MATRICES:
            note = f"Its colours are coded as {ODD_MATRICES[matrix]}, which can't be converted exactly."
        wide = primaries == 9 or matrix in (10, 14, 15)
        matrix = BT2020 if wide else BT709 if high or rgb else BT601
    if primaries == UNKNOWN:
        primaries = 1 if photo else {1: 1, 7: 7, 9: 9, 5: 5}.get(matrix, 5 if picture.height in (288, 576) else 6)
    if transfer == UNKNOWN:
        transfer = SRGB if rgb or photo else {1: 1, 7: 7, 9: 14}.get(matrix, 6)
    full = rgb or picture.format.name.startswith("yuvj") or span == FULL
    if _is_grey(picture) and span not in (LIMITED, FULL):
        full = codec not in LIMITED_GREY
    return Colour(matrix, primaries, transfer, full), note


def _target(picture: VideoFrame, turn: Turn) -> tuple[str, Chroma, int, bool]:
    """Pixel format of the planes, with its chroma, depth and whether it has alpha."""
    form, depth, alpha = picture.format, _depth(picture), _has_alpha(picture)
    chroma: Chroma = "420"
    if _is_rgb(picture) or _is_grey(picture) or form.chroma_width(8) == 8:
        chroma = "444"
    elif form.chroma_height(8) == 8:
        chroma = "422"
    if chroma != "444" and _breaks_pairs(picture, turn, chroma):
        chroma = "444"
    if alpha and chroma == "420" and depth == 12:
        depth = 10  # there is no yuva420p12le
    return f"yuv{'a' * alpha}{chroma}p{_suffix(depth)}", chroma, depth, alpha


def _siting(codec: str, colour: Colour, turn: Turn) -> Siting:
    """Of upright pictures. Codecs' own, since PyAV doesn't hand on what a stream may say of it."""
    across, down = CENTRE if codec in CENTRED else TOP_LEFT if colour.matrix == BT2020 else LEFT
    if turn.transpose:
        across, down = down, across
    return 1 - across if turn.mirror else across, 1 - down if turn.flip else down


def _breaks_pairs(picture: VideoFrame, turn: Turn, chroma: Chroma) -> bool:
    """Whether turned chroma samples would no longer stand for the pixels that the format says."""
    columns, rows = picture.width % 2, picture.height % 2
    if chroma == "422":
        return turn.transpose or bool(turn.mirror and columns)
    if turn.transpose:
        columns, rows = rows, columns
    return bool((turn.mirror and columns) or (turn.flip and rows))


def _has_alpha(picture: VideoFrame) -> bool:
    if picture.format.has_palette:
        return bool((np.frombuffer(bytes(picture.planes[1]), np.uint32) >> 24).min() < 255)
    return any(part.is_alpha for part in picture.format.components)


def _suffix(depth: int) -> str:
    return "" if depth == 8 else f"{depth}le"


def _depth(picture: VideoFrame) -> int:
    bits = max(part.bits for part in picture.format.components)
    return 8 if bits <= 8 else 10 if bits <= 10 else 12


def _is_rgb(picture: VideoFrame) -> bool:
    form = picture.format
    return form.is_rgb or form.has_palette or form.is_bayer or form.name.startswith("xyz")


def _is_grey(picture: VideoFrame) -> bool:
    return bool(re.match(r"gray|mono|ya\d", picture.format.name))


def _kind(picture: VideoFrame) -> tuple[Any, ...]:
    return picture.format.name, picture.width, picture.height, picture.colorspace, picture.color_range


def _over_white(rgb: NDArray[Any], alpha: Plane) -> NDArray[np.uint8]:
    opaque = alpha[..., None].astype(np.float32) / 255
    return np.rint(rgb * opaque + 255 * (1 - opaque)).astype(np.uint8)


def _cropper(first: VideoFrame, crop: Crop) -> Callable[[VideoFrame], VideoFrame]:
    left, right, top, bottom = crop
    size = first.width, first.height
    width, height = size[0] - left - right, size[1] - top - bottom
    if not any(crop) or min(width, height) < 1:
        return lambda picture: picture
    graph = Graph()
    source = graph.add_buffer(width=size[0], height=size[1], format=first.format, time_base=Fraction(1, 1000))
    graph.link_nodes(source, graph.add("crop", f"{width}:{height}:{left}:{top}"), graph.add("buffersink")).configure()

    def cropped(picture: VideoFrame) -> VideoFrame:
        if (picture.width, picture.height, picture.format.name) != (*size, first.format.name):
            return picture
        graph.vpush(picture)
        return graph.vpull()

    return cropped

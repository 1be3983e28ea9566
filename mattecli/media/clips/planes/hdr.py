"""HDR pictures (PQ, HLG) shown in SDR.

The choice made here: display light is computed for a 1000 nit screen (ITU-R BT.2100; HLG with its system gamma of 1.2,
brighter PQ clipped), and the brightest of R, G and B is brought under HDR reference white (203 nits, BT.2408) by the
curve of BT.2390, annex 5, which leaves all below 92 nits as it is; the others are scaled alike, so hues stay. The
result has BT.709 primaries, what lies outside them being desaturated at constant luminance, and BT.1886 gamma.

`tone_map` is exact; `ToneMapper` interpolates it in a table of 65³ nodes (FFmpeg's lut3d).
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mattecli.media import spaces
from mattecli.media.clips.planes.frame import BT709, PQ, Colour, Frame
from mattecli.media.clips.planes.swscale import levels, picture_of, reformat

PEAK, WHITE = 1000.0, 203.0
"""Nits."""
NODES = 65
SDR, FULL_RGB = Colour(BT709, 1, 1), Colour(BT709, 1, 1, full=True)

Values = NDArray[np.float32]


def light(rgb: Values, transfer: int) -> Values:
    """Display light in nits of R′G′B′ `[..., 3]` in [0, 1] (BT.2100, tables 4 and 5)."""
    if transfer == PQ:
        return pq_to_nits(rgb)
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(rgb <= 0.5, rgb**2 / 3, (np.exp((rgb - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return np.asarray(PEAK * luminance[..., None] ** 0.2 * scene, np.float32)


def pq_to_nits(signal: Values) -> Values:
    power = np.maximum(signal, 0).astype(np.float64) ** (1 / 78.84375)
    return np.asarray(
        10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125), np.float32
    )


def nits_to_pq(nits: Values) -> Values:
    power = (np.maximum(nits, 0).astype(np.float64) / 10000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375, np.float32)


def compress(nits: Values) -> Values:
    """[0, 1000] nits to [0, 203] (BT.2390, annex 5, with both blacks at 0)."""
    top = nits_to_pq(np.array(PEAK, np.float32))
    goal = nits_to_pq(np.array(WHITE, np.float32)) / top
    knee = 1.5 * goal - 0.5
    signal = np.clip(nits_to_pq(nits) / top, 0, 1)
    t = np.maximum(signal - knee, 0) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * goal
    return pq_to_nits(np.where(signal <= knee, signal, bent) * top)


def tone_map(rgb: Values, colour: Colour) -> Values:
    """SDR R′G′B′ (BT.709 primaries, gamma 2.4) of HDR R′G′B′ in `colour`, both `[..., 3]` in [0, 1]."""
    nits = light(rgb, colour.transfer) @ _to_bt709(colour.primaries).T
    brightest = np.maximum(nits.max(-1, keepdims=True), 1e-4)
    linear = nits * (compress(brightest) / brightest) / WHITE
    luminance = (linear @ np.array([0.2126, 0.7152, 0.0722]))[..., None].clip(1e-9)
    beyond = np.minimum(linear.min(-1, keepdims=True), 0)
    linear = luminance + (linear - luminance) * luminance / (luminance - beyond)
    return np.asarray(linear.clip(0, 1) ** (1 / 2.4), np.float32)


class ToneMapper:
    """`tone_map` of `colour` for pictures in gbrp16le; may be called from any thread."""

    def __init__(self, colour: Colour) -> None:
        self._colour = colour
        self._graphs: dict[tuple[int, int], Graph] = {}
        self._lock = threading.Lock()

    def __call__(self, picture: VideoFrame) -> VideoFrame:
        with self._lock:
            graph = self._graphs.get((picture.width, picture.height)) or self._add_graph(picture)
            graph.vpush(picture)
            return graph.vpull()

    def _add_graph(self, picture: VideoFrame) -> Graph:
        graph = Graph()
        source = graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
        )
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "table.cube"
            table.write_text(_table(self._colour.transfer, self._colour.primaries))
            mapped = graph.add("lut3d", file=str(table), interp="tetrahedral")
        graph.link_nodes(source, mapped, graph.add("buffersink")).configure()
        self._graphs[picture.width, picture.height] = graph
        return graph


_mapper = lru_cache(ToneMapper)


def to_sdr(frame: Frame) -> Frame:
    """The frame in 8-bit BT.709, 4:2:0 and limited range, alpha and all else kept; an SDR frame as it is."""
    form = frame.format
    if not form.colour.hdr:
        return frame
    picture = picture_of(frame.planes[:3], f"yuv{form.chroma}p{'' if form.depth == 8 else f'{form.depth}le'}")
    rgb = reformat(VideoReformatter(), picture, "gbrp16le", form.colour, FULL_RGB)
    planes = levels(reformat(VideoReformatter(), _mapper(form.colour)(rgb), "yuv420p", FULL_RGB, SDR))
    if form.alpha:
        planes.append(np.rint(frame.planes[3] * (255 / ((1 << form.depth) - 1))).astype(np.uint8))
    goal = dataclasses.replace(form, colour=SDR, depth=8, chroma="420")
    return dataclasses.replace(frame, format=goal, planes=planes)


@lru_cache(maxsize=2)
def _table(transfer: int, primaries: int) -> str:
    """`tone_map` at its nodes in the Cube format, red fastest."""
    node = np.linspace(0, 1, NODES, dtype=np.float32)
    blue, green, red = np.meshgrid(node, node, node, indexing="ij")
    mapped = tone_map(np.stack((red, green, blue), -1), Colour(9, primaries, transfer))
    return f"LUT_3D_SIZE {NODES}\n" + "%.5f %.5f %.5f\n" * NODES**3 % tuple(mapped.ravel().tolist())


def _to_bt709(primaries: int) -> NDArray[np.float64]:
    return np.linalg.inv(spaces.to_xyz(spaces.SRGB)) @ spaces.to_xyz(spaces.BY_PRIMARIES.get(primaries, spaces.SRGB))

"""Large pictures through networks guided by a trimap: overlapping tiles, and only where something is unknown.

What a network takes beside the picture grows with the pixels that it sees; of closed-form's equations, with the unknown
ones. A picture for which that is more than `BUDGET` is cut into the largest squares that keep below it. They overlap by
a quarter: next to an inner edge, where a tile lacks what is round it, the neighbour alone counts, and between the two
they are cross-faded. Known pixels need no tile.

DIM's alpha depends on 221 pixels to each side, on the farther ones hardly: with the overlap of its tiles, which leaves
it 132, random weights give the whole's alpha to 2e-5. GCA's attention and FBA's group norms see all of a tile at once,
so that theirs are not those of the whole; the cross-fade hides where one becomes the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from mattecli.errors import InputError
from mattecli.inference.guidance.hints import Hints
from mattecli.inference.guided import Floats, Picture, resize
from mattecli.mixing import matting_laplacian
from mattecli.zoo.closed_form import Solved

BUDGET, HELD = 3_100_000_000, 16
"""Bytes that tiles and the picture may take, and how many of them each pixel of the picture does (it, its trimap, its
alpha, and the alpha that tiles are held to). With what else `matte` holds, closed-form on 100 megapixels, 1.5 of them
unknown, took 2.7 GB at its peak."""
SIDES = (4096, 2816, 2048, 1408, 1280, 1024, 640, 384)
"""Of tiles, in pixels: multiples of 128, so that tiles begin where networks that halve five times have their grid."""
OVERLAP, CONTEXT = 1 / 4, 3 / 32
"""Shares of the side: how far neighbours overlap, and the strip at an inner edge in which a tile does not count."""

HOLD = 0.001
"""How much the equations of a tile weigh what they are held to, beside one of about 1 for each pixel."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a known and an unknown pixel take."""

    known: float
    unknown: float

    def of(self, unknown: NDArray[np.bool_]) -> float:
        """What a picture with these pixels takes."""
        count = np.count_nonzero(unknown)
        return float(self.unknown * count + self.known * (unknown.size - count))


NETWORK, KNN, CLOSED_FORM = Memory(1540, 1540), Memory(4000, 4000), Memory(40, 3000)
"""Measured in fp32 on a CPU with nothing known, at 512² and 1024²: DIM 1490 and 1540, FBA 1110, GCA 260 and 590, which
is 160 and 0.0004 a pixel for its attention and so 970 at 1408²; KNN 3970; closed-form 2800 at 300²."""


@dataclass(frozen=True)
class Span:
    """From `start` to `stop` of a side; `ramp` float32: how much each pixel counts, over all spans 1; `rim`: the outer
    half of where it does not count, next to a neighbour.
    """

    start: int
    stop: int
    ramp: Floats
    rim: NDArray[np.bool_]

    @property
    def counting(self) -> slice:
        """Where the ramp is not 0."""
        inside = np.flatnonzero(self.ramp)
        return slice(self.start + int(inside[0]), self.start + int(inside[-1]) + 1)


@dataclass(frozen=True)
class Tile:
    """A window of the picture."""

    rows: Span
    columns: Span

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)

    @property
    def weight(self) -> Floats:
        """`[h, w]` in [0, 1]: how much it counts in its window."""
        return np.outer(self.rows.ramp, self.columns.ramp)

    @property
    def rim(self) -> NDArray[np.bool_]:
        """`[h, w]`: where it lies against its neighbours."""
        return self.rows.rim[:, None] | self.columns.rim


See = Callable[[Picture, Floats], Floats]
"""`(picture [h, w, 3], trimap [h, w]) → alpha [h, w]`, seen at once."""


def memory(network: nn.Module) -> Memory:
    """What `network` takes of memory."""
    if not isinstance(network, Solved):
        return NETWORK
    return CLOSED_FORM if network.method == "closed-form" else KNN


def cut(unknown: NDArray[np.bool_], memory: Memory) -> list[Tile]:
    """The tiles to see of a picture of which `unknown` `[H, W]` is to be found: one if all of it fits, none of nothing.

    Raises InputError where even the smallest tiles would be too large.
    """
    height, width = unknown.shape
    for side in (max(height, width), *(side for side in SIDES if side < max(height, width))):
        tiles = list(_grid(unknown, side))
        if all(memory.of(unknown[tile.window]) <= _left(unknown.size) for tile in tiles):
            return tiles
    raise InputError("So much is unknown that it does not fit into memory; mark more of the trimap, or use --size.")


def _left(pixels: int) -> float:
    """Bytes for the network, beside a picture of so many pixels."""
    return max(BUDGET / 2, BUDGET - HELD * pixels)


def run(see: See, rgb: Picture, trimap: Floats, memory: Memory) -> Floats:
    """The alpha `[H, W]` of `rgb` `[H, W, 3]`, the trimap where that knows, from what `see` says of each tile.

    Closed-form's equations carry alpha along hairs and chains from one end of the picture to the other: their tiles are
    held, at the inner edges, to the alpha of the whole picture seen smaller. Raises InputError as `cut`.
    """
    unknown = (trimap > 0) & (trimap < 1)
    alpha = trimap.copy()
    alpha[unknown] = 0
    tiles = cut(unknown, memory)
    guess = _smaller(see, rgb, trimap, memory) if memory is CLOSED_FORM and len(tiles) > 1 else None
    for tile in tiles:
        told, wanted = trimap[tile.window], unknown[tile.window]
        if guess is not None:
            found = _held(rgb[tile.window], told, np.where(tile.rim & wanted, guess[tile.window], 0), tile.rim)
        elif memory is not NETWORK and told.min() == 0 and told.max() < 1:
            continue  # with background alone, the solution is 0
        else:
            found = see(rgb[tile.window], told)
        alpha[tile.window][wanted] += (found * tile.weight)[wanted]
    return alpha


def _smaller(see: See, rgb: Picture, trimap: Floats, memory: Memory) -> Floats:
    """The alpha of the picture seen as large as half of what is left allows, brought back to its size."""
    height, width = trimap.shape
    scale = 0.7 * min(1.0, (_left(trimap.size) / memory.of((trimap > 0) & (trimap < 1))) ** 0.5)
    size = max(1, round(scale * height)), max(1, round(scale * width))
    told = Hints(trimap=trimap).at(*size).trimap
    assert told is not None
    return np.asarray(cv2.resize(run(see, resize(rgb, *size), told, memory), (width, height)))


def _held(rgb: Picture, trimap: Floats, guess: Floats, rim: NDArray[np.bool_]) -> Floats:
    """Closed-form's alpha of a tile that is near `guess` in its `rim`."""
    if trimap.max() < 1 and not guess.any():
        return np.zeros_like(trimap)
    colours = rgb.astype(np.float32) / np.float32(np.iinfo(rgb.dtype).max)
    try:
        return matting_laplacian.solve(colours, trimap, prior=guess, confidence=HOLD * rim.astype(np.float32))
    except ValueError as error:
        raise InputError("The equations of closed-form found no solution: mark more of the trimap.") from error


def _grid(unknown: NDArray[np.bool_], side: int) -> Iterator[Tile]:
    height, width = unknown.shape
    for rows in spans(height, side):
        for columns in spans(width, side):
            if unknown[rows.counting, columns.counting].any():
                yield Tile(rows, columns)


def spans(length: int, side: int) -> list[Span]:
    """`length` cut into spans of `side` pixels, the last of what is left."""
    overlap, context = (round(share * side) for share in (OVERLAP, CONTEXT))
    starts = range(0, max(1, length - overlap), side - overlap)
    return [_span(start, min(start + side, length), length, overlap, context) for start in starts]


def _span(start: int, stop: int, length: int, overlap: int, context: int) -> Span:
    """Its ramp is 0 for `context` pixels at an inner edge and 1 after `overlap` less those."""
    place = np.arange(start, stop) + 0.5
    edge = np.minimum(place - start if start else np.inf, stop - place if stop < length else np.inf)
    ramp = np.clip((edge - context) / max(1, overlap - 2 * context), 0, 1)
    return Span(start, stop, np.broadcast_to(ramp, place.shape).astype(np.float32), edge + 0 * place < context / 2)

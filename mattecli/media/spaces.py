"""Colour spaces that a file names without a profile, and those of grey pictures, as ICC profiles for RGB.

A profile of the simplest kind says it all: linear light to XYZ by a matrix, and a curve (ICC.1:2022, annex F.3).
"""

import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mattecli.media.clips.planes.frame import HLG, PQ

Place: TypeAlias = tuple[float, float]
"""Chromaticity x, y."""
D65: Place = (0.3127, 0.3290)

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CURVE_OF_SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_UNTAGGED = 0.01
"""So near to sRGB, in chromaticities and in the share of a gamma of 2.2, a picture counts as sRGB."""


@dataclass(frozen=True)
class Space:
    """By the chromaticities of red, green and blue, and of white; `gamma` None is sRGB's curve."""

    name: str
    primaries: tuple[Place, Place, Place]
    white: Place = D65
    gamma: float | None = None


SRGB = Space("sRGB", ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)))
ADOBE_RGB = Space("compatible with Adobe RGB (1998)", ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)), gamma=563 / 256)
P3 = Space("P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))
BT2020 = Space("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)))
BY_PRIMARIES = {9: BT2020, 11: P3, 12: P3}
"""By their number in H.273 (11, DCI-P3, with the white of 12). All others count as sRGB's, which are BT.709's."""
_BY_TRANSFER = {4: 2.2, 5: 2.8, 8: 1.0}
"""Gammas. All other curves of SDR count as sRGB's: what such a picture was made to look right with."""


def of_codes(primaries: int, transfer: int) -> bytes | None:
    """The profile of what H.273 calls by these numbers; None for sRGB, and for PQ and HLG, which no profile tells."""
    if transfer in (PQ, HLG):
        return None
    return profile(replace(BY_PRIMARIES.get(primaries, SRGB), gamma=_BY_TRANSFER.get(transfer)))


@lru_cache(maxsize=16)
def profile(space: Space) -> bytes | None:
    """Its profile; None for sRGB or next to it. Raises ValueError for chromaticities that are none."""
    far = np.abs(np.subtract((*space.primaries, space.white), (*SRGB.primaries, SRGB.white))).max()
    if far <= _UNTAGGED and (space.gamma is None or abs(space.gamma / 2.2 - 1) <= _UNTAGGED):
        return None
    kind, numbers = (3, _CURVE_OF_SRGB) if space.gamma is None else (0, (space.gamma,))
    return _profile(space, b"para" + struct.pack(">IHH", 0, kind, 0) + _fixed(*numbers))


def of_grey(icc: bytes) -> bytes | None:
    """The profile for RGB that shows grey levels as `icc`, one for grey, does; None where that has no curve to XYZ."""
    if icc[20:24] != b"XYZ ":
        return None
    try:
        (count,) = struct.unpack_from(">I", icc, 128)
        tags = (struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(min(count, 100)))
        start, size = next((start, size) for name, start, size in tags if name == b"kTRC")
    except (struct.error, StopIteration):
        return None
    return _profile(replace(SRGB, name="grey"), icc[start : start + size])


def _profile(space: Space, curve: bytes) -> bytes:
    to_xyz, adaptation = _to_d50(space)
    words = space.name.encode("utf-16-be")
    text = b"mluc" + struct.pack(">III4sII", 0, 1, 12, b"enUS", len(words), 28) + words
    tags = {b"desc": text, b"cprt": text, b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50)}
    tags[b"chad"] = b"sf32\0\0\0\0" + _fixed(*adaptation.ravel())
    for colour, column in zip((b"r", b"g", b"b"), to_xyz.T, strict=True):
        tags |= {colour + b"XYZ": b"XYZ \0\0\0\0" + _fixed(*column), colour + b"TRC": curve}
    table, values = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(values), len(value))
        values += value + bytes(-len(value) % 4)
    size = struct.pack(">I", 128 + len(table + values))
    head = size + b"\0\0\0\0\4\x40\0\0mntrRGB XYZ ".ljust(32, b"\0") + b"acsp".ljust(32, b"\0") + _fixed(*_D50)
    return head.ljust(128, b"\0") + table + values


def _to_d50(space: Space) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Linear light to XYZ under D50, and the part of it that leads there from the space's own white (annex E)."""
    if not all(0 < y <= x + y <= 1 for x, y in (*space.primaries, space.white)):
        raise ValueError("not a chromaticity")
    white = _xyz(space.white)
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white)) @ _BRADFORD
    return adaptation @ to_xyz(space), adaptation


def to_xyz(space: Space) -> npt.NDArray[np.float64]:
    """The matrix `[3, 3]` from linear light to XYZ, in which the space's white has Y = 1."""
    corners = np.stack([_xyz(place) for place in space.primaries], 1)
    return np.asarray(corners * np.linalg.solve(corners, _xyz(space.white)))


def _xyz(place: Place) -> npt.NDArray[np.float64]:
    x, y = place
    return np.array([x / y, 1, (1 - x - y) / y])


def _fixed(*numbers: float) -> bytes:
    """s15Fixed16."""
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)

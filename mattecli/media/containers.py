"""What picture files say beside their pixels that OpenCV neither hands out nor heeds.

As with EXIF, what is damaged counts as absent.
"""

import re
import struct
from dataclasses import replace

from mattecli.media import spaces
from mattecli.media.clips.planes.frame import Colour
from mattecli.media.metadata import Container, read_tiff

_ERRORS = (struct.error, ValueError, KeyError, IndexError, TypeError, ArithmeticError)
_PNM = re.compile(rb"P[2356](?:(?:\s|#.*\n)+(\d+)){3}")


def read(data: bytes, bit_depth: int) -> Container:
    """What OpenCV's pixels of `bit_depth` (8 or 16) need, of a file of any kind."""
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return read_tiff(data, bit_depth)
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return read_avif(data, bit_depth)
    if data[:4] == b"\x89PNG":
        return read_png(data)
    if data[4:8] == b"jP  " or data[:4] == b"\xff\x4f\xff\x51":
        return read_jp2(data)
    if (netpbm := _PNM.match(data[:2000])) and not (data[1:2] in b"23" and bit_depth == 8):  # OpenCV heeds it there
        return Container(top=int(netpbm[1]))
    return Container()


def read_png(data: bytes) -> Container:
    """Colours, by what of `cICP`, `sRGB`, and `gAMA` with `cHRM` is there first (PNG, third edition, section 4.3)."""
    chunks: dict[bytes, bytes] = {}
    at = 8
    try:
        while (name := data[at + 4 : at + 8]) not in (b"IDAT", b""):
            (size,) = struct.unpack_from(">I", data, at)
            chunks[name] = data[at + 8 : at + 8 + size]
            at += 12 + size
        if b"cICP" in chunks:
            return _coded(*chunks[b"cICP"][:2])
        if b"gAMA" not in chunks or b"sRGB" in chunks:
            return Container()
        (gamma,) = struct.unpack(">I", chunks[b"gAMA"])
        space = replace(spaces.SRGB, name="of gAMA", gamma=1e5 / gamma)
        if b"cHRM" in chunks:
            x = [number / 1e5 for number in struct.unpack(">8I", chunks[b"cHRM"])]
            space = replace(space, primaries=((x[2], x[3]), (x[4], x[5]), (x[6], x[7])), white=(x[0], x[1]))
        return Container(icc=spaces.profile(space))
    except _ERRORS:
        return Container()


def read_jp2(data: bytes) -> Container:
    """ICC profile and number of bits of JPEG 2000 (ISO/IEC 15444-1, annexes A.5.1 and I.5.3.3)."""
    try:
        boxes = _boxes(data, 0, len(data)) if data[4:8] == b"jP  " else {b"jp2c": [(0, len(data))]}
        top = (2 << (data[boxes[b"jp2c"][0][0] + 42] & 127)) - 1
        colours = _boxes(data, *boxes[b"jp2h"][0]).get(b"colr", []) if b"jp2h" in boxes else []
    except _ERRORS:
        return Container()
    profiles = [data[start + 3 : end] for start, end in colours if data[start] in (2, 3)]
    return Container(icc=profiles[0] if profiles else None, top=top)


def read_avif(data: bytes, bit_depth: int) -> Container:
    """Colours, number of bits and orientation, from the item properties (`colr`, `av1C`, `irot`, `imir`; ISO/IEC
    23008-12, section 6.5).
    """
    depth = data.find(b"av1C") + 6
    top = 0 if bit_depth == 8 else 4095 if int.from_bytes(data[depth : depth + 1]) & 0x20 else 1023
    try:
        meta = _boxes(data, 0, len(data))[b"meta"][0]
        properties = _boxes(data, meta[0] + 4, meta[1])[b"iprp"][0]
        boxes = _boxes(data, *_boxes(data, *properties)[b"ipco"][0])
        codes = [
            struct.unpack_from(">HH", data, a + 4) for a, _ in boxes.get(b"colr", []) if data[a : a + 4] == b"nclx"
        ]
        turns = data[boxes[b"irot"][0][0]] & 3 if b"irot" in boxes else 0
        mirror = data[boxes[b"imir"][0][0]] & 1 if b"imir" in boxes else None
    except _ERRORS:
        return Container(top=top)
    profiles = [data[a + 4 : b] for a, b in boxes.get(b"colr", []) if data[a : a + 4] in (b"prof", b"rICC")]
    told = _coded(*codes[0]) if codes else Container()
    # counter-clockwise quarter turns, then top-bottom (0) or left-right (1) exchanged, as EXIF numbers them
    orientation = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}[mirror][turns]
    said = b"irot" in boxes or b"imir" in boxes
    return replace(
        told,
        icc=profiles[0] if profiles else told.icc,
        top=top,
        orientation=orientation if said else 0,
    )


def _coded(primaries: int, transfer: int) -> Container:
    """Colours that H.273 calls by these numbers."""
    colour = Colour(primaries=primaries, transfer=transfer)
    return Container(icc=spaces.of_codes(primaries, transfer), hdr=colour if colour.hdr else None)


def _boxes(data: bytes, start: int, end: int) -> dict[bytes, list[tuple[int, int]]]:
    found: dict[bytes, list[tuple[int, int]]] = {}
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = start + size if size else end
        if stop < start + head or stop > end:
            raise ValueError("a box that leaves its parent")
        found.setdefault(name, []).append((start + head, stop))
        start = stop
    return found

"""EXIF, and the few tags of TIFF that OpenCV neither hands out nor writes; profiles into JPEG.

EXIF is a small TIFF file: a byte order, then directories (IFDs) of tagged values, some of which point at
further directories. One reader and one writer of such directories serve both (TIFF 6.0, section 2; CIPA
DC-008, section 4.6). Damaged metadata is no reason to refuse a photo: it counts as absent.
"""

import struct
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mattecli.media.clips.planes.frame import Colour

Tags: TypeAlias = dict[int, "tuple[int, bytes | Tags]"]
"""Tag -> (type, little-endian value bytes) or (type, the tags of the directory it points at)."""

_ORIENTATION, _THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 274, 513, 514
_SUBFILE, _PHOTOMETRIC, _EXTRA_SAMPLES, _ICC = 254, 262, 338, 34675
_EXIF, _INTEROPERABILITY, _COLOUR_SPACE, _INDEX = 34665, 40965, 0xA001, 1
_DIRECTORIES = {_EXIF, 34853, _INTEROPERABILITY}  # and GPS
# what describes the photo, against what describes the file's own layout:
# description, make, model, resolution (3), software, date, artist, computer, copyright, Exif, GPS
_DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, 34665, 34853}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WORDS = {5: 4, 10: 4}  # a rational is two words
_BIG = 43
"""What says BigTIFF, whose counts and offsets have 64 bits."""
_JPEG_PART = 65519
_UNSIGNED_LONG, _SHORT, _UNDEFINED = 4, 3, 7
_ERRORS = (struct.error, ValueError, KeyError, IndexError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Container:
    """What a file says beside its pixels. `orientation` as in EXIF (1..8), 0 where nothing is said."""

    icc: bytes | None = None
    exif: bytes | None = None
    hdr: Colour | None = None
    """What the numbers of R′G′B′ stand for, where that is PQ or HLG."""
    top: int = 0
    """The largest number of a channel, where that isn't all ones; 0 where nothing is said."""
    orientation: int = 0
    associated: bool = False
    """The colours come multiplied by alpha."""
    inverted: bool = False
    """Black is the largest number."""
    lab: bool = False
    """Stored as CIELAB, which libtiff turns into RGB as an old screen would show it."""
    preview: bool = False
    """The pixels are a small preview, as in the first directory of many cameras' raw files."""


def upright(exif: bytes) -> tuple[int, bytes | None]:
    """Orientation (1..8) of an EXIF block, and the block for the upright pixels: orientation 1, no thumbnail.

    The prefix `Exif\\0\\0`, which many writers of AVIF leave before the block, goes.
    The thumbnail goes because it would show the photo as it was, background and all. Values keep their
    places, since maker notes hold offsets. A block that can't be read gives (1, None).
    """
    blob = bytearray(exif.removeprefix(b"Exif\0\0"))
    try:
        order, offset = _header(blob)
        orientation = 1
        places, following = _places(blob, order, offset)
        for tag, _, at, _ in places:
            if tag == _ORIENTATION:
                (orientation,) = struct.unpack_from(order + "H", blob, at)
                struct.pack_into(order + "H", blob, at, 1)
        (thumbnail_ifd,) = struct.unpack_from(order + "I", blob, following)
        if thumbnail_ifd:
            struct.pack_into(order + "I", blob, following, 0)
            found = {tag: at for tag, _, at, _ in _places(blob, order, thumbnail_ifd)[0]}
            if _THUMBNAIL_OFFSET in found and _THUMBNAIL_LENGTH in found:
                (start,) = struct.unpack_from(order + "I", blob, found[_THUMBNAIL_OFFSET])
                (length,) = struct.unpack_from(order + "I", blob, found[_THUMBNAIL_LENGTH])
                end = min(start + length, len(blob))
                blob[start:end] = bytes(max(end - start, 0))
    except _ERRORS:
        return 1, None
    return (orientation if 1 <= orientation <= 8 else 1), bytes(blob)


def read_tiff(data: bytes, bit_depth: int) -> Container:
    """ICC profile, EXIF (made of the descriptive tags), and whether OpenCV's pixels of `bit_depth` come
    multiplied, or are but a preview.
    """
    try:
        order, offset = _header(data)
        tags = _read(data, order, offset)
    except _ERRORS:
        return Container()
    icc = _bytes(tags.get(_ICC))
    described = {tag: value for tag, value in tags.items() if tag in _DESCRIPTIVE}
    samples = _bytes(tags.get(_EXTRA_SAMPLES)) or b"\0\0"
    kind = struct.unpack_from("<H", samples)[0]
    # libtiff multiplies 8-bit straight (2) colours on reading; associated (1) are stored multiplied
    associated = kind == 1 or (kind == 2 and bit_depth == 8)
    preview = bool((_bytes(tags.get(_SUBFILE)) or b"\0")[0] & 1)
    model = _bytes(tags.get(_PHOTOMETRIC))
    inverted = bit_depth == 16 and model == b"\0\0"  # with 8 bits libtiff does it
    exif = _block(described) if described else None
    return Container(icc, exif, associated=associated, inverted=inverted, lab=model == b"\x08\0", preview=preview)


def write_tiff(data: bytes, icc: bytes | None, exif: bytes | None, *, alpha: bool) -> bytes:
    """The TIFF file `data` (8 or 16 bit, from OpenCV) with a profile, EXIF, and a word that its alpha is
    straight.
    """
    extra: Tags = {}
    if exif:
        try:
            order, offset = _header(exif)
            extra = {k: v for k, v in _read(exif, order, offset).items() if k in _DESCRIPTIVE}
        except _ERRORS:
            extra = {}
    if icc:
        extra[_ICC] = (_UNDEFINED, icc)
    if alpha:
        extra[_EXTRA_SAMPLES] = (_SHORT, struct.pack("<H", 2))
    if not extra or data[:4] != b"II*\0":
        return data
    tags = {**_read(data, "<", struct.unpack_from("<I", data, 4)[0]), **extra}
    data += bytes(len(data) % 2)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + _dump(tags, len(data))


def write_jpeg_profile(data: bytes, icc: bytes) -> bytes:
    """The JPEG file `data` with a profile, in as many segments as it takes (ICC.1, annex B.4)."""
    at = 2
    while data[at : at + 2] in (b"\xff\xe0", b"\xff\xe1"):  # JFIF and EXIF come first
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    parts = [icc[i : i + _JPEG_PART] for i in range(0, len(icc), _JPEG_PART)]
    heads = [b"ICC_PROFILE\0" + bytes((i, len(parts))) for i in range(1, len(parts) + 1)]
    segments = [
        b"\xff\xe2" + (2 + len(head) + len(part)).to_bytes(2, "big") + head + part
        for head, part in zip(heads, parts, strict=True)
    ]
    return data[:at] + b"".join(segments) + data[at:]


def is_adobe_rgb(exif: bytes) -> bool:
    """Whether an EXIF block says so: an option file of DCF (CIPA DC-009), or a colour space of 2, which is no standard
    but is written.
    """
    try:
        order, offset = _header(exif)
        camera = _inside(_read(exif, order, offset), _EXIF)
    except _ERRORS:
        return False
    space = _bytes(camera.get(_COLOUR_SPACE))
    index = _bytes(_inside(camera, _INTEROPERABILITY).get(_INDEX)) or b""
    return space == b"\2\0" or (space == b"\xff\xff" and index.startswith(b"R03"))


def _header(blob: bytes | bytearray) -> tuple[str, int]:
    order = {b"II": "<", b"MM": ">"}[bytes(blob[:2])]
    magic, offset = struct.unpack_from(order + "HI", blob, 2)
    if magic == _BIG:
        (offset,) = struct.unpack_from(order + "Q", blob, 8)
    elif magic != 42:
        raise ValueError("not a TIFF header")
    return order, offset


def _places(blob: bytes | bytearray, order: str, offset: int) -> tuple[list[tuple[int, int, int, int]], int]:
    """(tag, type, place, length in bytes) of each value, and the place of the link to the next directory."""
    big = _BIG in blob[2:4]
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), blob, offset)
    first, step, inline = (offset + 8, 20, 8) if big else (offset + 2, 12, 4)
    places = []
    for at in range(first, first + step * count, step):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), blob, at)
        size = _SIZES.get(kind, 0) * number
        place = at + step - inline
        if size > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), blob, place)
        if size and place + size <= len(blob):
            places.append((tag, kind, place, size))
    return places, first + step * count


def _read(blob: bytes, order: str, offset: int, depth: int = 0) -> Tags:
    tags: Tags = {}
    for tag, kind, place, size in _places(blob, order, offset)[0]:
        if tag in _DIRECTORIES and depth < 3:
            (inner,) = struct.unpack_from(order + ("Q" if size == 8 else "I"), blob, place)
            tags[tag] = (_UNSIGNED_LONG, _read(blob, order, inner, depth + 1))
            continue
        word = _WORDS.get(kind, _SIZES[kind])
        values = np.frombuffer(blob, f"{order}u{word}", size // word, place)
        tags[tag] = (kind, values.astype(f"<u{word}").tobytes())
    return tags


def _dump(tags: Tags, base: int) -> bytes:
    """A directory that will lie at file offset `base`, its values behind it, little-endian."""
    entries, values = b"", b""
    start = base + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        here = start + len(values)
        if isinstance(value, dict):
            entries += struct.pack("<HHII", tag, kind, 1, here)
            values += _dump(value, here)
        else:
            inline = len(value) <= 4
            entries += struct.pack("<HHI", tag, kind, len(value) // _SIZES[kind])
            entries += value.ljust(4, b"\0") if inline else struct.pack("<I", here)
            values += b"" if inline else value
        values += bytes(len(values) % 2)
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + values


def _block(tags: Tags) -> bytes:
    return struct.pack("<2sHI", b"II", 42, 8) + _dump(tags, 8)


def _bytes(value: "tuple[int, bytes | Tags] | None") -> bytes | None:
    return value[1] if value is not None and isinstance(value[1], bytes) else None


def _inside(tags: Tags, tag: int) -> Tags:
    """The directory that `tag` points at, empty where there is none."""
    value = tags.get(tag, (0, b""))[1]
    return value if isinstance(value, dict) else {}

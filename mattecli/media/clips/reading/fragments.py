"""Whether a fragmented MP4 is all there: FFmpeg takes the end of the file for that of the clip wherever it comes."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def is_cut(path: Path) -> bool:
    """Whether a box, or what an index in front of the fragments (`sidx`) speaks of, goes on past the end of the file.

    False for files without fragments, and for those that end between two fragments and have no such index.
    """
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        place = needed = 0
        fragmented = False
        while place < length:
            file.seek(place)
            size, kind = _box(file)
            if size < 8 or kind == b"mfra":  # no box, or an index of the fragments that are there
                break
            place += size
            fragmented |= kind == b"moof"
            needed = max(needed, place)
            if kind == b"sidx" and place <= length:
                with suppress(struct.error, IndexError):
                    needed = max(needed, place + _indexed(file.read(size - 8)))
    return fragmented and needed > length


def _box(file: BinaryIO) -> tuple[int, bytes]:
    """Size and kind of the box that begins here (ISO/IEC 14496-12, 4.2): 0 for one that goes on to the end, and many
    bytes where the file ends within these.
    """
    size, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\x01"))
    return (int.from_bytes(file.read(8), "big") if size == 1 else size), kind


def _indexed(index: bytes) -> int:
    """How many bytes behind a `sidx` box belong to it (8.16.3). Raises struct.error or IndexError where it is none."""
    (first,) = struct.unpack_from(">Q" if index[0] else ">I", index, 20 if index[0] else 16)
    body = index[28 if index[0] else 20 :]
    (count,) = struct.unpack_from(">2xH", body)
    sizes = (size & 0x7FFFFFFF for size, _, _ in struct.iter_unpack(">3I", body[4 : 4 + 12 * count]))
    return int(first + sum(sizes))

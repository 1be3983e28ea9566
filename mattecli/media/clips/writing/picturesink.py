"""Frames into numbered pictures."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from av.stream import Stream

from mattecli.errors import InputError, UsageError
from mattecli.media import photos, spaces
from mattecli.media.clips.planes.colour import to_rgb
from mattecli.media.clips.planes.frame import Format, Frame
from mattecli.media.clips.writing.exr import exr
from mattecli.media.clips.writing.goal import Goal
from mattecli.processors import processors

NUMBER = re.compile(r"%(0\d+)?d")
_DEEP = {".png", ".tif", ".tiff"}


class PictureSink:
    """Writes `out_%05d.png`, from 1 on: into a hidden folder beside, from where all pictures move when all are there.

    8-bit frames make 8-bit pictures, deeper ones 16-bit pictures where the suffix holds them; `.exr` holds light, see
    `exr.exr`. Wider primaries than sRGB's are told by a profile. Timing and sound are lost.
    """

    done_until = whole = None

    def __init__(self, path: Path, suffix: str, format: Format, others: Sequence[Stream], *, sound: bool) -> None:
        self.encoder = f"numbered {suffix} pictures"
        self._path, self._suffix, self._format = path, suffix, format
        self._icc = spaces.of_codes(format.colour.primaries, format.colour.transfer)
        self._deep = format.depth > 8 and suffix in _DEEP
        if suffix != ".exr":
            photos.check_suffix(suffix, alpha=format.alpha, bit_depth=16 if self._deep else 8)
        self.notes = self._losses(sound and any(stream.type == "audio" for stream in others))
        self._goal = Goal(path, folder=True)
        self._pool, self._room = ThreadPoolExecutor(processors()), 2 * processors()
        self._pending: deque[Future[None]] = deque()
        self._count = 0

    def write(self, frame: Frame) -> None:
        """Raises OSError as the system gave it (a full disk); then nothing is left behind."""
        self._count += 1
        self._pending.append(self._pool.submit(self._save, frame, self._name(self._count)))
        self._wait(self._room)

    def close(self) -> None:
        """Gives the pictures their names. Raises like `write`, and InputError where there was no frame."""
        self._wait(0)
        try:
            if not self._count:
                raise InputError(f"{self._goal.name} is not written: there was no frame.")
            for number in range(1, self._count + 1):
                name = self._name(number)
                (self._folder / name).replace(self._path.with_name(name))
        finally:
            self.abort()

    def abort(self) -> None:
        """Leaves nothing; does nothing after `close`."""
        self._pool.shutdown(cancel_futures=True)
        self._goal.discard()

    @property
    def _folder(self) -> Path:
        assert self._goal.beside
        return self._goal.beside

    def _name(self, number: int) -> str:
        return NUMBER.sub(lambda found: found[0] % number, self._path.name)

    def _wait(self, most: int) -> None:
        """Until no more than so many pictures are being written."""
        try:
            while len(self._pending) > most:
                self._pending.popleft().result()
        except BaseException:
            self.abort()
            raise

    def _save(self, frame: Frame, name: str) -> None:
        data = (
            exr(frame.planes, self._format)
            if self._suffix == ".exr"
            else photos.encode(self._pixels(frame), self._suffix, icc=self._icc)
        )
        (self._folder / name).write_bytes(data)

    def _pixels(self, frame: Frame) -> photos.Pixels:
        bits = 16 if self._deep else 8
        rgb = to_rgb(frame.planes, self._format, bits)
        if not self._format.alpha:
            return rgb
        scale = ((1 << bits) - 1) / ((1 << self._format.depth) - 1)
        return np.dstack((rgb, np.rint(frame.planes[3] * np.float32(scale)).astype(rgb.dtype)))

    def _losses(self, sound: bool) -> list[str]:
        notes = ["Sound was left out: pictures hold none."] if sound else []
        if self._format.aspect != 1:
            notes.append(f"Pixels are {self._format.aspect} times as wide as high, which pictures can't say.")
        if self._suffix == ".exr":
            return notes
        if self._format.depth > 8 and not self._deep:
            notes.append(f"{self._format.depth} bits became 8: {self._suffix} holds no more.")
        if self._format.colour.hdr:
            notes.append(f"The pictures hold HDR levels (PQ or HLG), which {self._suffix} can't say; .exr holds light.")
        return notes


def numbered(path: Path | None, suffix: str) -> Path:
    """`path`, if its name has one number such as %05d; else UsageError."""
    if path is None or len(NUMBER.findall(path.name)) != 1:
        stem = path.stem if path else "out"
        raise UsageError(f"A clip makes many {suffix} pictures; number them, as in {stem}_%05d{suffix}.")
    return path

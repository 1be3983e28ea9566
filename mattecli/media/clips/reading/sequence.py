"""Sequences of pictures, each in a file of its own, as clips."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame

from mattecli.errors import InputError
from mattecli.media.clips.reading.orientation import Turn
from mattecli.media.clips.reading.timing import Part
from mattecli.processors import processors

AHEAD = min(processors(), 8)
"""Pictures that are decoded at once."""


class Sequence:
    """The pictures of `files`, each at its number; where numbers are missing, the picture before stays on.

    To a clip it is what a `Decoding` is.
    """

    container = video = None
    live, trouble, seekable, exact = False, "damaged or cut short", True, True
    origin, aspect, crop, turn, said = Fraction(0), Fraction(1), (0, 0, 0, 0), Turn(), (2, 2, 2, 0)

    def __init__(self, name: str, files: dict[int, Path], rate: Fraction) -> None:
        self.name, self.rate, self.time_base = name, rate, 1 / rate
        self.codec = next(iter(files.values())).suffix.lstrip(".").lower()
        self.frames, self._first = len(files), min(files)
        self._numbers = max(files) + 1 - self._first
        self.seconds = self._numbers / rate
        self.others: list[Any] = []
        self.waiting: list[Any] = []
        self.chapters: list[Any] = []
        self.metadata: dict[str, str] = {}
        self.found = self._begin = 0
        self._files = files
        self._failed: list[str] = []

    def close(self) -> None:
        """Nothing is kept open."""

    def seek(self, tick: int) -> bool:
        self._begin = tick
        return True

    def pictures(self) -> Iterator[tuple[VideoFrame, int]]:
        wanted = [(n - self._first, path) for n, path in self._files.items() if n - self._first >= self._begin]
        coming: deque[tuple[int, Path, Future[VideoFrame]]] = deque()
        with ThreadPoolExecutor(AHEAD) as pool:
            try:
                for tick, path in wanted:
                    coming.append((tick, path, pool.submit(_decode, path)))
                    if len(coming) > AHEAD:
                        yield from self._next(*coming.popleft())
                while coming:
                    yield from self._next(*coming.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def drain(self, part: Part) -> None:
        """There is nothing else."""

    def notes(self, part: Part) -> list[str]:
        notes = []
        if missing := self._numbers - self.frames:
            notes.append(f"Numbers of {self.name} are missing ({missing}); the picture before each stays on.")
        if self._failed:
            notes.append(f"{', '.join(self._failed)} could not be decoded; the picture before stays on.")
        return notes

    def shortage(self, part: Part) -> str:
        """None is known of."""
        return ""

    def _next(self, tick: int, path: Path, decoded: Future[VideoFrame]) -> Iterator[tuple[VideoFrame, int]]:
        try:
            picture = decoded.result()
        except (av.FFmpegError, OSError, InputError):
            self._failed.append(path.name)
            return
        self.found += 1
        yield picture, tick


def find_sequence(path: Path, rate: Fraction) -> Sequence:
    """Files like `path`, whose name is a pattern: shot_%04d.png, whose first number is found, or shot_*.png.

    Those of the second kind follow each other without gaps, 9 before 10. Raises InputError where there are none.
    """
    names = [one.name for one in path.parent.iterdir() if not one.name.startswith(".")] if path.parent.is_dir() else []
    place = re.search(r"%0?(\d*)d", path.name)
    if place:
        width = int(place[1] or 0)
        wanted = re.compile(re.escape(path.name[: place.start()]) + r"(\d+)" + re.escape(path.name[place.end() :]))
        numbers = sorted(
            int(like[1]) for like in map(wanted.fullmatch, names) if like and like[1] == f"{int(like[1]):0{width}d}"
        )
        files = {n: path.with_name(path.name.replace(place[0], f"{n:0{width}d}")) for n in numbers}
    else:
        files = dict(enumerate(sorted((one for one in path.parent.glob(path.name) if one.name in names), key=_counted)))
    if not files:
        raise InputError(f"No file is called like {path}.")
    return Sequence(str(path), files, rate)


def _counted(path: Path) -> list[tuple[int, int, str]]:
    """A key that puts 9 before 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _decode(path: Path) -> VideoFrame:
    """Raises av.FFmpegError, OSError or InputError."""
    with av.open(f"file:{path}") as container:
        for video in container.streams.video[:1]:
            if video.codec_context.name == "exr":
                video.codec_context.options = {"apply_trc": "iec61966_2_1"}  # its light is linear
            for picture in container.decode(video):
                return picture
    raise InputError(f"{path} holds no picture.")

"""The scene without its subject, which background-plate networks see beside each frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

from mattecli.errors import InputError, UsageError
from mattecli.inference.guided import Picture, resize
from mattecli.media.clips.frame import Frame
from mattecli.media.clips.reading import open_clip
from mattecli.media.photos import READABLE, read_photo

Plate = Callable[[Frame, int, int], Picture]
"""`(frame of the clip, h, w) → [h, w, 3]` uint8 or uint16 RGB, what is behind it."""


def open_plate(text: str) -> Plate:
    """The plate that `--background` names: a picture, or a clip that runs beside (its last frame stays).

    Raises UsageError for what can't be read.
    """
    try:
        if Path(text).suffix.lower() in READABLE and Path(text).is_file():
            return _still(read_photo(Path(text)).rgb)
        return _moving(iter(open_clip(text, passing=False)))
    except InputError as error:
        raise UsageError(f"--background {error}") from error


def _still(picture: Picture) -> Plate:
    made: dict[tuple[int, int], Picture] = {}

    def plate(frame: Frame, height: int, width: int) -> Picture:
        if (height, width) not in made:
            made[height, width] = resize(picture, height, width)
        return made[height, width]

    return plate


def _moving(frames: Iterator[Frame]) -> Plate:
    first = next(frames)
    shown, coming = first, next(frames, None)

    def plate(frame: Frame, height: int, width: int) -> Picture:
        nonlocal shown, coming
        time: Fraction = frame.pts * frame.time_base + first.pts * first.time_base
        while coming is not None and coming.pts * coming.time_base <= time:
            shown, coming = coming, next(frames, None)
        assert shown.view is not None
        return shown.view(height, width)

    return plate

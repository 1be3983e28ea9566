"""The scene without its subject, which background-plate networks see beside each photo or frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from mattecli.errors import InputError, UsageError
from mattecli.inference.guidance.aligning import Homography, follow, lay, register
from mattecli.inference.guidance.beside import Beside
from mattecli.inference.guidance.hints import Hints
from mattecli.inference.guidance.photos import beside, same_shape
from mattecli.inference.guided import Picture, resize
from mattecli.inference.planes import Size
from mattecli.media.batch import Job
from mattecli.media.clips.planes.frame import Format, Frame
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.photos import READABLE, Photo, read_photo

OPTION = "--background"


class Plate(Protocol):
    """What is behind the subject of a clip. `size` is its own `(height, width)`, in square pixels."""

    @property
    def size(self) -> Size: ...

    def __call__(self, frame: Frame, height: int, width: int) -> Picture:
        """`[height, width, 3]` uint8 or uint16 RGB, behind `frame` of the clip; frames come in their order."""
        ...


def check(model: str, needs: str, background: str | None, align: bool) -> None:
    """Raises UsageError where `--background` and `--align` don't go together, or with a network of such `needs`."""
    if needs == "background" and not background:
        raise UsageError(
            f"{model} needs to see the scene without the subject; give a picture of it with {OPTION} PLATE, "
            "and --align where the camera was held by hand."
        )
    if background and needs != "background":
        raise UsageError(f"{model} looks at no background plate; leave {OPTION} out, or choose another --model.")
    if align and not background:
        raise UsageError(f"--align brings the plate into register with the picture; give one with {OPTION} PLATE.")


def for_photos(text: str, jobs: Sequence[Job], align: bool, hint: Callable[[Photo], Hints]) -> Callable[[Photo], Hints]:
    """What `hint` tells of the photo of each of `jobs`, and its plate: the file `text`, or in a folder that of its
    stem.

    What it returns raises InputError where the plate is missing, can't be read, or has other proportions; to `align`,
    where it shows another scene. Raises UsageError for all that can be known before.
    """
    path_of = beside(OPTION, text, jobs, shared=True)
    read = lru_cache(maxsize=1)(lambda path: read_photo(path).rgb)

    def with_plate(photo: Photo) -> Hints:
        path = path_of(photo.source)
        return replace(hint(photo), background=_behind(read(path), str(path), photo, align))

    return with_plate


def _behind(plate: Picture, name: str, photo: Photo, align: bool) -> Picture:
    height, width = photo.rgb.shape[:2]
    if not align:
        _check_shape(name, plate.shape[:2], photo.source, (height, width))
        return resize(plate, height, width)
    try:
        return lay(plate, photo.rgb, register(plate, photo.rgb))
    except InputError as error:
        raise InputError(f"{photo.source} and {name}: {error}") from error


def for_clip(
    text: str,
    name: str,
    format: Format,
    *,
    align: bool = False,
    start: float | None = None,
    rate: Fraction | None = None,
) -> Plate:
    """The plate of the clip called `name`, whose frames have `format`, from its second `start` on.

    To `align`, it is registered with the first frame and followed from there, anew where it is lost, as at a cut;
    where that fails too it stays as it was. Raises UsageError for what can't be read or has other proportions; to
    `align`, what is returned raises InputError at a first frame of another scene.
    """
    plate = open_plate(text, start, rate)
    if align:
        return _Aligned(plate, text)
    try:
        _check_shape(text, plate.size, name, (format.height, round(format.width * format.aspect)))
    except InputError as error:
        raise UsageError(str(error)) from error
    return plate


def open_plate(text: str, start: float | None = None, rate: Fraction | None = None) -> Plate:
    """A picture, or a clip that runs beside from its second `start` on; its last frame stays. Numbered pictures follow
    each other at `rate`.

    Raises UsageError for what can't be read.
    """
    if text == "-" or text.startswith("webcam:"):
        raise UsageError(f"{OPTION} {text} can't be read beside the clip; save it to a file first.")
    try:
        if Path(text).suffix.lower() in READABLE and Path(text).is_file():
            return _Still(read_photo(Path(text)).rgb)
        if start:
            with suppress(InputError):  # it may be shorter than that
                return Beside(open_clip(text, start=start, passing=False, rate=rate))
        return Beside(open_clip(text, passing=False, rate=rate), Fraction(start or 0))
    except InputError as error:
        raise UsageError(f"{OPTION} {error}") from error


def _check_shape(plate: str, found: Size, name: str, wanted: Size) -> None:
    try:
        same_shape(plate, found, name, wanted, exactly=False)
    except InputError as error:
        raise InputError(f"{str(error).removesuffix('.')}, or --align.") from error


class _Still:
    """The same for all frames, resized once."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._resized = picture
        height, width = picture.shape[:2]
        self.size = height, width

    def __call__(self, frame: Frame, height: int, width: int) -> Picture:
        if self._resized.shape[:2] != (height, width):
            self._resized = resize(self._picture, height, width)
        return self._resized


class _Aligned:
    """A plate in register with each frame. `name` is what messages call it."""

    def __init__(self, plate: Plate, name: str) -> None:
        self._plate, self._name = plate, name
        self._last: Homography | None = None
        self.size = plate.size

    def __call__(self, frame: Frame, height: int, width: int) -> Picture:
        assert frame.view is not None
        seen = frame.view(height, width)
        scale = min(1.0, max(height / self.size[0], width / self.size[1]))
        plate = self._plate(frame, *(max(1, round(side * scale)) for side in self.size))
        self._last = self._found(plate, seen, frame)
        return lay(plate, seen, self._last)

    def _found(self, plate: Picture, seen: Picture, frame: Frame) -> Homography:
        last = self._last
        found = None if last is None else follow(plate, seen, last)
        if found is not None:
            return found
        try:
            return register(plate, seen)
        except InputError as error:
            if last is None:
                raise InputError(f"{OPTION} {self._name} at {frame.time:.2f} s of the clip: {error}") from error
            return last

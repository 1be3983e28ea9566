"""What the user named for a clip: a trimap, a rough mask, a plate; one for all frames or a clip that runs beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from mattecli.errors import InputError, UsageError
from mattecli.inference.compiled import State
from mattecli.inference.cuts import Cuts
from mattecli.inference.guidance import plate as plates
from mattecli.inference.guidance.beside import Beside
from mattecli.inference.guidance.hints import NOTHING, Hints
from mattecli.inference.guidance.photos import (
    AUTO,
    as_mask,
    check,
    drawn,
    from_mask,
    parse,
    read_mask,
    read_trimap,
    round_subject,
    same_shape,
)
from mattecli.inference.network import Matter
from mattecli.media.clips.planes.frame import Frame
from mattecli.media.clips.reading.camera import Camera
from mattecli.media.clips.reading.clip import Clip, open_clip
from mattecli.media.photos import READABLE, Pixels

FrameHinting = Callable[[Frame, int, int], Hints]
"""What is told of a frame, at the `(height, width)` that the network sees it at; frames come in their order."""


def for_frames(
    model: str,
    matter: Matter,
    source: str,
    clip: Clip | Camera,
    *,
    trimap: str | None = None,
    mask: str | None = None,
    background: str | None = None,
    align: bool = False,
    start: float | None = None,
) -> FrameHinting | None:
    """What is told of the frames of `clip`, opened from `source` at its second `start`, beside them, by `--trimap`,
    `--mask`, `--background` and `--align` (`plate.for_clip`); None without them.

    Of a clip, the frame that is shown at the same time counts, and its last one stays; numbered pictures go frame by
    frame. Raises UsageError for what does not go together, can't be read, has another size, or is one picture that
    says nothing; what is returned raises InputError for a frame of which all is unknown.
    """
    check(model, matter.spec.needs, trimap, mask)
    plates.check(model, matter.spec.needs, background, align)
    told = _where(matter, source, clip, trimap, mask, start)
    if not background:
        return told
    plate = plates.for_clip(background, source, clip.format, align=align, start=start, rate=clip.rate)

    def hint(frame: Frame, height: int, width: int) -> Hints:
        hints = told(frame, height, width) if told else NOTHING
        return replace(hints, background=plate(frame, height, width))

    return hint


def _where(
    matter: Matter, source: str, clip: Clip | Camera, trimap: str | None, mask: str | None, start: float | None
) -> FrameHinting | None:
    """What `trimap` or `mask` say of where the subject is."""
    try:
        if trimap == AUTO:
            return _Automatic(str(matter.device))
        if trimap:
            return _trimaps(trimap, source, clip, start)
        if mask:
            return _masks(mask, source, clip, start, guided=matter.spec.needs == "trimap")
    except InputError as error:
        raise UsageError(str(error)) from error
    return None


def _trimaps(text: str, source: str, clip: Clip | Camera, start: float | None) -> FrameHinting:
    height, width = clip.format.height, clip.format.width
    if _is_picture(text):
        return _still(Hints(trimap=read_trimap(Path(text), source, height, width)).at)
    grey = _beside("--trimap", text, source, clip, start)

    def hint(frame: Frame, high: int, wide: int) -> Hints:
        trimap = parse(grey(frame, height, width))
        if (trimap == 0.5).all():
            raise InputError(f"All is unknown in {text} at {frame.time:.2f} s; mark what is sure in all its frames.")
        return Hints(trimap=trimap).at(high, wide)

    return hint


def _masks(text: str, source: str, clip: Clip | Camera, start: float | None, guided: bool) -> FrameHinting:
    height, width = clip.format.height, clip.format.width
    if _is_picture(text):
        mask = read_mask(Path(text), source, height, width)
        return _still(lambda high, wide: from_mask(mask, high, wide, guided))
    grey, size = _beside("--mask", text, source, clip, start), drawn(height, width)
    return lambda frame, high, wide: from_mask(as_mask(grey(frame, *size)), high, wide, guided)


def _still(hints: Callable[[int, int], Hints]) -> FrameHinting:
    """The same `hints` of any size for all frames."""
    of_size = lru_cache(maxsize=1)(hints)
    return lambda frame, height, width: of_size(height, width)


def _beside(
    option: str, text: str, source: str, clip: Clip | Camera, start: float | None
) -> Callable[[Frame, int, int], Pixels]:
    """`(frame, h, w)` → `[h, w]` uint8: the grey of what the clip `text` shows at the time of `frame`."""
    if text == "-" or text.startswith("webcam:"):
        raise UsageError(f"{option} {text} can't be read beside the clip; save it to a file first.")
    other = open_clip(text, start=start, passing=False, rate=clip.rate)
    shapes = [(form.height, form.width) for form in (other.format, clip.format)]
    same_shape(text, shapes[0], source, shapes[1], exactly=option == "--trimap")
    shown = Beside(other)
    return lambda frame, height, width: np.asarray(cv2.cvtColor(shown(frame, height, width), cv2.COLOR_RGB2GRAY))


def _is_picture(text: str) -> bool:
    return Path(text).suffix.lower() in READABLE and Path(text).is_file()


class _Automatic:
    """Trimaps round what the default network finds in the frames of a clip, in their order."""

    def __init__(self, device: str) -> None:
        self._matter = Matter(device=device)
        self._cuts = Cuts()
        self._state: State | None = None

    def __call__(self, frame: Frame, height: int, width: int) -> Hints:
        assert frame.view is not None
        seen = frame.view(*self._matter.size_for(frame.format.height, frame.format.width))
        state = None if self._cuts.begins(seen) else self._state
        coarse, self._state = self._matter.step(seen, state)
        return Hints(trimap=round_subject(coarse.alpha, height, width))

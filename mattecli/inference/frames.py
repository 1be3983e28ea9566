"""A network over the frames of a clip, so that the matte does not flicker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.errors import UsageError
from mattecli.inference.coarse import Coarse
from mattecli.inference.cuts import Cuts
from mattecli.inference.guidance.hints import NOTHING, Hints
from mattecli.inference.guided import Floats, Picture

if TYPE_CHECKING:
    from mattecli.inference.network import Matter

Item = TypeVar("Item")
Steady = Literal["state", "delay", "none"]

FLICKER = 0.1
"""Alphas nearer than this are alike (Ke et al. 2022, "one-frame delay")."""


def follow(
    matter: Matter,
    frames: Iterable[Item],
    view: Callable[[Item], Picture],
    *,
    steady: Steady = "state",
    hint: Callable[[Item], Hints] = lambda _: NOTHING,
) -> Iterator[tuple[Item, Coarse]]:
    """Each of `frames` with its matte at the network's size, in order.

    `view` gives a frame's picture `[h, w, 3]` RGB (uint8 or uint16) at the size that `matter.size_for` names, and
    `hint` what the network is told beside it, of that size. `steady` says how flicker is kept away:

    - "state": the network remembers the frames before, and forgets them at a cut or a new size; a network without
      memory is smoothed as by "delay".
    - "delay": where the frames before and after agree and this one does not, it takes their mean (MODNet, Ke et al.
      2022). Each matte comes a frame late; those beside a cut stay as they are.
    - "none": each frame alone.

    Raises UsageError for another `steady` before any frame is taken, and with the first for a hint that is missing.
    """
    if steady not in get_args(Steady):
        raise UsageError(f"--steady {steady} is unknown; choose {', '.join(get_args(Steady))}.")
    if steady == "none":
        return ((frame, matter.step(view(frame), None, hint(frame))[0]) for frame in frames)
    if steady == "state" and matter.spec.recurrent:
        return ((step.frame, step.coarse) for step in _steps(matter, frames, view, hint, remember=True))
    return _smoothed(_steps(matter, frames, view, hint, remember=False))


@dataclass(frozen=True)
class _Step(Generic[Item]):
    """A frame, what the network saw and answered, and whether a scene begins with it."""

    frame: Item
    rgb: Picture
    coarse: Coarse
    begins: bool


def _steps(
    matter: Matter,
    frames: Iterable[Item],
    view: Callable[[Item], Picture],
    hint: Callable[[Item], Hints],
    remember: bool,
) -> Iterator[_Step[Item]]:
    cuts, state = Cuts(), None
    for frame in frames:
        rgb = view(frame)
        begins = cuts.begins(rgb)
        coarse, state = matter.step(rgb, state if remember and not begins else None, hint(frame))
        yield _Step(frame, rgb, coarse, begins)


def _smoothed(steps: Iterator[_Step[Item]]) -> Iterator[tuple[Item, Coarse]]:
    """Of three frames of one scene the middle one is mended."""
    before = now = None
    for after in steps:
        if before is not None and now is not None and not now.begins and not after.begins:
            yield now.frame, _mended(before, now, after)
        elif now is not None:
            yield now.frame, now.coarse
        before, now = now, after
    if now is not None:
        yield now.frame, now.coarse


def _mended(before: _Step[Any], now: _Step[Any], after: _Step[Any]) -> Coarse:
    """`now` without its flicker. There the slope is its neighbours', and the intercept gives the mean of theirs."""
    first, alpha, last = before.coarse.alpha, now.coarse.alpha, after.coarse.alpha
    flicker = (abs(first - last) <= FLICKER) & (abs(alpha - first) > FLICKER) & (abs(alpha - last) > FLICKER)
    if not flicker.any():
        return now.coarse
    alpha = np.where(flicker, (first + last) / 2, alpha)
    around = (_wide(before.coarse.slope, alpha) + _wide(after.coarse.slope, alpha)) / 2
    slope = np.where(flicker, around, _wide(now.coarse.slope, alpha))
    colour = now.rgb.transpose(2, 0, 1) / np.float32(np.iinfo(now.rgb.dtype).max)
    intercept = np.where(flicker, alpha - (slope * colour).sum(0), _wide(now.coarse.intercept[None], alpha)[0])
    return Coarse(alpha, now.rgb, (slope, intercept))


def _wide(planes: Floats, like: Floats) -> NDArray[np.float32]:
    """`[C, h, w]` at the size of `like`, bilinear."""
    height, width = like.shape
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in planes])

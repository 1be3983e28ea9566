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
from mattecli.inference.cuts import LEAD, Cuts, takes
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
    lead: int = LEAD,
    hint: Callable[[Item], Hints] = lambda _: NOTHING,
    select: Callable[[Item, Coarse, bool], Coarse] = lambda item, coarse, begins: coarse,
) -> Iterator[tuple[Item, Coarse]]:
    """Each of `frames` with its matte at the network's size, in order.

    `view` gives a frame's picture `[h, w, 3]` RGB (uint8 or uint16) at the size that `matter.size_for` names, and
    `hint` what the network is told beside it, of that size. `select` makes of a frame's answer, and of whether a scene
    begins there, what counts of it. `steady` says how flicker is kept away:

    - "state": the network remembers the frames before, and forgets them at a cut or a new size; there it sees the next
      `lead` frames first, backwards (0: none, for what may not wait). A network without memory is smoothed as by
      "delay".
    - "delay": where the frames before and after agree and this one does not, it takes their mean (MODNet, Ke et al.
      2022). Each matte comes a frame late; those beside a cut stay as they are.
    - "none": each frame alone.

    Raises UsageError for another `steady` before any frame is taken, and with the first for a hint that is missing.
    """
    if steady not in get_args(Steady):
        raise UsageError(f"--steady {steady} is unknown; choose {', '.join(get_args(Steady))}.")
    remember = steady == "state" and matter.spec.recurrent
    steps = _steps(matter, frames, view, hint, select, lead if remember else None)
    if steady == "none" or remember:
        return ((step.frame, step.coarse) for step in steps)
    return _smoothed(steps)


@dataclass(frozen=True)
class _Step(Generic[Item]):
    """A frame, what the network was told, what counts of its answer, and whether a scene begins with it."""

    frame: Item
    hints: Hints
    coarse: Coarse
    begins: bool


def _steps(
    matter: Matter,
    frames: Iterable[Item],
    view: Callable[[Item], Picture],
    hint: Callable[[Item], Hints],
    select: Callable[[Item, Coarse, bool], Coarse],
    lead: int | None,
) -> Iterator[_Step[Item]]:
    """`lead` None: nothing is remembered."""
    cuts, state = Cuts(), None
    looks = ((frame, view(frame), hint(frame)) for frame in frames)
    for take in takes(looks, lambda look: cuts.begins(look[1]), lead or 0):
        frame, rgb, hints = take.frame
        coarse, state = matter.step(rgb, None if take.forgets or lead is None else state, hints)
        if not take.rehearses:
            yield _Step(frame, hints, select(frame, coarse, take.begins), take.begins)


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
    """`now` without its flicker. There the slope is its neighbours', and the intercept gives the mean of theirs; where
    a trimap knows, that counts.
    """
    first, alpha, last = before.coarse.alpha, now.coarse.alpha, after.coarse.alpha
    flicker = (abs(first - last) <= FLICKER) & (abs(alpha - first) > FLICKER) & (abs(alpha - last) > FLICKER)
    if now.hints.trimap is not None:
        flicker &= now.hints.trimap == 0.5
    if not flicker.any():
        return now.coarse
    alpha = np.where(flicker, (first + last) / 2, alpha)
    around = (_wide(before.coarse.slope, alpha) + _wide(after.coarse.slope, alpha)) / 2
    slope = np.where(flicker, around, _wide(now.coarse.slope, alpha))
    rgb = now.coarse.seen
    colour = rgb.transpose(2, 0, 1) / np.float32(np.iinfo(rgb.dtype).max)
    intercept = np.where(flicker, alpha - (slope * colour).sum(0), _wide(now.coarse.intercept[None], alpha)[0])
    return Coarse(alpha, rgb, (slope, intercept))


def _wide(planes: Floats, like: Floats) -> NDArray[np.float32]:
    """`[C, h, w]` at the size of `like`, bilinear."""
    height, width = like.shape
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in planes])

"""Where one scene of a clip ends and the next begins, told from small pictures of its frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.inference.guided import Picture

Item = TypeVar("Item")

LEAD = 8
"""Frames that a network with memory rehearses at the beginning of a scene."""
LONG_SIDE = 64
"""Pixels of the pictures compared; small enough for noise and details to be gone."""
BLOCK, REACH = 12, 6
"""Pixels of a block's side, and how far it is looked for: a tenth of the picture from one frame to the next."""
ALIKE, DROP = 0.65, 0.12
"""Two frames whose blocks correlate less show different scenes; unless that is usual, as in noise, smoke or
confetti: then a cut correlates less than the usual by `DROP`."""
USUAL, RECALLED = 8, 4
"""Frames whose median is the usual; frames compared with, so that what a flash or a hand hid is known again."""
WEIGHT = 20.0
"""Standard deviation, of 255, from which on a block counts in full."""


class Cuts:
    """Hears of the frames of a clip one by one and says which begin a new scene.

    Each block of a frame is looked for near its place in the frame before, by correlation, which takes no notice of
    brightness and contrast. Camera and subjects may move, light may change; only other things to see make a cut.
    A frame takes half a millisecond, up to two where it is like none before.
    """

    def __init__(self) -> None:
        self._scene: deque[NDArray[Any]] = deque(maxlen=RECALLED)
        self._usual: deque[float] = deque(maxlen=USUAL)
        self._shape: tuple[int, ...] = ()

    def begins(self, rgb: Picture) -> bool:
        """Whether `rgb` `[h, w, 3]` (uint8 or uint16) is the first, or of a new size, or shows another scene."""
        grey = _shrink(rgb)
        begins = rgb.shape != self._shape or self._differs(grey)
        if begins:
            self._scene.clear()
        self._scene.append(grey)
        self._shape = rgb.shape
        return begins

    def _differs(self, grey: NDArray[Any]) -> bool:
        least = min(ALIKE, float(np.median(self._usual)) - DROP) if self._usual else ALIKE
        found = -1.0
        for before in reversed(self._scene):
            found = max(found, likeness(before, grey))
            if found >= least:
                break
        self._usual.append(found)
        return found < least


@dataclass(frozen=True)
class Take(Generic[Item]):
    """A frame for a network with memory.

    `begins`: a scene begins with it. `forgets`: what is remembered is of another scene. `rehearses`: it comes once
    more, and only then its matte counts.
    """

    frame: Item
    begins: bool = False
    forgets: bool = False
    rehearses: bool = False


def takes(frames: Iterable[Item], begins: Callable[[Item], bool], lead: int = LEAD) -> Iterator[Take[Item]]:
    """`frames` in their order; before each that `begins` a scene, up to `lead` of those after it, backwards.

    So the first matte of a scene is as settled as those that follow. One more than `lead` frames of a scene are taken
    before one of them is given.
    """
    opening: list[Item] = []
    for frame in frames:
        if begins(frame):
            yield from _opened(opening)
            opening = [frame]
        elif opening:
            opening.append(frame)
        else:
            yield Take(frame)
        if len(opening) > lead:
            yield from _opened(opening)
            opening = []
    yield from _opened(opening)


def _opened(scene: Sequence[Item]) -> Iterator[Take[Item]]:
    last = len(scene) - 1
    for place in range(last, 0, -1):
        yield Take(scene[place], forgets=place == last, rehearses=True)
    for place, frame in enumerate(scene):
        yield Take(frame, begins=place == 0, forgets=last == 0)


def likeness(before: NDArray[Any], after: NDArray[Any]) -> float:
    """Mean correlation, in [−1, 1], of the blocks of `after` with where they fit best in `before` (grey, one size)."""
    wide = cv2.copyMakeBorder(before, REACH, REACH, REACH, REACH, cv2.BORDER_REPLICATE)
    height, width = after.shape
    found = weights = 0.0
    for top in range(0, height - BLOCK + 1, BLOCK):
        for left in range(0, width - BLOCK + 1, BLOCK):
            block = after[top : top + BLOCK, left : left + BLOCK]
            around = wide[top : top + BLOCK + 2 * REACH, left : left + BLOCK + 2 * REACH]
            weight = 0.1 + min(float(cv2.meanStdDev(block)[1][0, 0]), WEIGHT)
            found += weight * float(cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED).max())
            weights += weight
    return found / weights


def _shrink(rgb: Picture) -> NDArray[Any]:
    height, width = rgb.shape[:2]
    scale = LONG_SIDE / max(height, width)
    size = (max(BLOCK, round(width * scale)), max(BLOCK, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return grey if grey.dtype == np.uint8 else (grey / 257).astype(np.uint8)

"""The people of one picture, told apart: each one's alpha, and together the whole.

Networks that tell people apart give an alpha for each (`Coarse.instances`). For all others people are what hangs
together in the matte, so that those who touch stay together; small pieces belong to the nearest. Either way every
point gets shares of the people at the network's size, refined along the picture's edges as the alpha was (`guided`)
where people may touch, and a person's alpha is their share of the whole at full size. So the people's alphas add up
to the whole, but for what a network found and is too small for a person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.errors import InputError, UsageError
from mattecli.inference.coarse import Coarse, resized
from mattecli.inference.guided import Floats, Picture, bounded, resize
from mattecli.inference.output import PRESENT

Labels = NDArray[np.int32]
"""`[h, w]`: whose a point is; 0 nobody's."""

SMALLEST, TINY = 1000, 0.01
"""Pixels below which what a network found is no person (the rule of E2E-HIM's authors); of tiny pictures, a share."""
PART, SHARE = 0.005, 0.05
"""Of the picture, and of the largest person, below which what hangs together is no person of its own."""
FAR = 1.0
"""Of the root of a person's area: a loose piece farther from them isn't theirs. In 240 photos their own (legs below a
missed trunk) lay within 0.6, and what lay beyond 1 was, but for one, another's ghost or a thing."""
FAINT = 0.01
"""Alpha below which a point is shared out by who is nearest."""
LARGEST = 1280
"""The longer side at which people are told apart, at most; a network may have seen more."""


class Apart:
    """Those in a picture of `size` (height, width) whose answer is `coarse`, told apart at what the network saw, at
    most `largest` pixels high and wide; the largest first.

    `alpha` `[h, w]` is that of the whole at any size. `planes` `[1 + K, k, l]` are the alphas of nobody and of each,
    `areas` their sums in pixels of the picture, `scores` the network's own in [0, 1], None where it has none.
    """

    def __init__(self, coarse: Coarse, alpha: Floats, size: tuple[int, int], largest: int = LARGEST) -> None:
        self.size = size
        height, width = coarse.seen.shape[:2]
        small = resized(alpha, *bounded(height, width, largest))
        pixels = size[0] * size[1] / small.size
        scores: Sequence[float | None]
        if coarse.instances is None:
            planes = _connected(small)
            scores = [None] * len(planes)
        else:
            planes, scores = _found(coarse.instances, coarse.scores, small, min(SMALLEST / pixels, TINY * small.size))
        areas = planes.sum((1, 2)) * pixels
        order = [0, *(1 + np.argsort(-areas[1:], kind="stable"))]
        self.areas = [float(areas[number]) for number in order[1:]]
        self.scores = [scores[number] for number in order[1:]]
        self.planes = planes[order]

    def __len__(self) -> int:
        return len(self.areas)

    def at(self, x: float, y: float) -> int | None:
        """Who has the largest alpha at a point, in shares of the width and height; None where nobody is."""
        height, width = self.planes.shape[1:]
        here = self.planes[1:, min(int(y * height), height - 1), min(int(x * width), width - 1)]
        return int(here.argmax()) if here.max(initial=0) >= PRESENT else None


class People(Apart):
    """Those in the picture `rgb` `HxWx3` whose answer is `coarse` and whose alpha `HxW` is `alpha`, each at its size.

    >>> alpha = coarse.at(rgb)
    >>> people = People(coarse, rgb, alpha)
    >>> cutouts = [people.alpha(index) for index in range(len(people))]
    """

    def __init__(self, coarse: Coarse, rgb: Picture, alpha: Floats) -> None:
        height, width = alpha.shape
        super().__init__(coarse, alpha, (height, width))
        self._rgb, self._whole, self._touching = rgb, alpha, coarse.instances is not None
        self._seen = resize(coarse.seen, *self.planes.shape[1:])
        self._shares = shares(self.planes)

    def alpha(self, index: int) -> Floats:
        """The alpha `HxW` in [0, 1] of one of them, at the picture's size."""
        return self._whole * self._refined(1 + index) / self._total

    def _refined(self, plane: int) -> Floats:
        """A plane of the shares at the picture's size; between people who don't touch no edge needs to be found."""
        share = Coarse(self._shares[plane], self._seen)
        return (share if self._touching else share.unrefined()).at(self._rgb)

    @cached_property
    def _total(self) -> Floats | float:
        """What the refined shares add up to: 1 but where some were clipped to [0, 1], nowhere 0."""
        if not self._touching:
            return 1.0
        total = self._refined(0)
        for plane in range(1, len(self._shares)):
            total = total + self._refined(plane)
        return total


def _found(
    instances: Floats, scores: Floats | None, small: Floats, smallest: float
) -> tuple[Floats, list[float | None]]:
    """Alphas `[1 + K, h, w]` of nobody and of the people that the network found, at most `small`, and their scores."""
    planes = np.stack([resized(plane, *small.shape) for plane in instances])
    planes *= small / np.maximum(planes.sum(0), np.maximum(small, 1e-6))
    kept = planes.sum((1, 2)) >= smallest
    known = [None] * len(planes) if scores is None else [float(score) for score in scores]
    nobody = planes[~kept].sum(0, keepdims=True)
    return np.concatenate((nobody, planes[kept])), [None, *(known[index] for index in np.flatnonzero(kept))]


def _connected(small: Floats) -> Floats:
    """Alphas `[1 + K, h, w]` of nobody and of the people, each of whom hangs together in the matte `small`."""
    count, parts, facts, _ = cv2.connectedComponentsWithStats((small > 0.5).astype(np.uint8))
    areas = facts[1:, cv2.CC_STAT_AREA]
    large = areas >= max(PART * small.size, SHARE * areas.max(initial=0))
    numbers = np.zeros(count, np.int32)
    numbers[1:][large] = np.arange(1, 1 + large.sum())
    people = numbers[parts]
    if not large.any():
        return small[None]
    owners = _owners(people, small)
    return np.stack([small * (owners == number) for number in range(1 + large.sum())])


def _owners(people: Labels, small: Floats) -> Labels:
    """Whose every point is, 0 nobody's: the nearest of `people` and of the loose pieces of the matte `small`.

    A piece is given whole to who is nearest to most of it, or to nobody where all of it is `FAR` from them.
    """
    owners, several = nearest(people), 1 + int(people.max())
    count, pieces = cv2.connectedComponents((small > PRESENT).astype(np.uint8))
    votes = np.bincount((pieces * several + owners).ravel(), small.ravel(), count * several).reshape(count, several)
    loose = np.ones(count, bool)
    loose[0] = loose[pieces[people > 0]] = False
    away = cv2.distanceTransform((people == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    reach = FAR * np.sqrt(np.bincount(people.ravel(), minlength=several))
    near = np.isin(np.arange(count), pieces[away <= reach[owners]])
    owner = np.where(near, votes.argmax(1), several)
    found = nearest(np.where(loose[pieces], owner[pieces], people).astype(np.int32))
    return np.where(found == several, 0, found)


def nearest(seeds: Labels) -> Labels:
    """Every point's nearest label that is not 0; all 0 where there is none."""
    if not seeds.any():
        return seeds
    free = (seeds == 0).astype(np.uint8)
    _, pixels = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    names = np.zeros(int(pixels.max()) + 1, np.int32)
    names[pixels[free == 0]] = seeds[free == 0]
    return names[pixels]


def shares(planes: Floats) -> Floats:
    """Of alphas `[1 + K, h, w]` each one's share of every point, which add up to 1."""
    whole = planes.sum(0)
    count = len(planes)
    seeds = np.where(whole > PRESENT, planes.argmax(0), -1).astype(np.int32)
    owners = nearest((1 + seeds).astype(np.int32)) - 1
    faint = FAINT * (owners == np.arange(count)[:, None, None]).astype(np.float32)
    faint[0] += FAINT * (owners < 0)
    return np.asarray((planes + faint) / (whole + FAINT), np.float32)


Choice = Callable[[Apart, str], Sequence[int]]
"""Which people of a picture of that name to keep; may raise InputError."""


def everyone(people: Apart, name: str) -> Sequence[int]:
    """A `Choice`."""
    return range(len(people))


def parse_pick(text: str) -> Choice:
    """One of them: `2` is the second by size, `830,412` (pixels) or `0.3,0.5` (shares, both at most 1) who is there.

    Raises UsageError.
    """
    length = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
    if re.fullmatch(r"0*[1-9]\d*", text):
        return partial(_by_number, int(text))
    if found := re.fullmatch(f"{length},{length}", text):
        return Place(float(found[1]), float(found[2]))
    raise UsageError(f"--pick {text} names nobody; give a number from 1, or a point x,y in pixels or shares (0.3,0.5).")


def _by_number(number: int, people: Apart, name: str) -> Sequence[int]:
    if number > len(people):
        raise InputError(f"{name}: there is no number {number} to pick; {_count(people)} found.")
    return [number - 1]


@dataclass(frozen=True)
class Place:
    """A `Choice`: who is at a point, in pixels, or in shares of width and height where both are at most 1."""

    x: float
    y: float

    def __call__(self, people: Apart, name: str) -> Sequence[int]:
        if outside := self.outside(people.size):
            raise InputError(f"{name}: {outside}")
        height, width = people.size
        x, y = (self.x, self.y) if self._shares else ((self.x + 0.5) / width, (self.y + 0.5) / height)
        found = people.at(x, y)
        if found is None:
            raise InputError(f"{name}: nobody is at {self.x:g},{self.y:g}; {_count(people)} found.")
        return [found]

    def outside(self, size: tuple[int, int]) -> str:
        """A sentence where no picture of `size` (height, width) has that point."""
        height, width = size
        if self._shares or (self.x < width and self.y < height):
            return ""
        return f"{self.x:g},{self.y:g} lies outside its {width} x {height} pixels."

    @property
    def _shares(self) -> bool:
        return max(self.x, self.y) <= 1


def _count(people: Apart) -> str:
    return {0: "nobody was", 1: "one person was"}.get(len(people), f"{len(people)} people were")

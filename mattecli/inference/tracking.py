"""One person kept through a clip: told apart from the others frame by frame, and known again in the next frame.

People are told apart as in photos (`instances.Apart`), in a small picture. Ours is who covers where ours was in the
frame before. Where several do, as when two part who hung together, colours help to decide. While ours hangs together
with somebody else, each point of both goes to whose it was, carried from the frame before by optical flow, and whose
colours fit. Who is out of sight is looked for among all who are not known to be others, by their colours, which need to
fit less near the place of the loss than elsewhere or behind a cut.

Likeness of colours, on 51 people in street photos: of two people 0.45 (a quarter of the pairs above 0.55, one in twenty
above 0.72), of somebody's upper half and the whole 0.93 (one in twenty below 0.82), of somebody and the same with 15 %
less light 0.88 (one in twenty below 0.69).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from mattecli import atomic
from mattecli.errors import UsageError
from mattecli.inference.coarse import Coarse
from mattecli.inference.guided import Floats
from mattecli.inference.instances import Choice, Place
from mattecli.inference.output import PRESENT
from mattecli.inference.sighting import Labels, Mask, Sighting
from mattecli.media.clips.planes.frame import Frame

OVERLAP = 0.1
"""Of the smaller of two regions in successive frames, that they share if they may be one person's."""
RIVAL = 0.2
"""Of our area, below which what joins ours is no person but a thing that they hold."""
HIDDEN = 0.02
"""Of our area, below which what is left of ours beside somebody else is nothing."""
GAP = 0.25
"""Of the root of our area: a part that has come off ours is ours as long as it is nearer."""
ALIKE, ALIKE_NEAR = 0.75, 0.6
"""Likeness by which who was out of sight is known: anywhere, and near the place of the loss."""
REACH, DRIFT = 1.0, 0.05
"""How near that is, of the root of our area, and how much it grows with each frame."""
COLOURS = 2.0
"""What likeness counts for beside the share of ours that somebody covers."""
LEARNT = 0.05
"""How much a frame adds to what is known of our colours."""
BEFORE, SPREAD = 0.5, 7
"""What a point's owner in the frame before counts for beside its colour; points that decide together, each way."""

SPECK = 0.1
"""Of the largest piece of somebody who is parted from others, below which a piece isn't theirs."""

OURS = 1


@dataclass(frozen=True)
class Track:
    """What is known of ours after the frame of stamp `pts`.

    labels: `[h, w]`, whose each point is: 0 nobody's, or of somebody who may be ours; `OURS`; above, others'. grey: the
    frame `[h, w]`. colours, theirs: of ours and of the others, as `Sighting.colours`. place: x, y and root of the area
    where ours was seen last. missed: frames since then. rival: the label of somebody who hangs together with ours, or
    hides them; 0: there is none.
    """

    pts: int
    labels: Labels
    grey: Labels
    colours: Floats
    theirs: Floats
    place: Floats
    missed: int = 0
    rival: int = 0


class Tracker:
    """Keeps who is chosen by `choice` in the first frame that shows somebody, of the clip called `name`, whose frames
    have `size` (height, width).

    With `memory`, a file, it goes on from the track that was saved there, if there is one. `known_until` is the stamp
    of the frame before, up to which frames need not come again; None: all must. Raises UsageError for a point outside.
    """

    def __init__(self, choice: Choice, name: str, size: tuple[int, int], memory: Path | None = None) -> None:
        self._choice, self._name, self._size, self._memory = choice, name, size, memory
        if isinstance(choice, Place) and (outside := choice.outside(size)):
            raise UsageError(f"{name}: {outside}")
        self._track = _saved(memory) if memory and memory.exists() else None
        self.known_until = self._track.pts if self._track else None
        self._tracks = deque[Track]()
        self._missed, self._first_missed = 0, 0.0

    @property
    def notes(self) -> list[str]:
        """A sentence where ours was not always seen."""
        if self._track is None:
            return [f"Nobody was picked: {self._name} shows nobody."]
        if not self._missed:
            return []
        frames = "one frame" if self._missed == 1 else f"{self._missed} frames"
        return [
            f"Who was picked is out of sight, or not known again, in {frames}, first at {self._first_missed:.2f} s."
        ]

    def __call__(self, frame: Frame, coarse: Coarse, begins: bool) -> Coarse:
        """What of `coarse`, the answer for `frame`, is ours; frames come in their order, `begins`: after a cut.

        Raises InputError where the choice is nobody in the first frame that shows somebody.
        """
        seen = Sighting(coarse, self._size)
        if self._track is None and not len(seen):
            return seen.kept(np.zeros_like(seen.planes[0]), touching=False)
        if self._track is None:
            number = 1 + self._choice(seen.people, f"{self._name} at {frame.time:.2f} s")[0]
            track, own = _first(frame.pts, seen, number), seen.planes[number]
        else:
            track, own = _Next(self._track, seen, begins).track(frame.pts)
        if self.known_until is None or frame.pts > self.known_until:
            self._track = track
            self._tracks.append(track)
            self._first_missed = frame.time if track.missed and not self._missed else self._first_missed
            self._missed += track.missed > 0
        return seen.kept(own, touching=track.rival > 0 or coarse.instances is not None)

    def written(self, pts: int, stays: bool) -> None:
        """Said when the frame of that stamp is written, by any thread; where it `stays`, another run goes on there."""
        track = None
        while self._tracks and self._tracks[0].pts <= pts:
            track = self._tracks.popleft()
        if stays and track and self._memory:
            with atomic.replacing(self._memory) as part, part.open("wb") as file:
                np.savez_compressed(file, **vars(track))


def _saved(memory: Path) -> Track:
    with np.load(memory) as held:
        facts = {name: held[name] if held[name].ndim else int(held[name]) for name in held.files}
    return Track(**facts)  # type: ignore[arg-type]


def _first(pts: int, seen: Sighting, number: int) -> Track:
    """With `number` for ours."""
    ours = seen.now == number
    labels = _labelled(seen, ours)
    return Track(pts, labels, seen.grey, seen.colours(ours), seen.colours(labels > OURS), _place(ours))


def _labelled(seen: Sighting, ours: Mask) -> Labels:
    return np.where(ours, OURS, np.where(seen.now > 0, seen.now + OURS, 0)).astype(np.uint8)


def _place(region: Mask) -> Floats:
    rows, columns = np.nonzero(region)
    return np.array([columns.mean(), rows.mean(), len(rows) ** 0.5])


class _Next:
    """From the track after one frame to that after the next, which shows those `seen`."""

    def __init__(self, last: Track, seen: Sighting, begins: bool) -> None:
        self._last, self._seen = last, seen
        before = np.zeros_like(last.labels) if begins else last.labels
        several = 1 + len(seen)
        pairs = before.astype(np.intp) * several + seen.now
        count = 1 + max(OURS, last.rival, int(before.max()))
        self._shared = np.bincount(pairs.ravel(), minlength=count * several).reshape(count, several)
        self._area = int(self._shared[OURS].sum())
        self._homes = [self._home(label) for label in range(count)]
        self._rival = self._homes[last.rival] if last.rival else 0
        self._others = {home for label, home in enumerate(self._homes) if home and label > OURS and label != last.rival}

    def track(self, pts: int) -> tuple[Track, Floats]:
        """The track, and ours `[h, w]`: their alpha, all 0 where they are out of sight."""
        number = self._in_sight() or self._found_again()
        own, rival = self._own(number) if number else (np.zeros_like(self._seen.planes[0]), self._rival)
        ours = own > PRESENT
        last, label = self._last, OURS + rival if rival else 0
        labels = _labelled(self._seen, ours)
        if not ours.any():
            labels[~np.isin(self._seen.now, [*self._others, rival])] = 0
            return replace(last, pts=pts, labels=labels, grey=self._seen.grey, missed=last.missed + 1, rival=label), own
        place, colours, theirs = _place(ours), last.colours, last.theirs
        if rival:
            place[2] = last.place[2]
        else:
            colours = colours + LEARNT * (self._seen.colours(ours) - colours)
            theirs = self._seen.colours(labels > OURS) if (labels > OURS).any() else theirs
        return Track(pts, labels, self._seen.grey, colours, theirs, place, rival=label), own

    def _home(self, label: int) -> int:
        """Who covers most of where that label was; 0: nobody covers much of it."""
        covered = self._shared[label, 1:]
        if not covered.any():
            return 0
        number = 1 + int(covered.argmax())
        return number if self._covers(number, label) else 0

    def _covers(self, number: int, label: int) -> bool:
        smaller = min(self._shared[label].sum(), self._seen.areas[number])
        return bool(self._shared[label, number] > OVERLAP * smaller)

    def _in_sight(self) -> int:
        """Who covers ours of the frame before; 0: nobody."""
        others = self._others - {self._homes[OURS]}
        found = {n for n in range(1, 1 + len(self._seen)) if n not in others and self._covers(n, OURS)}
        if found and self._rival:
            found.add(self._rival)

        def score(number: int) -> float:
            share = self._shared[OURS, number] / self._area
            return float(share) + COLOURS * self._seen.likeness(number, self._last.colours)

        return max(found, key=score) if len(found) > 1 else next(iter(found), 0)

    def _found_again(self) -> int:
        """Who looks like ours of those that may be; 0: nobody. Who hid ours may be ours, once somebody came off."""
        last, known = self._last, {*self._others, self._rival}
        free = [number for number in range(1, 1 + len(self._seen)) if number not in known]
        if free and self._rival:
            free.append(self._rival)
        alike = {number: self._seen.likeness(number, last.colours) for number in free}
        best = max(free, key=lambda number: alike[number], default=0)
        if not best or alike[best] < ALIKE_NEAR:
            return 0
        x, y, root = last.place
        near = self._seen.distance(best, x, y) <= root * (REACH + DRIFT * last.missed)
        return best if near or alike[best] >= ALIKE else 0

    def _own(self, number: int) -> tuple[Floats, int]:
        """What of somebody is ours, its alpha, and their number if the rest is somebody else's."""
        plane = self._seen.planes[number]
        rivals = [label for label in range(OURS + 1, len(self._homes)) if self._joins(label, number)]
        if not rivals or not self._area:
            return plane + sum(self._seen.planes[part] for part in self._parts(number)), 0
        own = plane * self._split(number, rivals)
        hidden = (own > PRESENT).sum() < HIDDEN * self._last.place[2] ** 2
        return (np.zeros_like(own) if hidden else own), number

    def _joins(self, label: int, number: int) -> bool:
        """Whether who had that label hangs together with ours now, and is a person."""
        large = self._shared[label].sum() >= RIVAL * self._area
        return self._homes[label] == number and (large or label == self._last.rival)

    def _split(self, number: int, rivals: list[int]) -> Mask:
        """Where somebody whom ours and `rivals` are together is ours: by whose each point was, and by its colour."""
        last, seen = self._last, self._seen
        carried = _carried(last, seen.grey)
        before = np.where(carried == OURS, BEFORE, 0) - np.where(np.isin(carried, rivals), BEFORE, 0)
        votes = before.astype(np.float32) + seen.odds(last.colours, last.theirs)
        ours, here = cv2.blur(votes, (SPREAD, SPREAD)) > 0, seen.now == number
        theirs = _without_specks(here & ~_without_specks(here & ours))
        return np.asarray(np.where(here, ~theirs, ours))

    def _parts(self, number: int) -> list[int]:
        """Who else was ours in the frame before, for the most part, and has not gone far from `number`."""
        areas, homes = self._seen.areas, self._homes[OURS + 1 :]
        loose = [n for n in range(1, len(areas)) if n != number and self._shared[OURS, n] > areas[n] / 2]
        if not loose or self._last.rival:
            return []
        away = cv2.distanceTransform((self._seen.now != number).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        reach = GAP * areas[number] ** 0.5
        return [part for part in loose if part not in homes and away[self._seen.now == part].min() <= reach]


def _without_specks(region: Mask) -> Mask:
    _, pieces, facts, _ = cv2.connectedComponentsWithStats(region.view(np.uint8))
    areas = facts[:, cv2.CC_STAT_AREA]
    large = areas >= SPECK * areas[1:].max(initial=0)
    large[0] = False
    return np.asarray(large[pieces])


def _carried(last: Track, grey: Labels) -> Labels:
    """The labels of the frame before, moved as optical flow says (DIS, Kroeger et al. 2016)."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(grey, last.grey, None)  # type: ignore[call-overload]
    rows, columns = np.indices(grey.shape, np.float32)
    moved = cv2.remap(last.labels, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_NEAREST)
    return np.asarray(moved, np.uint8)

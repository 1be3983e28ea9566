"""Frames of a clip through a network and a renderer on a device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from mattecli.inference.behind import Blur
from mattecli.inference.cuts import LEAD, LONG_SIDE, Cuts, takes
from mattecli.inference.frames import Steady
from mattecli.inference.guided import Picture
from mattecli.inference.network import Matter
from mattecli.inference.on_device.composing import Composer
from mattecli.inference.on_device.lane import Direct, Fetch, Samples, Streams
from mattecli.inference.on_device.seeing import Eye
from mattecli.inference.on_device.step import Delayed, Inputs, Remembering, Step
from mattecli.inference.planes import Size
from mattecli.inference.rendering import Renderer
from mattecli.media.clips.planes.frame import Format, Frame, Plane

AHEAD = 2
"""Frames sent before one is waited for: one goes up, one is worked on, one comes down."""
FEWEST_ROWS = 4
"""Of luma, that a row of a picture for `Cuts` is averaged over."""


class Turn(NamedTuple):
    """A frame to send, its picture, the frame that comes out (None: none), whether the first begins anew."""

    sent: Frame
    picture: Picture
    made: Frame | None
    begins: bool


class OnDevice:
    """Makes what `matter` (by `frames.follow`, `steady`) and `renderer` make of a clip's frames, which have `form`.

    `size` is `(height, width)` at which the network sees them. So many frames are sent `ahead` of the one that is
    waited for, and `lead` is that of `frames.follow`: both 0 for a live source. `number` is the type that levels are
    computed in.
    """

    def __init__(
        self,
        matter: Matter,
        renderer: Renderer,
        form: Format,
        size: Size,
        *,
        steady: Steady = "state",
        ahead: int = AHEAD,
        lead: int = LEAD,
        number: torch.dtype | None = None,
    ) -> None:
        device = matter.device
        number = number or (torch.float16 if device.type == "cuda" and form.depth == 8 else torch.float32)
        behind = renderer.behind if renderer.kind in ("composite", "side-by-side") else None
        blur = (behind.radius or 0.0) if isinstance(behind, Blur) else None
        eye = Eye(form, size, number, device)
        composer = Composer(renderer.kind, renderer.format, eye, blur)
        step: Step
        if steady == "none" or (steady == "state" and matter.spec.recurrent):
            step = Remembering(matter, eye, composer, remember=steady == "state")
        else:
            step = Delayed(matter, eye, composer)
        self._late, self._ahead = step.late, ahead
        self._lead = lead if steady == "state" and matter.spec.recurrent else 0
        self._lane = Streams(step, device) if device.type == "cuda" else Direct(step, device)
        self._behind = None if blur is not None else behind
        self._uploaded: tuple[list[Plane], Tensor] | None = None
        self._form, self._format, self._size = form, renderer.format, size
        self._shapes, self._constant = renderer.format.shapes, list[Plane]()
        if renderer.kind == "alpha":
            zero = renderer.format.colour.levels(renderer.format.depth)[2]
            self._constant = [np.full(shape, zero, renderer.format.dtype) for shape in self._shapes[1:]]

    @property
    def captured(self) -> bool:
        """Whether frames pass as a CUDA graph; so from the first on, if the network can be captured."""
        return self._lane.captured

    def look(self, frame: Frame) -> Picture:
        """What `frames` wants beside a frame: for HDR what the network sees, tone-mapped, else grey, for `Cuts`."""
        if frame.format.colour.hdr:
            assert frame.view is not None
            return frame.view(*self._size)
        return thumbnail(frame)

    def frames(self, seen: Iterable[tuple[Frame, Picture]]) -> Iterator[Frame]:
        """The frames made of those `seen`, each of which comes with its `look`; stamps and packets stay."""
        flying = deque[tuple[Frame, Fetch]]()
        for turn in self._turns(seen):
            made = self._lane.run(turn.begins, self._inputs(turn))
            if turn.made is not None:
                flying.append((turn.made, self._lane.down(made)))
            while len(flying) > self._ahead:
                yield self._landed(*flying.popleft())
        for frame, fetch in flying:
            yield self._landed(frame, fetch)

    def seconds(self, frame: Frame, runs: int = 100) -> float:
        """What a frame takes on average, conversions, network and composition alone, with its planes on the device."""
        inputs = self._inputs(Turn(frame, self.look(frame), frame, begins=True))
        return self._lane.seconds(runs, inputs)

    def _turns(self, seen: Iterable[tuple[Frame, Picture]]) -> Iterator[Turn]:
        cuts, last = Cuts(), None
        for take in takes(seen, lambda one: cuts.begins(one[1]), self._lead):
            frame, picture = take.frame
            if take.rehearses:
                yield Turn(frame, picture, None, take.forgets)
                continue
            made = frame if not self._late else last.sent if last else None
            last = Turn(frame, picture, made, take.forgets)
            yield last
        if self._late and last:
            yield Turn(last.sent, last.picture, last.sent, begins=True)

    def _inputs(self, turn: Turn) -> Inputs:
        picture = None
        if self._form.colour.hdr:
            picture = self._lane.up([turn.picture]).view(turn.picture.shape)
        levels = self._lane.up(turn.sent.planes)
        return Inputs(levels, self._background(turn.made, levels), picture)

    def _background(self, frame: Frame | None, levels: Tensor) -> Tensor | None:
        """What goes behind `frame`; it goes up where it isn't there yet. Where no frame is made, some of `levels`: a
        rehearsal is backwards, for which a clip would be opened anew.
        """
        if self._behind is None:
            return None
        if frame is None:
            return levels[: sum(height * width for height, width in self._form.shapes[:3])]
        planes = self._behind(frame, np.zeros((1, 1), np.float32))
        if self._uploaded is None or self._uploaded[0] is not planes:
            self._uploaded = planes, self._lane.up(planes)
        return self._uploaded[1]

    def _landed(self, frame: Frame, fetch: Fetch) -> Frame:
        shapes = self._shapes[: len(self._shapes) - len(self._constant)]
        planes = _cut(fetch(), shapes)
        return replace(frame, format=self._format, planes=[*planes, *self._constant], view=None)


def suits(matter: Matter) -> bool:
    """Whether this is for `matter`: on CUDA, and it needs no plate beside the picture."""
    return matter.device.type == "cuda" and matter.spec.needs == "image"


def thumbnail(frame: Frame) -> Picture:
    """A grey picture `[h, w, 3]` uint8 of the size that `Cuts` compares, of some rows of luma: little work."""
    luma, depth = frame.planes[0], frame.format.depth
    scale = LONG_SIDE / max(luma.shape)
    height, width = (max(1, round(side * scale)) for side in luma.shape)
    rows = luma[:: max(1, luma.shape[0] // (FEWEST_ROWS * height))]
    small = cv2.resize(rows, (width, height), interpolation=cv2.INTER_AREA)
    grey = small if depth == 8 else np.right_shift(small, depth - 8).astype(np.uint8)
    return cv2.merge((grey, grey, grey))


def _cut(samples: Samples, shapes: list[tuple[int, int]]) -> list[Plane]:
    ends = np.cumsum([height * width for height, width in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(samples, ends[:-1]), shapes, strict=True)]

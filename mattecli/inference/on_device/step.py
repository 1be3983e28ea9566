"""What happens to one frame on a device, from its levels to those that are written: two ways, by how it is steadied.

Each is called with tensors of the same shapes every time, keeps what it must remember in tensors of its own, and waits
for nothing: so it can be captured as a CUDA graph.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mattecli.inference.network import Matter
from mattecli.inference.on_device.composing import Composer
from mattecli.inference.on_device.seeing import Answer, Eye, ask, image, mended


class Inputs(NamedTuple):
    """`levels` `[samples]` of a frame and those `behind` the frame made; `picture` `[h, w, 3]` uint8 is what the
    network sees, None: the levels.
    """

    levels: Tensor
    behind: Tensor | None
    picture: Tensor | None


class Step(Protocol):
    """From a frame to the samples of the frame made."""

    late: bool
    """Whether the frame made is the one before."""

    def mark(self, begins: bool) -> None:
        """Said before each call: whether a scene begins there."""

    def __call__(self, inputs: Inputs) -> Tensor: ...


class Remembering:
    """Frame by frame; with `remember`, the network's state goes from one to the next, and is zero at a cut."""

    late = False

    def __init__(self, matter: Matter, eye: Eye, composer: Composer, remember: bool) -> None:
        self._matter, self._eye, self._composer = matter, eye, composer
        self._state: tuple[Tensor, ...] = ()
        if remember:
            _, state = ask(matter, torch.zeros(1, 3, *eye.size, device=eye.device))
            self._state = tuple(torch.zeros_like(part) for part in state or ())

    @torch.inference_mode()
    def mark(self, begins: bool) -> None:
        if begins:
            for part in self._state:
                part.zero_()

    @torch.inference_mode()
    def __call__(self, inputs: Inputs) -> Tensor:
        levels, behind, picture = inputs
        seen = self._eye(self._eye.planes(levels)) if picture is None else image(picture)
        answer, state = ask(self._matter, seen, self._state or None)
        for part, new in zip(self._state, state or (), strict=False):
            part.copy_(new)
        return self._composer(levels, answer, behind)


class Delayed:
    """A frame late, mended where its neighbours agree and it does not (`frames.follow`, "delay")."""

    late = True

    def __init__(self, matter: Matter, eye: Eye, composer: Composer) -> None:
        self._matter, self._eye, self._composer = matter, eye, composer
        self._picture = torch.zeros(1, 3, *eye.size, device=eye.device)
        answer, _ = ask(matter, self._picture)
        self._before, self._now = ([torch.zeros_like(part) for part in answer] for _ in range(2))
        samples = sum(height * width for height, width in eye.form.shapes)
        kind = torch.uint8 if eye.form.depth == 8 else torch.uint16
        self._levels = torch.empty(samples, dtype=kind, device=eye.device)
        self._alone = torch.ones((), dtype=torch.bool, device=eye.device)
        self._begins = True

    @torch.inference_mode()
    def mark(self, begins: bool) -> None:
        """The frame made is mended unless a scene begins with it or with the next."""
        self._alone.fill_(begins or self._begins)
        self._begins = begins

    @torch.inference_mode()
    def __call__(self, inputs: Inputs) -> Tensor:
        levels, behind, picture = inputs
        seen = self._eye(self._eye.planes(levels)) if picture is None else image(picture)
        after, _ = ask(self._matter, seen)
        answer = mended(Answer(*self._before), Answer(*self._now), after, self._picture, self._alone)
        made = self._composer(self._levels, answer, behind)
        kept, new = (*self._before, *self._now, self._picture, self._levels), (*self._now, *after, seen, levels)
        for old, one in zip(kept, new, strict=True):
            old.copy_(one)
        return made

"""From planes on a device to the network's answer there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mattecli.inference.frames import FLICKER
from mattecli.inference.network import Matter
from mattecli.inference.on_device.tensors import averaging, fit, resize
from mattecli.inference.planes import Size
from mattecli.media.clips.planes.frame import Format


class Planes(NamedTuple):
    """Levels of a frame: `luma` `[1, 1, H, W]`, `chroma` `[1, 2, h, w]`, `own`: its own alpha, like luma, or None."""

    luma: Tensor
    chroma: Tensor
    own: Tensor | None


class Answer(NamedTuple):
    """As `network.Coarse`: `alpha` `[1, 1, h, w]`; `slope` `[1, 3, …]` and `intercept` `[1, 1, …]` of any size."""

    alpha: Tensor
    slope: Tensor
    intercept: Tensor


class Eye:
    """What the network sees of frames of `form`: R′G′B′ `[1, 3, h, w]` in [0, 1] at its `size`, averaged by area.

    Levels are computed in `number`. Averaging is a product with a matrix on either side, each plane from its own size:
    what a GPU does best.
    """

    def __init__(self, form: Format, size: Size, number: torch.dtype, device: torch.device) -> None:
        self.form, self.size, self.number, self.device = form, size, number, device
        self._top = float((1 << form.depth) - 1)
        self._shrinkers = [
            [
                torch.from_numpy(averaging(samples, goal)).to(device, number)
                for samples, goal in zip(shape, size, strict=True)
            ]
            for shape in form.shapes[:2]
        ]
        matrix, offset = form.colour.to_rgb(form.depth)
        self._matrix = torch.from_numpy(matrix).to(device, torch.float32)
        self._offset = torch.from_numpy(offset).to(device, torch.float32)[:, None]

    def planes(self, levels: Tensor) -> Planes:
        """Of `levels` `[samples]`, one plane behind the other; alpha may be left out."""
        (height, width), (high, wide), *_ = self.form.shapes
        luma, chroma, own = torch.tensor_split(
            levels.to(self.number), (height * width, height * width + 2 * high * wide)
        )
        full = 1, 1, height, width
        return Planes(luma.view(full), chroma.view(1, 2, high, wide), own.view(full) if len(own) else None)

    def __call__(self, planes: Planes) -> Tensor:
        """The picture. What is transparent is seen over white, as `Frame.view` shows it."""
        levels = torch.cat((self.luma(planes.luma), self._shrunk(planes.chroma, 1)), 1)
        rgb = (self._matrix @ levels.flatten(2) + self._offset).clamp(0, 1).view_as(levels)
        return rgb if planes.own is None else 1 + (rgb - 1) * (self.luma(planes.own) / self._top)

    def luma(self, plane: Tensor) -> Tensor:
        """`[1, 1, H, W]` at the network's size, in float32."""
        return self._shrunk(plane, 0)

    def _shrunk(self, planes: Tensor, which: int) -> Tensor:
        rows, columns = self._shrinkers[which]
        return (rows @ planes @ columns.T).float()


def image(picture: Tensor) -> Tensor:
    """`[1, 3, h, w]` in [0, 1] of `[h, w, 3]` uint8."""
    return picture.permute(2, 0, 1)[None].float() / 255


def ask(
    matter: Matter, picture: Tensor, state: tuple[Tensor, ...] | None = None
) -> tuple[Answer, tuple[Tensor, ...] | None]:
    """The network's answer to `picture` `[1, 3, h, w]`, and what it remembers; a slope it doesn't give is fitted."""
    prediction = matter.run(picture.contiguous(memory_format=torch.channels_last), state)
    alpha = prediction.alpha.float().clamp(0, 1)
    if "slope" in prediction.maps:
        guides = prediction.maps["slope"].float(), prediction.maps["intercept"].float()
    else:
        guides = fit(picture, alpha)
    return Answer(alpha, *guides), prediction.state


def mended(before: Answer, now: Answer, after: Answer, picture: Tensor, alone: Tensor) -> Answer:
    """`now` without what its neighbours agree is flicker, as by `frames.follow`; as it is if `alone` (bool `[]`).

    All of it has alpha's size then, whether there is flicker or not.
    """
    first, alpha, last = before.alpha, now.alpha, after.alpha
    differs = ((alpha - first).abs() > FLICKER) & ((alpha - last).abs() > FLICKER)
    flicker = differs & ((first - last).abs() <= FLICKER) & ~alone
    size = alpha.shape[-2:]
    alpha = torch.where(flicker, (first + last) / 2, alpha)
    around = (resize(before.slope, *size) + resize(after.slope, *size)) / 2
    slope = torch.where(flicker, around, resize(now.slope, *size))
    intercept = alpha - (slope * picture).sum(1, keepdim=True)
    return Answer(alpha, slope, torch.where(flicker, intercept, resize(now.intercept, *size)))

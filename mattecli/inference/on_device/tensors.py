"""What `inference.planes`, `spill.fill` and `guided` do with arrays, done with tensors `[N, C, H, W]` on any device."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mattecli.inference.guided import EPSILON
from mattecli.inference.planes import Floats, Size, steps
from mattecli.inference.rendering import RIDGE
from mattecli.inference.spill import WIDEST
from mattecli.media.clips.planes.frame import Format


def shrink(x: Tensor, by: Size) -> Tensor:
    """Averaged over `by` samples; past the last row and column they repeat."""
    return x if by == (1, 1) else F.avg_pool2d(pad(x, by), by)


def subsample(x: Tensor, form: Format) -> Tensor:
    """As `media.clips.planes.colour.subsample`: of luma's size, where `form` has its chroma samples."""
    return shrink(_between(pad(x, steps(form)), form, behind=False), steps(form))


def whole(x: Tensor, form: Format) -> Tensor:
    """Planes of chroma's size bilinearly at luma's, from where `form` has its samples."""
    by, on = steps(form), _on_pixels(form)
    for axis, step, sited in zip((-2, -1), by, on, strict=True):
        x = x.repeat_interleave(step, axis) if sited else x
    rest = [1 if sited else step for step, sited in zip(by, on, strict=True)]
    return enlarge(_between(x, form, behind=True), (rest[0], rest[1]), form.height, form.width)


def _on_pixels(form: Format) -> tuple[bool, bool]:
    """Whether rows, and columns, of chroma samples lie on every other pixel."""
    rows, columns = (step == 2 and at != 0.5 for step, at in zip(steps(form), form.siting[::-1], strict=True))
    return rows, columns


def _between(x: Tensor, form: Format, behind: bool) -> Tensor:
    """On the axes on which chroma lies on pixels, means of two neighbours: towards its pixels, or from them."""
    on = _on_pixels(form)
    if not any(on):
        return x
    sides = [
        int(sited and (at == end) != behind) for sited, at in zip(on[::-1], form.siting, strict=True) for end in (0, 1)
    ]
    return F.avg_pool2d(F.pad(x, sides, mode="replicate"), [1 + sited for sited in on], 1)


def bilinear(samples: int, places: Floats) -> Floats:
    """Weights `[places, samples]` that interpolate at `places`; beyond the border its samples repeat."""
    apart = np.abs(places.clip(0, samples - 1)[:, None] - np.arange(samples))
    return np.asarray(np.maximum(0, 1 - apart), np.float32)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinearly, pixel centres at halves."""
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def enlarge(x: Tensor, by: Size, height: int, width: int) -> Tensor:
    """Bilinearly `by` whole factors, and cut to `height` × `width`."""
    return resize(x, x.shape[-2] * by[0], x.shape[-1] * by[1])[..., :height, :width]


def pad(x: Tensor, to: Size) -> Tensor:
    """With the last row and column repeated until they are multiples of `to`."""
    rows, columns = -x.shape[-2] % to[0], -x.shape[-1] % to[1]
    return F.pad(x, (0, columns, 0, rows), mode="replicate") if rows or columns else x


def mean(x: Tensor, mode: str = "replicate") -> Tensor:
    """Over 3 × 3 samples; `mode` says what lies beyond the border."""
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode=mode), 3, 1)


def fill(weighted: Tensor, weight: Tensor) -> Tensor:
    """As `spill.fill`: Σ w·I / Σ w `[N, C, h, w]`, with `weight` `[N, 1, h, w]`."""
    if max(weight.shape[-2:]) > WIDEST:
        coarse = shrink(torch.cat((weighted, weight), 1), (4, 4))
        wider = enlarge(fill(coarse[:, :-1], coarse[:, -1:]), (4, 4), *weight.shape[-2:])
    else:
        wider = weighted.sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
    known = weighted / weight
    return wider + weight.clamp(max=1) * (known - wider)


def averaging(samples: int, goal: int) -> Floats:
    """Weights `[goal, samples]` that bring so many samples to `goal`: by area, or bilinear where those are more."""
    if goal > samples:
        return bilinear(samples, (np.arange(goal) + 0.5) * samples / goal - 0.5)
    edges, first = np.arange(goal + 1) * samples / goal, np.arange(samples)
    shared = np.minimum(edges[1:, None], first + 1) - np.maximum(edges[:-1, None], first)
    return np.asarray(np.maximum(0, shared) * goal / samples, np.float32)


def gaussian(samples: int, sigma: float) -> Floats:
    """Weights `[samples, samples]` of a Gaussian out to 4 `sigma`; beyond the border its samples repeat."""
    reach = round(4 * sigma)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    weights = np.zeros((samples, samples))
    for offset, share in zip(offsets, kernel / kernel.sum(), strict=True):
        np.add.at(weights, (np.arange(samples), (np.arange(samples) + offset).clip(0, samples - 1)), share)
    return weights.astype(np.float32)


def fit(image: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """As `guided.fit`: slope `[1, 3, h, w]`, intercept `[1, 1, h, w]` of `alpha` on `image` `[1, 3, h, w]`."""
    guide, target = image.double(), alpha.double()
    centre = mean(guide)
    covariance = mean(guide * target) - centre * mean(target)
    rows = [mean(guide * guide[:, c : c + 1]) - centre * centre[:, c : c + 1] for c in range(3)]
    for c, row in enumerate(rows):
        row[:, c] += EPSILON
    adjugate = [torch.linalg.cross(rows[(c + 1) % 3], rows[(c + 2) % 3], dim=1) for c in range(3)]
    determinant = (rows[0] * adjugate[0]).sum(1, keepdim=True)
    solved = [covariance[:, c : c + 1] * adjugate[c] for c in range(3)]
    slope = mean((solved[0] + solved[1] + solved[2]) / determinant)
    return slope.float(), (target - (slope * guide).sum(1, keepdim=True)).float()


def fit_grey(guide: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The same on one plane `[1, 1, h, w]`, as `rendering.in_levels` has it for HDR."""
    centre = mean(guide)
    slope = mean((mean(guide * alpha) - centre * mean(alpha)) / (mean(guide * guide) - centre * centre + float(RIDGE)))
    return slope, alpha - slope * guide

"""How steady a clip's mattes are: dtSSD and MESSDdt (Erofeev et al. 2015), on pairs of neighbouring frames.

A frame is `(prediction, truth)`, two mattes `[H, W]` as `mattecli.evaluation.metrics` takes them; the whole picture
counts. Published code disagrees on the scale, so each value has a name of its own:

- `dtssd` is RVM's: 100 · √mean((Δprediction − Δtruth)²) of a pair, Δ the change from one frame to the next,
  averaged over the T − 1 pairs;
- `dtssd_rvm` is `dtssd` · (T − 1) / T, what RVM's published tables hold: they count the first frame as 0;
- `messddt` is Erofeev's sum Σ|(p − g)²(x) at t − (p − g)²(x + v(x)) at t + 1| of a pair, averaged over the pairs;
- `messddt_mean` is the same as a mean over pixels · 10⁴, the scale of MaGGIe's tables, which does not grow with size.

v is Farneback's optical flow of the ground truth with the parameters of Deep Video Matting's code, and x + v is
rounded and kept inside the picture. The look-ups of Deep Video Matting and MaGGIe swap rows and columns and always
read the same frame; these do not, so MESSDdt compares with values of this program only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import cv2
import numpy as np

from mattecli.evaluation import metrics
from mattecli.evaluation.metrics import METRICS, Plane
from mattecli.evaluation.workers import Map

Frame: TypeAlias = tuple[Plane, Plane]
"""The prediction and the ground truth `[H, W]` of one frame."""
Neighbours: TypeAlias = tuple[Frame | None, Frame]
"""A frame and the one before it, None for the first."""

CLIP_METRICS = (*METRICS, "dtssd", "dtssd_rvm", "messddt", "messddt_mean")


def measure(frames: Iterable[Frame], apply: Map = map) -> dict[str, float]:
    """All of `CLIP_METRICS` by name: the image metrics averaged over frames, the others over pairs of them.

    `frames` is read once and only the frame before is kept. `apply` stands for `map`, say in several threads. Raises
    ValueError for less than two frames, or mattes of different sizes.
    """
    count, totals = 0, dict.fromkeys((*METRICS, "dtssd", "messddt", "messddt_mean"), 0.0)
    for scores in apply(_measure, _neighbours(frames)):
        count += 1
        for name, score in scores.items():
            totals[name] += score
    if count < 2:
        raise ValueError("a clip has two frames or more")
    means = {name: total / (count if name in METRICS else count - 1) for name, total in totals.items()}
    means["dtssd_rvm"] = totals["dtssd"] / count
    return {name: means[name] for name in CLIP_METRICS}


def dtssd(before: Frame, now: Frame) -> float:
    """100 · root mean square of the difference between the predicted and the true change of one pair."""
    (p0, g0), (p1, g1) = _floats(before), _floats(now)
    return 100 * float(np.sqrt(np.square((p1 - p0) - (g1 - g0)).mean(dtype=np.float64)))


def messddt(before: Frame, now: Frame) -> float:
    """Sum over pixels of the change of the squared error along the motion of the ground truth, of one pair."""
    (p0, g0), (p1, g1) = _floats(before), _floats(now)
    return float(np.abs(np.square(p0 - g0) - _followed(np.square(p1 - g1), g0, g1)).sum(dtype=np.float64))


def _neighbours(frames: Iterable[Frame]) -> Iterator[Neighbours]:
    before: Frame | None = None
    for now in frames:
        yield before, now
        before = now


def _measure(neighbours: Neighbours) -> dict[str, float]:
    before, now = neighbours[0], _floats(neighbours[1])
    scores = metrics.measure(*now)
    if before is not None:
        before = _floats(before)
        total = messddt(before, now)
        scores |= {"dtssd": dtssd(before, now), "messddt": total, "messddt_mean": total / now[1].size * 1e4}
    return scores


def _floats(frame: Frame) -> Frame:
    prediction, truth = (metrics.as_float(plane) for plane in frame)
    return prediction, truth


def _followed(error: Plane, before: Plane, now: Plane) -> Plane:
    """The `error` of the frame `now` at the place to which each pixel of the frame `before` has moved."""
    first, second = (np.rint(plane * 255).astype(np.uint8) for plane in (before, now))
    if np.array_equal(first, second):
        return error  # the flow of a picture that rests is exactly zero
    motion = cv2.calcOpticalFlowFarneback(
        first,
        second,
        None,  # type: ignore[call-overload]
        pyr_scale=0.5,
        levels=5,
        winsize=10,
        iterations=2,
        poly_n=7,
        poly_sigma=1.5,
        flags=cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
    )
    goals = np.empty(motion.shape, np.int16)
    height, width = error.shape
    for axis, places in enumerate((np.arange(width), np.arange(height)[:, None])):
        goals[..., axis] = np.rint(motion[..., axis] + places)
    followed: Plane = cv2.remap(error, goals, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return followed

"""A clip for `bench video`, made when it is needed: a person before a scene, both of which move.

The person is `assets/portrait.jpg` cut out (closed-form matting on a trimap corrected by hand), so that a network has
something to find; the scene has detail at every size, as photos have, so that an encoder has something to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.media.clips.planes.colour import subsample, to_planes
from mattecli.media.clips.planes.frame import LEFT, Format, Plane
from mattecli.media.clips.planes.swscale import picture_of
from mattecli.media.clips.writing.packing import tag

Picture = NDArray[Any]
"""`HxWx3` RGB, uint8."""
PERSON = Path(__file__).with_name("person.webp")
TALL = 0.95
"""The person's height, of the frame's."""
GRAIN = 8
"""Levels."""


def make_clip(path: Path, frames: int, size: tuple[int, int] = (1080, 1920)) -> Path:
    """A person who wanders before a scene that pans, with grain: H.264, 30 frames a second; `size` is even."""
    height, width = size
    form = Format(height, width, siting=LEFT)
    wide = Format(height, 2 * width, siting=LEFT)
    scenery = to_planes(scene(height, 2 * width), wide)
    front, alphas = _person(round(height * TALL / 2) * 2)
    room = width - alphas[0].shape[1]
    random = np.random.default_rng(0)
    grain = [random.integers(0, GRAIN, size, dtype=np.uint8) for _ in range(8)]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", 30, {"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.thread_type = width, height, "yuv420p", "AUTO"
        tag(stream.codec_context, form.colour)
        for number in range(frames):
            pan, at = _even(width / 2 * (1 - np.cos(number / 60))), _even(room / 2 * (1 + np.sin(number / 40)))
            planes = [plane[:, pan // step : pan // step + width // step].copy() for plane, step in _stepped(scenery)]
            for (plane, step), own, alpha in zip(_stepped(planes), front, alphas, strict=True):
                _put(own, alpha, plane[-alpha.shape[0] :, at // step : at // step + alpha.shape[1]])
            cv2.add(planes[0], grain[number % len(grain)], planes[0])
            container.mux(stream.encode(picture_of(planes, "yuv420p")))
        container.mux(stream.encode(None))
    return path


def scene(height: int, width: int, seed: int = 0) -> Picture:
    """Clouds of colour in octaves, each half as large as the one before and as strong, as the spectrum of photos is."""
    random = np.random.default_rng(seed)
    made = np.full((height, width, 3), 0.5, np.float32)
    cell = max(height, width) // 2
    while cell >= 2:
        shape = height // cell + 2, width // cell + 2
        octave = 0.07 * random.standard_normal((*shape, 1)) + 0.025 * random.standard_normal((*shape, 3))
        made += cv2.resize(octave.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        cell //= 2
    levels: Picture = np.rint(made.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _person(height: int) -> tuple[list[Plane], list[Plane]]:
    """Y, Cb and Cr of the person `height` pixels tall, and the alpha of each plane."""
    rgba: Any = cv2.imdecode(np.frombuffer(PERSON.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    rgba = cv2.cvtColor(rgba, cv2.COLOR_BGRA2RGBA).astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:] / 255  # nothing of what is transparent shall be mixed in
    width = _even(rgba.shape[1] * height / rgba.shape[0])
    way = cv2.INTER_AREA if height < rgba.shape[0] else cv2.INTER_CUBIC
    rgba = cv2.resize(rgba, (width, height), interpolation=way).clip(0, 255)
    rgb = (rgba[..., :3] * 255 / np.maximum(rgba[..., 3:], 1)).clip(0, 255)
    form = Format(height, width, siting=LEFT)
    alpha = np.rint(rgba[..., 3]).astype(np.uint8)
    tint = subsample(alpha, form)
    return to_planes(np.rint(rgb).astype(np.uint8), form), [alpha, tint, tint]


def _put(front: Plane, alpha: Plane, plane: Plane) -> None:
    """α · `front` + (1 − α) · `plane`, in place."""
    behind = cv2.multiply(plane, cv2.bitwise_not(alpha), scale=1 / 255)
    plane[...] = cv2.add(cv2.multiply(front, alpha, scale=1 / 255), behind)


def _stepped(planes: list[Plane]) -> list[tuple[Plane, int]]:
    """With the columns of luma that a sample stands for."""
    return list(zip(planes, (1, 2, 2), strict=True))


def _even(number: float) -> int:
    return round(number / 2) * 2

"""Self-training: a network marks the people in photos of which only boxes around them are known.

It sees every person alone, in a crop around their box, and then the whole photo. What it says counts only where it
fits the box: the subject found there reaches to all four sides and hardly beyond the boxes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli import atomic
from mattecli.inference.network import Matter
from mattecli.media.photos import encode
from mattecli.mixing.labels import outside_boxes
from mattecli.mixing.sources import Picture, Pixels, Source, items, read

SURROUNDINGS = 0.25
"""What the network sees of the scene on each side of a box, as a share of the box's side."""
REACH = 0.12
"""How far the subject may end from a side of its box, as a share of the box's side."""
BEYOND = 0.03
"""How much of the subject may lie outside all boxes."""
FILLED = 0.2
"""How much of its box the subject covers at least."""
SURE = 0.1
"""Alpha below this is background, above one minus this is subject."""

Map = NDArray[np.float32]
Box = tuple[float, float, float, float]


def mark(folder: Path, out: Path, matter: Matter, said: Callable[[str], None]) -> None:
    """Write `out`/trimaps/NAME.png for the photos of `folder` (images/ and boxes/) in which somebody's box was met.

    255 is subject, 0 background (outside all boxes, too), 128 unknown: uncertain, or a box that was not met. The folder
    appears when it is whole; one that is there is left as it is. `said` hears how far it is.
    """
    done, growing = out / "trimaps", out / "trimaps.part"
    if done.is_dir():
        return
    shutil.rmtree(growing, ignore_errors=True)
    photos, _ = items(Source("self-training", "boxes", "."), folder, Path())
    count = 0
    for number, item in enumerate(photos, 1):
        known = trimap(read(item), matter)
        if known is not None:
            atomic.write(growing / f"{item.image.stem}.png", encode(known, ".png"))
            count += 1
        if number % 100 == 0 or number == len(photos):
            said(f"{number} of {len(photos)} photos of {folder.name} looked at, people marked in {count}")
    growing.mkdir(parents=True, exist_ok=True)
    growing.rename(done)


def trimap(picture: Picture, matter: Matter) -> Pixels | None:
    """The trimap `[H, W]` {0, 128, 255} of a photo with boxes, or None if the network met none of them."""
    shape = (picture.rgb.shape[0], picture.rgb.shape[1])
    outside = outside_boxes(shape, picture.boxes) > 0
    whole = _alpha(picture.rgb, matter)
    subject, missed = np.zeros(shape, bool), np.zeros(shape, bool)
    background, met = outside.copy(), False
    for box in picture.boxes:
        x0, y0, x1, y1 = (float(share) * shape[(axis + 1) % 2] for axis, share in enumerate(box))
        view = _around(y0, y1, shape[0]), _around(x0, x1, shape[1])
        inside = outside_boxes(shape, box[None])[view] == 0
        alone = _alpha(picture.rgb[view], matter)
        own = (x0 - view[1].start, y0 - view[0].start, x1 - view[1].start, y1 - view[0].start)
        if not _fits(alone, inside, ~outside[view], own):
            missed[view] |= inside
            continue
        met = True
        subject[view] |= inside & (np.minimum(alone, whole[view]) > 1 - SURE)
        background[view] |= inside & (np.maximum(alone, whole[view]) < SURE)
    known = np.where(subject, 255, np.where(background & ~missed, 0, 128))
    return known.astype(np.uint8) if met else None


def _alpha(rgb: Pixels, matter: Matter) -> Map:
    """The mean of what the network says of a picture and of its mirror image."""
    mirrored = matter.matte(np.ascontiguousarray(rgb[:, ::-1]))[:, ::-1]
    return np.asarray((matter.matte(np.ascontiguousarray(rgb)) + mirrored) / 2, dtype=np.float32)


def _around(start: float, end: float, side: int) -> slice:
    more = SURROUNDINGS * (end - start)
    return slice(max(0, int(start - more)), min(side, int(np.ceil(end + more))))


def _fits(alpha: Map, inside: NDArray[np.bool_], boxes: NDArray[np.bool_], box: Box) -> bool:
    """Whether the largest part of the subject `inside` its box reaches its sides and hardly any lies beyond `boxes`."""
    found = alpha > 0.5
    count, _, stats, _ = cv2.connectedComponentsWithStats((found & inside).astype(np.uint8))
    if count < 2 or (found & ~boxes).sum() > BEYOND * found.sum():
        return False
    x, y, w, h, area = (int(value) for value in stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))])
    width, height = box[2] - box[0], box[3] - box[1]
    aside = max(abs(x - box[0]), abs(x + w - box[2])) / width
    above = max(abs(y - box[1]), abs(y + h - box[3])) / height
    return max(aside, above) < REACH and area > FILLED * width * height

"""Rendered solids in random shapes, colours and gloss: things that people hold, and things that stand behind them.

Photos with masks show few of either, and what tells them apart, which of two hides the other, looks the same for any
thing. Pictures are uint8 RGB `[H, W, 3]`, alphas uint8 `[H, W]`.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.mixing.batch import Label
from mattecli.mixing.composition import composite
from mattecli.mixing.scene import unit
from mattecli.mixing.sources import Picture, Pixels

Floats = NDArray[np.float32]
Generator = np.random.Generator

HELD_AT = (0.0, 0.75)
"""Where hats and hands are: from the top of a subject's box to its bottom."""
SURE = 200
"""What alpha a subject is above, in 0…255: an unknown part of a trimap is none."""
TOUCHING = 0.25
"""Least share of a held thing that hides its subject."""


def held(picture: Picture, texture: Pixels, rng: Generator) -> Picture:
    """The picture with a thing before its subject, to whom it then belongs, somewhere at its edge."""
    assert picture.alpha is not None
    subject = picture.alpha > SURE
    _, y, w, h = cv2.boundingRect(subject.astype(np.uint8))
    top, bottom = (y + round(share * h) for share in HELD_AT)
    edge = subject & ~cv2.erode(subject.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    rows, columns = np.nonzero(edge[top : bottom + 1])
    if not rows.size:
        return picture
    side = float(min(w, 0.5 * h) * np.exp(rng.uniform(np.log(0.3), np.log(1.2))))
    colours, own = solid(side, texture, rng)
    cover = np.zeros(picture.alpha.shape, np.float32)
    for _ in range(4):
        at = rng.integers(rows.size)
        dx, dy = rng.uniform(-0.4, 0.4, 2) * side
        thing, cover = _placed(colours, own, cover.shape, columns[at] + dx, rows[at] + top + dy)
        if cover[subject].sum() >= TOUCHING * own.sum():
            break
    else:
        return picture
    before: Floats = unit(picture.alpha)
    alpha: Floats = before + cover - before * cover
    foreground = picture.foreground
    if foreground is not None:
        share = np.asarray(cover / np.maximum(alpha, np.float32(1e-4)), np.float32)
        foreground = _whole(composite(share[..., None], thing, foreground.astype(np.float32)))
    rgb = _whole(composite(cover[..., None], thing, picture.rgb.astype(np.float32)))
    return replace(picture, rgb=rgb, alpha=_whole(255 * alpha), foreground=foreground)


def behind(picture: Picture, texture: Pixels, rng: Generator) -> Picture:
    """The picture with a thing behind its subject, whose clean colours must be known."""
    assert picture.alpha is not None and picture.foreground is not None and picture.label == Label.MATTE
    alpha = unit(picture.alpha)[..., None]
    x, y, w, h = cv2.boundingRect((picture.alpha > 127).astype(np.uint8))
    side = float(min(w, 0.5 * h) * np.exp(rng.uniform(np.log(0.25), np.log(2.0))))
    colours, own = solid(max(side, 4.0), texture, rng)
    thing, cover = _placed(
        colours, own, picture.alpha.shape, x + rng.uniform(-0.2, 1.2) * w, y + rng.uniform(0.0, 1.1) * h
    )
    hidden = composite(alpha, picture.foreground.astype(np.float32), thing)
    return replace(picture, rgb=_whole(composite(cover[..., None], hidden, picture.rgb.astype(np.float32))))


def standing(scenery: Pixels, texture: Pixels, rng: Generator) -> Pixels:
    """Scenery with one to three things in it."""
    height, width = scenery.shape[:2]
    for _ in range(rng.integers(1, 4)):
        side = min(height, width) * float(np.exp(rng.uniform(np.log(0.1), np.log(0.8))))
        colours, own = solid(side, texture, rng)
        thing, cover = _placed(colours, own, (height, width), rng.uniform(0, width), rng.uniform(0.1, 1.1) * height)
        scenery = _whole(composite(cover[..., None], thing, scenery.astype(np.float32)))
    return scenery


def solid(side: float, texture: Pixels, rng: Generator) -> tuple[Floats, Floats]:
    """Colours `[S, S, 3]` in 0…255 and alpha `[S, S]` in [0, 1] of a thing `side` pixels across, lit from above.

    Its outline is a superellipse, often dented; its surface has one to three paints, or a piece of `texture`; if it is
    glossy it has a highlight and mirrors the texture.
    """
    size = max(8, round(side))
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1
    x, y = np.meshgrid(axis, axis)
    turn = rng.uniform(0, np.pi)
    narrow = rng.uniform(0.06, 0.2) if rng.random() < 0.15 else float(np.exp(rng.uniform(np.log(0.35), 0)))
    u, v = np.cos(turn) * x + np.sin(turn) * y, (np.cos(turn) * y - np.sin(turn) * x) / narrow
    depth = np.hypot(u, v) / _outline(np.arctan2(v, u), rng)  # 0 at the centre, 1 at the edge
    dy, dx = np.gradient(depth)
    alpha = np.clip(0.5 + (1 - depth) / np.maximum(np.hypot(dx, dy), 1e-6), 0, 1).astype(np.float32)

    piece = cv2.resize(_piece(texture, rng), (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    colours = np.broadcast_to(_paint(rng), (size, size, 3)).astype(np.float32)
    if rng.random() < 0.35:
        colours = piece
    for _ in range(rng.integers(0, 3)):
        heading, edge = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.7)
        part = depth < edge + 0.2 if rng.random() < 0.4 else np.cos(heading) * u + np.sin(heading) * v > edge
        colours = np.where(part[..., None], _paint(rng), colours)

    bulge = np.exp(rng.uniform(np.log(2), np.log(14)))
    relief = np.sqrt(np.maximum(1 - np.minimum(depth, 1) ** bulge, 1e-4))
    zy, zx = np.gradient(relief * size * rng.uniform(0.3, 0.6))
    normal = np.stack((-zx, -zy, np.ones_like(zx)), -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.array([rng.normal(0, 0.5), rng.uniform(-1.2, 0.1), rng.uniform(0.4, 1.2)])
    light /= np.linalg.norm(light)
    ambient = rng.uniform(0.3, 0.8)
    lit = colours * (ambient + (1 - ambient) * np.maximum(normal @ light, 0))[..., None]
    if rng.random() < 0.5:
        places = [np.asarray((normal[..., a] + 1) * (size / 2 - 0.5), np.float32) for a in (0, 1)]
        mirrored = cv2.remap(cv2.blur(piece, (3, 3)), places[0], places[1], cv2.INTER_LINEAR)
        half = light + np.array([0.0, 0.0, 1.0])
        shine = np.maximum(normal @ (half / np.linalg.norm(half)), 0) ** np.exp(rng.uniform(np.log(8), np.log(300)))
        lit = lit + rng.uniform(0, 0.35) * mirrored + (rng.uniform(40, 255) * shine)[..., None]
    return np.clip(lit, 0, 255).astype(np.float32), alpha


def _outline(angle: Floats, rng: Generator) -> Floats:
    """Radius of the outline in each direction, at most 0.95: round, like a rounded box, or pointed; perhaps dented."""
    draw = rng.random()
    power = 2.0 if draw < 0.4 else rng.uniform(2.5, 8.0) if draw < 0.8 else rng.uniform(1.0, 1.6)
    radius = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
    if rng.random() < 0.5:
        for waves in range(2, 6):
            radius = radius * (1 + rng.normal(0, 0.05) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi)))
    return np.asarray(0.95 * radius / radius.max(), dtype=np.float32)


def _paint(rng: Generator) -> NDArray[np.float64]:
    """A colour in 0…255; a third of them are nearly black, a fifth nearly white."""
    draw = rng.random()
    if draw < 0.55:
        return np.asarray((rng.uniform(0, 45) if draw < 0.35 else rng.uniform(190, 255)) + rng.normal(0, 6, 3))
    return np.asarray(rng.uniform(0, 255, 3))


def _piece(texture: Pixels, rng: Generator) -> Pixels:
    """A square of the texture, from a tenth to all of its shorter side."""
    side = max(1, int(min(texture.shape[:2]) * rng.uniform(0.1, 1.0)))
    top, left = (int(rng.integers(0, texture.shape[axis] - side + 1)) for axis in (0, 1))
    return texture[top : top + side, left : left + side]


def _placed(colours: Floats, alpha: Floats, shape: tuple[int, ...], x: float, y: float) -> tuple[Floats, Floats]:
    """A solid with its centre at (x, y) of a picture of `shape`."""
    size = (shape[1], shape[0])
    matrix = np.array([[1.0, 0.0, x - alpha.shape[1] / 2], [0.0, 1.0, y - alpha.shape[0] / 2]])
    thing = cv2.warpAffine(colours, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(alpha, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(thing, np.float32), np.asarray(cover, np.float32)


def _whole(colours: Floats) -> Pixels:
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8)

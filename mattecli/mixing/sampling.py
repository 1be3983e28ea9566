"""Training batches and validation photos out of a mixture of sources.

Batch number i is a function of (seed, i) alone: any process can make it, and a resumed training sees what an
unbroken one would have seen.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mattecli.errors import UsageError
from mattecli.mixing import augment, labels, objects, scene
from mattecli.mixing.augment import Damage, Matrix
from mattecli.mixing.batch import Batch, Label
from mattecli.mixing.film import Film
from mattecli.mixing.scene import Layer, Shot, Stage
from mattecli.mixing.settings import DataSettings, Phase
from mattecli.mixing.sources import Item, Picture, Pixels, Source, items, read

CACHE_BYTES = 1_500_000_000
CUTS = 0.08
"""Share of the clips that are cut to another scene."""
ROOM = 1.3
"""Size of the background of a moving scene over that of the canvas."""

Choices = list[tuple[Source, list[Item]]]


@dataclass(frozen=True)
class Sample:
    """A validation photo: `image` uint8 `[H, W, 3]` RGB, `alpha` float32 `[H, W]` in [0, 1].

    `background` is its plate, as `image`, where batches have plates.
    """

    image: Pixels
    alpha: NDArray[np.float32]
    name: str
    background: Pixels | None = None


class Mixture:
    """Endless numbered batches and the photos kept aside for validation.

    With `held_out` the batches show, and have as scenery, only what is kept aside.
    """

    def __init__(self, data: DataSettings, root: Path, seed: int, held_out: bool = False) -> None:
        self.data, self.seed = data, seed
        self._aside: list[Item] = []
        self._layered = data.background != "none"
        subjects: Choices = []
        scenery: Choices = []
        scenery_aside: Choices = []
        for source in data.sources:
            train, aside = items(source, Path(root), Path(data.prepared))
            self._aside += aside if source.validate else []
            used = aside if held_out else train
            if source.weight > 0 and used:
                subjects.append((source, used))
            if source.scenery > 0 and used:
                scenery.append((source, used))
            if source.scenery > 0 and aside:
                scenery_aside.append((source, aside))
        if not subjects:
            left = "leaves nothing to train on: holdout keeps every photo aside"
            raise UsageError(f"The recipe's [data] {'keeps nothing aside' if held_out else left}.")
        composes = any(s.composed > 0 or s.kind == "rgba" for s, _ in subjects)
        if composes and not scenery:
            raise UsageError("The recipe composes samples but no source has scenery above 0.")
        self._subjects, self._scenery, self._scenery_aside = subjects, scenery, scenery_aside or scenery
        self._composed_share = _shares([s.weight * _composable(s) for s, _ in subjects])
        self._subject_share = self._composed_share if self._layered else _shares([s.weight for s, _ in subjects])
        if self._layered and not self._composed_share.any():
            raise UsageError(
                f"With background = '{data.background}' all samples are composed, but no source with mattes or masks "
                "has composed above 0."
            )
        self._cache: OrderedDict[Item, Picture] = OrderedDict()
        self._cached = 0

    def phase(self, index: int) -> Phase:
        return next((p for p in self.data.phases if index < p.until), self.data.phases[-1])

    def batch(self, index: int) -> Batch:
        """Batch number `index`; all its samples share one canvas."""
        rng = np.random.default_rng((self.seed, index))
        phase = self.phase(index)
        aspect = float(rng.choice(self.data.aspects))
        long, short = phase.size, max(32, round(phase.size * min(aspect, 1 / aspect) / 32) * 32)
        canvas = (short, long) if aspect > 1 else (long, short)
        frames = phase.frames if phase.frames > 1 and rng.random() < self.data.clips else 1
        stage = Stage(canvas, frames, rng, self.data.background)
        return _stack([self._sample(stage, phase) for _ in range(phase.batch // frames)])

    def validation(self) -> Iterator[Sample]:
        """The photos kept aside, in order, at their own size.

        Where batches have plates, the subjects of these photos where they are, before scenery that is kept aside (or
        any, if none is), with its plate.
        """
        for number, item in enumerate(self._aside):
            picture = read(item)
            if picture.alpha is None:
                continue
            rgb, alpha, plate = picture.rgb, scene.unit(picture.alpha), None
            if self.data.background == "plate":
                canvas = (rgb.shape[0], rgb.shape[1])
                stage = Stage(canvas, 1, np.random.default_rng((self.seed, number, 1)), "plate")
                subject = scene.layer(picture, np.eye(2, 3), stage)
                ((rgb, alpha, _, _, plate),) = scene.composed(
                    [subject], self._background(stage, self._scenery_aside), stage
                )
            yield Sample(rgb, alpha, f"{item.source.name}/{item.image.stem}", plate)

    def _sample(self, stage: Stage, phase: Phase) -> dict[str, NDArray[Any]]:
        """One photo, or one clip with the frames as first dimension."""
        turns = int(stage.rng.choice((1, 3))) if self.data.turned and stage.rng.random() < self.data.turned else 0
        if turns:
            stage = replace(stage, canvas=(stage.canvas[1], stage.canvas[0]))
        slowest, fastest = np.log(self.data.motion)
        if stage.frames > 1 and slowest < fastest:
            stage = replace(stage, motion=float(np.exp(stage.rng.uniform(slowest, fastest))))
        shots, label = self._clip(stage, phase)
        if stage.frames > 1 and stage.rng.random() < CUTS:
            other, other_label = self._clip(stage, phase)
            at = int(stage.rng.integers(1, stage.frames))
            shots, label = [*shots[:at], *other[at:]], min(label, other_label)
        fields = [_fields([np.ascontiguousarray(np.rot90(p, turns)) for p in shot], label) for shot in shots]
        return fields[0] if stage.frames == 1 else {k: np.stack([f[k] for f in fields]) for k in fields[0]}

    def _clip(self, stage: Stage, phase: Phase) -> tuple[list[Shot], Label]:
        rng = stage.rng
        source, choices = self._subjects[rng.choice(len(self._subjects), p=self._subject_share)]
        picture = self._read(choices[rng.integers(len(choices))])
        if picture.alpha is not None and (self._layered or source.kind == "rgba" or rng.random() < source.composed):
            shots, label = self._composed(picture, stage)
        else:
            picture = self._with_object(picture, stage.rng, in_place=True)
            shots, label = scene.in_place(picture, self._view(picture, stage, phase), stage), picture.label
        if self.data.film and rng.random() < self.data.film:
            film = Film.draw(rng)
            shots = itertools.starmap(film.show, shots)
        damage = Damage.draw(rng)
        if stage.frames > 1 and damage.noise is None:  # what makes alphas flicker
            damage = replace(damage, noise=float(np.exp(rng.uniform(np.log(5e-4), np.log(2e-2)))))
        return [(damage.apply(rgb, rng), *planes) for rgb, *planes in shots], label

    def _view(self, picture: Picture, stage: Stage, phase: Phase) -> Matrix:
        size = (picture.rgb.shape[0], picture.rgb.shape[1])
        return augment.view(size, stage.canvas, _box(picture), stage.rng, phase.closeup, self.data.tilt)

    def _composed(self, picture: Picture, stage: Stage) -> tuple[Iterator[Shot], Label]:
        """One to three subjects over another background, each in its own light."""
        layers: list[Layer] = []
        behind = self._background(stage, self._scenery)
        for number in range(3):
            box = _box(picture)
            if box is not None and picture.alpha is not None:
                picture = self._with_object(picture, stage.rng)
                box = _box(picture) or box
                size = (picture.rgb.shape[0], picture.rgb.shape[1])
                matrix = augment.placement(size, stage.canvas, box, stage.rng, self.data.tilt)
                layers.append(scene.layer(picture, matrix, stage))
            if number == 2 or stage.rng.random() >= self.data.groups:
                break
            picture = self._another(stage.rng)
        label = min((item.label for item in layers), default=Label.MATTE)
        return scene.composed(layers, behind, stage), label

    def _another(self, rng: np.random.Generator) -> Picture:
        _, choices = self._subjects[rng.choice(len(self._subjects), p=self._composed_share)]
        return self._read(choices[rng.integers(len(choices))])

    def _background(self, stage: Stage, scenery: Choices) -> Pixels:
        """A view of scenery, wider than the canvas where it will move; a photo's subjects are painted out."""
        rng, wider = stage.rng, 1.0 if stage.frames == 1 else ROOM
        canvas = (round(stage.canvas[0] * wider), round(stage.canvas[1] * wider))
        _, choices = scenery[rng.choice(len(scenery), p=_shares([s.scenery for s, _ in scenery]))]
        picture = self._read(choices[rng.integers(len(choices))])
        size = picture.rgb.shape[:2]
        matrix = augment.view(size, canvas, (0, 0, size[1], size[0]), rng, 0.5, self.data.tilt)
        rgb = augment.warp(picture.rgb, matrix, canvas)
        hide = _hidden(picture)
        if hide is not None:
            seen = augment.warp((hide * 255).astype(np.uint8), matrix, canvas)
            rgb = augment.paint_out(rgb, np.asarray(cv2.dilate(seen, np.ones((5, 5), np.uint8)), dtype=np.float32))
        if self.data.objects and rng.random() < self.data.objects:
            rgb = objects.standing(rgb, self._texture(rng), rng)
        return augment.relight(augment.defocus(rgb, rng), rng)

    def _with_object(self, picture: Picture, rng: np.random.Generator, in_place: bool = False) -> Picture:
        """Perhaps something rendered before the subject; in its own photo as often something behind it."""
        if not self.data.objects or picture.alpha is None or rng.random() >= self.data.objects:
            return picture
        if in_place and picture.foreground is not None and rng.random() < 0.5:
            return objects.behind(picture, self._texture(rng), rng)
        return objects.held(picture, self._texture(rng), rng)

    def _texture(self, rng: np.random.Generator) -> Pixels:
        _, choices = self._scenery[rng.choice(len(self._scenery), p=_shares([s.scenery for s, _ in self._scenery]))]
        return self._read(choices[rng.integers(len(choices))]).rgb

    def _read(self, item: Item) -> Picture:
        """Decoded, from memory if it was used lately."""
        picture = self._cache.pop(item, None)
        if picture is None:
            picture = read(item)
            self._cached += _bytes(picture)
        self._cache[item] = picture
        while self._cached > CACHE_BYTES and len(self._cache) > 1:
            self._cached -= _bytes(self._cache.popitem(last=False)[1])
        return picture


def _hidden(picture: Picture) -> NDArray[np.float32] | None:
    if picture.alpha is not None:
        return (picture.alpha > 2).astype(np.float32) if picture.alpha.any() else None
    if len(picture.boxes):
        shape = (picture.rgb.shape[0], picture.rgb.shape[1])
        return np.asarray(1 - labels.outside_boxes(shape, picture.boxes), dtype=np.float32)
    return None


def _box(picture: Picture) -> tuple[float, float, float, float] | None:
    """The subject's box in pixels."""
    height, width = picture.rgb.shape[:2]
    if picture.alpha is None:
        if not len(picture.boxes):
            return None
        x0, y0, x1, y1 = picture.boxes[0]
        return float(x0 * width), float(y0 * height), float(x1 * width), float(y1 * height)
    x, y, w, h = cv2.boundingRect((picture.alpha > 127).astype(np.uint8))
    return (float(x), float(y), float(x + w), float(y + h)) if w and h else None


def trimap(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """The trimap that training and validation show of `alpha`: a band of 1.5 percent of the shorter side."""
    return labels.trimap(alpha, max(2, round(0.015 * min(alpha.shape))))


def _composable(source: Source) -> float:
    """How probably a subject of `source` is composed."""
    return {"rgba": 1.0, "trimaps": 0.0, "boxes": 0.0, "unlabelled": 0.0}.get(source.kind, source.composed)


def _fields(shot: list[NDArray[Any]], label: Label) -> dict[str, NDArray[Any]]:
    rgb, alpha, known, *layers = shot
    colours = dict(zip(("image", "foreground", "background"), (rgb, *layers), strict=False))
    return {
        **{name: np.ascontiguousarray(pixels.transpose(2, 0, 1)) for name, pixels in colours.items()},
        "alpha": alpha[None],
        "known": known[None],
        "trimap": trimap(alpha)[None],
        "label": np.asarray(int(label)),
    }


def _stack(samples: list[dict[str, NDArray[Any]]]) -> Batch:
    stacked = {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]}
    stacked |= {key: value.float() / 255 for key, value in stacked.items() if value.dtype == torch.uint8}
    return Batch(**stacked, mask=(stacked["alpha"] > 0.5).float())


def _shares(weights: list[float]) -> NDArray[np.float64]:
    total = sum(weights)
    return np.asarray(weights, dtype=np.float64) / (total if total > 0 else 1.0)


def _bytes(picture: Picture) -> int:
    return sum(a.nbytes for a in (picture.rgb, picture.alpha, picture.foreground) if a is not None)

"""Training batches and validation photos out of a mixture of sources.

Batch number i is a function of (seed, i) alone: any process can make it, and a resumed training sees what an
unbroken one would have seen.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mattecli.errors import UsageError
from mattecli.mixing import augment, labels, scene
from mattecli.mixing.augment import Damage, Matrix
from mattecli.mixing.batch import Batch, Label
from mattecli.mixing.scene import Layer, Shot, Stage
from mattecli.mixing.sources import KINDS, Item, Picture, Pixels, Source, items, read

CACHE_BYTES = 1_500_000_000
CUTS = 0.08
"""Share of the clips that are cut to another scene."""
ROOM = 1.3
"""Size of the background of a moving scene over that of the canvas."""


@dataclass(frozen=True)
class Phase:
    """How large the samples are up to batch number `until` (exclusive; the last phase has no end)."""

    until: int
    size: int
    """Longer side of the canvas in pixels, a multiple of 32."""
    batch: int
    closeup: float = 0.4
    """Probability of a close-up (bust, face, detail) for a subject shown in its own photo."""
    frames: int = 1
    """Frames of a clip; a batch holds `batch` pictures all the same."""


@dataclass(frozen=True)
class DataSettings:
    """The `[data]` table of a recipe: which folders, how much of each, at what sizes."""

    sources: tuple[Source, ...]
    phases: tuple[Phase, ...]
    prepared: str = ""
    """Folder in which `labels` of the sources are found; relative to where the command runs."""
    tilt: float = 6.0
    """Standard deviation of the camera's roll in degrees."""
    clips: float = 1.0
    """Share of the batches that are clips, in phases with more than one frame."""
    groups: float = 0.25
    """Probability of a second (and then of a third) subject in a composed sample."""
    aspects: tuple[float, ...] = (0.667, 0.75, 1.0, 1.0, 1.5)
    """Width over height of the canvases, drawn evenly."""


@dataclass(frozen=True)
class Sample:
    """A validation photo: `image` uint8 `[H, W, 3]` RGB, `alpha` float32 `[H, W]` in [0, 1]."""

    image: Pixels
    alpha: NDArray[np.float32]
    name: str


def data_settings(table: dict[str, Any]) -> DataSettings:
    """Validate a `[data]` table. Raises UsageError naming the first key that is wrong."""
    table = dict(table)
    sources = tuple(_build(Source, t, "data.sources") for t in _tables(table, "sources"))
    phases = tuple(_build(Phase, t, "data.phases") for t in _tables(table, "phases"))
    if not sources or not phases:
        raise UsageError("The recipe's [data] needs at least one [[data.sources]] and one [[data.phases]].")
    for source in sources:
        if source.kind not in KINDS:
            raise UsageError(f"Source '{source.name}': kind '{source.kind}' is none of {', '.join(KINDS)}.")
        if min(source.weight, source.scenery, source.holdout) < 0 or not 0 <= source.composed <= 1:
            raise UsageError(f"Source '{source.name}': shares can't be negative, and composed lies in [0, 1].")
    for phase in phases:
        if phase.size % 32 or phase.size < 32:
            raise UsageError(f"data.phases: size {phase.size} is not a multiple of 32.")
        if phase.batch < 1:
            raise UsageError(f"data.phases: batch {phase.batch} is not 1 or more.")
        if not 1 <= phase.frames <= phase.batch:
            raise UsageError(f"data.phases: frames {phase.frames} is not between 1 and the batch of {phase.batch}.")
    if "aspects" in table:
        table["aspects"] = _aspects(table["aspects"])
    settings: DataSettings = _build(DataSettings, {**table, "sources": sources, "phases": phases}, "data")
    if not any(s.weight > 0 for s in sources):
        raise UsageError("The recipe's [data] has no source with a weight above 0.")
    return settings


def _tables(table: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = table.pop(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UsageError(f"data.{key} should be a list of tables ([[data.{key}]]), not {found!r}.")
    return found


def _aspects(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(a, int | float) and a > 0 for a in value):
        raise UsageError(f"data: 'aspects' should be a list of widths over heights above 0, not {value!r}.")
    return tuple(value)


_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def _build(kind: type, table: dict[str, Any], where: str) -> Any:
    types = {f.name: str(f.type) for f in fields(kind)}
    for key, value in table.items():
        if key not in types:
            raise UsageError(f"{where}: unknown key '{key}'. It knows {', '.join(types)}.")
        wanted: tuple[type, ...] = _TYPES.get(types[key], ())
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and types[key] != "bool")):
            raise UsageError(f"{where}: '{key}' should be {types[key]}, not {value!r}.")
    try:
        return kind(**table)
    except TypeError as error:
        raise UsageError(f"{where}: {error}.") from error


class Mixture:
    """Endless numbered batches and the photos kept aside for validation.

    With `held_out` the batches show, and have as scenery, only what is kept aside.
    """

    def __init__(self, data: DataSettings, root: Path, seed: int, held_out: bool = False) -> None:
        self.data, self.seed = data, seed
        self._aside: list[Item] = []
        subjects: list[tuple[Source, list[Item]]] = []
        scenery: list[tuple[Source, list[Item]]] = []
        for source in data.sources:
            train, aside = items(source, Path(root), Path(data.prepared))
            self._aside += aside if source.validate else []
            used = aside if held_out else train
            if source.weight > 0 and used:
                subjects.append((source, used))
            if source.scenery > 0 and used:
                scenery.append((source, used))
        if not subjects:
            left = "leaves nothing to train on: holdout keeps every photo aside"
            raise UsageError(f"The recipe's [data] {'keeps nothing aside' if held_out else left}.")
        composes = any(s.composed > 0 or s.kind == "rgba" for s, _ in subjects)
        if composes and not scenery:
            raise UsageError("The recipe composes samples but no source has scenery above 0.")
        self._subjects, self._scenery = subjects, scenery
        self._subject_share = _shares([s.weight for s, _ in subjects])
        self._scenery_share = _shares([s.scenery for s, _ in scenery])
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
        return _stack([self._sample(Stage(canvas, frames, rng), phase) for _ in range(phase.batch // frames)])

    def validation(self) -> Iterator[Sample]:
        """The photos kept aside, in order, at their own size."""
        for item in self._aside:
            picture = read(item)
            if picture.alpha is not None:
                yield Sample(picture.rgb, scene.unit(picture.alpha), f"{item.source.name}/{item.image.stem}")

    def _sample(self, stage: Stage, phase: Phase) -> dict[str, NDArray[Any]]:
        """One photo, or one clip with the frames as first dimension."""
        shots, label = self._clip(stage, phase)
        if stage.frames > 1 and stage.rng.random() < CUTS:
            other, other_label = self._clip(stage, phase)
            at = int(stage.rng.integers(1, stage.frames))
            shots, label = [*shots[:at], *other[at:]], min(label, other_label)
        fields = [_fields(*shot, label) for shot in shots]
        return fields[0] if stage.frames == 1 else {k: np.stack([f[k] for f in fields]) for k in fields[0]}

    def _clip(self, stage: Stage, phase: Phase) -> tuple[list[Shot], Label]:
        rng = stage.rng
        source, choices = self._subjects[rng.choice(len(self._subjects), p=self._subject_share)]
        picture = self._read(choices[rng.integers(len(choices))])
        if picture.alpha is not None and (source.kind == "rgba" or rng.random() < source.composed):
            shots, label = self._composed(picture, stage)
        else:
            shots, label = scene.in_place(picture, self._view(picture, stage, phase), stage), picture.label
        damage = Damage.draw(rng)
        if stage.frames > 1 and damage.noise is None:  # what makes alphas flicker
            damage = replace(damage, noise=float(np.exp(rng.uniform(np.log(5e-4), np.log(2e-2)))))
        return [(damage.apply(rgb, rng), alpha, known) for rgb, alpha, known in shots], label

    def _view(self, picture: Picture, stage: Stage, phase: Phase) -> Matrix:
        size = (picture.rgb.shape[0], picture.rgb.shape[1])
        return augment.view(size, stage.canvas, _box(picture), stage.rng, phase.closeup, self.data.tilt)

    def _composed(self, picture: Picture, stage: Stage) -> tuple[Iterator[Shot], Label]:
        """One to three subjects over another background, each in its own light."""
        layers: list[Layer] = []
        behind = self._background(stage)
        for number in range(3):
            box = _box(picture)
            if box is not None and picture.alpha is not None:
                size = (picture.rgb.shape[0], picture.rgb.shape[1])
                matrix = augment.placement(size, stage.canvas, box, stage.rng, self.data.tilt)
                layers.append(scene.layer(picture, matrix, stage))
            if number == 2 or stage.rng.random() >= self.data.groups:
                break
            picture = self._another(stage.rng)
        label = min((item.label for item in layers), default=Label.MATTE)
        return scene.composed(layers, behind, stage), label

    def _another(self, rng: np.random.Generator) -> Picture:
        composed = [s.weight * (s.composed if s.kind != "rgba" else 1.0) for s, _ in self._subjects]
        _, choices = self._subjects[rng.choice(len(composed), p=_shares(composed))]
        return self._read(choices[rng.integers(len(choices))])

    def _background(self, stage: Stage) -> Pixels:
        """A view of scenery, wider than the canvas where it will move; a photo's subjects are painted out."""
        rng, wider = stage.rng, 1.0 if stage.frames == 1 else ROOM
        canvas = (round(stage.canvas[0] * wider), round(stage.canvas[1] * wider))
        _, choices = self._scenery[rng.choice(len(self._scenery), p=self._scenery_share)]
        picture = self._read(choices[rng.integers(len(choices))])
        size = picture.rgb.shape[:2]
        matrix = augment.view(size, canvas, (0, 0, size[1], size[0]), rng, 0.5, self.data.tilt)
        rgb = augment.warp(picture.rgb, matrix, canvas)
        hide = _hidden(picture)
        if hide is not None:
            seen = augment.warp((hide * 255).astype(np.uint8), matrix, canvas)
            rgb = augment.paint_out(rgb, np.asarray(cv2.dilate(seen, np.ones((5, 5), np.uint8)), dtype=np.float32))
        return augment.relight(augment.defocus(rgb, rng), rng)

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


def _fields(
    rgb: Pixels, alpha: NDArray[np.float32], known: NDArray[np.float32], label: Label
) -> dict[str, NDArray[Any]]:
    return {
        "image": np.ascontiguousarray(rgb.transpose(2, 0, 1)),
        "alpha": alpha[None],
        "known": known[None],
        "trimap": labels.trimap(alpha, max(2, round(0.015 * min(alpha.shape))))[None],
        "label": np.asarray(int(label)),
    }


def _stack(samples: list[dict[str, NDArray[Any]]]) -> Batch:
    stacked = {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]}
    stacked["image"] = stacked["image"].float() / 255
    return Batch(**stacked, mask=(stacked["alpha"] > 0.5).float())


def _shares(weights: list[float]) -> NDArray[np.float64]:
    total = sum(weights)
    return np.asarray(weights, dtype=np.float64) / (total if total > 0 else 1.0)


def _bytes(picture: Picture) -> int:
    return sum(a.nbytes for a in (picture.rgb, picture.alpha, picture.foreground) if a is not None)

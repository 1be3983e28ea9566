"""Where samples come from: folders of pictures with whatever is known of them.

A source is a folder; its kind says what lies in it:

    mattes       images/ + alphas/ (+ foregrounds/: clean colours for composition)
    masks        images/ + masks/ (`subject_of` says what in them is subject)
    trimaps      images/ + trimaps/ (255 subject, 0 background, else unknown), from the folder `labels` if there is one
    boxes        images/ + boxes/: NAME.txt, a line "x0 y0 x1 y1" (shares of the picture) a person
    rgba         pictures with an alpha channel
    backgrounds  pictures without subject: alpha is 0 everywhere
    unlabelled   images/: they teach only through a teacher's pseudo-labels

`labels` names another folder that holds alphas/ and foregrounds/ made for the same images
(`python -m mattecli.mixing.prepare`), or trimaps/ (`self_training` of a recipe).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.errors import InputError, UsageError, reason
from mattecli.media.photos import READABLE
from mattecli.mixing.batch import Label
from mattecli.mixing.labels import without_specks

Kind = Literal["mattes", "masks", "trimaps", "boxes", "rgba", "backgrounds", "unlabelled"]
KINDS: tuple[str, ...] = get_args(Kind)

Pixels = NDArray[np.uint8]

FEW_VALUES = 16
NUMBERS_BELOW = 127
"""A mask holds numbers and no greys if it has no more different values than that, or none above that."""


@dataclass(frozen=True)
class Source:
    """One line of a manifest."""

    name: str
    kind: Kind
    root: str
    weight: float = 1.0
    """Share of the samples whose subject is drawn from here, relative to the other sources."""
    composed: float = 0.0
    """Probability that the subject is put over another background instead of shown in its own photo."""
    holdout: int = 0
    """Photos whose file number is divisible by this are never trained on; 0 keeps none aside."""
    labels: str = ""
    """Folder with labels made for these images (see above), relative to the manifest's `prepared` folder."""
    match: str = "*"
    """Only photos whose name (without suffix) fits this pattern."""
    exclude: str = ""
    """Text file under the root whose lines begin with the names of photos that are never trained on."""
    scenery: float = 0.0
    """Share of the backgrounds drawn from here (its subjects painted out), relative to the other sources."""
    validate: bool = False
    """Whether the photos kept aside are used for validation."""


@dataclass(frozen=True)
class Item:
    """One photo of a source and the files that go with it."""

    source: Source
    image: Path
    label: Path | None = None
    foreground: Path | None = None


@dataclass
class Picture:
    """A decoded item: `rgb` uint8 `[H, W, 3]`, and where known `alpha` uint8 `[H, W]` (matte or mask) and `boxes`."""

    rgb: Pixels
    label: Label
    alpha: Pixels | None = None
    foreground: Pixels | None = None
    boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))


def items(source: Source, root: Path, prepared: Path) -> tuple[list[Item], list[Item]]:
    """(training items, items kept aside) of a source, sorted by name. Raises UsageError if there is nothing."""
    folder = root / source.root
    if not folder.is_dir():
        raise UsageError(f"Source '{source.name}': there is no folder {folder}.")
    images = folder / "images" if (folder / "images").is_dir() else folder
    excluded = _excluded(source, root)
    train, aside = [], []
    for path in sorted(p for p in images.iterdir() if p.suffix.lower() in READABLE):
        if not fnmatchcase(path.stem, source.match):
            continue
        item = _item(source, path, folder, prepared)
        if item is None:
            continue
        if _kept_aside(path.stem, source.holdout):
            aside.append(item)
        elif path.stem not in excluded:
            train.append(item)
    if not train and not aside:
        remedy = "; make them with python -m mattecli.mixing.prepare" if source.kind == "mattes" else ""
        raise UsageError(f"Source '{source.name}': no {source.kind} found in {folder}{remedy}.")
    return train, aside


def _excluded(source: Source, root: Path) -> set[str]:
    if not source.exclude:
        return set()
    path = root / source.exclude
    if not path.is_file():
        raise UsageError(f"Source '{source.name}': there is no file {path}.")
    lines = path.read_text(encoding="utf-8").splitlines()
    return {Path(line.split()[0]).stem for line in lines if line.strip() and not line.startswith("#")}


def _kept_aside(stem: str, holdout: int) -> bool:
    digits = "".join(c for c in stem if c.isdigit())
    return bool(holdout and digits) and int(digits) % holdout == 0


def _item(source: Source, image: Path, folder: Path, prepared: Path) -> Item | None:
    if source.kind in ("rgba", "backgrounds", "unlabelled"):
        return Item(source, image)
    if source.kind == "boxes":
        boxes = folder / "boxes" / f"{image.stem}.txt"
        return Item(source, image, boxes) if boxes.is_file() else None
    if source.kind == "masks":
        mask = _sibling(folder / "masks", image.stem)
        return Item(source, image, mask) if mask else None
    labels = prepared / source.labels if source.labels else folder
    if source.kind == "trimaps":
        trimap = _sibling(labels / "trimaps", image.stem)
        return Item(source, image, trimap) if trimap else None
    alpha = _sibling(labels / "alphas", image.stem)
    return Item(source, image, alpha, _sibling(labels / "foregrounds", image.stem)) if alpha else None


def _sibling(folder: Path, stem: str) -> Path | None:
    return next((p for s in (".png", *sorted(READABLE)) if (p := folder / f"{stem}{s}").is_file()), None)


def read(item: Item) -> Picture:
    """Decode an item. Raises InputError if a file is broken or its label has another size."""
    kind = item.source.kind
    if kind == "rgba":
        rgba = _decode(item.image, cv2.IMREAD_UNCHANGED)
        if rgba.ndim != 3 or rgba.shape[2] != 4:
            raise InputError(f"{item.image} has no alpha channel.")
        rgb = np.ascontiguousarray(rgba[..., 2::-1])
        return Picture(rgb, Label.MATTE, np.ascontiguousarray(rgba[..., 3]), rgb)
    rgb = _decode(item.image, cv2.IMREAD_COLOR_RGB)
    if kind == "backgrounds":
        return Picture(rgb, Label.MATTE, np.zeros(rgb.shape[:2], np.uint8))
    if item.label is None:
        return Picture(rgb, Label.NONE)
    if kind == "boxes":
        try:
            boxes = np.loadtxt(item.label, dtype=np.float32, ndmin=2).reshape(-1, 4)
        except ValueError as error:
            raise InputError(f"{item.label} should have a line 'x0 y0 x1 y1' a person.") from error
        return Picture(rgb, Label.BOXES, boxes=boxes)
    alpha = _decode(item.label, cv2.IMREAD_GRAYSCALE)
    if alpha.shape != rgb.shape[:2]:
        raise InputError(f"{item.label} is {alpha.shape[::-1]}, but its photo is {rgb.shape[1::-1]}.")
    if kind == "masks":
        return Picture(rgb, Label.MASK, np.where(without_specks(subject_of(alpha)), 255, 0).astype(np.uint8))
    if kind == "trimaps":
        return Picture(rgb, Label.MASK, alpha)
    foreground = _decode(item.foreground, cv2.IMREAD_COLOR_RGB) if item.foreground else None
    return Picture(rgb, Label.MATTE, alpha, foreground)


def subject_of(mask: Pixels) -> NDArray[np.bool_]:
    """Where a mask file `[H, W]` shows the subject.

    Masks of few values, or of small ones, hold numbers (0 and 1, 0 and 255, classes, people), and 0 alone is
    background. Others are grey, from a lossy format or a soft edge: there subject is above the middle of the range.
    """
    top = int(mask.max(initial=0))
    values = np.count_nonzero(cv2.calcHist([mask], [0], None, [256], [0, 256]))
    is_grey = top > NUMBERS_BELOW and values > FEW_VALUES
    return np.asarray(mask > (top / 2 if is_grey else 0))


def _decode(path: Path, flags: int) -> Pixels:
    try:
        coded = np.fromfile(path, np.uint8)
        data = cv2.imdecode(coded, flags) if coded.size else None
    except OSError as error:
        raise InputError(f"{path} can't be read: {reason(error)}.") from error
    if data is None or data.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path} is not a picture that can be read.")
    return (
        data.astype(np.uint8) if data.dtype == np.uint8 else np.right_shift(data, 8, dtype=np.uint16).astype(np.uint8)
    )

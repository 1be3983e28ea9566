"""Which file belongs to which: predictions or photos, ground truth and trimaps, matched by their names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from mattecli.errors import InputError, UsageError
from mattecli.evaluation.metrics import Plane
from mattecli.media.photos import READABLE, read_photo

TINT = 8 / 255
"""How far the channels of a grey picture may lie apart: JPEG leaves traces."""


@dataclass(frozen=True)
class Item:
    """One ground truth and what belongs to it.

    `name` is the path below the ground truth's folder without suffix; `source` the prediction, or the photo to be
    predicted, None where it is missing.
    """

    name: str
    truth: Path
    source: Path | None
    trimap: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """All ground truths of a folder; `surplus` names the sources that have none."""

    items: tuple[Item, ...]
    surplus: tuple[str, ...]
    trimaps: bool

    @property
    def steps(self) -> int:
        """How many images there are to measure."""
        return sum(item.source is not None for item in self.items)


def pair(
    sources: Path, truths: Path, trimaps: Path | None = None, *, match: str = "*", limit: int | None = None
) -> Dataset:
    """Match files by their path below the folder, subfolders included, whatever their suffix.

    `match` is a pattern for names (`*0`, `street/*`), `limit` keeps the first of them. Raises UsageError for a
    missing folder, two files of one name, or no ground truth at all.
    """
    predicted, true = _files(sources), _files(truths)
    regions = {} if trimaps is None else _files(trimaps)
    names = [name for name in sorted(true) if fnmatchcase(name, match)][:limit]
    if not names:
        raise UsageError(f"{truths} holds no ground truth" + ("." if match == "*" else f" called {match}."))
    items = tuple(Item(name, true[name], predicted.get(name), regions.get(name)) for name in names)
    return Dataset(items, tuple(sorted(predicted.keys() - true.keys())), trimaps is not None)


def open_data(root: Path, trimaps: Path | None = None, *, match: str = "*", limit: int | None = None) -> Dataset:
    """A data set in the usual layout: `images/`, `alphas/` or else `masks/`, and `trimaps/` where there are any."""
    truths = next((root / name for name in ("alphas", "masks") if (root / name).is_dir()), None)
    if truths is None or not (root / "images").is_dir():
        raise UsageError(f"{root} needs the folders images/ and alphas/ (or masks/).")
    if trimaps is None and (root / "trimaps").is_dir():
        trimaps = root / "trimaps"
    return pair(root / "images", truths, trimaps, match=match, limit=limit)


def read_matte(path: Path) -> Plane:
    """The matte `[H, W]` (uint8 or uint16) in a file: its alpha channel if it is transparent anywhere, else its grey.

    Raises InputError if it can't be read or is a colour picture.
    """
    photo = read_photo(path)
    if photo.alpha is not None:
        return photo.alpha
    red, green, blue = (photo.rgb[..., channel] for channel in range(3))
    tint = math.ceil(TINT * np.iinfo(photo.rgb.dtype).max)
    for other in (green, blue):
        if np.any(np.maximum(red, other) - np.minimum(red, other) > tint):
            raise InputError(f"{path} is a colour picture, not a matte.")
    return np.ascontiguousarray(green)


def read_truth(path: Path) -> Plane:
    """As `read_matte`; raises InputError for a mask of zeros and ones, which would count as black."""
    truth = read_matte(path)
    check_levels(path, int(truth.max()))
    return truth


def check_levels(path: Path, highest: int) -> None:
    """Raises InputError for ground truth whose `highest` level says that it is a mask of zeros and ones."""
    if highest == 1:
        raise InputError(f"{path} holds 0 and 1; ground truth needs 0 to 255 (or 65535).")


def is_mask(truth: Plane) -> bool:
    """Whether a matte has no value but 0 and the largest."""
    return bool(np.isin(truth, (0, np.iinfo(truth.dtype).max)).all())


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if hidden or path.suffix.lower() not in READABLE or not path.is_file():
            continue
        name = below.with_suffix("").as_posix()
        if name in found:
            raise UsageError(f"{found[name]} and {path} have the same name; keep one of them.")
        found[name] = path
    return found

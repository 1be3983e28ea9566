"""Which clip belongs to which, and their frames: folders of pictures, or video files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np

from mattecli.errors import InputError, UsageError
from mattecli.evaluation.dataset import TINT, read_matte
from mattecli.evaluation.metrics import Plane
from mattecli.evaluation.workers import Map
from mattecli.media.clips.planes.colour import Picture
from mattecli.media.clips.planes.frame import Frame
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.photos import READABLE, read_photo

PICTURES = ("images", "com", "frames")
"""What the pictures of a clip lie in: our name, RVM's, and a common one."""
MATTES = ("alphas", "pha", "masks")
VIDEOS = (
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".3gp",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".ogv",
    ".wmv",
    ".mxf",
)


@dataclass(frozen=True)
class Footage:
    """A clip on disk: a folder with its `frames` in their order, or a video file, which has none."""

    path: Path
    frames: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ClipItem:
    """A ground truth and the prediction, or the pictures to be predicted; None where they are missing."""

    name: str
    truth: Footage
    source: Footage | None

    @cached_property
    def steps(self) -> int | None:
        """How many frames there are to measure; of two video files as many as the true one says, if it does."""
        if self.source is None:
            return 0
        return len(self.truth.frames) or len(self.source.frames) or _said(self.truth.path)


@dataclass(frozen=True)
class ClipDataset:
    """All ground truths; `surplus` names the sources that have none."""

    items: tuple[ClipItem, ...]
    surplus: tuple[str, ...]

    @property
    def steps(self) -> int | None:
        """How many frames there are to measure; None if a clip does not say it."""
        steps = [item.steps for item in self.items]
        return None if None in steps else sum(filter(None, steps))


def pair(sources: Path, truths: Path, *, match: str = "*", limit: int | None = None) -> ClipDataset:
    """Match clips by their path below the two folders; or two clips, whatever their names.

    A folder with pictures is a clip, a video file is one, and a folder with `alphas/`, `pha/` or `masks/` (or such a
    video) is the clip in there. `match` is a pattern for names, `limit` keeps the first of them. Raises UsageError
    for what is not there, two clips of one name, or no ground truth at all.
    """
    predicted, true = _clips(sources), _clips(truths)
    if predicted and true and ("" in predicted) != ("" in true):
        one, several = (sources, truths) if "" in predicted else (truths, sources)
        raise UsageError(f"{one} is one clip and {several} a folder of clips; give two of a kind.")
    return _dataset(truths, predicted, true, match, limit)


def open_data(root: Path, *, match: str = "*", limit: int | None = None) -> ClipDataset:
    """Clips as `CLIP/images` and `CLIP/alphas`, or `images/CLIP` and `alphas/CLIP`, at any depth below `root`.

    They are folders of pictures or video files; `com` or `frames` and `pha` or `masks` are good names too.
    """
    sources: dict[str, Footage] = {}
    truths: dict[str, Footage] = {}
    for folder in sorted(path for path in (root, *root.rglob("*")) if path.is_dir()):
        pictures, mattes = _part(folder, PICTURES), _part(folder, MATTES)
        if pictures is not None and mattes is not None:
            below = "" if folder == root else folder.relative_to(root).as_posix()
            sources |= _clips(pictures, below)
            truths |= _clips(mattes, below)
    if not truths:
        raise UsageError(
            f"{root} needs clips, each with its pictures in images/ or com/ and mattes in alphas/ or pha/."
        )
    return _dataset(root, sources, truths, match, limit)


def read_mattes(footage: Footage, apply: Map = map) -> Iterator[Plane]:
    """The mattes `[H, W]` (uint8 or uint16) of a clip's frames; of a video its alpha, if it has one, else its grey.

    `apply` stands for `map`, say in several threads. Raises InputError for what can't be read or is in colour.
    """
    if footage.frames:
        yield from apply(read_matte, footage.frames)
        return
    with open_clip(str(footage.path), passing=False) as clip:
        for frame in clip:
            yield _matte(frame, footage.path)


def read_pictures(footage: Footage, apply: Map = map) -> Iterator[Picture]:
    """The frames of a clip, RGB `[H, W, 3]` uint8 or uint16; `apply` as in `read_mattes`. Raises InputError."""
    if footage.frames:
        yield from apply(lambda path: read_photo(path).rgb, footage.frames)
        return
    with open_clip(str(footage.path), passing=False) as clip:
        for frame in clip:
            assert frame.view is not None
            yield frame.view(frame.format.height, frame.format.width)


def _said(path: Path) -> int | None:
    """How many frames a video file says that it has; 0 if it can't be read."""
    try:
        with open_clip(str(path), passing=False) as clip:
            return clip.frames
    except (InputError, OSError):
        return 0


def _matte(frame: Frame, path: Path) -> Plane:
    depth = frame.format.depth
    if frame.format.alpha:
        return _levels(frame.planes[3], 0, (1 << depth) - 1)
    black, span, zero, wide = frame.format.colour.levels(depth)
    extremes = [int(extreme) for plane in frame.planes[1:3] for extreme in (plane.min(), plane.max())]
    if any(abs(extreme - zero) > TINT * wide for extreme in extremes):
        raise InputError(f"{path} is in colour, not a clip of mattes.")
    return _levels(frame.planes[0], black, span)


def _levels(plane: Plane, black: float, span: float) -> Plane:
    """8 bits of full range as they are, anything else as 16 bits."""
    if plane.dtype == np.uint8 and span == 255:
        return plane
    level: Plane = ((plane.astype(np.float32) - black) / span).clip(0, 1)
    deep: Plane = np.rint(level * 65535).astype(np.uint16)
    return deep


def _dataset(
    where: Path, sources: dict[str, Footage], truths: dict[str, Footage], match: str, limit: int | None
) -> ClipDataset:
    whole = where.name if where.is_dir() else where.stem
    named = {name or whole: name for name in sorted(truths)}
    names = [name for name in named if fnmatchcase(name, match)][:limit]
    if not names:
        raise UsageError(f"{where} holds no clip of mattes" + ("." if match == "*" else f" called {match}."))
    items = tuple(ClipItem(name, truths[named[name]], sources.get(named[name])) for name in names)
    return ClipDataset(items, tuple(sorted(sources.keys() - truths.keys())))


def _clips(root: Path, name: str = "") -> dict[str, Footage]:
    """The clips at and below `root`, by their paths below it without suffix, led by `name`."""
    if root.is_file():
        return {name: Footage(root)}
    if not root.is_dir():
        raise UsageError(f"{root} is neither a folder nor a video file.")
    mattes = _part(root, MATTES)
    if mattes is not None:
        return _clips(mattes, name)
    inside = [path for path in sorted(root.iterdir()) if not path.name.startswith(".")]
    frames = [path for path in inside if path.suffix.lower() in READABLE and path.is_file()]
    if frames:
        return {name: Footage(root, tuple(sorted(frames, key=_number)))}
    found: dict[str, Footage] = {}
    for path in inside:
        if path.is_dir() or path.suffix.lower() in VIDEOS:
            below = path.name if path.is_dir() else path.stem
            for key, footage in _clips(path, f"{name}/{below}".lstrip("/")).items():
                if key in found:
                    raise UsageError(f"{found[key].path} and {footage.path} have the same name; keep one of them.")
                found[key] = footage
    return found


def _part(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The folder or video file of the first of `names` that is in `folder`."""
    for name in names:
        if (folder / name).is_dir():
            return folder / name
        videos = (folder / f"{name}{suffix}" for suffix in VIDEOS)
        found = next((path for path in videos if path.is_file()), None)
        if found is not None:
            return found
    return None


def _number(path: Path) -> list[tuple[bool, int, str]]:
    """A key that puts frame 9 before frame 10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", path.name)]

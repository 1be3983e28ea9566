"""From what the user named to `Hints`: a trimap or a rough mask of each photo, read from files or made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from mattecli.errors import InputError, UsageError
from mattecli.inference.guidance.hints import NOTHING, Hints
from mattecli.inference.guided import Floats, Picture, bounded, resize
from mattecli.inference.network import Matter
from mattecli.inference.output import subject
from mattecli.media.batch import Job
from mattecli.media.photos import READABLE, Photo, Pixels, read_photo
from mattecli.mixing import labels

Shape = tuple[int, ...]
AUTO = "auto"
TOLERANCE = 5 / 255
"""How far from black or white a trimap's grey still is background or foreground: what JPEG adds to flat areas."""
BAND = 0.05
"""How far the unknown band that is made round a subject reaches outwards, and inwards, as a share of the root of its
area. Round binary masks of 27 pictures of fur, whiskers, plants and hair it holds 97 % of the soft pixels (91 % with
0.02, 99 % with 0.1) and is a fifth of the picture; of a matte it holds all that is soft, and as much beyond."""
LONGEST = 1024
"""Pixels of the longer side at which bands are drawn; for larger pictures they are enlarged."""


def check(model: str, needs: str, trimap: str | None, mask: str | None) -> None:
    """Raises UsageError where `--trimap` and `--mask` don't go with each other, or with a network of such `needs`."""
    if trimap and mask:
        raise UsageError("--trimap and --mask exclude each other: a trimap says already where the subject is.")
    if needs == "trimap" and not (trimap or mask):
        raise UsageError(
            f"{model} needs to be told what is foreground and what background: give --trimap FILE, --trimap auto (made "
            "from the default network's matte) or --mask FILE."
        )
    if trimap and needs != "trimap":
        raise UsageError(f"{model} looks at no trimap; choose another --model, such as closed-form, or give a --mask.")


def for_photos(
    model: str, matter: Matter, jobs: Sequence[Job], trimap: str | None, mask: str | None
) -> Callable[[Photo], Hints]:
    """What is told of the photo of each of `jobs` beside it, by `--trimap` and `--mask`.

    What it returns raises InputError for a photo whose file is missing, can't be read, has another size, or says
    nothing. Raises UsageError for all that can be known before.
    """
    check(model, matter.spec.needs, trimap, mask)
    if trimap == AUTO:
        return _Automatic(str(matter.device)).of
    if trimap:
        trimap_of = beside("--trimap", trimap, jobs)
        return lambda photo: Hints(trimap=read_trimap(trimap_of(photo.source), photo.source, *_shape(photo.rgb)))
    if mask:
        mask_of, guided = beside("--mask", mask, jobs), matter.spec.needs == "trimap"

        def hint(photo: Photo) -> Hints:
            height, width = _shape(photo.rgb)
            return from_mask(read_mask(mask_of(photo.source), photo.source, height, width), height, width, guided)

        return hint
    return lambda photo: NOTHING


def beside(option: str, text: str, jobs: Sequence[Job], shared: bool = False) -> Callable[[str], Path]:
    """From a photo's name to the file that belongs to it: `text` itself, or that of the same stem in the folder `text`.

    What it returns raises InputError where there is none, or more than one. Raises UsageError for a missing `text`, for
    one file and several photos unless it is `shared`, for photos that a folder can't tell apart, and for a file that
    would be overwritten.
    """
    path = Path(text)
    if not path.exists():
        raise UsageError(f"{option} {text} does not exist.")
    if goal := next((job.target for job in jobs if job.target and _is_in(job.target, path)), None):
        raise UsageError(f"{goal} would be written over {option} {text}; choose another output.")
    if not path.is_dir():
        if len(jobs) > 1 and not shared:
            raise UsageError(f"{option} {text} is one file for {len(jobs)} photos; give a folder with one for each.")
        return lambda source: path
    if any(job.source is None for job in jobs):
        raise UsageError(f"{option} {text} is a folder, and a photo from stdin has no name to look for; give a file.")
    stems = Counter(job.source.stem for job in jobs if job.source)
    if (twice := stems.most_common(1)) and twice[0][1] > 1:
        raise UsageError(f"{option} {text} has one file for two photos called {twice[0][0]}; do them one by one.")
    found: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in READABLE:
            found.setdefault(file.stem, []).append(file)

    def find(source: str) -> Path:
        stem = Path(source).stem
        files = found.get(stem, [])
        if not files:
            raise InputError(f"{source}: {option} {text} holds no picture called {stem}.")
        if len(files) > 1:
            raise InputError(f"{source}: {option} {text} holds {files[0].name} and {files[1].name}; keep one of them.")
        return files[0]

    return find


def read_trimap(path: Path, name: str, height: int, width: int) -> Floats:
    """The trimap in the file `path` of the photo called `name`: float32 `[height, width]`, 0 background, 0.5 unknown, 1
    foreground.

    Colours count by their grey, transparency is ignored. Raises InputError for another size, or if all or nothing is
    unknown.
    """
    grey = read_grey(path)
    same_shape(str(path), grey.shape, name, (height, width), exactly=True)
    return checked(parse(grey), str(path))


def parse(grey: Pixels) -> Floats:
    """Black is background, white foreground, all between unknown; each within `TOLERANCE`."""
    top = np.iinfo(grey.dtype).max
    trimap = np.full(grey.shape, 0.5, np.float32)
    trimap[grey <= TOLERANCE * top] = 0
    trimap[grey >= (1 - TOLERANCE) * top] = 1
    return trimap


def checked(trimap: Floats, name: str) -> Floats:
    """`trimap` itself. Raises InputError where it leaves nothing to find, or nothing to go by."""
    unknown = np.count_nonzero(trimap == 0.5)
    if not unknown:
        raise InputError(f"Nothing is unknown in {name}: a trimap is grey where the edge lies; for a mask use --mask.")
    if unknown == trimap.size:
        raise InputError(f"All is unknown in {name}: a trimap is black where background is, white where foreground is.")
    return trimap


def read_mask(path: Path, name: str, height: int, width: int) -> Floats:
    """The mask in the file `path` of the photo called `name` and of that size: float32 in {0, 1}, 1 on the subject, of
    the size at which bands are drawn.

    White on black, or a cutout: where the file is transparent, its alpha is the mask. Raises InputError for other
    proportions, and if it is all black or all white.
    """
    read = read_photo(path)
    grey = cv2.cvtColor(read.rgb, cv2.COLOR_RGB2GRAY) if read.alpha is None else read.alpha
    same_shape(str(path), grey.shape, name, (height, width), exactly=False)
    mask = as_mask(resize(grey, *drawn(height, width)))
    if not mask.any() or mask.all():
        raise InputError(f"{path} is all {'white' if mask.any() else 'black'}: a mask is white on the subject alone.")
    return mask


def as_mask(grey: Pixels) -> Floats:
    """1 where `grey` is nearer to white than to black, else 0."""
    return (grey > np.iinfo(grey.dtype).max / 2).astype(np.float32)


def same_shape(path: str, found: Shape, name: str, wanted: Shape, exactly: bool) -> None:
    """Raises InputError where what is in `path` isn't of the size `wanted`, that of `name`, or but for a pixel of its
    proportions where it need not be `exactly` so; shapes are (height, width).
    """
    if found == wanted or (not exactly and abs(found[1] * wanted[0] - found[0] * wanted[1]) <= max(*found, *wanted)):
        return
    sizes = f"{path} is {found[1]} x {found[0]} pixels, {name} is {wanted[1]} x {wanted[0]}"
    if found == wanted[::-1] and _stored_shape(name) == found:
        raise InputError(f"{sizes}: that is the photo before its EXIF rotation, so turn it upright too.")
    raise InputError(f"{sizes}; {'make them equal' if exactly else 'it needs the same proportions'}.")


def _stored_shape(name: str) -> Shape | None:
    """Of the picture in the file `name` before its EXIF rotation; None where it is no file."""
    if not Path(name).is_file():
        return None
    stored = cv2.imdecode(np.fromfile(name, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if stored is None else _shape(stored)


def from_mask(mask: Floats, height: int, width: int, guided: bool) -> Hints:
    """What a mask of a picture `height` x `width` tells: the trimap to networks `guided` by one, to others the region.

    The region is 1 on the mask and `BAND` round it, and falls to 0 over as much again.
    """
    if guided:
        return Hints(trimap=round_subject(mask, height, width))
    distance = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    region = np.clip(2 - distance / _band(mask), 0, 1).astype(np.float32)
    return Hints(region=np.asarray(cv2.resize(region, (width, height), interpolation=cv2.INTER_LINEAR)))


def round_subject(alpha: Floats, height: int, width: int) -> Floats:
    """The trimap of a picture `height` x `width` whose matte or mask is like `alpha` `[h, w]`, with a band round it.

    The band is `BAND` wide outwards and inwards, but leaves half of the subject's thickest part known.
    """
    sure = np.pad((alpha > 0.95).astype(np.uint8), 1)
    core = cv2.distanceTransform(sure, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()
    band = _band(alpha)
    return _enlarged(labels.trimap(alpha, band, min(band, int(core / 2))), height, width)


def drawn(height: int, width: int) -> tuple[int, int]:
    """The size at which bands are drawn for a picture of that size."""
    return bounded(height, width, LONGEST)


def _band(alpha: Floats) -> int:
    return max(1, round(BAND * float(np.sqrt(alpha.sum()))))


def _enlarged(trimap: Floats, height: int, width: int) -> Floats:
    found = Hints(trimap=trimap).at(height, width).trimap
    assert found is not None
    return found


class _Automatic:
    """Trimaps round what the default network finds in photos."""

    def __init__(self, device: str) -> None:
        self._matter = Matter(device=device)

    def of(self, photo: Photo) -> Hints:
        """Raises InputError where it finds nobody."""
        height, width = _shape(photo.rgb)
        alpha = self._matter.matte(resize(photo.rgb, *drawn(height, width)))
        if subject(alpha) is None:
            raise InputError(f"{photo.source}: nobody was found to draw a trimap round; give a --trimap or a --mask.")
        return Hints(trimap=round_subject(alpha, height, width))


def read_grey(path: Path) -> Pixels:
    """`[H, W]` uint8 or uint16, upright; what is transparent as if it weren't."""
    photo = read_photo(path)
    if photo.alpha is None:
        return cv2.cvtColor(photo.rgb, cv2.COLOR_RGB2GRAY)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH))


def _shape(picture: Picture) -> tuple[int, int]:
    height, width = picture.shape[:2]
    return height, width


def _is_in(goal: Path, path: Path) -> bool:
    """Whether `goal` is the file `path`, or a file that the folder `path` holds already."""
    return goal.exists() and path.resolve() in (goal.resolve(), goal.resolve().parent)

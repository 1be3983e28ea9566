"""From what the user typed to jobs: folders, patterns and stdin in; files, folders or stdout out."""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mattecli.errors import UsageError
from mattecli.media.photos import PHOTOS, UNREADABLE, WRITABLE

TAGS = ("alpha", "cutout", "foreground", "composite")
"""What may be made of a photo, and is said at the end of its name where it lies beside the photo."""
_OF_A_RUN = re.compile(rf"(.+)_(?:{'|'.join(TAGS)})(?:_[1-9]\d*)?")


@dataclass(frozen=True)
class Job:
    """One photo to be done. `source` None is stdin, `target` None is stdout.

    `numbered`: not one file but several, `target` with 1, 2 … behind its stem (`numbered`). `namesake`: the target
    keeps the source's suffix (photo.jpg.png), since there is a photo.tif too.
    """

    source: Path | None
    target: Path | None
    numbered: bool = False
    namesake: bool = False


@dataclass(frozen=True)
class _Found:
    """A photo and where it goes below an output folder; `listed`: found in a folder, not named."""

    source: Path | None
    below: Path
    listed: bool


def plan(
    inputs: Sequence[str], output: str | None, *, suffix: str, recursive: bool, tag: str, numbered: bool = False
) -> list[Job]:
    """The jobs for `inputs` (paths, folders, patterns, "-") going to `output`, sorted within each input.

    tag: one of `TAGS`.
    output: None writes NAME_<tag><suffix> beside each photo (stdin: to stdout), "-" writes the one photo to
        stdout, a file name (or device) takes the one photo, anything else is a folder that gets NAME<suffix>, with the
        subfolders of searched folders and of patterns mirrored. Photos that differ in their suffix alone keep it:
        NAME.jpg<suffix>, NAME.tif<suffix>.
    suffix: ".png" and the like, for every target that isn't named in full.
    recursive: search folders through all their subfolders.
    numbered: a photo may give several files; each job's target gets their numbers.

    A named photo that doesn't exist is still a job, since the others can be done, and so is a subfolder that
    may not be read. Raises UsageError before any work: nothing found, one file for several photos, two photos
    for one file, a target that is one of the sources, several files for stdout or a device, an output folder
    that is the folder searched (a second run would take the first one's results for photos).
    """
    if "" in (*inputs, output):
        raise UsageError("A name is empty; give a photo, a folder or a pattern, and -o a file or folder.")
    folder = _folder(output)
    within = [found for text in inputs for found in _find(text, recursive, folder)]
    found = list(dict.fromkeys(within))
    if not found:
        raise UsageError(f"No photo found in {', '.join(inputs) or 'nothing'}.")
    targets = (_target(one, found, output, folder, suffix, tag) for one in found)
    jobs = dict.fromkeys(Job(one.source, target, numbered) for one, target in zip(found, targets, strict=True))
    told_apart = _told_apart(list(jobs))
    _check(told_apart)
    return told_apart


def left_out(inputs: Sequence[str], recursive: bool) -> Counter[str]:
    """How many photos of the folders among `inputs` can't be read, by suffix (".heic"): none of them is a job."""
    searched = (names for text in inputs if Path(text).is_dir() for _, names in _walk(Path(text), recursive))
    suffixes = (Path(name).suffix.lower() for names in searched for name in names)
    return Counter(suffix for suffix in suffixes if suffix in UNREADABLE)


def hopeless(job: Job) -> str | None:
    """Why a job can't be done, if that can be known without any work: no photo, or nowhere to write."""
    if job.source is not None and not job.source.exists():
        return f"{job.source} does not exist."
    if job.target is None or _is_special(job.target):
        return None
    folder = next(parent for parent in job.target.absolute().parents if parent.exists())
    if not folder.is_dir():
        return f"{job.target} can't be written: {folder} is no folder."
    return None if os.access(folder, os.W_OK | os.X_OK) else f"{job.target} can't be written: {folder} is closed."


def existing(jobs: Sequence[Job]) -> dict[Job, Path]:
    """Those that have a file there already, and which: what --skip-existing leaves out, --overwrite allows."""
    folders = {job.target.parent for job in jobs if job.numbered and job.target is not None}
    series = {_unnumbered(path): path for folder in folders for path in sorted(folder.glob("*"), reverse=True)}
    there: dict[Job, Path] = {}
    for job in jobs:
        with suppress(OSError):  # a name too long for the system is that photo's trouble, when its turn comes
            if job.target is None or _is_special(job.target):
                continue
            if job.numbered and job.target in series:
                there[job] = series[job.target]
            elif not job.numbered and job.target.exists():
                there[job] = job.target
    return there


def numbered(target: Path, number: int) -> Path:
    """The file of that number in the series `target`: photo_2.png for photo.png."""
    return target.with_name(f"{target.stem}_{number}{target.suffix}")


def _unnumbered(path: Path) -> Path | None:
    """The series that a file belongs to by its name, if it does."""
    found = re.fullmatch(r"(.+)_[1-9]\d*", path.stem)
    return path.with_name(found[1] + path.suffix) if found else None


def _folder(output: str | None) -> Path | None:
    """The output folder, if the output can only be one."""
    if output in (None, "-"):
        return None
    assert output is not None
    return Path(output) if output.endswith(("/", os.sep)) or Path(output).is_dir() else None


def _is_special(path: Path) -> bool:
    """Whether it is a device or a pipe, such as /dev/null: written to, never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _find(text: str, recursive: bool, folder: Path | None) -> list[_Found]:
    if text == "-":
        return [_Found(None, Path("stdin"), False)]
    path = Path(text)
    if path.is_dir():
        return _search(path, recursive, folder)
    if path.exists() or not glob.has_magic(text):
        return [_Found(path, Path(path.name), False)]
    fixed = Path(*path.parts[: next(i for i, part in enumerate(path.parts) if glob.has_magic(part))])
    pattern = path.relative_to(fixed)
    if pattern.name == "**":
        pattern /= "*"
    try:
        matches = sorted(fixed.glob(str(pattern)))  # unlike glob.glob it follows no link to a folder for **
    except ValueError as error:
        raise UsageError(f"{text} is no pattern: ** stands for folders, alone between slashes.") from error
    hidden = any(part.startswith(".") for part in pattern.parts)
    below = [match.relative_to(fixed) for match in matches if match.suffix.lower() in PHOTOS and match.is_file()]
    return [_Found(fixed / one, one, False) for one in below if hidden or not any(p.startswith(".") for p in one.parts)]


def _search(root: Path, recursive: bool, folder: Path | None) -> list[_Found]:
    """Photos in a folder, without hidden files, pipes and devices, an output folder inside it, and what an earlier
    run wrote beside them.
    """
    if folder is not None and folder.resolve() == root.resolve():
        raise UsageError(f"{root} is input and output; choose another -o, or none to write beside the photos.")
    found: list[_Found] = []

    def closed(error: OSError) -> None:
        if (here := Path(error.filename)) == root:
            raise error
        found.append(_Found(here, here.relative_to(root), True))

    for here, names in _walk(root, recursive, folder, closed):
        own = {Path(name).stem for name in names}.union(names)
        for name in names:
            stem, kind = Path(name).stem, Path(name).suffix
            written = (match := _OF_A_RUN.fullmatch(stem)) and match[1] in own
            if kind.lower() in PHOTOS and not written and not _is_special(here / name):
                found.append(_Found(here / name, (here / name).relative_to(root), True))
    return found


def _walk(
    root: Path, recursive: bool, without: Path | None = None, onerror: Callable[[OSError], None] = lambda error: None
) -> Iterator[tuple[Path, list[str]]]:
    """Folders and the names of their files, sorted, but for hidden ones and the folder `without`."""
    own = without.resolve() if without is not None else None
    for here, folders, names in os.walk(root, onerror=onerror):
        keep = [name for name in sorted(folders) if recursive and not name.startswith(".")]
        folders[:] = [name for name in keep if own is None or (Path(here) / name).resolve() != own]
        yield Path(here), [name for name in sorted(names) if not name.startswith(".")]


def _target(
    one: _Found, found: list[_Found], output: str | None, folder: Path | None, suffix: str, tag: str
) -> Path | None:
    several = len(found) > 1
    if output is None:
        return None if one.source is None else one.source.with_name(f"{one.source.stem}_{tag}{suffix}")
    if output == "-":
        if several:
            raise UsageError(f"Only one photo can go to stdout, not {len(found)}; give -o a folder.")
        return None
    named = Path(output).suffix.lower()
    if folder is None and (several or one.listed) and (named in WRITABLE or Path(output).exists()):
        raise UsageError(f"{output} is one file, but the input is a folder or several photos; give -o a folder.")
    if folder is None and (named or _is_special(Path(output))) and not several and not one.listed:
        return Path(output)
    return Path(output) / one.below.with_suffix(suffix)


def _told_apart(jobs: list[Job]) -> list[Job]:
    """`jobs`, of which those with one target keep their sources' suffixes where these differ."""
    sharing: dict[Path, list[Path]] = {}
    for job in jobs:
        if job.source and job.target:
            sharing.setdefault(job.target, []).append(job.source)

    def apart(job: Job) -> Job:
        others = sharing.get(job.target, []) if job.target else []
        if not job.source or not job.target or len({other.name for other in others}) < max(2, len(others)):
            return job
        rest = job.target.name.removeprefix(job.source.stem)
        return replace(job, target=job.target.with_name(job.source.name + rest), namesake=True)

    return [apart(job) for job in jobs]


def _check(jobs: list[Job]) -> None:
    taken: dict[Path, Job] = {}
    clashes: list[tuple[Job, Job]] = []
    sources = {Path(os.path.realpath(job.source)) for job in jobs if job.source is not None}
    series = {_unnumbered(source): source for source in sources}
    for job in jobs:
        if job.numbered and (job.target is None or _is_special(job.target)):
            raise UsageError("Several files a photo can't go to stdout or a device; give -o a file name or a folder.")
        if job.target is None:
            continue
        goal = Path(os.path.realpath(job.target))
        source = series.get(goal) if job.numbered else job.target if goal in sources else None
        if source is not None:
            raise UsageError(f"{source} is an input and would be overwritten; choose another output.")
        if (first := taken.setdefault(goal, job)) is not job:
            clashes.append((first, job))
    if clashes:
        first, second = clashes[0]
        others = f" ({len(clashes) - 1} more such)" if len(clashes) > 1 else ""
        raise UsageError(
            f"{first.source or 'stdin'} and {second.source or 'stdin'} would both write {second.target}{others}; "
            "rename one of them, or do them in two runs with an -o each."
        )

"""Soft alphas and clean foregrounds from photos and binary masks: matte labels where there are none.

    python -m mattecli.mixing.prepare SOURCE OUT

SOURCE holds images/ and masks/ (what is not 0 is subject, of greys what is above the middle) and may hold labels/
with class numbers and labels.txt ("19 hair" a line). A band around the mask's edge becomes unknown, wide on hair and
narrow elsewhere, and closed-form matting solves it (`mask_to_matte`). OUT receives, for every photo that passes the
checks,

    alphas/NAME.png        8-bit grey
    foregrounds/NAME.jpg   the subject's colours, extended outwards over its edge
    report.jsonl           a line a photo: accepted, rejected or failed, why, and the numbers behind it

A second run does only what is missing (empty OUT to begin anew).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mattecli import atomic
from mattecli.errors import InputError, MatteError, UsageError
from mattecli.media.photos import READABLE, encode, read_photo
from mattecli.mixing.mask_to_matte import Subject, foreground, matte
from mattecli.mixing.sources import subject_of
from mattecli.processors import processors

HAIR_CLASSES = frozenset({"hair", "fur", "beard"})


@dataclass(frozen=True)
class Task:
    """The files of one photo."""

    name: str
    image: Path
    mask: Path
    labels: Path | None
    hair: tuple[int, ...]
    out: Path

    @property
    def alpha(self) -> Path:
        return self.out / "alphas" / f"{self.name}.png"

    @property
    def foreground(self) -> Path:
        return self.out / "foregrounds" / f"{self.name}.jpg"


def tasks(source: Path, out: Path) -> list[Task]:
    """Every photo of `source` that has a mask, sorted by name. Raises UsageError if there is none."""
    if not (source / "images").is_dir() or not (source / "masks").is_dir():
        raise UsageError(f"{source} must hold the folders images/ and masks/.")
    hair = _hair_classes(source)
    masks = _by_stem(source / "masks")
    labels = _by_stem(source / "labels") if hair else {}
    found = [
        Task(name, image, masks[name], labels.get(name), hair, out)
        for name, image in sorted(_by_stem(source / "images").items())
        if name in masks
    ]
    if not found:
        raise UsageError(f"No photo in {source / 'images'} has a mask of the same name in {source / 'masks'}.")
    return found


def _by_stem(folder: Path) -> dict[str, Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.stem: path for path in files if path.suffix.lower() in READABLE}


def _hair_classes(source: Path) -> tuple[int, ...]:
    names = source / "labels.txt"
    if not names.is_file() or not (source / "labels").is_dir():
        return ()
    lines = [line.split(maxsplit=1) for line in names.read_text(encoding="utf-8").splitlines()]
    return tuple(int(line[0]) for line in lines if len(line) == 2 and line[1].strip().lower() in HAIR_CLASSES)


def process(task: Task) -> dict[str, object]:
    """Do one photo and return its line of the report. Only a missing dependency raises; a bad photo is reported."""
    try:
        subject = _read(task)
        alpha, checks = matte(subject)
        reason = checks.verdict()
        if not reason:
            atomic.write(task.foreground, encode(foreground(subject.rgb, alpha), ".jpg"))
            atomic.write(task.alpha, encode(np.rint(alpha * 255).astype(np.uint8), ".png"))
    except (InputError, OSError) as error:
        return {"name": task.name, "status": "failed", "reason": str(error)}
    numbers = {name: round(value, 5) for name, value in asdict(checks).items()}
    return {"name": task.name, "status": "rejected" if reason else "accepted", "reason": reason, **numbers}


def _read(task: Task) -> Subject:
    rgb = read_photo(task.image).rgb
    mask = subject_of(_plane(task.mask))
    soft = np.isin(_plane(task.labels), task.hair) if task.labels else None
    for plane in (mask, soft):
        if plane is not None and plane.shape != rgb.shape[:2]:
            raise InputError("photo, mask and labels differ in size")
    return Subject(rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8), mask, soft)


def _plane(path: Path) -> NDArray[np.uint8]:
    """A grey picture as stored: class numbers stay what they are."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    plane = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if plane is None:
        raise InputError(f"{path.name} cannot be decoded")
    return np.asarray(plane, dtype=np.uint8)


def prepare(source: Path, out: Path, workers: int = 0, limit: int = 0) -> Iterator[dict[str, object]]:
    """Do what is missing of the first `limit` photos (0: all), in `workers` processes (0: one a CPU).

    Yields the report's lines, those of an earlier run first. Raises UsageError for folders that don't fit and
    for a missing dependency.
    """
    todo = tasks(source, out)[: limit or None]
    for folder in ("alphas", "foregrounds"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    report = _Report(out / "report.jsonl")
    earlier = [report.lines[task.name] for task in todo if _done(task, report.lines)]
    yield from earlier
    todo = [task for task in todo if not _done(task, report.lines)]
    try:
        for line in _parallel(todo, workers or processors()):
            report.add(line)
            yield line
    finally:
        report.close()


def _done(task: Task, lines: dict[str, dict[str, object]]) -> bool:
    status = lines.get(task.name, {}).get("status")
    return status == "rejected" or (status == "accepted" and task.alpha.is_file() and task.foreground.is_file())


class _Report:
    """report.jsonl: grows by a line a photo, sorted by name when the run ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, dict[str, object]] = {}
        for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            self.lines[line["name"]] = line

    def add(self, line: dict[str, object]) -> None:
        self.lines[str(line["name"])] = line
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        text = "".join(json.dumps(self.lines[name]) + "\n" for name in sorted(self.lines))
        atomic.write(self.path, text.encode())


def _parallel(todo: Sequence[Task], workers: int) -> Iterator[dict[str, object]]:
    if workers == 1 or len(todo) < 2:
        yield from map(process, todo)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(todo)), context, initializer=_start_worker)
    try:
        for future in as_completed([pool.submit(process, task) for task in todo]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which lets the photos at work finish.


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, 1 if a photo failed, 2 wrong use, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m mattecli.mixing.prepare", description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="folder with images/, masks/ and perhaps labels/")
    parser.add_argument("out", type=Path, help="folder for alphas/, foregrounds/ and report.jsonl")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one a CPU)")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N photos")
    options = parser.parse_args(arguments)
    if options.workers < 0 or options.limit < 0:
        parser.error("--workers and --limit can't be negative")
    # Every worker is one thread: numeric libraries read these when they are loaded.
    os.environ.update({f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")})
    try:
        total = len(tasks(options.source, options.out)[: options.limit or None])
        lines = list(
            tqdm(
                prepare(options.source, options.out, options.workers, options.limit),
                total=total,
                unit="photo",
            )
        )
    except MatteError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    count = Counter(line["status"] for line in lines)
    numbers = ", ".join(f"{count[status]} {status}" for status in ("accepted", "rejected", "failed"))
    print(f"{numbers}; see {options.out / 'report.jsonl'}", file=sys.stderr)
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

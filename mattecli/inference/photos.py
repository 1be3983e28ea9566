"""Photos through a network: decode, network and encode overlap, and one broken file stops nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from mattecli import atomic
from mattecli.errors import InputError, MatteError, reason
from mattecli.inference.coarse import Coarse
from mattecli.inference.devices import lacks_memory
from mattecli.inference.guidance.hints import NOTHING, Hints
from mattecli.inference.instances import Choice, People
from mattecli.inference.network import Matter
from mattecli.inference.output import Box, Output, Rendered, Shares, shares_of, with_own
from mattecli.media.batch import Job, numbered
from mattecli.media.photos import Photo, dropped, encode, read_photo
from mattecli.processors import processors

FAILURES = (MatteError, OSError, cv2.error)
"""What, beside a lack of memory, makes one photo fail and not the run; anything else is a fault of ours."""

Hinting = Callable[[Photo], Hints]

AHEAD = 2
"""Photos decoded before their turn."""
IN_FLIGHT = 64_000_000
"""Pixels that may wait for, or be in, the last stage; a larger photo goes through it alone."""


@dataclass(frozen=True)
class Outcome:
    """What became of one photo.

    `height` and `width` are those of what was written, `box` (left, top, right, bottom; pixels of the photo) where
    it was cropped from, `seconds` the time from the network to the disk. `shares` are of what was written; with a file
    each, of all people together. `error` is a sentence; `note` one about
    something that is no error. `instances` are the people who were written one by one, if they were to be; with a
    file each, `height` and `width` are the photo's.
    """

    job: Job
    height: int = 0
    width: int = 0
    box: tuple[int, int, int, int] | None = None
    seconds: float = 0.0
    shares: Shares | None = None
    note: str | None = None
    error: str | None = None
    instances: tuple[Instance, ...] | None = None


@dataclass(frozen=True)
class Instance:
    """One person of a photo and the file that holds them.

    `number` counts from the largest, `box` is where they are, `crop` what the file shows if it was cropped (left, top,
    right, bottom; pixels of the photo), `score` the network's in [0, 1], `area` the sum of the alpha in pixels.
    """

    number: int
    output: str
    box: Box | None
    crop: Box | None
    score: float | None
    area: int


def process(
    jobs: Iterable[Job],
    matter: Matter,
    output: Output,
    report: Callable[[Outcome], None] = lambda outcome: None,
    hint: Hinting = lambda photo: NOTHING,
) -> None:
    """Every job's photo through `matter`, written as `output` says; `report` is called once a job, in their order.

    `hint` says what the network is told of a photo beside it; what it raises makes that photo fail.
    Two threads decode ahead, the caller's runs the network, up to four finish (full-size alpha, foreground,
    encoding, writing). On KeyboardInterrupt, or any exception that is not one photo's, what is not yet on disk is
    given up and the exception goes on; what is on disk is whole.
    """
    stop, waiting = threading.Event(), deque[_Waiting]()
    with ThreadPoolExecutor(AHEAD) as readers, ThreadPoolExecutor(min(4, processors())) as writers:
        try:
            for job, reading in _ahead(readers, jobs):
                item = _start(job, reading, matter, output, writers, waiting, stop, report, hint)
                waiting.append(item)
                _collect(waiting, report, until=lambda: not waiting[0].result.done())
            _collect(waiting, report)
        except BaseException:
            stop.set()
            readers.shutdown(wait=False, cancel_futures=True)
            writers.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Waiting:
    job: Job
    pixels: int
    result: Future[Outcome]


def _ahead(readers: ThreadPoolExecutor, jobs: Iterable[Job]) -> Iterator[tuple[Job, Future[Photo]]]:
    queue = deque[tuple[Job, Future[Photo]]]()
    for job in jobs:
        queue.append((job, _reading(readers, job)))
        if len(queue) > AHEAD:
            yield queue.popleft()
    while queue:
        yield queue.popleft()


def _start(
    job: Job,
    reading: Future[Photo],
    matter: Matter,
    output: Output,
    writers: ThreadPoolExecutor,
    waiting: deque[_Waiting],
    stop: threading.Event,
    report: Callable[[Outcome], None],
    hint: Hinting,
) -> _Waiting:
    """The network's part of one photo, and the rest handed to `writers` when there is room."""
    started = time.perf_counter()
    try:
        photo = reading.result()
        hints = hint(photo)
        coarse = matter.predict(photo.rgb, hints)
    except Exception as error:
        if not _is_the_photos(error):
            raise
        return _Waiting(job, 0, _failed(error))
    pixels = photo.rgb.shape[0] * photo.rgb.shape[1]
    _collect(waiting, report, until=lambda: sum(item.pixels for item in waiting) + pixels <= IN_FLIGHT)
    return _Waiting(job, pixels, writers.submit(_finish, job, photo, coarse, hints, output, started, stop))


def _collect(
    waiting: deque[_Waiting],
    report: Callable[[Outcome], None],
    until: Callable[[], bool] = lambda: False,
) -> None:
    while waiting and not until():
        item = waiting.popleft()
        try:
            outcome = item.result.result()
        except Exception as error:
            if not _is_the_photos(error):
                raise
            outcome = Outcome(item.job, error=_sentence(item.job, error))
        report(outcome)


def _reading(readers: ThreadPoolExecutor, job: Job) -> Future[Photo]:
    """The photo to come. Stdin is read here and now: a thread that waits for it could not be interrupted."""
    try:
        return readers.submit(read_photo, sys.stdin.buffer.read() if job.source is None else job.source)
    except OSError as error:
        return _failed(error)


def _failed(error: BaseException) -> Future[Any]:
    future = Future[Any]()
    future.set_exception(error)
    return future


def _finish(
    job: Job, photo: Photo, coarse: Coarse, hints: Hints, output: Output, started: float, stop: threading.Event
) -> Outcome:
    alpha = hints.settle(coarse.at(photo.rgb))
    if output.people is None:
        rendered = output.render(photo, alpha)
        height, width = rendered.pixels.shape[:2]
        files = {job.target: _encoded(rendered, suffix_of(job, output))}
        note = rendered.note
        if rendered.subject is None and hints.trimap is not None and hints.trimap.max() < 1:
            note = f"{note}; its trimap has no white, which marks where the subject surely is"
        note = note or _lost(rendered, photo, suffix_of(job, output))
        outcome = Outcome(job, height, width, rendered.box, shares=rendered.shares, note=note)
    else:
        files, outcome = _one_by_one(job, photo, People(coarse, photo.rgb, alpha), output.people, output)
        if job.numbered:
            outcome = replace(outcome, shares=shares_of(with_own(photo, alpha)))
    if not stop.is_set():
        _write(files)
    return replace(outcome, seconds=time.perf_counter() - started)


def _one_by_one(
    job: Job, photo: Photo, people: People, choice: Choice, output: Output
) -> tuple[dict[Path | None, bytes], Outcome]:
    """The files of the people chosen, each as if alone in the photo."""
    files, instances, shares = dict[Path | None, bytes](), list[Instance](), None
    height, width, note = *photo.rgb.shape[:2], None if len(people) else f"{photo.source}: no subject found"
    for index in choice(people, photo.source):
        rendered = output.render(photo, people.alpha(index))
        note = note or rendered.note or _lost(rendered, photo, suffix_of(job, output))
        target = numbered(job.target, 1 + index) if job.numbered and job.target else job.target
        files[target] = _encoded(rendered, suffix_of(job, output))
        name, score, area = str(target or "-"), people.scores[index], round(people.areas[index])
        instances.append(Instance(1 + index, name, rendered.subject, rendered.box, score, area))
        if not job.numbered:
            height, width = rendered.pixels.shape[:2]
            shares = rendered.shares
    if job.numbered and job.target and (later := numbered(job.target, 1 + len(people))).exists():
        note = f"{later} and those after it are of an earlier run."
    box = None if job.numbered or not instances else instances[0].crop
    return files, Outcome(job, height, width, box, shares=shares, note=note, instances=tuple(instances))


def _encoded(rendered: Rendered, suffix: str) -> bytes:
    return encode(rendered.pixels, suffix, icc=rendered.icc, exif=rendered.exif)


def _lost(rendered: Rendered, photo: Photo, suffix: str) -> str | None:
    """A sentence about what of the photo's the file has no place for."""
    lost = dropped(suffix, rendered.icc, rendered.exif)
    return f"{photo.source}: {suffix} has no place for its {lost}." if lost else None


def suffix_of(job: Job, output: Output) -> str:
    """The suffix that names the file format of a job's output."""
    return (job.target.suffix.lower() if job.target else "") or output.suffix


def _write(files: dict[Path | None, bytes]) -> None:
    """All of one photo's files, or none: those that were new are taken back if one can't be written."""
    written: list[Path] = []
    try:
        for target, data in files.items():
            if target is None:
                _to_stdout(data)
                continue
            new = not target.exists()
            atomic.write(target, data)
            if new:
                written.append(target)
    except BaseException:
        for target in written:
            target.unlink(missing_ok=True)
        raise


def _to_stdout(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise InputError(f"stdout can't be written: {reason(error)}.") from error


def _is_the_photos(error: Exception) -> bool:
    return isinstance(error, FAILURES) or lacks_memory(error)


def _sentence(job: Job, error: BaseException) -> str:
    name = "stdin" if job.source is None else str(job.source)
    if isinstance(error, MatteError):
        return str(error)
    if lacks_memory(error):
        return f"{name}: not enough memory; try a smaller --size or --device cpu."
    if isinstance(error, cv2.error):
        return f"{name}: OpenCV says: {error.err.strip().rstrip('.')}."
    if isinstance(error, OSError):
        return f"{name}: {reason(error)}."
    return f"{name}: {error}"

"""Scoring clips: predictions, or a network that follows them frame by frame."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from mattecli.errors import InputError
from mattecli.evaluation import clip_metrics
from mattecli.evaluation.clip_dataset import ClipDataset, Footage, read_mattes
from mattecli.evaluation.dataset import check_levels, is_mask
from mattecli.evaluation.metrics import Plane
from mattecli.evaluation.report import Report, Row
from mattecli.evaluation.run import FAILURES, MOST_WORKERS, check_size, sentence

A = TypeVar("A")
B = TypeVar("B")

PredictClip = Callable[[Footage], Iterator[Plane]]
"""The mattes `[H, W]` of a clip's frames: the prediction read, or the network run over the pictures."""


def evaluate(
    dataset: ClipDataset,
    predict: PredictClip = read_mattes,
    progress: Callable[[float], None] = lambda frames: None,
) -> Report:
    """Score one clip after the other, several frames at a time in flat memory; `progress(1)` after each frame.

    A clip that can't be scored (unreadable, of another size or number of frames) goes into the report's `failed` and
    the others are done; one without source goes into `missing`.
    """
    rows: list[Row] = []
    failed: dict[str, str] = {}
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers)
    try:
        for item in dataset.items:
            if item.source is None:
                continue
            frames = _Frames(item.truth, item.source, predict, progress)
            try:
                scores = clip_metrics.measure(frames, partial(_ahead, pool, workers))
                rows.append(Row(item.name, {"whole": scores}, frames.mask, frames.count))
            except FAILURES as error:
                failed[item.name] = sentence(item.truth.path, error)
    finally:
        pool.shutdown(cancel_futures=True)
    missing = tuple(item.name for item in dataset.items if item.source is None)
    return Report(tuple(rows), missing, failed, dataset.surplus, "clips")


class _Frames:
    """Predictions and ground truth side by side, checked; `count` and `mask` hold once they have been read."""

    def __init__(
        self, truth: Footage, source: Footage, predict: PredictClip, progress: Callable[[float], None]
    ) -> None:
        self.truth, self.source, self.predict, self.progress = truth, source, predict, progress
        self.count, self.mask, self._highest = 0, True, 0

    def __iter__(self) -> Iterator[clip_metrics.Frame]:
        here, there = self.source, self.truth
        if here.frames and there.frames and len(here.frames) != len(there.frames):
            raise self._another_length(f"{len(here.frames)} frames, not the {len(there.frames)} of")
        size = None
        for prediction, truth in itertools.zip_longest(self.predict(here), read_mattes(there)):
            if prediction is None or truth is None:
                raise self._another_length(f"{'fewer' if prediction is None else 'more'} frames than")
            check_size(f"{here.path}, frame {self.count + 1},", prediction, there.path, truth)
            if size not in (None, truth.shape):
                raise InputError(f"{there.path} has frames of different sizes.")
            size = truth.shape
            self.mask = self.mask and is_mask(truth)
            self._highest = max(self._highest, int(truth.max()))
            self.count += 1
            yield prediction, truth
            self.progress(1)
        check_levels(there.path, self._highest)
        if self.count < 2:
            raise InputError(f"{there.path} has {self.count} of the two frames that dtSSD needs at least.")

    def _another_length(self, difference: str) -> InputError:
        return InputError(f"{self.source.path} has {difference} its ground truth {self.truth.path}.")


def _ahead(pool: ThreadPoolExecutor, most: int, function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`map` in the pool's threads, with no more than `most` items under way."""
    waiting = deque[Future[B]]()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()

"""Scoring clips: predictions, or a network that follows them frame by frame."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from mattecli.errors import InputError
from mattecli.evaluation import clip_metrics
from mattecli.evaluation.clip_dataset import ClipDataset, ClipItem, Footage, read_mattes
from mattecli.evaluation.dataset import check_levels, is_mask
from mattecli.evaluation.metrics import Plane
from mattecli.evaluation.report import Report, Row
from mattecli.evaluation.run import FAILURES, check_size, sentence
from mattecli.evaluation.workers import Map, Workers

A = TypeVar("A")
B = TypeVar("B")

PredictClip = Callable[[Footage, Map], Iterator[Plane]]
"""The mattes `[H, W]` of a clip's frames: the prediction read, or the network run over the pictures. The map is for
what may be done for several frames at a time."""


def evaluate(
    dataset: ClipDataset,
    predict: PredictClip = read_mattes,
    progress: Callable[[float], None] = lambda frames: None,
) -> Report:
    """Score one clip after the other, several frames at a time in flat memory; `progress(1)` after each frame measured.

    A clip that can't be scored (unreadable, of another size or number of frames) goes into the report's `failed` and
    the others are done; one without source goes into `missing`. In the end the progress is `dataset.steps`.
    """
    rows: list[Row] = []
    failed: dict[str, str] = {}
    with Workers() as workers:
        for item in dataset.items:
            if item.source is None:
                continue
            outcome = _score(item, item.source, predict, workers, progress)
            if isinstance(outcome, Row):
                rows.append(outcome)
            else:
                failed[item.name] = outcome
    missing = tuple(item.name for item in dataset.items if item.source is None)
    return Report(tuple(rows), missing, failed, dataset.surplus, "clips")


def _score(
    item: ClipItem, source: Footage, predict: PredictClip, workers: Workers, progress: Callable[[float], None]
) -> Row | str:
    measured = 0

    def counted(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        nonlocal measured
        for scores in workers.map(function, items):
            measured += 1
            progress(1)
            yield scores

    frames = _Frames(item.truth, source, predict, workers.map)
    outcome: Row | str
    try:
        scores = clip_metrics.measure(frames, counted)
        outcome = Row(item.name, {"whole": scores}, frames.mask, frames.count)
    except FAILURES as error:
        outcome = sentence(item.truth.path, error)
    progress((item.steps or measured) - measured)
    return outcome


class _Frames:
    """Predictions and ground truth side by side, checked; `count` and `mask` hold once they have been read."""

    def __init__(self, truth: Footage, source: Footage, predict: PredictClip, apply: Map) -> None:
        self.truth, self.source, self.predict, self.apply = truth, source, predict, apply
        self.count, self.mask, self._highest = 0, True, 0

    def __iter__(self) -> Iterator[clip_metrics.Frame]:
        here, there = self.source, self.truth
        if here.frames and there.frames and len(here.frames) != len(there.frames):
            raise self._another_length(f"{len(here.frames)} frames, not the {len(there.frames)} of")
        size = None
        for prediction, truth in itertools.zip_longest(self.predict(here, self.apply), read_mattes(there, self.apply)):
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
        check_levels(there.path, self._highest)
        if self.count < 2:
            raise InputError(f"{there.path} has {self.count} of the two frames that dtSSD needs at least.")

    def _another_length(self, difference: str) -> InputError:
        return InputError(f"{self.source.path} has {difference} its ground truth {self.truth.path}.")

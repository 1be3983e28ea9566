"""Scoring a folder of predictions, or a network over a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.errors import InputError, MatteError
from mattecli.evaluation import metrics
from mattecli.evaluation.dataset import Dataset, Item, is_mask, read_matte, read_truth
from mattecli.evaluation.report import Report, Row
from mattecli.evaluation.workers import Workers
from mattecli.media.photos import Photo, read_photo

T = TypeVar("T")

Predict = Callable[[Photo], metrics.Plane]
"""The network's matte `[H, W]` for a photo."""


FAILURES = (MatteError, OSError, MemoryError, cv2.error)
"""What makes one item fail and not the run; anything else is a fault of ours."""


@dataclass(frozen=True)
class _Sample:
    """What was read of an item; in place of the photo later its matte."""

    item: Item
    truth: metrics.Plane
    region: NDArray[np.bool_] | None
    source: Photo | metrics.Plane


def evaluate(
    dataset: Dataset, predict: Predict | None = None, progress: Callable[[float], None] = lambda steps: None
) -> Report:
    """Score every item; `progress(1)` after each. Without `predict` the sources are the predictions.

    The network runs in the caller's thread; what comes before and after it is done for several items at a time. An
    item that can't be scored (unreadable, of another size, without its trimap, too large for the memory) goes into
    the report's `failed` and the others are done; one without source goes into `missing`.
    """

    def read(item: Item) -> _Sample | str:
        return _attempt(item, lambda: _read(item, dataset.trimaps, predict is not None))

    def predicted(sample: _Sample | str) -> _Sample | str:
        if predict is None or isinstance(sample, str) or not isinstance(photo := sample.source, Photo):
            return sample
        return _attempt(sample.item, lambda: replace(sample, source=predict(photo)))

    def scored(sample: _Sample | str) -> Row | str:
        return sample if isinstance(sample, str) else _attempt(sample.item, lambda: _score(sample))

    present = [item for item in dataset.items if item.source is not None]
    rows: list[Row] = []
    failed: dict[str, str] = {}
    with Workers() as workers:
        outcomes = workers.map(scored, map(predicted, workers.map(read, present)))
        for item, outcome in zip(present, outcomes, strict=True):
            if isinstance(outcome, Row):
                rows.append(outcome)
            else:
                failed[item.name] = outcome
            progress(1)
    missing = tuple(item.name for item in dataset.items if item.source is None)
    return Report(tuple(rows), missing, failed, dataset.surplus)


def _attempt(item: Item, work: Callable[[], T]) -> T | str:
    try:
        return work()
    except FAILURES as error:
        return sentence(item.truth, error)


def sentence(path: Path, error: BaseException) -> str:
    """Why the item with the ground truth `path` could not be scored."""
    if isinstance(error, MatteError):
        return str(error)
    return f"{path}: not enough memory." if isinstance(error, MemoryError) else f"{path}: {error}"


def _read(item: Item, trimaps: bool, photo: bool) -> _Sample:
    assert item.source is not None
    truth = read_truth(item.truth)
    region = _region(item, truth) if trimaps else None
    return _Sample(item, truth, region, read_photo(item.source) if photo else read_matte(item.source))


def _score(sample: _Sample) -> Row:
    item, truth, region, prediction = sample.item, sample.truth, sample.region, sample.source
    assert item.source is not None and isinstance(prediction, np.ndarray)
    check_size(item.source, prediction, item.truth, truth)
    regions = {"whole": None} if region is None else {"whole": None, "trimap": region}
    return Row(item.name, metrics.measure_regions(prediction, truth, regions), is_mask(truth))


def _region(item: Item, truth: metrics.Plane) -> NDArray[np.bool_]:
    if item.trimap is None:
        raise InputError(f"{item.truth} has no trimap.")
    trimap = read_matte(item.trimap)
    check_size(item.trimap, trimap, item.truth, truth)
    region = metrics.unknown(trimap)
    if trimap.dtype != np.uint8 or not region.any():
        raise InputError(f"{item.trimap} has no unknown region (128 in 8 bits).")
    return region


def check_size(path: Path | str, plane: metrics.Plane, true_path: Path, truth: metrics.Plane) -> None:
    """Raises InputError for a plane `[H, W]` of another size than its ground truth."""
    if plane.shape != truth.shape:
        size, true_size = ("{1} x {0}".format(*p.shape) for p in (plane, truth))
        raise InputError(f"{path} is {size} pixels, its ground truth {true_path} {true_size}.")

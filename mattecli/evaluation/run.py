"""Scoring a folder of predictions, or a network over a data set."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.errors import InputError, MatteError
from mattecli.evaluation import metrics
from mattecli.evaluation.dataset import Dataset, Item, is_mask, read_matte, read_truth
from mattecli.evaluation.report import Report, Row, Scores

MOST_WORKERS = 8

Predict = Callable[[Path], metrics.Plane]
"""The matte `[H, W]` for an item's source: the prediction's file read, or the network run on the photo."""


FAILURES = (MatteError, OSError, MemoryError, cv2.error)
"""What makes one item fail and not the run; anything else is a fault of ours."""


def evaluate(
    dataset: Dataset, predict: Predict = read_matte, progress: Callable[[float], None] = lambda steps: None
) -> Report:
    """Score every item, several at a time; `progress(1)` after each.

    An item that can't be scored (unreadable, of another size, without its trimap, too large for the memory) goes into
    the report's `failed` and the others are done; one without source goes into `missing`.
    """
    present = [item for item in dataset.items if item.source is not None]
    rows: list[Row] = []
    failed: dict[str, str] = {}
    pool = ThreadPoolExecutor(min(MOST_WORKERS, os.cpu_count() or 1))
    try:
        for item, outcome in zip(present, pool.map(lambda it: _attempt(it, dataset, predict), present), strict=True):
            if isinstance(outcome, Row):
                rows.append(outcome)
            else:
                failed[item.name] = outcome
            progress(1)
    finally:
        pool.shutdown(cancel_futures=True)
    missing = tuple(item.name for item in dataset.items if item.source is None)
    return Report(tuple(rows), missing, failed, dataset.surplus)


def _attempt(item: Item, dataset: Dataset, predict: Predict) -> Row | str:
    try:
        return _score(item, dataset.trimaps, predict)
    except FAILURES as error:
        return sentence(item.truth, error)


def sentence(path: Path, error: BaseException) -> str:
    """Why the item with the ground truth `path` could not be scored."""
    if isinstance(error, MatteError):
        return str(error)
    return f"{path}: not enough memory." if isinstance(error, MemoryError) else f"{path}: {error}"


def _score(item: Item, trimaps: bool, predict: Predict) -> Row:
    assert item.source is not None
    truth = read_truth(item.truth)
    region = _region(item, truth) if trimaps else None
    prediction = predict(item.source)
    check_size(item.source, prediction, item.truth, truth)
    scores: Scores = {"whole": metrics.measure(prediction, truth)}
    if region is not None:
        scores["trimap"] = metrics.measure(prediction, truth, region)
    return Row(item.name, scores, is_mask(truth))


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

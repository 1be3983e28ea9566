"""Batches for the loop: numbered, made by loader processes, on the device before they are needed."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mattecli.errors import MatteError
from mattecli.mixing.batch import Batch


class Numbered(Protocol):
    """Endless batches, each a function of its number alone."""

    def batch(self, index: int) -> Batch: ...


class _Fields(Dataset[dict[str, Tensor] | MatteError]):
    """Batches as dictionaries, which the loader can put into pinned memory.

    A file that cannot be read comes back as its error: one raised in a worker would carry the worker's traceback.
    """

    def __init__(self, batches: Numbered) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> dict[str, Tensor] | MatteError:
        try:
            return self.batches.batch(index).given()
        except MatteError as error:
            return error


class Feed:
    """Hands out batches `start, start + stride, …` below `stop`, on `device`, and times the waiting.

    `waited` is the time in seconds spent waiting for data since it was last set to 0.
    """

    def __init__(self, batches: Numbered, indices: range, workers: int, device: torch.device) -> None:
        loader = DataLoader(
            _Fields(batches),
            batch_size=None,
            sampler=indices,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=device.type == "cuda",
            worker_init_fn=_start_worker,
            multiprocessing_context="spawn" if workers else None,  # a forked child inherits locks of OpenCV's threads
        )
        with _ctrl_c_ignored():
            self._loaded: Iterator[dict[str, Tensor] | MatteError] = iter(loader)
        self._device = device
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._ahead: Batch | None = None
        self.waited = 0.0

    def take(self) -> Batch:
        """The next batch, ready on the device. Raises `StopIteration` after the last."""
        self.fetch()
        batch, self._ahead = self._ahead, None
        if batch is None:
            raise StopIteration
        if self._copies is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_stream(self._copies)
            for value in batch.given().values():
                value.record_stream(stream)
        return batch

    def fetch(self) -> None:
        """Begin to copy the next batch to the device while that is still busy with the one before."""
        if self._ahead is not None:
            return
        start = time.perf_counter()
        loaded = next(self._loaded, None)
        self.waited += time.perf_counter() - start
        if isinstance(loaded, MatteError):
            raise loaded
        if loaded is not None:
            with torch.cuda.stream(self._copies):
                moved = {name: value.to(self._device, non_blocking=True) for name, value in loaded.items()}
                self._ahead = Batch(**moved)


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Processes started meanwhile ignore Ctrl-C from their first moment, while they still import: it is the loop's."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    # Python's own end would kill the thread that hands over batches in the midst of torch's code, which aborts.
    atexit.register(os._exit, 0)

"""How a step is run: straight away, or on CUDA as a graph, beside the copies up and down."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattecli.inference.on_device.step import Inputs, Step

Samples = NDArray[Any]
Fetch = Callable[[], Samples]
"""Waits for the samples that come down."""
WARM_UP = 3
"""Runs before a capture: libraries choose and allocate what they need on that stream."""


class Direct:
    """One thing after the other, on any device."""

    captured = False

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device

    def up(self, arrays: Sequence[Samples]) -> Tensor:
        """`[samples]` on the device, one array behind the other; all of one type."""
        return torch.from_numpy(np.concatenate([array.ravel() for array in arrays])).to(self._device)

    def run(self, begins: bool, inputs: Inputs) -> Tensor:
        self._step.mark(begins)
        return self._step(inputs)

    def down(self, made: Tensor) -> Fetch:
        return lambda: np.asarray(made.cpu().numpy())

    def seconds(self, runs: int, inputs: Inputs) -> float:
        """What a run takes on average, once warm."""
        self.down(self.run(True, inputs))()
        start = time.perf_counter()
        for _ in range(runs):
            made = self.run(False, inputs)
        self.down(made)()
        return (time.perf_counter() - start) / runs


class Streams:
    """Three CUDA streams: one frame goes up while the next one is worked on and a third comes down.

    Host memory is pinned, and PyTorch's allocators reuse it, here and there, once the copies are through: after a few
    frames nothing is allocated. The host waits for a frame alone, never for the device. A step is captured when it is
    first run; one whose network waits for the device can't be, and is run operation by operation.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device
        self._up, self._main, self._down = (torch.cuda.Stream(device) for _ in range(3))  # type: ignore[no-untyped-call]
        self._main.wait_stream(torch.cuda.current_stream(device))  # which may still fill what the step keeps
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Inputs | None = None
        self._made: Tensor

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def up(self, arrays: Sequence[Samples]) -> Tensor:
        """As `Direct.up`; ready for `run`."""
        sizes = [array.size for array in arrays]
        kind = torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype
        host = torch.empty(sum(sizes), dtype=kind, pin_memory=True)
        for part, array in zip(torch.split(host, sizes), arrays, strict=True):
            np.copyto(part.numpy().reshape(array.shape), array)
        with torch.cuda.stream(self._up):
            there = host.to(self._device, non_blocking=True)
        self._main.wait_stream(self._up)
        there.record_stream(self._main)
        return there

    @torch.inference_mode()
    def run(self, begins: bool, inputs: Inputs) -> Tensor:
        with torch.cuda.stream(self._main):
            if self._inputs is None:
                self._inputs = self._capture(inputs)
                begins = True
            self._step.mark(begins)
            if self._graph is None:
                return self._step(inputs)
            for own, given in zip(self._inputs, inputs, strict=True):
                if own is not None and given is not None:
                    own.copy_(given)
            self._graph.replay()
            return self._made.clone()

    def down(self, made: Tensor) -> Fetch:
        self._down.wait_stream(self._main)
        with torch.cuda.stream(self._down):
            here = torch.empty(made.shape, dtype=made.dtype, pin_memory=True)
            here.copy_(made, non_blocking=True)
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record()
        made.record_stream(self._down)

        def fetch() -> Samples:
            done.synchronize()
            return np.asarray(here.numpy())

        return fetch

    def seconds(self, runs: int, inputs: Inputs) -> float:
        """What a run takes the device on average, once warm; nothing goes up or down."""
        self.run(True, inputs)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record(self._main)
        for _ in range(runs):
            self.run(False, inputs)
        end.record(self._main)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000 / runs

    def _capture(self, inputs: Inputs) -> Inputs:
        """The tensors that the graph reads."""
        own = Inputs(inputs.levels.clone(), *(given if given is None else given.clone() for given in inputs[1:]))
        for _ in range(WARM_UP):
            self._step(own)
        if self._waits(own):
            return own
        self._graph = torch.cuda.CUDAGraph()
        # other threads may decode on the device meanwhile
        with torch.cuda.graph(self._graph, stream=self._main, capture_error_mode="thread_local"):
            self._made = self._step(own)
        return own

    def _waits(self, own: Inputs) -> bool:
        """Whether the step waits for the device. A capture that fails for it would leave the allocator in disorder."""
        usual = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
            try:
                self._step(own)
            except RuntimeError:
                return True
            finally:
                torch.cuda.set_sync_debug_mode(usual)
        return False

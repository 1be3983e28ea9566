"""Device, precision, signals and the other processes of a training (`torchrun`)."""

from __future__ import annotations

import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mattecli.inference.devices import resolve_device, resolve_precision


@dataclass(frozen=True)
class Processes:
    """This process's place among `world`, and its device."""

    device: torch.device
    rank: int = 0
    world: int = 1

    def bf16(self, precision: str) -> bool:
        """Whether to train in bf16: on CUDA devices from Ampere on, on CPUs that have instructions for it."""
        if precision != "auto":
            return precision == "bf16"
        if self.device.type == "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return resolve_precision("auto", self.device) == "bf16"

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.world == 1:
            return flag
        said = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(said, distributed.ReduceOp.MAX)
        return bool(said)

    def mean(self, terms: dict[str, float]) -> dict[str, float]:
        """The mean over all processes; a term that one lacks is 0 there."""
        if self.world == 1:
            return terms
        of_all: list[dict[str, float]] = [{}] * self.world
        distributed.all_gather_object(of_all, terms)
        names = dict.fromkeys(name for one in of_all for name in one)
        return {name: sum(one.get(name, 0.0) for one in of_all) / self.world for name in names}

    def parallel(self, module: nn.Module) -> nn.Module:
        """`module` with gradients that are the mean over all processes; each keeps its own buffers."""
        if self.world == 1:
            return module
        known = inspect.signature(DistributedDataParallel).parameters
        renamed = "forward_sync_buffers"  # of torch 2.13, where the old name warns
        unshared: dict[str, Any] = {renamed if renamed in known else "broadcast_buffers": False}
        return DistributedDataParallel(module, find_unused_parameters=True, **unshared)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            distributed.barrier()

    def __str__(self) -> str:
        return self.device.type if self.world == 1 else f"{self.world} × {self.device.type}"


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, if it did. Raises `UsageError` for a missing device."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = resolve_device(device)
    if chosen.type == "cuda" and world > 1:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)  # pinned memory would take the first one's context
    if world == 1:
        yield Processes(chosen)
        return
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(chosen, rank, world)
    finally:
        distributed.destroy_process_group()


@contextmanager
def stopped_by_signal() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag, so that a step is finished; a second stops at once."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Forward speed, memory and arithmetic of networks, side by side.

As many variants as `HELD` allows are built and warmed up, then timed in turn, round after round, so that whatever else
the machine does falls on all of them alike: their ratios are fair even where the times are not. Networks have fresh
weights (speed does not depend on them), are fused where they can be, and see random pictures; what is timed is the
forward pass alone, with the device synchronised, and without a clip's state. PyTorch returns alpha at the picture's
size; OpenVINO what inference takes from it, of `realtime` the slope and the intercept from which alpha is made then.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mattecli import zoo
from mattecli.errors import MatteError, UsageError
from mattecli.inference.compiled import compile_openvino, require_openvino, taken
from mattecli.inference.devices import PRECISIONS, resolve_device, resolve_precision

WARM_UP, LEAST = 3, 3
"""Passes before the timed ones, at most, and timed ones, if so many are wanted."""
ENOUGH, LONG = 4.0, 0.25
"""Seconds: of a variant's passes, timed or before, after which no more of them begin; of a pass that caches are nothing
to."""
HELD = 2 * 2**30
"""Bytes of weights after which no further network is built before those that are have been timed."""
FAILURES = (RuntimeError, ValueError, MemoryError, MatteError)
"""What a network raises that can't do with a variant, out of memory included."""


@dataclass(frozen=True)
class Variant:
    """One thing to time. `height` and `width` are what the network sees, in pixels; `batch` samples at once."""

    model: str
    height: int = 512
    width: int = 512
    batch: int = 1
    precision: str = "auto"
    device: str = "auto"
    engine: str = "torch"


@dataclass(frozen=True)
class Result:
    """What was found. `error` says why a variant could not run; then all figures are None.

    seconds: median time of one forward pass of the whole batch; `quartiles` the first and third, `runs` how many.
    per_second: samples a second. parameters, macs: of the network as it was run; macs (multiply-adds of convolutions
    and matrix products) for one sample. memory: bytes of the weights and of what a pass takes at its peak: allocated
    on CUDA; growth of the process on Linux, which is a rough figure; None elsewhere.
    """

    variant: Variant
    seconds: float | None = None
    quartiles: tuple[float, float] | None = None
    runs: int = 0
    per_second: float | None = None
    memory: int | None = None
    parameters: int | None = None
    macs: int | None = None
    error: str | None = None


@dataclass
class _Ready:
    """A variant warmed up, `auto` resolved as `matte` does: `run` does one forward pass and waits for it."""

    variant: Variant
    run: Callable[[], object]
    weights: int
    memory: int | None
    parameters: int
    macs: int


def bench(
    variants: Sequence[Variant],
    runs: int = 20,
    progress: Callable[[float], None] = lambda steps: None,
    create: Callable[[str], nn.Module] | None = None,
) -> list[Result]:
    """Time `variants`, each `runs` times, or fewer, down to `LEAST`, where that takes more than `ENOUGH` seconds.

    `progress` is told one step for each variant made ready, and `runs` for its passes. `create` builds a network of the
    zoo's contract by its name (default: `zoo.create`). Raises UsageError, before any work, for devices and precisions
    that are not there; a variant that fails later (out of memory, say) gets a Result with `error`.
    """
    pending = deque(enumerate([_resolve(variant) for variant in variants]))
    results: dict[int, Result] = {}
    while pending:
        ready: dict[int, _Ready] = {}
        while pending and sum(one.weights for one in ready.values()) < HELD:
            index, variant = pending.popleft()
            try:
                ready[index] = _prepare(variant, create or zoo.create)
            except FAILURES as error:
                results[index] = Result(variant, error=_first_line(error))
                progress(runs)
            progress(1)
        results |= _rounds(ready, runs, progress)
    return [results[index] for index in range(len(variants))]


def _rounds(ready: dict[int, _Ready], runs: int, progress: Callable[[float], None]) -> dict[int, Result]:
    """Time what is `ready` in turn, until each has enough."""
    times: dict[int, list[float]] = {index: [] for index in ready}
    results: dict[int, Result] = {}
    while len(results) < len(ready):
        for index in [index for index in ready if index not in results]:
            taken = times[index]
            try:
                taken.append(_timed(ready[index].run, lead_in=not taken or taken[-1] < LONG))
            except FAILURES as error:
                results[index] = Result(ready[index].variant, error=_first_line(error))
                progress(runs - len(taken))
                continue
            progress(1)
            if len(taken) == runs or (len(taken) >= LEAST and sum(taken) > ENOUGH):
                results[index] = _result(ready[index], taken)
                progress(runs - len(taken))
    return results


def machine(device: str) -> str:
    """The device in words: `NVIDIA H200`, or the processor's name and how many threads PyTorch uses."""
    kind = resolve_device(device)
    if kind.type == "cuda":
        return torch.cuda.get_device_name(kind)
    cores = Path("/proc/cpuinfo")
    lines = cores.read_text().splitlines() if cores.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def _resolve(variant: Variant) -> Variant:
    """`variant` with its device named; the network decides on `auto` precision. UsageError for what is not here."""
    device = resolve_device(variant.device)
    resolve_precision(variant.precision, device)
    if variant.engine not in ("torch", "openvino"):
        raise UsageError(f"--engine {variant.engine} is unknown; choose torch or openvino.")
    if variant.engine == "openvino":
        if device.type != "cpu":
            raise UsageError(f"OpenVINO runs on the CPU here, not on {variant.device}.")
        require_openvino()
    return replace(variant, device=str(device))


def _result(ready: _Ready, times: list[float]) -> Result:
    median = statistics.median(times)
    first, _, third = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return Result(
        ready.variant,
        seconds=median,
        quartiles=(first, third),
        runs=len(times),
        per_second=ready.variant.batch / median,
        memory=ready.memory,
        parameters=ready.parameters,
        macs=ready.macs,
    )


def _prepare(variant: Variant, create: Callable[[str], nn.Module]) -> _Ready:
    """Build, count, warm up, and measure the memory of the warm passes."""
    device = torch.device(variant.device)
    network = create(variant.model).eval()
    half: bool = network.spec.half and variant.engine == "torch"
    variant = replace(variant, precision=resolve_precision(variant.precision, device, half))
    fuse = getattr(network, "fuse", None)
    network = fuse() if callable(fuse) else network
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    macs = _macs(network, _inputs(network, variant, device, batch=1))
    memory = _Memory(device)
    compiled = _openvino if variant.engine == "openvino" else _torch
    run = compiled(network, _inputs(network, variant, device, variant.batch), variant.precision, device)
    start = time.perf_counter()
    for _ in range(WARM_UP):
        run()
        if time.perf_counter() - start > ENOUGH:
            break
    peak = memory.peak()
    if peak is not None and variant.engine == "torch":  # OpenVINO makes a copy of the weights
        peak += weights
    return _Ready(variant, run, weights, peak, sum(p.numel() for p in network.parameters()), macs)


def _inputs(network: nn.Module, variant: Variant, device: torch.device, batch: int) -> dict[str, Tensor]:
    """Random pictures, with what the network's spec needs: a plate, or a trimap of which an eighth each is known to be
    background, above, and foreground, below."""
    random = torch.Generator().manual_seed(0)
    shape = (batch, 3, variant.height, variant.width)
    inputs = {"image": torch.rand(shape, generator=random)}
    needs: str = network.spec.needs  # type: ignore[union-attr, assignment]
    if needs == "trimap":
        rows = torch.arange(variant.height) * 8 // variant.height
        trimap = 0.5 + 0.5 * ((rows == 7).float() - (rows == 0).float())
        inputs["trimap"] = trimap[:, None].expand(batch, 1, -1, variant.width).contiguous()
    elif needs == "background":
        inputs["background"] = torch.rand(shape, generator=random)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _macs(network: nn.Module, inputs: dict[str, Tensor]) -> int:
    network.requires_grad_(False)  # the counter fails at views of parameters that a module gets
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # it does not know the CPU's fused attention
        network(**inputs)
    return int(counter.get_total_flops()) // 2


def _torch(network: nn.Module, inputs: dict[str, Tensor], precision: str, device: torch.device) -> Callable[[], object]:
    lower = PRECISIONS[precision]

    @torch.inference_mode()
    def run() -> object:
        with torch.autocast(device.type, lower) if lower != torch.float32 else contextlib.nullcontext():
            alpha = network(**inputs).alpha
        _synchronise(device)
        return alpha

    return run


def _openvino(
    network: nn.Module, inputs: dict[str, Tensor], precision: str, device: torch.device
) -> Callable[[], object]:
    names = tuple(inputs)

    class Traced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
            return tuple(taken(self.network(**dict(zip(names, values, strict=True)))).values())

    values = tuple(inputs.values())
    compiled = compile_openvino(Traced(), values, precision, getattr(network, "exact", ()))
    arrays = [value.numpy() for value in values]
    return lambda: compiled(arrays)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _timed(run: Callable[[], object], lead_in: bool) -> float:
    """Seconds of a pass; with `lead_in` it follows another of the same variant, so that the caches are its own."""
    if lead_in:
        run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _first_line(error: Exception) -> str:
    """What went wrong in one line, with its cause where a library hides that."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    cause = str(error.__cause__ or "").splitlines()
    return f"{line} ({cause[0]})" if cause else line


class _Memory:
    """Peak memory since it was made."""

    def __init__(self, device: torch.device) -> None:
        gc.collect()
        self.device = device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self.before: int | None = torch.cuda.memory_allocated(device)
        else:
            self.before = _restart_peak() if device.type == "cpu" and sys.platform == "linux" else None

    def peak(self) -> int | None:
        if self.before is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return max(0, (process_memory("VmHWM") or 0) - self.before)


def _restart_peak() -> int | None:
    """Make the kernel's peak of this process start at its present size, and return that; None if it won't."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return process_memory()
    except (OSError, AttributeError):
        return None


def process_memory(field: str = "VmRSS") -> int | None:
    """Bytes of this process that lie in memory; None where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)

"""Forward speed, memory and arithmetic of networks, side by side.

All variants are built and warmed up first, then timed in turn, round after round, so that whatever else the machine
does falls on all of them alike: ratios within one run are fair even where the times are not. Networks have fresh
weights (speed does not depend on them), are fused where they can be, and see random pictures; what is timed is the
forward pass alone, with the device synchronised, and without a clip's state.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mattecli import zoo
from mattecli.errors import MatteError, UsageError
from mattecli.inference.compiled import compile_openvino, require_openvino
from mattecli.inference.devices import PRECISIONS, resolve_device, resolve_precision

WARM_UP = 3
FAILURES = (RuntimeError, ValueError, MatteError)
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
    and matrix products) for one sample. memory: peak bytes that weights and activations took: allocated on CUDA;
    growth of the process on Linux, which is a rough figure; None elsewhere.
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
    memory: int | None
    parameters: int
    macs: int


def bench(
    variants: Sequence[Variant],
    runs: int = 20,
    progress: Callable[[float], None] = lambda steps: None,
    create: Callable[[str], nn.Module] | None = None,
) -> list[Result]:
    """Time `variants`, each `runs` times; `progress(1)` after each variant is ready and after each timed pass.

    `create` builds a network of the zoo's contract by its name (default: `zoo.create`). Raises UsageError, before any
    work, for devices and precisions that are not there; a variant that fails later (out of memory, say) gets a Result
    with `error`.
    """
    variants = [_resolve(variant) for variant in variants]
    ready: dict[int, _Ready] = {}
    errors: dict[int, str] = {}
    times: dict[int, list[float]] = {index: [] for index in range(len(variants))}
    for index, variant in enumerate(variants):
        try:
            ready[index] = _prepare(variant, create or zoo.create)
        except FAILURES as error:
            errors[index] = _first_line(error)
            progress(runs)
        progress(1)
    for _ in range(runs):
        for index in list(ready):
            try:
                times[index].append(_timed(ready[index].run))
            except FAILURES as error:
                errors[index] = _first_line(error)
                progress(runs - len(times[index]) - 1)
                del ready[index]
            progress(1)
    return [
        Result(variant, error=errors[index]) if index in errors else _result(ready[index], times[index])
        for index, variant in enumerate(variants)
    ]


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
    """Build, warm up, and measure the memory of the warm passes."""
    device = torch.device(variant.device)
    network = create(variant.model).eval()
    half: bool = network.spec.half and variant.engine == "torch"
    variant = replace(variant, precision=resolve_precision(variant.precision, device, half))
    fuse = getattr(network, "fuse", None)
    network = fuse() if callable(fuse) else network
    macs = _macs(network, _inputs(network, variant, torch.device("cpu"), batch=1))
    memory = _Memory(device)
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = _inputs(network, variant, device, variant.batch)
    compiled = _openvino if variant.engine == "openvino" else _torch
    run = compiled(network, inputs, variant.precision, device)
    for _ in range(WARM_UP):
        run()
    return _Ready(variant, run, memory.peak(), sum(p.numel() for p in network.parameters()), macs)


def _inputs(network: nn.Module, variant: Variant, device: torch.device, batch: int) -> dict[str, Tensor]:
    """Random pictures, with the trimap (unknown everywhere) or background plate that the network's spec needs."""
    random = torch.Generator().manual_seed(0)
    shape = (batch, 3, variant.height, variant.width)
    inputs = {"image": torch.rand(shape, generator=random)}
    needs: str = network.spec.needs  # type: ignore[union-attr, assignment]
    if needs == "trimap":
        inputs["trimap"] = torch.full((batch, 1, variant.height, variant.width), 0.5)
    elif needs == "background":
        inputs["background"] = torch.rand(shape, generator=random)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _macs(network: nn.Module, inputs: dict[str, Tensor]) -> int:
    network.requires_grad_(False)  # the counter fails at views of parameters that a module gets
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
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

        def forward(self, *values: Tensor) -> Tensor:
            alpha: Tensor = self.network(**dict(zip(names, values, strict=True))).alpha
            return alpha

    values = tuple(inputs.values())
    compiled = compile_openvino(Traced(), values, precision, getattr(network, "exact", ()))
    arrays = [value.numpy() for value in values]
    return lambda: compiled(arrays)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _timed(run: Callable[[], object]) -> float:
    """Seconds of a pass that follows another of the same variant: the caches are its own."""
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

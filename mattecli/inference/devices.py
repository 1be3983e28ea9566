"""Which device, precision and engine a network gets: what was asked for, or what is best of what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import torch

from mattecli.errors import UsageError
from mattecli.inference.compiled import has_openvino

if TYPE_CHECKING:
    from mattecli.inference.network import Matter

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_engine(name: str, device: str = "auto", clip: bool = False) -> str:
    """`auto` is torch; for a `clip` it is openvino where that is installed and the device is the CPU."""
    if name not in ("auto", "torch", "openvino"):
        raise UsageError(f"--engine {name} is unknown; choose auto, torch or openvino.")
    if name == "openvino" and device not in ("auto", "cpu"):
        raise UsageError(f"OpenVINO runs on the CPU here; leave out --device {device} or --engine openvino.")
    if name == "auto":
        return "openvino" if clip and has_openvino() and resolve_device(device).type == "cpu" else "torch"
    return name


def resolve_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU; one asked for by name (`cuda`, `cuda:1`, `mps`, `cpu`) must be there."""
    present: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, available in present.items() if available()))
    kind, _, index = name.partition(":")
    if kind not in present or not (index.isdecimal() or name == kind):
        raise UsageError(f"--device {name} is unknown; choose auto, cuda, cuda:N, mps or cpu.")
    if not present[kind]():
        raise UsageError(f"--device {name}: PyTorch {torch.__version__} finds no such device here; try --device auto.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are only {torch.cuda.device_count()} CUDA devices here.")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device, half: bool = True) -> str:
    """`auto` is fp16 on CUDA (as fast as bf16, three bits finer), bf16 on CPUs that multiply it, else fp32.

    It is fp32 too for a network that is not known to stay within 2/255 in 16 bits (`Spec.half`), and on OpenVINO for
    one that does not name the modules which must not be rounded (`exact`). On CUDA, PyTorch's fp32 lets cuDNN round
    what goes into convolutions to TF32 (emulated, `realtime` on a portrait: 0.4/255 at the worst).
    """
    if name == "auto":
        if half and device.type == "cuda":
            return "fp16"
        return "bf16" if half and device.type == "cpu" and _cpu_has_bf16() else "fp32"
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name} is unknown; choose auto, {', '.join(PRECISIONS)}.")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 is slow on a CPU; choose auto, bf16 or fp32.")
    return name


def _cpu_has_bf16() -> bool:
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(check() for name in checks if (check := getattr(torch.cpu, name, None)))


def describe(matter: Matter) -> str:
    """Device, precision and compiler in words, for people: `cuda:0 (NVIDIA H200), fp16`, `cpu, fp32, openvino`."""
    device = str(matter.device)
    if matter.device.type == "cuda":
        device += f" ({torch.cuda.get_device_name(matter.device)})"
    return f"{device}, {matter.precision}" + (f", {matter.engine}" if matter.engine != "torch" else "")


def lacks_memory(error: BaseException) -> bool:
    """Whether memory was missing, as Python, OpenCV and PyTorch say it, which on a CPU has no error of its own."""
    if isinstance(error, cv2.error):
        return bool(error.code == cv2.Error.StsNoMem)
    of_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return of_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)

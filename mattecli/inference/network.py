"""A network made ready: on its device, in its precision, at its size, and its alpha at the photo's size."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mattecli import zoo
from mattecli.errors import InputError, UsageError
from mattecli.inference import guided
from mattecli.inference.guided import Floats, Picture, resize
from mattecli.zoo.spec import Spec

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Engine = Callable[[Tensor], dict[str, Tensor]]
"""`[1, 3, h, w]` float32 in [0, 1] → `alpha` and, where the network has them, `slope` and `intercept`."""


@dataclass(frozen=True)
class Coarse:
    """A network's answer for one picture, as what `guided.apply` wants: `slope` `[3, h, w]`, `intercept` `[h, w]`.

    `alpha` `[h, w]` in [0, 1] is the matte at the size the network saw.
    """

    alpha: Floats
    slope: Floats
    intercept: Floats


class Matter:
    """A matting network ready for pictures.

    >>> matter = Matter("realtime", device="auto")
    >>> alpha = matter.matte(rgb)  # HxWx3 uint8 → HxW float32 in [0, 1]

    `model` is a name of `mattecli.zoo` or a network that follows its contract; `weights` a file instead of the
    weights that come with the name. `size` replaces the network's reference length. `engine` "openvino" runs on the
    CPU with Intel's compiler (extra `cpu`), some seconds for each new size and then faster; "auto" is "torch".
    Raises UsageError for what is not there or does not go together.
    """

    def __init__(
        self,
        model: str | nn.Module = "realtime",
        device: str = "auto",
        precision: str = "auto",
        *,
        size: int | None = None,
        weights: Path | str | None = None,
        engine: str = "auto",
    ) -> None:
        if engine not in ("auto", "torch", "openvino"):
            raise UsageError(f"--engine {engine} is unknown; choose auto, torch or openvino.")
        if engine == "openvino" and device not in ("auto", "cpu"):
            raise UsageError(f"OpenVINO runs on the CPU here; leave out --device {device} or --engine openvino.")
        self.device = resolve_device("cpu" if engine == "openvino" else device)
        network = _load(model, weights) if isinstance(model, str) else model
        self.spec = cast(Spec, network.spec)
        if self.spec.needs != "image":
            raise UsageError(f"This network needs a {self.spec.needs} beside the picture; choose another --model.")
        self.precision = resolve_precision(precision, self.device, half=self.spec.half and engine != "openvino")
        fuse = getattr(network, "fuse", None)
        network = cast(nn.Module, fuse() if callable(fuse) else copy.deepcopy(network)).eval()
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.size, self.engine = size, "torch" if engine == "auto" else engine
        self._engine: Engine = _OpenVINO(self.network, self.precision) if engine == "openvino" else self._torch

    def predict(self, rgb: Picture) -> Coarse:
        """The matte of `rgb` `HxWx3` (uint8 or uint16) at the network's size. Raises UsageError for other arrays."""
        if rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size or rgb.dtype not in (np.uint8, np.uint16):
            raise UsageError(f"A picture is HxWx3 of uint8 or uint16, not {'x'.join(map(str, rgb.shape))} {rgb.dtype}.")
        height, width = self.spec.size(rgb.shape[0], rgb.shape[1], self.size)
        image = resize(rgb, height, width).astype(np.float32) / np.iinfo(rgb.dtype).max
        maps = self._engine(torch.from_numpy(image).permute(2, 0, 1)[None])
        arrays = {name: value[0].float().cpu().numpy() for name, value in maps.items()}
        alpha = arrays["alpha"][0].clip(0, 1)
        if "slope" in arrays:
            return Coarse(alpha, arrays["slope"], arrays["intercept"][0])
        return Coarse(alpha, *guided.fit(image, alpha))

    def matte(self, rgb: Picture) -> Floats:
        """The alpha `HxW` in [0, 1] of `rgb` `HxWx3` (uint8 or uint16), its edges refined at full size."""
        coarse = self.predict(rgb)
        return guided.apply(rgb, coarse.slope, coarse.intercept)

    @torch.inference_mode()
    def _torch(self, image: Tensor) -> dict[str, Tensor]:
        image = image.to(self.device)
        lower = PRECISIONS[self.precision]
        context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if lower != torch.float32:
            context = torch.autocast(self.device.type, lower)
        with context:
            return _outputs(self.network, image)


class _OpenVINO:
    """The network compiled for the CPU, once for each size (static shapes run a quarter faster)."""

    def __init__(self, network: nn.Module, precision: str) -> None:
        require_openvino()
        self._network, self._precision = network, precision
        self._names: tuple[str, ...] = ()
        self._compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        shape = tuple(image.shape)
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(image)
        results = self._compiled[shape]([image.contiguous().numpy()])
        return {name: torch.from_numpy(results[index].copy()) for index, name in enumerate(self._names)}

    def _compile(self, image: Tensor) -> Any:
        class Traced(nn.Module):
            def __init__(self, network: nn.Module) -> None:
                super().__init__()
                self.network = network

            def forward(self, image: Tensor) -> tuple[Tensor, ...]:
                return tuple(_outputs(self.network, image).values())

        with torch.inference_mode():
            self._names = tuple(_outputs(self._network, image))
        return compile_openvino(Traced(self._network), (image,), self._precision)


def require_openvino() -> None:
    """Raises UsageError unless OpenVINO is installed."""
    if importlib.util.find_spec("openvino") is None:
        raise UsageError("--engine openvino needs the extra: pip install 'mattecli[cpu]'.")


def compile_openvino(network: nn.Module, inputs: tuple[Tensor, ...], precision: str) -> Any:
    """`network` compiled for the CPU at the shapes of `inputs`; it is called with a list of their numpy arrays."""
    import openvino

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that a trace makes constant, as is wanted here
        model = openvino.convert_model(network, example_input=inputs, input=[tensor.shape for tensor in inputs])
    hint = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision]
    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})


def _load(model: str, weights: Path | str | None) -> nn.Module:
    """As `zoo.load`; without its weights no work can begin, so a broken file is wrong use too."""
    try:
        return zoo.load(model, weights)
    except InputError as error:
        raise UsageError(str(error)) from error


def _outputs(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    prediction = network(image)
    return {"alpha": prediction.alpha} | {k: v for k, v in prediction.maps.items() if k in ("slope", "intercept")}


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

    It is fp32 too for a network that is not known to stay within 2/255 in 16 bits (`Spec.half`).
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

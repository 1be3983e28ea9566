"""A network made ready: on its device, in its precision, at its size, and its alpha at the photo's size."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mattecli import zoo
from mattecli.errors import InputError, UsageError
from mattecli.inference import guided
from mattecli.inference.compiled import OpenVino, State, has_openvino
from mattecli.inference.guided import Floats, Picture, resize
from mattecli.zoo.spec import Prediction, Spec

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Engine(Protocol):
    """What runs a network: `rgb` `[h, w, 3]` of one size, state and plate in; maps by name `[C, h, w]`, state out."""

    def __call__(
        self, rgb: Picture, state: State | None = None, background: Picture | None = None
    ) -> tuple[dict[str, Floats], State | None]: ...


@dataclass(frozen=True)
class Coarse:
    """A network's answer for one picture, as what `guided.apply` wants: `slope` `[3, h, w]`, `intercept` `[h, w]`.

    `alpha` `[h, w]` in [0, 1] is the matte at the size the network saw; the others may be smaller.
    """

    alpha: Floats
    slope: Floats
    intercept: Floats


class Matter:
    """A matting network ready for pictures and clips.

    >>> matter = Matter("realtime", device="auto")
    >>> alpha = matter.matte(rgb)  # HxWx3 uint8 → HxW float32 in [0, 1]
    >>> for alpha in matter.frames(clip):  # pictures in their order, steadied
    ...     ...

    `model` is a name of `mattecli.zoo` or a network that follows its contract; `weights` a file instead of the
    weights that come with the name. `size` replaces the network's reference length. `engine` "openvino" runs on the
    CPU with Intel's compiler (extra `cpu`), some seconds for each new size and then twice as fast; "auto" is "torch",
    but with `clip`, which says that many frames of one size will come, "openvino" on a CPU where it is installed.
    Networks that need a background plate work on clips only, by `frames.follow`.
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
        clip: bool = False,
    ) -> None:
        self.engine = resolve_engine(engine, device, clip)
        self.device = resolve_device("cpu" if self.engine == "openvino" else device)
        network = _load(model, weights) if isinstance(model, str) else model
        self.spec = cast(Spec, network.spec)
        if self.spec.needs != "image" and not (clip and self.spec.needs == "background"):
            raise UsageError(f"This network needs a {self.spec.needs} beside the picture; choose another --model.")
        half = self.spec.half and (self.engine == "torch" or hasattr(network, "exact"))
        self.precision = resolve_precision(precision, self.device, half)
        self.size = size
        fuse = getattr(network, "fuse", None)
        network = cast(nn.Module, fuse() if callable(fuse) else copy.deepcopy(network)).eval()
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._run: Engine
        if self.engine == "openvino":
            self._run = OpenVino(self.network, self.precision)
        else:
            _lower(self.network, PRECISIONS[self.precision])
            self._run = self._torch

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """`(height, width)` at which the network wants to see a picture of that size."""
        return self.spec.size(height, width, self.size)

    def predict(self, rgb: Picture) -> Coarse:
        """The matte of `rgb` `HxWx3` (uint8 or uint16) at the network's size. Raises UsageError for other arrays."""
        _check(rgb)
        return self.step(resize(rgb, *self.size_for(*rgb.shape[:2])))[0]

    def matte(self, rgb: Picture) -> Floats:
        """The alpha `HxW` in [0, 1] of `rgb` `HxWx3` (uint8 or uint16), its edges refined at full size."""
        coarse = self.predict(rgb)
        return guided.apply(rgb, coarse.slope, coarse.intercept)

    def frames(self, pictures: Iterable[Picture]) -> Iterator[Floats]:
        """The alphas `HxW` in [0, 1] of a clip's pictures `HxWx3` (uint8 or uint16), as `matte` but without flicker.

        >>> for rgb, alpha in zip(clip, matter.frames(iter(clip))):
        ...     shown = rgb * alpha[..., None]

        Networks with memory use it and forget at cuts; others are smoothed (`frames.follow`), a frame late.
        """
        from mattecli.inference.frames import follow

        def view(rgb: Picture) -> Picture:
            _check(rgb)
            return resize(rgb, *self.size_for(*rgb.shape[:2]))

        for rgb, coarse in follow(self, pictures, view):
            yield guided.apply(rgb, coarse.slope, coarse.intercept)

    def step(
        self, rgb: Picture, state: State | None = None, background: Picture | None = None
    ) -> tuple[Coarse, State | None]:
        """The matte of `rgb` `[h, w, 3]`, which has the network's size already, and what it remembers.

        `state` is what the step for the frame before gave, at the same size; None at the start of a clip. It stays on
        the device. `background` is the plate at the same size, for networks that need one.
        """
        maps, state = self._run(rgb, state, background)
        if "slope" in maps:
            slope, intercept = maps["slope"], maps["intercept"][0]
            alpha = maps["alpha"][0].clip(0, 1) if "alpha" in maps else _linear(rgb, slope, intercept)
            return Coarse(alpha, slope, intercept), state
        alpha = maps["alpha"][0].clip(0, 1)
        return Coarse(alpha, *guided.fit(rgb.astype(np.float32) / np.iinfo(rgb.dtype).max, alpha)), state

    @torch.inference_mode()
    def run(self, image: Tensor, state: State | None = None, background: Tensor | None = None) -> Prediction:
        """The network itself in its precision, for what is on the device already: `image` `[1, 3, h, w]` in [0, 1].

        Nothing here waits for the device.
        """
        lower = PRECISIONS[self.precision]
        context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if lower != torch.float32:
            context = torch.autocast(self.device.type, lower)
        plate = {} if background is None else {"background": background}
        with context:
            prediction: Prediction = self.network(image, state=state, **plate)
        return prediction

    def _torch(
        self, rgb: Picture, state: State | None = None, background: Picture | None = None
    ) -> tuple[dict[str, Floats], State | None]:
        plate = None if background is None else self._image(background)
        prediction = self.run(self._image(rgb), state, plate)
        maps = {"alpha": prediction.alpha} | {n: m for n, m in prediction.maps.items() if n in ("slope", "intercept")}
        return {name: value[0].float().cpu().numpy() for name, value in maps.items()}, prediction.state

    def _image(self, rgb: Picture) -> Tensor:
        """`[1, 3, h, w]` float32 in [0, 1] in channels_last, on the device; bytes go up, not floats."""
        pixels = torch.from_numpy(np.ascontiguousarray(rgb)).to(self.device)
        return pixels.permute(2, 0, 1)[None].float() / np.iinfo(rgb.dtype).max


def _check(rgb: Picture) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size or rgb.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"A picture is HxWx3 of uint8 or uint16, not {'x'.join(map(str, rgb.shape))} {rgb.dtype}.")


def _linear(rgb: Picture, slope: Floats, intercept: Floats) -> Floats:
    """`guided.apply` for a picture so small that it needs no strips."""
    height, width = rgb.shape[:2]
    alpha = cv2.resize(intercept, (width, height), interpolation=cv2.INTER_LINEAR)
    for plane, colour in zip(slope, cv2.split(rgb), strict=True):
        wide = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
        alpha = alpha + cv2.multiply(wide, colour, scale=1 / np.iinfo(rgb.dtype).max, dtype=cv2.CV_32F)
    return np.clip(alpha, 0, 1)


def _lower(network: nn.Module, precision: torch.dtype) -> None:
    """Weights that autocast would round at every call are rounded once.

    Only where the network says by `exact` which of its modules leave autocast: their weights stay as they are.
    """
    exact: tuple[str, ...] | None = getattr(network, "exact", None)
    if exact is None or precision == torch.float32:
        return
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and not f"{name}.".startswith(
            tuple(f"{kept}." for kept in exact)
        ):
            module.to(precision)


def _load(model: str, weights: Path | str | None) -> nn.Module:
    """As `zoo.load`; without its weights no work can begin, so a broken file is wrong use too."""
    try:
        return zoo.load(model, weights)
    except InputError as error:
        raise UsageError(str(error)) from error


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
    one that does not name the modules which must not be rounded (`exact`).
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

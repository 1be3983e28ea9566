"""A network made ready: on its device, in its precision, at its size, and its alpha at the photo's size."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mattecli import zoo
from mattecli.errors import InputError, UsageError
from mattecli.inference import tiles
from mattecli.inference.coarse import Coarse
from mattecli.inference.compiled import OpenVino, State, plain
from mattecli.inference.devices import PRECISIONS, resolve_device, resolve_engine, resolve_precision
from mattecli.inference.ghosts import without_ghosts
from mattecli.inference.guidance.hints import NOTHING, Hints
from mattecli.inference.guided import Floats, Picture, resize
from mattecli.zoo.spec import Prediction, Spec, infer, stays_exact


class Engine(Protocol):
    """What runs a network: `rgb` `[h, w, 3]`, state and hints in; maps by name `[C, h, w]`, state out."""

    def __call__(
        self, rgb: Picture, state: State | None, given: Mapping[str, Picture]
    ) -> tuple[dict[str, Floats], State | None]: ...


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
    Networks that need a trimap or a background plate get it with each picture, in `Hints`. With `instances` those
    that tell people apart do so (`Coarse.instances`, for `instances.People`); the others have nothing to add.
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
        instances: bool = False,
    ) -> None:
        self.engine = resolve_engine(engine, device, clip)
        self.device = resolve_device("cpu" if self.engine == "openvino" else device)
        network = _load(model, weights) if isinstance(model, str) else model
        self.spec = cast(Spec, network.spec)
        if self.engine == "openvino" and self.spec.needs == "trimap":  # distance maps and equations leave the graph
            if engine == "openvino":
                raise UsageError("Networks that need a trimap run in PyTorch only; leave out --engine openvino.")
            self.engine = "torch"
        self.instances = instances and self.spec.instances
        if self.instances and self.engine == "openvino":
            if engine == "openvino":
                raise UsageError("People are told apart in PyTorch only; leave out --engine openvino.")
            self.engine = "torch"
        half = self.spec.half and (self.engine == "torch" or hasattr(network, "exact"))
        self.precision = resolve_precision(precision, self.device, half)
        self.size = size
        self._memory = tiles.memory(network)
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

    def predict(self, rgb: Picture, hints: Hints = NOTHING) -> Coarse:
        """The matte of `rgb` `HxWx3` (uint8 or uint16) at the network's size, at most its own; `hints` are of its size.

        Raises UsageError for other arrays, and where the network needs a hint that is not there.
        """
        _check(rgb)
        size = self.size_for(*rgb.shape[:2])
        coarse = self.step(resize(rgb, *size), None, hints.at(*size))[0]
        if coarse.linear is None and all(side >= own for side, own in zip(size, rgb.shape[:2], strict=True)):
            return replace(coarse, alpha=resize(coarse.alpha, *rgb.shape[:2]), seen=rgb)
        return coarse if coarse.linear is None else without_ghosts(coarse)  # published networks stay what they are

    def matte(self, rgb: Picture, hints: Hints = NOTHING) -> Floats:
        """The alpha `HxW` in [0, 1] of `rgb` `HxWx3` (uint8 or uint16), its edges refined at full size.

        Where a trimap in `hints` is 0 or 1, so is the alpha. Raises UsageError as `predict`.
        """
        return hints.settle(self.predict(rgb, hints).at(rgb))

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
            yield coarse.at(rgb)

    def step(self, rgb: Picture, state: State | None = None, hints: Hints = NOTHING) -> tuple[Coarse, State | None]:
        """The matte of `rgb` `[h, w, 3]`, which has the network's size already, and what it remembers.

        `state` is what the step for the frame before gave, at the same size; None at the start of a clip. It stays on
        the device. `hints` have that size too.
        """
        given = hints.inputs()
        if self.spec.needs not in ("image", *given):
            raise UsageError(f"This network needs a {self.spec.needs} beside the picture.")
        if self.spec.needs == "trimap" and hints.trimap is not None:
            return Coarse(tiles.run(self._guided, rgb, hints.trimap, self._memory), rgb), state
        maps, state = self._run(rgb, state, {name: given[name] for name in given if name == self.spec.needs})
        if "slope" in maps:
            slope, intercept = maps["slope"], maps["intercept"][0]
            alpha = maps["alpha"][0].clip(0, 1) if "alpha" in maps else _linear(rgb, slope, intercept)
            return Coarse(alpha, rgb, (slope, intercept)), state
        people = maps.get("instances"), maps.get("scores")
        return Coarse(maps["alpha"][0].clip(0, 1), rgb, None, *people), state

    @torch.inference_mode()
    def run(self, image: Tensor, state: State | None = None, **given: Tensor) -> Prediction:
        """The network itself in its precision, for what is on the device already: `image` `[1, 3, h, w]` in [0, 1].

        `given` is what `forward` takes beside it. Nothing here waits for the device.
        """
        lower = PRECISIONS[self.precision]
        context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if lower != torch.float32:
            context = torch.autocast(self.device.type, lower)
        with context:
            return infer(self.network, image, state=state, **given)

    def _guided(self, rgb: Picture, trimap: Floats) -> Floats:
        """The alpha `[h, w]` of a picture that is seen whole."""
        maps, _ = self._run(rgb, None, {"trimap": trimap[..., None]})
        return np.asarray(maps["alpha"][0].clip(0, 1))

    def _torch(
        self, rgb: Picture, state: State | None, given: Mapping[str, Picture]
    ) -> tuple[dict[str, Floats], State | None]:
        tensors = {name: self._image(picture) for name, picture in given.items()}
        prediction = self.run(self._image(rgb), state, **tensors)
        maps = {"alpha": prediction.alpha} | {n: m for n, m in prediction.maps.items() if n in ("slope", "intercept")}
        if self.instances and prediction.instances is not None:
            maps["instances"] = prediction.instances
            if "person_logits" in prediction.maps:
                maps["scores"] = prediction.maps["person_logits"].softmax(-1)[..., 1]
        return {name: value[0].float().cpu().numpy() for name, value in maps.items()}, prediction.state

    def _image(self, rgb: Picture) -> Tensor:
        """`[1, C, h, w]` float32 in [0, 1] in channels_last, on the device; bytes go up as bytes."""
        pixels = torch.from_numpy(plain(rgb)).to(self.device).permute(2, 0, 1)[None]
        return pixels.float() / 255 if rgb.dtype == np.uint8 else pixels


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
    if getattr(network, "exact", None) is None or precision == torch.float32:
        return
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and not stays_exact(network, name):
            module.to(precision)


def _load(model: str, weights: Path | str | None) -> nn.Module:
    """As `zoo.load`; without its weights no work can begin, so a broken file is wrong use too."""
    try:
        return zoo.load(model, weights)
    except InputError as error:
        raise UsageError(str(error)) from error

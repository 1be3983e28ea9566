"""Networks compiled for the CPU by OpenVINO (extra `cpu`), with the precision that each layer needs."""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor, nn

from mattecli.errors import UsageError
from mattecli.inference.guided import Floats, Picture
from mattecli.zoo.spec import Prediction, infer

State = tuple[Any, ...]
"""What a network remembers of a clip, on its device; only the engine that gave it can read it."""

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_EXACT = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}
"""OpenVINO's mark of a layer that no precision hint may lower."""
_CONVOLUTIONS = ("Convolution", "GroupConvolution")


class OpenVino:
    """An engine: compiled once for each size (static shapes run a quarter faster), some seconds each.

    A state is fed at every frame, zeros where there is none: that saves a second compilation.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        require_openvino()
        self._network, self._precision = network, precision
        self._ready: dict[Any, _Ready] = {}

    def __call__(
        self, rgb: Picture, state: State | None, given: Mapping[str, Picture]
    ) -> tuple[dict[str, Floats], State | None]:
        """The maps of `rgb` `[h, w, 3]` by name, `[C, h, w]`, and the state to give with the next frame.

        `given` is what `forward` takes beside the image, `[h, w, C]`.
        """
        pictures = [plain(picture) for picture in (rgb, *given.values())]
        key = (*given, *((picture.shape, picture.dtype) for picture in pictures))
        if key not in self._ready:
            self._ready[key] = self._compile(pictures, tuple(given))
        ready = self._ready[key]
        outputs = ready.request.infer([*pictures, *(state or ready.start)], share_inputs=True).to_tuple()
        maps = {name: output[0] for name, output in zip(ready.names, outputs, strict=False)}
        return maps, outputs[len(maps) :] or None

    @torch.inference_mode()
    def _compile(self, pictures: Sequence[Picture], names: tuple[str, ...]) -> _Ready:
        traced = _Traced(self._network, names)
        inputs = [torch.from_numpy(picture) for picture in pictures]
        first = traced.predict(*inputs)
        start = [torch.zeros_like(tensor, memory_format=torch.contiguous_format) for tensor in first.state or ()]
        exact = getattr(self._network, "exact", ())
        model = compile_openvino(traced, (*inputs, *start), self._precision, exact)
        return _Ready(model.create_infer_request(), tuple(taken(first)), tuple(zeros.numpy() for zeros in start))


class _Ready:
    """A compiled network of one size: what it is run by, the names of its maps, the state a clip begins with."""

    def __init__(self, request: Any, names: tuple[str, ...], start: State) -> None:
        self.request, self.names, self.start = request, names, start


class _Traced(nn.Module):
    """`network` from pictures `[h, w, C]`, uint8 or float32 in [0, 1], and its state, to maps and its state.

    The first picture is the image, the others are called `names`.
    """

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def predict(self, *inputs: Tensor) -> Prediction:
        count = 1 + len(self.names)
        image, *others = (
            (picture[None].float() / (255 if picture.dtype == torch.uint8 else 1)).permute(0, 3, 1, 2)
            for picture in inputs[:count]
        )
        given = dict(zip(self.names, others, strict=True))
        return infer(self.network, image, state=inputs[count:] or None, **given)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        prediction = self.predict(*inputs)
        return (*taken(prediction).values(), *(prediction.state or ()))


def taken(prediction: Prediction) -> dict[str, Tensor]:
    """Slope and intercept; alpha only for networks without them, since it follows from them at less cost."""
    guides = {name: plane for name, plane in prediction.maps.items() if name in ("slope", "intercept")}
    return guides or {"alpha": prediction.alpha}


def plain(picture: Picture) -> Picture:
    """uint8 and float32 stay, uint16 becomes float32 in [0, 1]."""
    picture = np.ascontiguousarray(picture)
    return picture if picture.dtype != np.uint16 else picture.astype(np.float32) / 65535


def require_openvino() -> None:
    """Raises UsageError unless OpenVINO is installed."""
    if not has_openvino():
        raise UsageError("--engine openvino needs the extra: pip install 'mattecli[cpu]'.")


def has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def compile_openvino(traced: nn.Module, inputs: tuple[Tensor, ...], precision: str, exact: Sequence[str] = ()) -> Any:
    """`traced` compiled for the CPU at the shapes of `inputs`; it is called with a list of their numpy arrays.

    `exact` names modules of `traced.network` that stay in fp32 whatever `precision`, as does what they are fed with
    since the last convolution. A name that ends in a slash leaves out the modules within: `residual/` is the sum alone.
    """
    # It would tell Google of each use, from forked copies of this process.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    shapes = [(list(array.shape), array.dtype.type) for array in (tensor.numpy() for tensor in inputs)]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that a trace makes constant, as is wanted here
        graph = torch.jit.trace(traced, inputs, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
        model = openvino.convert_model(graph, example_input=inputs, input=shapes)
    if exact and precision != "fp32":
        model = _keep(model, exact)
    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": _HINTS[precision]})


def _keep(model: Any, exact: Sequence[str]) -> Any:
    """`model` with the layers of `exact`, and those that feed them, marked; only its file format can say so."""
    import openvino

    scopes = "|".join(re.escape(name) + ("" if name.endswith("/") else "[./]") for name in exact)
    belongs = re.compile(rf"__module\.network\.({scopes})")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.xml")
        openvino.serialize(model, path)
        tree, weights = ElementTree.parse(path).getroot(), path.with_suffix(".bin").read_bytes()
    layers = {int(layer.get("id", "")): layer for layer in tree.iterfind("layers/layer")}
    kept = {number for number, layer in layers.items() if belongs.match(layer.get("name", ""))}
    edges = ((int(edge.get("to-layer", "")), int(edge.get("from-layer", ""))) for edge in tree.iterfind("edges/edge"))
    for after, before in sorted(edges, reverse=True):  # layers are numbered in the order of their work
        if after in kept and layers[before].get("type") not in _CONVOLUTIONS:
            kept.add(before)
    for layer in (layers[number] for number in kept):
        if layer.get("type") not in ("Const", "Parameter"):
            info = layer.find("rt_info")
            info = ElementTree.SubElement(layer, "rt_info") if info is None else info
            ElementTree.SubElement(info, "attribute", _EXACT)
    return openvino.Core().read_model(ElementTree.tostring(tree), weights)

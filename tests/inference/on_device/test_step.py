"""A step waits for nothing and makes nothing on the host, as a CUDA graph demands; told from its calls on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mattecli import zoo
from mattecli.inference.on_device import stage
from mattecli.inference.on_device.lane import Direct
from mattecli.media.clips.planes.frame import Format
from tests.inference.on_device.making import (
    KINDS,
    PQ,
    Flickering,
    Given,
    frame_of,
    matter_of,
    on_device,
    renderer_of,
    run,
)

WAIT = {"item", "is_nonzero", "nonzero", "masked_select", "index", "lift_fresh"}
"""The device's numbers on the host; places that hang on its numbers; a tensor from the host's numbers."""


class Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in WAIT, f"a step calls {name}"
        return func(*args, **(kwargs or {}))


class Watched(Direct):
    """Runs a step once to be warm, then watched."""

    def run(self, begins, inputs):
        self._step(inputs)
        with pytest.MonkeyPatch.context() as patch, Watch():
            patch.setattr(torch, "from_numpy", None)
            return super().run(begins, inputs)


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    monkeypatch.setattr(stage, "Direct", Watched)


@pytest.mark.parametrize("kind", [*KINDS, "blur"])
def test_steps_wait_for_nothing(kind):
    for form in (Format(48, 64), Format(49, 63, chroma="422", alpha=True), Format(48, 64, PQ, depth=10)):
        for network, steady in ((Given(), "none"), (Flickering(), "delay")):
            run(on_device(matter_of(network), renderer_of(kind, form), form, steady=steady), [frame_of(form)])


@pytest.mark.parametrize(
    ("network", "steady"), [("realtime", "state"), ("realtime", "delay"), (zoo.create("rvm-mobilenetv3"), "state")]
)
def test_networks_wait_for_nothing(network, steady):
    form = Format(72, 128)
    run(on_device(matter_of(network), renderer_of("composite", form), form, steady=steady), [frame_of(form)])


@pytest.mark.parametrize(
    "wait",
    [
        lambda image: float(image.sum()),
        lambda image: image.max() > 0 and None,
        lambda image: image[image > 0.5],
        lambda image: image - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1),
        lambda image: torch.from_numpy(image.numpy()),
    ],
)
def test_networks_that_wait_are_told(wait):
    class Waiting(Given):
        def forward(self, image, **given):
            wait(image)
            return super().forward(image)

    form = Format(64, 96)
    with pytest.raises((AssertionError, TypeError)):
        run(on_device(matter_of(Waiting()), renderer_of("composite", form), form, steady="none"), [frame_of(form)])

"""Graphs and streams do what single operations do, and that is what the CPU does in the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mattecli.inference.on_device import stage
from mattecli.inference.on_device.lane import Direct
from mattecli.inference.rendering import Renderer
from mattecli.media.clips.planes.frame import Format
from tests.inference.on_device.making import (
    FORMATS,
    KINDS,
    PQ,
    Counting,
    Given,
    check,
    expected,
    frame_of,
    matter_of,
    named,
    on_device,
    renderer_of,
    run,
    scenes,
)

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


class Waiting(Given):
    """Asks the device for a number, which no graph can hold."""

    def forward(self, image, *, trimap=None, background=None, state=None):
        assert float(image.sum()) >= 0
        return super().forward(image)


@pytest.mark.parametrize("kind", [*KINDS, "blur"])
@pytest.mark.parametrize("form", FORMATS, ids=named)
def test_cuda_frames_are_those_of_the_cpu(form, kind):
    frames = [frame_of(form, index=index, seed=index) for index in range(4)]
    device = on_device(matter_of(Given(), "cuda"), renderer_of(kind, form), form, steady="none")
    made = run(device, frames)
    assert device.captured
    number = torch.float16 if form.depth == 8 else torch.float32
    on_cpu = on_device(matter_of(Given()), renderer_of(kind, form), form, steady="none", number=number)
    check(made, run(on_cpu, frames))


@pytest.mark.parametrize("steady", ["state", "delay", "none"])
def test_cuda_graphs_do_what_single_operations_do(steady, monkeypatch):
    form = Format(90, 160)
    frames = scenes(form, [3, 4, 2])
    made = []
    for lane in (stage.Streams, Direct):
        monkeypatch.setattr(stage, "Streams", lane)
        matter = matter_of("realtime", "cuda", "fp16")
        made.append(run(on_device(matter, renderer_of("composite", form), form, steady=steady), frames))
    check(*made, 1)


def test_cuda_remembers_and_forgets():
    form = Format(72, 128)
    frames = scenes(form, [3, 4, 2])
    made = run(on_device(matter_of(Counting(), "cuda"), Renderer("alpha", form), form), frames)
    check(made, expected(matter_of(Counting()), Renderer("alpha", form), frames, "state"))


def test_cuda_frames_share_no_memory():
    """Each frame still has its own levels after many more have passed."""
    form = Format(200, 320)
    frames = [frame_of(form, np.full((200, 320, 3), 2 * index, np.uint8), index) for index in range(100)]
    made = run(on_device(matter_of(Given(), "cuda"), renderer_of("side-by-side", form), form, steady="none"), frames)
    for frame, sent in zip(made, frames, strict=True):
        np.testing.assert_array_equal(frame.planes[0][:, :320], sent.planes[0])


def test_cuda_hdr_is_as_on_the_cpu():
    form = Format(90, 160, PQ, depth=10)
    frames = [frame_of(form, index=index) for index in range(3)]
    made = run(on_device(matter_of(Given(), "cuda"), renderer_of("composite", form), form, steady="none"), frames)
    check(made, expected(matter_of(Given()), renderer_of("composite", form), frames))


def test_cuda_networks_that_wait_run_without_a_graph():
    form = Format(72, 128)
    frames = scenes(form, [3, 2])
    device = on_device(matter_of(Waiting(), "cuda"), renderer_of("composite", form), form, steady="none")
    made = run(device, frames)
    assert not device.captured
    check(made, expected(matter_of(Given()), renderer_of("composite", form), frames))

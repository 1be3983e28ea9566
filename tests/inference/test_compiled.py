"""Networks compiled by OpenVINO: the same answers, with memory and plates, and the precision that each layer needs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mattecli.inference import devices
from mattecli.inference.frames import follow
from mattecli.inference.guidance.hints import Hints
from mattecli.inference.network import Matter
from mattecli.zoo.realtime import RealTime
from mattecli.zoo.spec import Prediction

pytest.importorskip("openvino")

rng = np.random.default_rng(2)


def pictures(count, height=16, width=32, dtype=np.uint8):
    return [rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype=dtype) for _ in range(count)]


def both(network, **options):
    return [Matter(network, "cpu", "fp32", engine=engine, **options) for engine in ("openvino", "torch")]


def test_realtime_with_its_memory():
    torch.manual_seed(0)
    small = RealTime(widths=(8, 8, 8, 8, 8), blocks=(0, 0, 0, 0, 0), decoder=(8, 8, 8, 8, 8))
    matters = both(small, size=64)
    states = [None, None]
    for rgb in pictures(3, 64, 64):
        coarse = []
        for number, matter in enumerate(matters):
            answer, states[number] = matter.step(rgb, states[number])
            coarse.append(answer)
        for name in ("alpha", "slope", "intercept"):
            np.testing.assert_allclose(getattr(coarse[0], name), getattr(coarse[1], name), atol=1e-4)


def test_answers_stay_when_the_next_frame_runs(remembering):
    matter = Matter(remembering, "cpu", "fp32", engine="openvino")
    first, second = pictures(2)
    coarse, state = matter.step(first)
    kept, remembered = coarse.alpha.copy(), [np.array(part) for part in state]
    matter.step(second, state)
    np.testing.assert_array_equal(coarse.alpha, kept)
    np.testing.assert_array_equal(state, remembered)


def test_any_size_and_depth(remembering):
    frames = [*pictures(2), *pictures(2, 32, 16, np.uint16)]
    found, expected = ([c.alpha for _, c in follow(m, frames, lambda rgb: rgb)] for m in both(remembering))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_plates(difference):
    frames, plates = pictures(2), pictures(2)
    for matter in both(difference, clip=True):
        for rgb, plate in zip(frames, plates, strict=True):
            alpha = matter.step(rgb, None, Hints(background=plate))[0].alpha
            np.testing.assert_allclose(alpha, np.abs(rgb[..., 0] / 255 - plate[..., 0] / 255), atol=1e-5)


def test_a_network_with_a_strategy(red_without_guides):
    """Its alpha is that of a half of the picture, enlarged: both engines do so."""

    def strategy(network, image):
        small = F.avg_pool2d(image, 2)
        return Prediction(F.interpolate(network(small).alpha, scale_factor=2))

    red_without_guides.spec = replace(red_without_guides.spec, strategy=strategy)
    (rgb,) = pictures(1)
    halved = cv2.resize(rgb[..., 0] / 255, (16, 8), interpolation=cv2.INTER_AREA)
    for matter in both(red_without_guides):
        np.testing.assert_allclose(matter.step(rgb)[0].alpha, halved.repeat(2, 0).repeat(2, 1), atol=1e-5)


@pytest.mark.skipif(not devices._cpu_has_bf16(), reason="needs a CPU that multiplies bf16")
def test_what_the_network_calls_exact_stays_in_fp32(remembering):
    remembering.exact = ("fine",)
    matter = Matter(remembering, "cpu", "bf16", engine="openvino")
    matter.step(*pictures(1))
    (ready,) = matter._run._ready.values()
    layers = [layer.get_rt_info() for layer in ready.request.get_compiled_model().get_runtime_model().get_ordered_ops()]
    found = [info["runtimePrecision"].value for info in layers if info["layerType"].value == "Convolution"]
    assert found == ["f32", "bf16"]


@pytest.mark.skipif(not devices._cpu_has_bf16(), reason="needs a CPU that multiplies bf16")
def test_16_bits_begin_behind_the_picture():
    """`realtime` multiplies in bf16 within a residual block whose sum is exact, and never rounds the picture."""
    small = RealTime(widths=(8,) * 5, blocks=(0, 0, 1, 0, 0), decoder=(8,) * 5)
    matter = Matter(small, "cpu", "bf16", engine="openvino", size=64)
    matter.step(*pictures(1, 64, 64))
    (ready,) = matter._run._ready.values()
    layers = [layer.get_rt_info() for layer in ready.request.get_compiled_model().get_runtime_model().get_ordered_ops()]
    kinds = [info["runtimePrecision"].value for info in layers]
    convolutions = [number for number, info in enumerate(layers) if info["layerType"].value == "Convolution"]
    assert "bf16" not in kinds[: convolutions[3]]
    body = [layers[number]["outputPrecisions"].value for number in convolutions[3:5]]
    assert [kinds[number] for number in convolutions[:6]] == ["f32", "f32", "f32", "bf16", "bf16", "bf16"]
    assert body == ["bf16", "f32"]


def test_bf16_is_chosen_by_itself_where_it_was_measured(remembering, monkeypatch):
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: True)
    assert Matter(remembering, engine="openvino").precision == "fp32"
    remembering.spec = replace(remembering.spec, half=True)
    assert Matter(remembering, engine="openvino").precision == "fp32"
    remembering.exact = ()
    assert Matter(remembering, engine="openvino").precision == "bf16"


def test_nobody_is_told_of_it():
    """OpenVINO would send usage data as soon as it is imported, if it found the package for it."""
    program = """
import sys, numpy as np
from mattecli.inference.network import Matter
from tests.networks import Even
Matter(Even(), "cpu", "fp32", engine="openvino").step(np.zeros((16, 32, 3), np.uint8))
assert "openvino" in sys.modules and not sys.modules.get("openvino_telemetry")
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])

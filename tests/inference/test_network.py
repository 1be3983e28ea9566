"""A network made ready: devices, precisions, sizes, and the alpha that comes back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mattecli
from mattecli.errors import UsageError
from mattecli.inference import devices
from mattecli.inference.guidance.hints import Hints
from mattecli.inference.network import Matter
from mattecli.media.photos import read_photo
from mattecli.zoo.realtime import RealTime


def smooth(height, width, dtype=np.uint8):
    y, x = np.mgrid[:height, :width]
    picture = np.stack((x / width, y / height, (x + y) / (height + width)), -1)
    return np.rint(picture * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(200, 300), (7, 5), (1, 90)])
def test_alpha_has_the_photos_size(red, dtype, size):
    rgb = smooth(*size, dtype)
    alpha = Matter(red, "cpu").matte(rgb)
    assert alpha.dtype == np.float32
    np.testing.assert_allclose(alpha, rgb[..., 0] / np.iinfo(dtype).max, atol=1e-5)


def test_networks_without_guides_are_fitted(red_without_guides):
    rgb = smooth(200, 300)
    alpha = Matter(red_without_guides, "cpu").matte(rgb)
    assert np.abs(alpha - rgb[..., 0] / 255).max() < 0.02


def test_size_replaces_the_reference_length(red):
    assert Matter(red, "cpu").predict(smooth(200, 400)).alpha.shape == (32, 64)
    assert Matter(red, "cpu", size=128).predict(smooth(200, 400)).alpha.shape == (64, 128)


def test_public_function(red):
    rgb = smooth(40, 60)
    np.testing.assert_allclose(mattecli.matte(rgb, red, device="cpu"), rgb[..., 0] / 255, atol=1e-5)


def test_the_callers_network_is_left_as_it_was(red):
    red.train()
    Matter(red, "cpu")
    assert red.training


def test_auto_is_fp32_for_networks_that_nobody_measured(red, monkeypatch):
    for has_bf16, half, expected in [(True, False, "fp32"), (True, True, "bf16"), (False, True, "fp32")]:
        monkeypatch.setattr(devices, "_cpu_has_bf16", lambda has_bf16=has_bf16: has_bf16)
        red.spec = replace(red.spec, half=half)
        assert Matter(red, "cpu").precision == expected


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 4), (0, 6, 3)])
def test_arrays_that_are_no_picture_are_refused(red, shape):
    matter = Matter(red, "cpu")
    for array in (np.zeros(shape, np.uint8), np.zeros((5, 6, 3), np.float32)):
        with pytest.raises(UsageError, match="HxWx3"):
            matter.matte(array)


def test_weights_that_cannot_be_read_are_wrong_use(tmp_path):
    with pytest.raises(UsageError, match=r"none\.pth"):
        Matter(weights=tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "cpu:0:1", ""])
def test_unknown_devices_are_refused(name):
    with pytest.raises(UsageError, match="unknown"):
        devices.resolve_device(name)


def test_a_device_asked_for_by_name_must_be_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(UsageError, match="no such device"):
            devices.resolve_device(name)
    assert devices.resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.resolve_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.resolve_device("auto") == torch.device("cuda")
    with pytest.raises(UsageError, match="only 1"):
        devices.resolve_device("cuda:1")


def test_precisions():
    cuda = torch.device("cuda")
    assert devices.resolve_precision("auto", cuda) == "fp16"
    assert devices.resolve_precision("bf16", cuda) == "bf16"
    for wrong in ("int8", "fp16"):
        with pytest.raises(UsageError):
            devices.resolve_precision(wrong, torch.device("cpu"))


@pytest.mark.parametrize("arguments", [{"engine": "tensorrt"}, {"engine": "openvino", "device": "cuda"}])
def test_engines_that_cannot_be(red, arguments):
    with pytest.raises(UsageError):
        Matter(red, **arguments)


def test_a_network_that_needs_a_trimap_is_refused_without(red):
    red.spec = replace(red.spec, needs="trimap")
    with pytest.raises(UsageError, match="trimap"):
        Matter(red, "cpu").matte(smooth(64, 64))


def test_where_the_trimap_knows_the_matte_is_exact(red):
    red.spec = replace(red.spec, needs="trimap")
    trimap = np.full((200, 400), 0.5, np.float32)
    trimap[:50], trimap[150:] = 0, 1
    rgb = smooth(200, 400)
    alpha = Matter(red, "cpu").matte(rgb, Hints(trimap=trimap))
    np.testing.assert_array_equal(alpha[:50], 0)
    np.testing.assert_array_equal(alpha[150:], 1)
    np.testing.assert_array_equal(alpha[50:150], Matter(red, "cpu").predict(rgb, Hints(trimap=trimap)).at(rgb)[50:150])


def test_auto_compiles_for_clips_on_the_cpu(monkeypatch):
    for installed, clip, expected in [(True, True, "openvino"), (True, False, "torch"), (False, True, "torch")]:
        monkeypatch.setattr(devices, "has_openvino", lambda installed=installed: installed)
        assert devices.resolve_engine("auto", "cpu", clip) == expected
    monkeypatch.setattr(devices, "has_openvino", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.resolve_engine("auto", "auto", clip=True) == "torch"
    assert devices.resolve_engine("torch", "cpu", clip=True) == "torch"
    assert devices.resolve_engine("openvino", "auto") == "openvino"


def test_weights_rounded_once_give_what_autocast_gives():
    torch.manual_seed(0)
    small, rgb = RealTime(widths=(8,) * 5, blocks=(0,) * 5, decoder=(8,) * 5), smooth(64, 64)
    rounded = RealTime(widths=(8,) * 5, blocks=(0,) * 5, decoder=(8,) * 5)
    rounded.load_state_dict(small.state_dict())
    small.exact = None
    one, other = (Matter(model, "cpu", "bf16", size=64) for model in (small, rounded))
    np.testing.assert_array_equal(one.predict(rgb).alpha, other.predict(rgb).alpha)
    kept = {
        name.rpartition(".")[0] for name, weight in other.network.named_parameters() if weight.dtype == torch.float32
    }
    assert kept == {f"encoder.{stage}.0.0" for stage in range(3)}


def test_alpha_in_bf16_is_within_two_levels():
    """On 99.9 % of a real photo's pixels: a full-size edge may be steeper than the network's."""
    rgb = read_photo(Path(__file__).parents[2] / "assets" / "portrait.jpg").rgb
    lower, full = (Matter(precision=precision, device="cpu").matte(rgb) for precision in ("bf16", "fp32"))
    assert np.quantile(np.abs(lower - full), 0.999) * 255 <= 2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees_with_the_cpu(red):
    rgb = smooth(200, 300)
    difference = Matter(red, "cuda").matte(rgb) - Matter(red, "cpu").matte(rgb)
    assert np.abs(difference).max() < 2 / 255

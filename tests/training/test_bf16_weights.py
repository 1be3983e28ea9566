"""The recipe key `bf16_weights`: exported weights that are the same in fp32 and in bf16."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.training import read_recipe, validation
from mattecli.training.checkpoint import Checkpoint
from mattecli.training.recipe import check_network
from mattecli.training.rounding import bf16_weights
from mattecli.zoo import checkpoints
from mattecli.zoo.realtime import RealTime
from mattecli.zoo.spec import Spec, long_side

BF16, FP16 = 2**-8, 2**-11
"""The largest relative error of rounding to the nearest."""
STEP = 2**-25
"""Half of fp16's smallest step."""
FOLDING = 2e-6
"""What folding a normalisation in fp32 may be off by, where shifts are a few units."""


def small(exact: tuple[str, ...] = ("encoder.0", "encoder.1/", "encoder.2.0")) -> RealTime:
    """A network whose normalisations are far from 1, of which some are negative, some nearly nothing."""
    torch.manual_seed(1)
    network = RealTime(widths=(4, 6, 8, 8, 8), blocks=(0, 1, 1, 0, 0), decoder=(8, 8, 8, 6, 4)).eval()
    network.exact, network.spec = exact, Spec(size=long_side(64, 32))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.1, 4)
            with torch.no_grad():
                module.weight[:3] = torch.tensor([0.0, 1e-4, -1e-4])
    return network


def reread(network: RealTime) -> RealTime:
    again = copy.deepcopy(network)
    again.load_state_dict(bf16_weights(network))
    return again


def is_exact(key: str) -> bool:
    """Of `small`'s, by name; of a module with a slash only what it does itself, and it holds nothing."""
    return key.startswith(("encoder.0.", "encoder.2.0."))


def bf16_error(value: Tensor) -> Tensor:
    return (value.bfloat16().float() - value).abs()


def test_folded_it_is_the_same_but_for_the_rounding() -> None:
    network = small()
    before, after = network.fuse().state_dict(), reread(network).fuse().state_dict()
    for key, value in before.items():
        share = 0.0 if is_exact(key) else BF16
        slack = FOLDING
        if value.ndim == 4:
            share, slack = max(share, FP16), STEP + 1e-6 * float(value.abs().max())
        assert ((after[key] - value).abs() <= share * value.abs() + slack).all(), key


def test_folded_it_has_the_numbers_of_bf16_but_where_it_is_exact() -> None:
    after = reread(small()).fuse().state_dict()
    for key, value in after.items():
        slack = 2**-22 * value.abs() if value.ndim == 4 else FOLDING
        assert bool((bf16_error(value) <= slack).all()) != is_exact(key), key


def test_weights_take_16_bits_unless_they_are_too_large() -> None:
    network = small()
    with torch.no_grad():
        network.guidance.weight.mul_(1e7)
    tensors = bf16_weights(network)
    assert all(value.dtype == torch.half for key, value in tensors.items() if value.ndim == 4 and "guidance" not in key)
    assert tensors["guidance.weight"].dtype == torch.float32 and tensors["guidance.weight"].isfinite().all()
    assert tensors["guidance.bias"].dtype == torch.float32


def test_a_training_can_begin_with_it() -> None:
    """Statistics of the batch give what they gave."""
    network = small(exact=("encoder", "context"))
    network, again = (one.encoder[1][0].train() for one in (network, reread(network)))
    x = torch.randn(8, 4, 16, 16)
    difference = (again(x) - network(x)).abs().amax((0, 2, 3))
    assert (difference < 0.01).all() and network(x).abs().max() > 1


def test_what_is_exported_is_rounded_and_what_resumes_is_not(tiny, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tiny, "Tiny", lambda: small().train())
    plan = read_recipe(str(tiny.recipe(tmp_path, steps=2)))
    training = tiny.train(dataclasses.replace(plan, run=dataclasses.replace(plan.run, bf16_weights=True)))
    averaged, written = training.ema.network, checkpoints.read(plan.best)
    assert written.keys() == averaged.state_dict().keys()
    assert all(torch.equal(written[key], value) for key, value in bf16_weights(averaged).items())
    kept = Checkpoint.load(plan.output / "last.ckpt").ema
    assert all(torch.equal(kept[key], value) for key, value in averaged.state_dict().items())
    with safe_open(plan.best, "pt") as file:
        told = json.loads(file.metadata()["mad"])
    network = small()
    network.load_state_dict(written)
    pairs = validation.predict(network, training.held, torch.device("cpu"), False)
    assert told == pytest.approx(validation.measure((alpha, photo.alpha) for photo, alpha in pairs)["mad"], abs=1e-7)


def test_the_shipped_weights_are_such() -> None:
    network = zoo.load("realtime")
    exact = tuple(f"{name}." for name in network.exact)
    for key, value in network.fuse().state_dict().items():
        if value.ndim == 4 and not key.startswith(exact):
            assert (bf16_error(value) <= 2**-22 * value.abs()).all(), key


@pytest.mark.parametrize("model", ["modnet", "bisenetv2"])
def test_a_network_that_does_not_say_what_stays_exact_is_refused(tiny, tmp_path: Path, model: str) -> None:
    plan = read_recipe(str(tiny.recipe(tmp_path)))
    plan = dataclasses.replace(plan, model=model, run=dataclasses.replace(plan.run, bf16_weights=True))
    with pytest.raises(UsageError, match=f"{model} does not say which of its layers stay in fp32"):
        check_network(plan)

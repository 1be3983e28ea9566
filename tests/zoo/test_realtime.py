import copy

import pytest
import torch
import torch.nn.functional as F

from mattecli.mixing.batch import Batch, Label
from mattecli.zoo.realtime import STEEPEST, Halve, RealTime, apply_guidance


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = RealTime()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        network.guidance.weight.normal_(0, 0.1)
    return network.eval()


def _batch(label, size=(64, 96)):
    alpha = torch.zeros(2, 1, *size)
    alpha[..., 20:60] = 1
    alpha[..., 18:20] = 0.4
    return Batch(torch.rand(2, 3, *size), alpha, torch.ones_like(alpha), torch.tensor([label] * 2))


@torch.no_grad()
def test_fused_copy_equals_the_network(network):
    image = torch.rand(2, 3, 96, 64)
    whole, fused = network(image), network.fuse()(image)
    torch.testing.assert_close(fused.alpha, whole.alpha, atol=1e-4, rtol=0)
    assert fused.boundary is None and "semantic" in whole.maps


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (33, 200)])
@torch.no_grad()
def test_any_size_comes_back_at_its_size(network, size):
    prediction = network(torch.rand(1, 3, *size))
    assert prediction.alpha.shape == (1, 1, *size)
    assert prediction.boundary.shape == (1, 1, *size)
    assert 0 <= prediction.alpha.min() and prediction.alpha.max() <= 1


@torch.no_grad()
def test_ratio_shrinks_the_work_not_the_alpha(network):
    image = torch.rand(1, 3, 128, 192)
    half = network(image, ratio=0.5)
    assert half.alpha.shape == (1, 1, 128, 192)
    assert half.maps["slope"].shape == (1, 3, 32, 48)
    small = network(F.interpolate(image, size=(64, 96), mode="area"))
    torch.testing.assert_close(half.maps["intercept"], small.maps["intercept"])


@torch.no_grad()
def test_state_is_carried_and_matters(network):
    clip = torch.rand(3, 1, 3, 64, 64)
    first = network(clip[0])
    assert [tuple(s.shape) for s in first.state] == [(1, 48, 4, 4), (1, 32, 8, 8), (1, 8, 32, 32)]
    without = network(clip[1])
    for number in range(3):
        state = [torch.zeros_like(s) for s in first.state]
        state[number] = first.state[number]
        with_state = network(clip[1], state=tuple(state))
        assert (with_state.alpha - without.alpha).abs().max() > 1e-5


@torch.no_grad()
def test_a_state_of_zeros_is_the_start_of_a_clip(network):
    image = torch.rand(1, 3, 64, 96)
    first = network(image)
    zeros = network(image, state=tuple(torch.zeros_like(s) for s in first.state))
    torch.testing.assert_close(zeros.alpha, first.alpha)


@torch.no_grad()
def test_frames_at_once_equal_frames_one_after_the_other(network):
    clips = torch.rand(4, 2, 3, 64, 96)  # four frames of two clips
    at_once = network(clips.flatten(0, 1), frames=4)
    state, alone = None, []
    for frame in clips:
        prediction = network(frame, state=state)
        state = prediction.state
        alone.append(prediction.alpha)
    torch.testing.assert_close(at_once.alpha, torch.cat(alone), atol=1e-5, rtol=0)
    for whole, last in zip(at_once.state, state, strict=True):
        torch.testing.assert_close(whole, last, atol=1e-4, rtol=1e-4)


def test_the_temporal_term_sees_flicker_and_no_constant_error(network):
    batch = _batch(Label.MATTE)
    prediction = network(batch.image, frames=2)
    still = batch.alpha[:1].repeat(2, 1, 1, 1)
    batch.alpha = still
    prediction.alpha = (0.5 * still).requires_grad_()
    assert network.objective(prediction, batch)["temporal"] < 1e-3
    prediction.alpha = still * torch.tensor([1.0, 0.8]).view(2, 1, 1, 1)
    expected = 5 * (0.2 * still[0]).square().mean().sqrt()
    torch.testing.assert_close(network.objective(prediction, batch)["temporal"], expected, atol=1e-4, rtol=1e-4)


def test_an_affine_matte_is_restored_exactly_at_any_size():
    """alpha = a · I + b with constant a and b survives guidance at an eighth of the size."""
    image = torch.rand(1, 3, 64, 64)
    a, b = torch.tensor([0.2, 0.5, -0.1]).view(1, 3, 1, 1), 0.15
    truth = (a * image).sum(1, keepdim=True) + b
    with torch.no_grad():
        alpha = apply_guidance(a.expand(1, 3, 8, 8), torch.full((1, 1, 8, 8), b), image)
    torch.testing.assert_close(alpha, truth.clamp(0, 1), atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_slope_is_bounded(network):
    steep = copy.deepcopy(network)
    steep.guidance.weight.mul_(1e4)
    assert steep(torch.rand(1, 3, 64, 64)).maps["slope"].abs().max() <= STEEPEST


def test_unknown_pixels_teach_nothing(network):
    batch = _batch(Label.BOXES)
    batch.known[..., 30:] = 0
    other = Batch(batch.image, batch.alpha.clone(), batch.known, batch.label)
    other.alpha[..., 30:] = 0.7
    prediction = network(batch.image)
    one, two = network.objective(prediction, batch), network.objective(prediction, other)
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)


def test_only_mattes_teach_the_boundary(network):
    prediction = network(_batch(Label.MASK).image)
    mask, matte = (network.objective(prediction, _batch(kind)) for kind in (Label.MASK, Label.MATTE))
    assert mask["boundary"] < 0.01 < matte["boundary"]


def test_the_truth_costs_least(network):
    batch = _batch(Label.MATTE)
    prediction = network(batch.image)
    worse = network.objective(prediction, batch)
    prediction.alpha = batch.alpha
    better = network.objective(prediction, batch)
    assert better["alpha"] == 0 and better["laplacian"] < 1e-6
    assert worse["alpha"] > 0.01 and worse["laplacian"] > 0.01


def test_a_few_steps_learn_a_picture():
    torch.manual_seed(1)
    network, batch = RealTime(), _batch(Label.MATTE, (64, 64))
    batch.image[:, :1] = batch.alpha
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        loss = sum(network.objective(network(batch.image), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_halves_are_means_of_four():
    x = torch.rand(2, 5, 8, 6)
    torch.testing.assert_close(Halve()(x), F.avg_pool2d(x, 2))


@torch.no_grad()
def test_what_is_exact_stays_in_fp32_under_autocast(network):
    watched, kinds = copy.deepcopy(network), {}
    exact = {"encoder.1.1.body.0.0", "encoder.2.0.0", "encoder.2.2", "guide"}
    lower = {"encoder.2.1.body.0.0", "encoder.3.0.0"}
    for name in exact | lower:

        def hook(module, given, out, name=name):
            kinds[name] = out.dtype

        watched.get_submodule(name).register_forward_hook(hook)
    with torch.autocast("cpu", torch.bfloat16):
        watched(torch.rand(1, 3, 64, 64))
    assert kinds == dict.fromkeys(exact, torch.float32) | dict.fromkeys(lower, torch.bfloat16)


def test_bf16_stays_close(network):
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        whole = network(image).alpha
        with torch.autocast("cpu", torch.bfloat16):
            short = network(image).alpha
    assert short.dtype == torch.float32
    assert (whole - short).abs().max() < 0.05

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.zoo.encoders import imagenet
from mattecli.zoo.gca import GCA, Conv, Deconv, SpectralNorm
from mattecli.zoo.guided_attention import GuidedAttention
from mattecli.zoo.spec import Prediction
from tests.zoo.making import recorded_losses


@pytest.fixture(scope="module")
def reference(parity):
    return parity("gca")


@pytest.fixture(scope="module")
def official(tensors, tmp_path_factory):
    """As the authors save it."""
    path = tmp_path_factory.mktemp("gca") / "gca-dist.pth"
    wrapped = {f"module.{key}": value for key, value in tensors.items()}
    torch.save({"iter": 200000, "loss": 0.1, "state_dict": wrapped}, path)
    return path


@pytest.fixture(scope="module")
def network(official):
    return zoo.load("gca", official)


def inputs(reference, image, trimap):
    mean, std = (torch.tensor(value)[:, None, None] for value in (imagenet.MEAN, imagenet.STD))
    planes = torch.from_numpy(reference.input(trimap))
    return torch.from_numpy(reference.input(image)) * std + mean, planes[:, 1:2] / 2 + planes[:, 2:]


def test_every_output_equals_the_reference(reference, network):
    seen = {}

    def tap(name):
        def hook(module, inputs, output):
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    taps = {key.removeprefix("tap/"): value for key, value in reference.arrays.items() if key.startswith("tap/")}
    hooks = [network.get_submodule(key.removesuffix("[0]")).register_forward_hook(tap(key)) for key in taps]
    image, trimap = inputs(reference, "image", "trimap")
    with torch.inference_mode():
        prediction = network(image, trimap=trimap)
    for hook in hooks:
        hook.remove()
    reference.check("alpha", {name: value.numpy() for name, value in prediction.maps.items()})
    assert len(taps) == 5
    for key, samples in taps.items():
        flat = seen[key].flatten()
        found = flat[:: max(1, len(flat) // 256)][:256].numpy()
        np.testing.assert_allclose(found, samples, atol=1e-4, rtol=0, err_msg=key)
    assert torch.equal(prediction.alpha[trimap != 0.5], trimap[trimap != 0.5])
    assert torch.equal(prediction.alpha[trimap == 0.5], prediction.maps["alpha"][trimap == 0.5])


@torch.inference_mode()
def test_all_unknown_equals_the_reference_and_fused_the_network(reference, network):
    image, trimap = inputs(reference, "image_small", "trimap_allunknown")
    assert (trimap == 0.5).all()
    prediction, fused = network(image, trimap=trimap), network.fuse()(image, trimap=trimap)
    reference.check("all_unknown", {"alpha": prediction.alpha.numpy()})
    reference.check("all_unknown", {"alpha": fused.alpha.numpy()})
    assert prediction.maps["scale_1"].tolist() == [[10.0, pytest.approx(0.1)]]


def test_fusing_leaves_the_network_as_it_was(network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = network.fuse()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not [key for key in fused.state_dict() if key.endswith((".u", ".v"))]
    assert not any(isinstance(module, SpectralNorm) for module in fused.modules())


def test_official_keys_are_the_networks(network, tensors):
    assert {GCA.own_key(key) for key in tensors} == set(network.state_dict()) and len(tensors) == 578
    assert GCA.own_key("decoder.conv2.weight") == "decoder.conv2.weight"


@torch.inference_mode()
def test_odd_sizes_are_reflected_below_and_right(reference, network):
    image, trimap = (x[..., :50, :70] for x in inputs(reference, "image", "trimap"))
    padded = [F.pad(x, (0, 26, 0, 14), mode="reflect") for x in (image, trimap)]
    alpha, whole = network(image, trimap=trimap).maps["alpha"], network(padded[0], trimap=padded[1]).maps["alpha"]
    assert alpha.shape == trimap.shape
    torch.testing.assert_close(alpha, whole[..., :50, :70])


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 2)])
@torch.inference_mode()
def test_pictures_smaller_than_their_margin(network, size):
    assert network(torch.rand(1, 3, *size), trimap=torch.full((1, 1, *size), 0.5)).alpha.shape == (1, 1, *size)


def test_spectral_norms_are_the_largest_singular_values():
    torch.manual_seed(0)
    for layer in (Conv(3, 8), Deconv(4)):
        matrix = layer.weight.detach().flatten(1)
        layer.train()
        for _ in range(50):
            layer(torch.rand(1, layer.in_channels, 8, 8))
        largest = torch.linalg.matrix_norm(matrix, 2)
        torch.testing.assert_close(layer.norm(layer.weight), layer.weight / largest, atol=1e-4, rtol=1e-4)
        stored = layer.norm.u.clone()
        layer.eval()(torch.rand(1, layer.in_channels, 8, 8))
        assert torch.equal(layer.norm.u, stored)


@torch.no_grad()
def test_attention_takes_features_from_where_the_image_is_alike():
    """Left and right half of the picture are the same; features known on the left arrive at the unknown right."""
    torch.manual_seed(0)
    attention = GuidedAttention(4, 8).eval()
    attention.W = torch.nn.Identity()
    half = 20 * torch.rand(1, 8, 16, 16)
    guidance = torch.cat((half, half), 3)
    feature = torch.cat((torch.ones(1, 4, 16, 16), torch.zeros(1, 4, 16, 16)), 3)
    unknown = torch.zeros(1, 1, 128, 256)
    unknown[..., 144:240] = 1
    moved = attention(guidance, feature, unknown)[0] - feature
    assert moved[0, :, 4:12, 22:26].min() > 0.9
    offsets = attention(guidance, feature, unknown)[1]
    assert (offsets[0, 1, 2:6, 11:14] + 8 == torch.arange(3, 6)).all()


def test_loss_equals_the_reference(network):
    arrays, batch = recorded_losses("trimap")
    prediction = Prediction(arrays["in/pred"], maps={"alpha": arrays["in/pred"]})
    terms = network.objective(prediction, batch)
    torch.testing.assert_close(terms, {"alpha": arrays["out/gca/rec"]}, atol=1e-6, rtol=1e-5)
    batch.known[..., 48:] = 0
    only = network.objective(prediction, batch)["alpha"]
    batch.alpha = torch.where(batch.known == 0, 1 - batch.alpha, batch.alpha)
    assert network.objective(prediction, batch)["alpha"] == only != terms["alpha"]
    batch.trimap = None
    with pytest.raises(UsageError, match="trimap"):
        network.objective(prediction, batch)


@torch.no_grad()
def test_bf16_stays_close(network):
    image, trimap = torch.rand(1, 3, 64, 64), torch.full((1, 1, 64, 64), 0.5)
    whole = network(image, trimap=trimap).alpha
    with torch.autocast("cpu", torch.bfloat16):
        short = network(image, trimap=trimap).alpha
    assert short.dtype == torch.float32 and (whole - short).abs().mean() < 0.05

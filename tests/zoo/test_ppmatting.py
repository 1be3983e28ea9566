import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.zoo import checkpoints
from mattecli.zoo.encoders.hrnet import HRNet
from mattecli.zoo.ppmatting import PPMatting
from mattecli.zoo.spec import Prediction
from tests.zoo.making import recorded_losses


@pytest.fixture(scope="module")
def reference(parity):
    return parity("ppmatting")


@pytest.fixture(scope="module")
def official(reference, tmp_path_factory):
    """As paddle.save writes it."""
    path = tmp_path_factory.mktemp("ppmatting") / "ppmatting-hrnet_w18-human_512.pdparams"
    bookkeeping = {key: f"conv2d_{index}.w_0" for index, key in enumerate(reference.checkpoint)}
    content = {**reference.checkpoint, "StructuredToParameterName@@": bookkeeping}
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


@pytest.fixture(scope="module")
def network(official):
    return zoo.load("ppmatting-hrnet18", official)


@torch.inference_mode()
def test_every_output_equals_the_reference(reference, network):
    prediction = network(torch.from_numpy(reference.input("img")) * 0.5 + 0.5)
    for name, value in prediction.maps.items():
        truth = reference.arrays[f"out/ppmatting/{name}"]
        np.testing.assert_allclose(value[..., ::4, ::4].numpy(), truth, atol=1e-3, rtol=0, err_msg=name)
    assert set(prediction.maps) == {"semantic", "detail"}
    differs = np.abs(prediction.alpha[..., ::2, ::2].numpy() - reference.arrays["out/ppmatting/alpha"]) > 1e-3
    assert differs.mean() <= 1e-3


def test_the_official_keys(reference, network):
    own = {PPMatting.own_key(key) for key in reference.checkpoint}
    counters = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    assert len(reference.checkpoint) == len(own) == 1764 and own == set(network.state_dict()) - counters
    assert all(PPMatting.own_key(key) == key for key in own)


def test_the_larger_has_the_same_keys(network):
    with torch.device("meta"):
        larger = PPMatting(48)
    assert larger.state_dict().keys() == network.state_dict().keys()
    assert larger.spec.size(3000, 4000, None) == (1536, 2048)


@pytest.fixture(scope="module")
def hollow():
    """Shapes without values: the objective needs no more."""
    with torch.device("meta"):
        return PPMatting(18)


@pytest.mark.parametrize("other", ["modnet", "ppmatting-hrnet48"])
def test_other_networks_refuse_the_file(reference, other):
    tensors = {key: torch.from_numpy(value) for key, value in reference.checkpoint.items()}
    with torch.device("meta"):
        network = zoo.create(other)
    with pytest.raises(UsageError, match=f"no checkpoint of {other}: its keys are those of ppmatting-hrnet18"):
        checkpoints.fit(network, tensors, name=other, source="x.pdparams")


@pytest.mark.parametrize(
    "photo, size, seen",
    [
        ((400, 300), None, (384, 288)),
        ((1024, 2048), None, (512, 1024)),
        ((1000, 1500), None, (512, 768)),
        ((1000, 1500), 1024, (992, 1472)),
        ((10, 3000), None, (32, 2976)),
    ],
)
def test_the_published_size_rule(network, photo, size, seen):
    assert network.spec.size(*photo, size) == seen


def test_other_sizes_are_refused(network):
    with pytest.raises(UsageError, match=r"multiples of 32, not 64x40"):
        network(torch.rand(1, 3, 64, 40))


@torch.no_grad()
def test_the_three_classes():
    """Foreground counts first: there alpha is 1, at 0.5 it is the detail, in the background 0."""
    network = PPMatting(18).eval()
    image = torch.rand(1, 3, 64, 64)
    for favoured in range(3):
        network.scb.scb_stages[5][2].bias[:] = torch.eye(3)[favoured] * 1e6
        prediction = network(image)
        expected = (torch.ones(()), prediction.maps["detail"], torch.zeros(()))[favoured]
        assert torch.equal(prediction.alpha, expected.expand_as(prediction.alpha))


def test_encoder_has_the_names_of_its_public_weights():
    with torch.device("meta"):
        keys = set(HRNet(18).state_dict())
    for key in (
        "conv2.weight",
        "layer1.0.downsample.1.running_mean",
        "layer1.3.bn3.bias",
        "transition1.0.0.weight",
        "transition1.1.0.0.weight",
        "transition3.3.0.1.num_batches_tracked",
        "stage2.0.fuse_layers.0.1.1.weight",
        "stage3.3.branches.2.3.conv2.weight",
        "stage4.2.fuse_layers.3.0.2.0.weight",
    ):
        assert key in keys
    assert not any(key.startswith(("transition2.0", "stage4.2.fuse_layers.3.3")) for key in keys)
    assert HRNet.own_key("st4.stage_st4_3.fuse_func.residual_st4_3_layer_4_1_3._conv.weight") in keys


def recorded():
    arrays, batch = recorded_losses("glance")
    maps = {"semantic": arrays["in/semantic_map"], "detail": arrays["in/detail"]}
    return arrays, Prediction(arrays["in/pred"], maps=maps), batch


def test_losses_equal_the_reference(hollow):
    arrays, prediction, batch = recorded()
    terms = hollow.objective(prediction, batch)
    assert set(terms) == {"semantic", "detail", "fusion"}
    for name, term in terms.items():
        torch.testing.assert_close(4 * term.double(), arrays[f"out/ppmatting/{name}"], atol=1e-5, rtol=0, msg=name)
    torch.testing.assert_close(sum(terms.values()).double(), arrays["out/ppmatting/all"], atol=1e-5, rtol=0)


def test_without_layers_the_composite_is_left_out(hollow):
    arrays, prediction, batch = recorded()
    terms = hollow.objective(prediction, replace(batch, foreground=None))
    left = arrays["out/ppmatting/fusion"] - arrays["out/ppmatting/fusion_composition"]
    torch.testing.assert_close(4 * terms["fusion"].double(), left, atol=1e-5, rtol=0)
    with pytest.raises(UsageError, match="no trimap"):
        hollow.objective(prediction, replace(batch, trimap=None))


def test_unknown_pixels_teach_nothing(hollow):
    _, prediction, batch = recorded()
    batch.known[..., 48:] = 0
    other = replace(batch, alpha=batch.alpha.clone(), trimap=batch.trimap.clone())
    other.alpha[..., 48:] = 0.3
    other.trimap[..., 48:] = 0.5
    one, two = hollow.objective(prediction, batch), hollow.objective(prediction, other)
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)

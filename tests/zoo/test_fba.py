import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch, Label
from mattecli.zoo import losses
from mattecli.zoo.encoders import imagenet
from mattecli.zoo.encoders.imagenet import normalise
from mattecli.zoo.encoders.resnet import ResNet
from mattecli.zoo.fba import DEVIATIONS, FBA, Standardise, fuse_colours
from mattecli.zoo.spec import Prediction
from mattecli.zoo.trimap import proximity


@pytest.fixture(scope="module")
def reference(parity):
    return parity("fba")


@pytest.fixture(scope="module")
def network(official):
    return zoo.load("fba", official)


@pytest.fixture(scope="module")
def double(network):
    """Through 16 group norms rounding grows a thousandfold: in float32 the reference is 5e-5 off what it is in this."""
    return copy.deepcopy(network).double()


def inputs(reference):
    return torch.from_numpy(reference.input("image")) / 255, torch.from_numpy(reference.input("trimap")) / 2


def planes(prediction):
    return {"output": torch.cat([prediction.maps[name] for name in ("alpha", "foreground", "background")], 1).numpy()}


@torch.inference_mode()
def test_every_output_equals_the_reference(reference, double):
    image, trimap = (x.double() for x in inputs(reference))
    prediction = double(image, trimap=trimap)
    reference.check("trimap", planes(prediction))
    known = trimap != 0.5
    assert torch.equal(prediction.alpha[known], trimap[known])
    assert torch.equal(prediction.alpha[~known], prediction.maps["alpha"][~known])
    inside = (prediction.alpha == 1).expand_as(image)
    assert torch.equal(prediction.foreground[inside], image[inside])
    assert torch.equal(prediction.foreground[~inside], prediction.maps["foreground"][~inside])


@torch.inference_mode()
def test_in_float64_it_is_the_reference(reference, network, double):
    """On sides whose eighths are 9 and 7, which the pooling's grids do not divide."""
    image, trimap = (x[..., 16:88, 40:96] for x in inputs(reference))
    known = torch.cat((trimap == 0, trimap == 1), 1).double()
    # As the reference divided it: a byte over 255 in float32 is 3e-8 beside, and alpha then 8e-6.
    exact = torch.from_numpy(reference.input("image"))[..., 16:88, 40:96].double() / 255
    near = torch.from_numpy(reference.input("near"))
    found = double.predict(exact, known, normalise(exact), near.double())
    reference.check("double", {"output": torch.cat(found, 1).numpy()}, 1e-9)
    reference.check("double", planes(network(image, trimap=trimap)))


@torch.inference_mode()
def test_all_unknown_equals_the_reference_and_fused_the_network(reference, network):
    image = inputs(reference)[0][..., :64, :64]
    trimap = torch.full((1, 1, 64, 64), 0.5)
    reference.check("all_unknown", planes(network(image, trimap=trimap)))
    before = network.encoder.conv1.weight.clone()
    fused = network.fuse()
    reference.check("all_unknown", planes(fused(image, trimap=trimap)))
    assert torch.equal(network.encoder.conv1.weight, before)
    assert not any(isinstance(module, Standardise) for module in fused.modules())


def test_official_keys_are_the_networks(reference, network):
    assert set(reference.checkpoint) == set(network.state_dict()) and len(reference.checkpoint) == 197


def test_weights_stay_raw_whatever_the_mode(reference, network):
    raw = torch.from_numpy(reference.checkpoint["decoder.conv_up1.0.weight"])
    network.train()
    network.eval()
    assert torch.equal(network.decoder.conv_up1[0].weight, raw)
    standard = network.decoder.conv_up1[0].norm(raw)
    variance, mean = torch.var_mean(raw, (1, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(standard, (raw - mean) / (variance + 1e-5).sqrt(), atol=1e-5, rtol=1e-5)


def test_proximity_is_a_gaussian_of_the_distance():
    region = torch.zeros(2, 1, 9, 40, dtype=torch.bool)
    region[0, 0, 4, 3] = True
    maps = proximity(region, DEVIATIONS)
    assert maps.shape == (2, 3, 9, 40) and maps.dtype == torch.float32
    y, x = torch.meshgrid(torch.arange(9), torch.arange(40), indexing="ij")
    squared = (y - 4) ** 2 + (x - 3) ** 2
    for index, deviation in enumerate((6.4, 25.6, 51.2)):
        truth = torch.exp(-squared / (2 * deviation**2))
        torch.testing.assert_close(maps[0, index], truth, atol=5e-7, rtol=0)
    assert not maps[1].any()


def test_proximity_is_the_same_wherever_in_memory_the_region_lies():
    """Through the network another last digit of the distances would be 4e-5 of alpha."""
    region = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) > 0.999
    between, maps = [], set()
    for size in range(40):
        between.append(np.empty(100 * size + 16, np.uint8))
        maps.add(proximity(region, DEVIATIONS).numpy().tobytes())
    assert len(maps) == 1


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_fusion_leaves_a_true_composite_as_it_is(seed):
    generator = torch.Generator().manual_seed(seed)
    alpha, front, back = (torch.rand(1, c, 8, 8, generator=generator) for c in (1, 3, 3))
    image = alpha * front + (1 - alpha) * back
    for found, truth in zip(fuse_colours(image, alpha, front, back), (alpha, front, back), strict=True):
        torch.testing.assert_close(found, truth, atol=1e-5, rtol=0)


def test_fusion_brings_a_wrong_alpha_nearer():
    torch.manual_seed(0)
    alpha, front, back = torch.rand(1, 1, 8, 8), torch.rand(1, 3, 8, 8) / 4 + 0.75, torch.rand(1, 3, 8, 8) / 4
    image = alpha * front + (1 - alpha) * back
    wrong = (alpha + 0.2).clamp(0, 1)
    found, _, _ = fuse_colours(image, wrong, front, back)
    assert (found - alpha).abs().mean() < 0.7 * (wrong - alpha).abs().mean()


def case():
    torch.manual_seed(0)
    alpha, front, back = torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    batch = Batch(
        image=alpha * front + (1 - alpha) * back,
        alpha=alpha,
        known=torch.ones_like(alpha),
        label=torch.tensor([Label.MATTE] * 2),
        foreground=front,
        background=back,
    )
    maps = {"alpha": torch.rand_like(alpha), "foreground": torch.rand_like(front), "background": torch.rand_like(back)}
    return batch, Prediction(maps["alpha"], maps=maps)


def test_objective_has_the_papers_terms(network):
    batch, prediction = case()
    terms = network.objective(prediction, batch)
    alpha, front, back = prediction.maps.values()
    assert len(terms) == 8
    truth = {
        "alpha": (alpha - batch.alpha).abs().mean(),
        "composition": (alpha * batch.foreground + (1 - alpha) * batch.background - batch.image).abs().mean(),
        "laplacian": 5 * losses.laplacian(alpha, batch.alpha, batch.known),
        "colours": ((front - batch.foreground).abs().mean() + (back - batch.background).abs().mean()) / 4,
        "colours_composition": (batch.alpha * front + (1 - batch.alpha) * back - batch.image).abs().mean() / 4,
    }
    for name, value in truth.items():
        torch.testing.assert_close(terms[name], value, msg=name)
    right = alpha.diff(dim=3) - batch.alpha.diff(dim=3)
    below = alpha.diff(dim=2) - batch.alpha.diff(dim=2)
    torch.testing.assert_close(terms["gradient"], (right.abs().sum() + below.abs().sum()) / alpha.numel())


def test_the_truth_costs_only_what_its_own_edges_share(network):
    batch, prediction = case()
    prediction.maps.update(alpha=batch.alpha, foreground=batch.foreground, background=batch.background)
    terms = network.objective(prediction, batch)
    assert terms.pop("colours_exclusion") > 0
    assert all(term < 1e-6 for term in terms.values())
    prediction.maps["background"] = torch.full_like(batch.background, 0.5)
    assert network.objective(prediction, batch)["colours_exclusion"] == 0


def test_unknown_labels_teach_nothing(network):
    batch, prediction = case()
    batch.known[..., 16:] = 0
    one = network.objective(prediction, batch)
    batch.alpha = torch.where(batch.known == 0, 1 - batch.alpha, batch.alpha)
    two = network.objective(prediction, batch)
    for name in ("alpha", "composition", "colours", "colours_composition", "colours_laplacian", "laplacian"):
        torch.testing.assert_close(one[name], two[name], msg=name)
    batch.foreground = None
    with pytest.raises(UsageError, match="no foreground"):
        network.objective(prediction, batch)


@torch.inference_mode()
def test_odd_photos_go_through_the_size_rule(network):
    assert FBA.spec.size(37, 91) == (40, 96) and FBA.spec.size(64, 128) == (64, 128)
    assert FBA.spec.size(1080, 1920, 960) == (544, 960)
    with pytest.raises(UsageError, match="FBA needs a trimap"):
        network(torch.rand(1, 3, 40, 96))
    with pytest.raises(UsageError, match="multiples of 8, not 40x91"):
        network(torch.rand(1, 3, 40, 91), trimap=torch.full((1, 1, 40, 91), 0.5))


@pytest.mark.parametrize("depth, parameters", [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032), (101, 42_500_160)])
def test_resnets_have_torchvisions_names_and_sizes(depth, parameters):
    with torch.device("meta"):
        encoder = ResNet(depth)
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    keys = set(encoder.state_dict())
    last = "conv3" if depth >= 50 else "conv2"
    for key in ("conv1.weight", "bn1.running_var", "layer1.0.bn1.bias", "layer2.0.downsample.0.weight"):
        assert key in keys
    assert f"layer4.1.{last}.weight" in keys and f"layer4.1.{last}.bias" not in keys
    assert ("layer1.0.downsample.0.weight" in keys) == (depth >= 50)


@pytest.mark.parametrize("dilations, strides", [((1, 1, 1, 1), (4, 8, 16, 32)), ((1, 1, 2, 4), (4, 8, 8, 8))])
@torch.no_grad()
def test_resnets_dilate_where_they_do_not_stride(dilations, strides):
    encoder = ResNet(50, dilations=dilations).eval()
    maps = encoder(torch.rand(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 32, 32),
        *((c, 64 // stride, 64 // stride) for c, stride in zip(encoder.channels, strides, strict=True)),
    ]
    # As torchvision's: the first block of a stage dilates as the stage before it.
    assert encoder.layer4[0].conv2.dilation[0] == dilations[2]
    assert encoder.layer4[1].conv2.dilation[0] == dilations[3]


def test_imagenet_weights_start_an_encoder_with_more_inputs():
    small, wide = ResNet(18), ResNet(18, inputs=11)
    weights = {key: value for key, value in small.state_dict().items() if not key.endswith("num_batches_tracked")}
    imagenet.start(wide, weights | {"fc.weight": torch.rand(1000, 512)})
    assert torch.equal(wide.conv1.weight[:, :3], small.conv1.weight) and not wide.conv1.weight[:, 3:].any()
    assert torch.equal(wide.layer4[1].conv2.weight, small.layer4[1].conv2.weight)
    with pytest.raises(UsageError, match=r"no ImageNet weights of this ResNet: they (lack|have another shape of)"):
        imagenet.start(wide, ResNet(50).state_dict())

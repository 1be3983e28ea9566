from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.zoo.dim import DIM, published_size
from mattecli.zoo.encoders import imagenet, vgg
from mattecli.zoo.spec import Prediction
from tests.zoo.making import recorded_losses


@pytest.fixture(scope="module")
def reference(parity):
    return parity("dim_stage3")


@pytest.fixture(scope="module")
def official(tensors, tmp_path_factory):
    """As the port saves it."""
    path = tmp_path_factory.mktemp("dim") / "stage3_skip.pth"
    torch.save({"epoch": 12, "state_dict": tensors, "best_sad": 50.0}, path)
    return path


@pytest.fixture(scope="module")
def network(official):
    return zoo.load("dim-skip-refine", official)


def inputs(reference):
    x = torch.from_numpy(reference.input("x"))
    mean, std = (torch.tensor(value)[:, None, None] for value in (imagenet.MEAN, imagenet.STD))
    levels = x[:, 3:]
    return x[:, :3] * std + mean, torch.where((levels > 0) & (levels < 1), 0.5, levels)


@torch.inference_mode()
def test_every_output_equals_the_reference(reference, network):
    image, trimap = inputs(reference)
    prediction = network(image, trimap=trimap)
    reference.check("dim", {name: value.numpy() for name, value in prediction.maps.items()})
    assert torch.equal(prediction.alpha[trimap == 0.5], prediction.maps["refined"][trimap == 0.5])
    assert torch.equal(prediction.alpha[trimap != 0.5], trimap[trimap != 0.5])


@torch.inference_mode()
def test_without_skips_the_same_file_is_another_network(reference, network, official):
    image, trimap = (x[..., :64, 32:128] for x in inputs(reference))
    twin = zoo.load("dim-refine", official)
    assert (twin(image, trimap=trimap).alpha - network(image, trimap=trimap).alpha).abs().max() > 0.01
    x = torch.cat((imagenet.normalise(image), torch.where(trimap == 0.5, 128 / 255, trimap)), 1)
    x, _, indices = twin.encoder(x)
    x = F.relu(twin.deconv6_1(F.relu(twin.conv6_1(x))))
    for number, taken in zip((5, 4, 3, 2, 1), indices[::-1], strict=True):
        x = F.relu(getattr(twin, f"deconv{number}_1")(F.max_unpool2d(x, taken, (2, 2))))
    torch.testing.assert_close(twin(image, trimap=trimap).maps["raw"], twin.deconv1(x).sigmoid())


@torch.inference_mode()
def test_stage_1_is_the_network_without_its_refinement(reference, network, tensors, tmp_path):
    image, trimap = (x[..., :64, 32:128] for x in inputs(reference))
    torch.save({"state_dict": {k: v for k, v in tensors.items() if not k.startswith("refine")}}, tmp_path / "s1.pth")
    prediction = zoo.load("dim-skip", tmp_path / "s1.pth")(image, trimap=trimap)
    assert list(prediction.maps) == ["raw"]
    torch.testing.assert_close(prediction.maps["raw"], network(image, trimap=trimap).maps["raw"])
    assert torch.equal(prediction.alpha[trimap == 0.5], prediction.maps["raw"][trimap == 0.5])


@torch.inference_mode()
def test_old_files_have_a_bottleneck_of_one_pixel(reference, tensors, tmp_path):
    image, trimap = (x[..., :64, 32:128] for x in inputs(reference))
    old = dict(tensors) | {"conv6_1.weight": tensors["conv6_1.weight"][:, :, 1:2, 1:2].clone()}
    torch.save({"state_dict": {f"module.{key}": value for key, value in old.items()}}, tmp_path / "old.pth")
    loaded = zoo.load("dim-refine", tmp_path / "old.pth")
    bottleneck = torch.rand(1, 512, 3, 4)
    truth = F.conv2d(bottleneck, old["conv6_1.weight"], old["conv6_1.bias"])
    torch.testing.assert_close(loaded.conv6_1(bottleneck), truth, atol=1e-5, rtol=1e-5)
    assert loaded(image, trimap=trimap).alpha.isfinite().all()


def test_official_keys_are_the_networks(network, tensors):
    assert {DIM.own_key(key) for key in tensors} == set(network.state_dict()) and len(tensors) == 50


def test_without_a_trimap_it_says_so(network):
    with pytest.raises(UsageError, match="DIM needs a trimap"):
        network(torch.rand(1, 3, 32, 32))


def test_other_sizes_are_refused(network):
    with pytest.raises(UsageError, match="multiples of 32, not 64x40"):
        network(torch.rand(1, 3, 64, 40), trimap=torch.full((1, 1, 64, 40), 0.5))


def recorded():
    arrays, batch = recorded_losses("trimap")
    image = batch.alpha * batch.foreground + (1 - batch.alpha) * batch.background
    return replace(batch, image=image, alpha=(batch.alpha * 255).round() / 255), arrays  # the reference took bytes


def test_losses_equal_the_reference(network):
    batch, arrays = recorded()
    maps = {"raw": arrays["in/pred"], "refined": arrays["in/pred2"]}
    terms = network.objective(Prediction(maps["refined"], maps=maps), batch)
    weights = {"alpha": 0.5, "composition": 0.5, "refined": 1.0}
    assert terms.keys() == weights.keys()
    for name, recorded_as in {"alpha": "alpha", "composition": "comp", "refined": "refine"}.items():
        truth = weights[name] * arrays[f"out/dim/{recorded_as}"]
        torch.testing.assert_close(terms[name], truth, atol=1e-6, rtol=1e-5, msg=name)


def test_only_unknown_pixels_that_are_labelled_teach(network):
    batch, arrays = recorded()
    batch.known[..., 48:] = 0
    maps = {"raw": arrays["in/pred"], "refined": arrays["in/pred2"]}
    terms = network.objective(Prediction(maps["raw"], maps=maps), batch)
    silent = (batch.known == 0) | (batch.trimap != 0.5)
    other = {name: torch.where(silent, 1 - value, value) for name, value in maps.items()}
    assert network.objective(Prediction(other["raw"], maps=other), batch) == terms
    batch.trimap = None
    with pytest.raises(UsageError, match="trimap"):
        network.objective(Prediction(maps["raw"], maps=maps), batch)


@pytest.mark.parametrize(
    "photo, size, seen",
    [
        ((1080, 1920), None, (1056, 1600)),
        ((4000, 3000), None, (1600, 1600)),
        ((20, 700), None, (32, 672)),
        ((1080, 1920), 320, (320, 320)),
        ((1080, 1920), 20, (32, 32)),
    ],
)
def test_the_published_size_rule(photo, size, seen):
    assert published_size(*photo, size) == seen


def test_encoder_has_the_names_of_its_public_weights():
    names = vgg.keys()
    assert names["conv1_1"] == "features.0" and names["conv3_1"] == "features.10"
    assert names["conv5_3"] == "features.28" and len(names) == 13
    assert set(vgg.VGG16().state_dict()) == {f"{name}.{kind}" for name in names.values() for kind in ("weight", "bias")}

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch
from mattecli.zoo.encoders.mobilenetv2 import MobileNetV2, from_flat
from mattecli.zoo.modnet import MODNet, published_size
from mattecli.zoo.spec import Prediction
from tests.zoo.making import recorded_losses


@pytest.fixture(scope="module")
def reference(parity):
    return parity("modnet")


@pytest.fixture(scope="module")
def network(official):
    return zoo.load("modnet", official)


@torch.inference_mode()
def test_every_output_equals_the_reference(reference, network):
    image = torch.from_numpy(reference.input("img")) * 0.5 + 0.5
    prediction = network(image)
    reference.check(
        "train_heads", {"matte": prediction.alpha.numpy(), **{k: v.numpy() for k, v in prediction.maps.items()}}
    )
    fused = network.fuse()(image)
    assert not fused.maps
    reference.check("inference", {"matte": fused.alpha.numpy()})


def test_the_official_file_lists_the_encoder_twice(reference, network):
    keys = [key.removeprefix("module.") for key in reference.checkpoint]
    own = [MODNet.own_key(key) for key in keys]
    assert len(keys) == 751 and len(keys) - len(set(own)) == 312
    assert set(own) == set(network.state_dict())


def recorded():
    arrays, batch = recorded_losses("modnet")
    maps = {"semantic": arrays["in/semantic"], "detail": arrays["in/detail"]}
    truth = {name: arrays[f"out/modnet.supervised/{name}"] for name in ("semantic", "detail", "matte")}
    return Prediction(arrays["in/pred"], maps=maps), batch, truth


def test_losses_equal_the_reference():
    prediction, batch, truth = recorded()
    losses = MODNet().objective(prediction, batch)
    assert losses.keys() == truth.keys()
    for name, value in truth.items():
        torch.testing.assert_close(losses[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_unknown_pixels_teach_nothing():
    prediction, batch, _ = recorded()
    batch.known[..., 48:] = 0
    other = Batch(batch.image, batch.alpha.clone(), batch.known, batch.label, trimap=batch.trimap)
    # The blur and the coarse grid of `semantic` reach 24 columns into the unknown part.
    other.alpha[..., 72:] = 0.3
    network = MODNet()
    one, two = network.objective(prediction, batch), network.objective(prediction, other)
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)


def test_a_batch_without_trimap_is_refused():
    prediction, batch, _ = recorded()
    batch.trimap = None
    with pytest.raises(UsageError, match="trimap"):
        MODNet().objective(prediction, batch)


@pytest.mark.parametrize(
    "photo, seen",
    [
        ((512, 512), (512, 512)),
        ((300, 400), (512, 672)),
        ((1080, 1920), (512, 896)),
        ((1920, 1080), (896, 512)),
        ((400, 900), (384, 896)),
        ((20, 1000), (32, 992)),
    ],
)
def test_the_published_size_rule(photo, seen):
    assert published_size(*photo) == seen


@settings(deadline=None)
@given(st.integers(1, 12000), st.integers(1, 12000), st.sampled_from([None, 64, 320, 1024]))
def test_sizes_are_multiples_and_the_rule_is_symmetric(height, width, size):
    h, w = published_size(height, width, size)
    assert h % 32 == 0 and w % 32 == 0 and min(h, w) >= 32
    assert published_size(width, height, size) == (w, h)


def test_encoder_has_the_names_of_its_public_weights():
    keys = set(MobileNetV2(taps=(18,)).state_dict())
    for key in (
        "features.0.0.weight",
        "features.1.conv.0.0.weight",
        "features.1.conv.1.weight",
        "features.1.conv.2.running_var",
        "features.2.conv.1.1.bias",
        "features.17.conv.3.weight",
        "features.18.1.num_batches_tracked",
    ):
        assert key in keys
    assert from_flat("features.1.conv.4.bias") == "features.1.conv.2.bias"
    assert from_flat("features.2.conv.7.bias") == "features.2.conv.3.bias"


@torch.no_grad()
def test_encoder_taps_and_stops_at_the_last():
    encoder = MobileNetV2(taps=(1, 3, 6, 13, 17)).eval()
    maps = encoder(torch.rand(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (16, 32, 32),
        (24, 16, 16),
        (32, 8, 8),
        (96, 4, 4),
        (320, 2, 2),
    ]
    assert len(encoder.features) == 18

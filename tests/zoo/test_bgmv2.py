import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch
from mattecli.zoo.bgmv2 import BGMv2, BGMv2Base
from mattecli.zoo.bgmv2_refiner import Refiner, published_scale, select
from mattecli.zoo.spec import Prediction
from tests.zoo.making import recorded_losses

ENCODERS = ("mobilenetv2", "resnet50", "resnet101")


@pytest.fixture(scope="module")
def reference(parity):
    return parity("bgmv2_refine_mobilenetv2")


@pytest.fixture
def network(official):
    return zoo.load("bgmv2-mobilenetv2", official)


def inputs(reference):
    return torch.from_numpy(reference.input("src")), torch.from_numpy(reference.input("bgr"))


@pytest.mark.parametrize("mode", ["full", "sampling", "thresholding"])
@torch.inference_mode()
def test_every_output_equals_the_reference(reference, network, mode):
    network.backbone_scale, network.refine_mode = 0.25, mode
    network.refine_sample_pixels, network.refine_threshold = 8000, 0.5
    image, background = inputs(reference)
    prediction = network(image, background=background)
    found = {"pha": prediction.alpha, "fgr": prediction.foreground, **prediction.maps}
    reference.check(f"{mode}@0.25", {name: value.numpy() for name, value in found.items()})


@torch.inference_mode()
def test_the_base_takes_the_whole_file_and_its_own(reference, official, network, tensors, tmp_path):
    image, background = inputs(reference)
    small = [F.interpolate(x, scale_factor=0.25, mode="bilinear") for x in (image, background)]
    torch.save({k: v for k, v in tensors.items() if not k.startswith("refiner.")}, tmp_path / "base.pth")
    for path in (official, tmp_path / "base.pth"):
        prediction = zoo.load("bgmv2-base-mobilenetv2", path)(small[0], background=small[1])
        found = {
            "pha_sm": prediction.alpha,
            "fgr_sm": prediction.foreground,
            "err_sm": prediction.maps["err"],
        }
        for name, value in found.items():
            np.testing.assert_allclose(value.numpy(), reference.arrays[f"out/full@0.25/{name}"], atol=1e-4, rtol=0)
        assert prediction.maps["hid"].shape == (1, 32, 64, 80) and prediction.maps["hid"].min() >= 0


def test_a_file_of_the_base_is_no_file_of_the_whole(tensors, tmp_path):
    torch.save({k: v for k, v in tensors.items() if not k.startswith("refiner.")}, tmp_path / "base.pth")
    with pytest.raises(UsageError, match=r"its keys are those of bgmv2-base-mobilenetv2"):
        zoo.load("bgmv2-mobilenetv2", tmp_path / "base.pth")


@pytest.mark.parametrize("encoder, keys", [("mobilenetv2", 382), ("resnet50", 394), ("resnet101", 700)])
def test_layouts(encoder, keys):
    with torch.device("meta"):
        network, base = BGMv2(encoder), BGMv2Base(encoder)
    state = network.state_dict()
    assert len(state) == keys and len(base.state_dict()) == keys - 20
    assert sum(p.numel() for p in network.refiner.parameters()) == 15_444
    first = "features.0.0" if encoder == "mobilenetv2" else "conv1"
    assert state[f"backbone.{first}.weight"].shape[1] == 6
    assert {"aspp.convs.4.2.running_var", "aspp.project.1.bias", "decoder.bn3.weight"} <= set(state)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders_stop_at_a_sixteenth(encoder):
    with torch.device("meta"):
        backbone = BGMv2Base(encoder).eval().backbone
        maps = backbone(torch.rand(1, 6, 64, 96))
    sizes = [tuple(m.shape[-2:]) for m in maps]
    assert sizes[:3] == [(32, 48), (16, 24), (8, 12)] and sizes[-1] == (4, 6)


@torch.no_grad()
def test_blocks_equal_the_dense_refinement():
    """Refined one by one, blocks are what refining everything gives there, at the border too."""
    torch.manual_seed(0)
    refiner = Refiner(32).eval()
    pair, hidden = torch.rand(2, 6, 32, 40), torch.rand(2, 32, 9, 11)
    alpha, residual = torch.rand(2, 1, 9, 11), torch.rand(2, 3, 9, 11)
    blocks = torch.rand(2, 1, 8, 10) > 0.5
    dense, sparse = (refiner(pair, hidden, alpha, residual, which) for which in (None, blocks))
    where = F.interpolate(blocks.float(), scale_factor=4) > 0
    torch.testing.assert_close(sparse.where(where, 0), dense.where(where, 0), atol=1e-5, rtol=0)
    coarse = F.interpolate(torch.cat((alpha, residual), 1), size=(32, 40), mode="bilinear")
    torch.testing.assert_close(sparse.where(~where, 0), coarse.where(~where, 0), atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_file_whose_refiner_has_kernel_size_1(tensors, tmp_path):
    """Each pixel by itself: two 1×1 convolutions at half size, enlarged to the nearest, two at full size."""
    point = {
        k: v[..., 1:2, 1:2].clone() if k.startswith("refiner.conv") and v.ndim > 1 else v for k, v in tensors.items()
    }
    torch.save(point, tmp_path / "point.pth")
    refiner = zoo.load("bgmv2-mobilenetv2", tmp_path / "point.pth").refiner
    pair, half = torch.rand(2, 6, 32, 40), (16, 20)
    hidden, alpha, residual = torch.rand(2, 32, 9, 11), torch.rand(2, 1, 9, 11), torch.rand(2, 3, 9, 11)

    def layer(number, x):
        return F.relu(getattr(refiner, f"bn{number}")(F.conv2d(x, point[f"refiner.conv{number}.weight"])))

    x = torch.cat([F.interpolate(x, half, mode="bilinear") for x in (hidden, alpha, residual, pair)], 1)
    x = layer(3, torch.cat((F.interpolate(layer(2, layer(1, x)), scale_factor=2), pair), 1))
    expected = F.conv2d(x, point["refiner.conv4.weight"], point["refiner.conv4.bias"])
    torch.testing.assert_close(refiner(pair, hidden, alpha, residual, None), expected, atol=1e-5, rtol=0)


def test_selection():
    error = torch.tensor([0.0, 0.1, 0.9, 0.4]).view(1, 1, 2, 2)
    assert select(error, "sampling", 32, 0).flatten().tolist() == [False, False, True, True]
    assert select(error, "sampling", None, 0).flatten().tolist() == [False, True, True, True]
    assert not select(error, "sampling", 0, 0).any()
    assert select(error, "thresholding", None, 0.1).flatten().tolist() == [False, False, True, True]
    assert select(error, "full", None, 0).all()
    with pytest.raises(UsageError, match="not by 'sample'"):
        select(error, "sample", None, 0)


@pytest.mark.parametrize(
    "height, width, scale, pixels", [(1080, 1920, 1 / 4, 80_000), (2160, 3840, 1 / 8, 320_000), (480, 640, 0.5, 80_000)]
)
def test_defaults_are_the_published_ones(height, width, scale, pixels):
    assert published_scale(height, width) == scale
    error = torch.rand(1, 1, height // 4, width // 4) + 0.1
    assert select(error, "sampling", None, 0).sum() == min(pixels // 16, error.numel())


@torch.no_grad()
def test_nothing_to_refine(network):
    network.refine_mode, network.refine_threshold = "thresholding", 2
    prediction = network(torch.rand(1, 3, 64, 64), background=torch.rand(1, 3, 64, 64))
    upsampled = F.interpolate(prediction.maps["pha_sm"], size=(64, 64), mode="bilinear")
    torch.testing.assert_close(prediction.alpha, upsampled, atol=1e-6, rtol=0)


@torch.no_grad()
def test_one_background_serves_all_images(network):
    images, background = torch.rand(2, 3, 64, 64), torch.rand(1, 3, 64, 64)
    one, two = network(images, background=background), network(images, background=background.repeat(2, 1, 1, 1))
    torch.testing.assert_close(one.alpha, two.alpha)


def test_wrong_use(network):
    image = torch.rand(1, 3, 64, 64)
    with pytest.raises(UsageError, match="background plate"):
        network(image)
    with pytest.raises(UsageError, match=r"multiples of 4, not 66x64"):
        network(torch.rand(1, 3, 66, 64), background=torch.rand(1, 3, 66, 64))


def quarter(x):
    return F.interpolate(x, scale_factor=0.25, mode="area")


def test_losses_equal_the_reference():
    arrays, batch = recorded_losses("foreground")
    prediction = Prediction(arrays["in/pred"], arrays["in/pred_fg"], maps={"err": arrays["in/err"]})
    base = BGMv2Base().objective(prediction, batch)
    torch.testing.assert_close(sum(base.values()), arrays["out/bgmv2.base/total"], atol=1e-5, rtol=0)
    prediction.maps = {
        "pha_sm": quarter(arrays["in/pred2"]),
        "fgr_sm": quarter(arrays["in/pred_fg"]),
        "err_sm": quarter(arrays["in/err"]),
    }
    whole = BGMv2().objective(prediction, batch)
    torch.testing.assert_close(sum(whole.values()), arrays["out/bgmv2.refine/total"], atol=1e-5, rtol=0)
    assert set(whole) - set(base) == {"coarse alpha", "coarse gradient", "coarse foreground"}


def test_unknown_pixels_teach_nothing():
    arrays, batch = recorded_losses("foreground")
    prediction = Prediction(arrays["in/pred"], arrays["in/pred_fg"], maps={"err": arrays["in/err"]})
    batch.known[..., 48:] = 0
    other = Batch(batch.image, batch.alpha.clone(), batch.known, batch.label, foreground=batch.foreground)
    other.alpha[..., 48:] = 0.3
    one, two = BGMv2Base().objective(prediction, batch), BGMv2Base().objective(prediction, other)
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)


def test_without_a_foreground_its_term_is_left_out():
    arrays, batch = recorded_losses("foreground")
    batch.foreground = None
    prediction = Prediction(arrays["in/pred"], arrays["in/pred_fg"], maps={"err": arrays["in/err"]})
    assert set(BGMv2Base().objective(prediction, batch)) == {"alpha", "gradient", "error"}

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch
from mattecli.zoo.encoders.imagenet import normalise
from mattecli.zoo.rvm import RVM, published_ratio
from mattecli.zoo.rvm_refiner import DeepGuidedFilter, FastGuidedFilter
from mattecli.zoo.spec import Prediction
from tests.zoo.making import recorded_losses


def shuffled(encoder="mobilenetv3", refiner="deep"):
    """A network whose normalisations and box filter are not what they begin as."""
    torch.manual_seed(0)
    network = RVM(encoder, refiner)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    if refiner == "deep":
        torch.nn.init.uniform_(network.refiner.box_filter.weight, 0.1, 0.12)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return shuffled()


@pytest.mark.parametrize(
    "encoder, refiner, parameters, keys",
    [
        ("mobilenetv3", "deep", 3_748_633, 380),
        ("mobilenetv3", "fast", 3_747_825, 365),
        ("resnet50", "deep", 26_890_461, 390),
    ],
)
def test_parameters_and_keys(encoder, refiner, parameters, keys):
    with torch.device("meta"):
        network = RVM(encoder, refiner)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) == keys


@pytest.mark.parametrize(
    "encoder, size, ratio, published",
    [
        ("mobilenetv3", (512, 512), None, 8.0),
        ("mobilenetv3", (1080, 1920), 0.25, 4.1),
        ("resnet50", (512, 512), None, 48.3),
    ],
)
def test_published_work(encoder, size, ratio, published):
    """In multiply-adds, thousand millions."""
    with torch.device("meta"):
        network = RVM(encoder).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, *size), downsample_ratio=ratio)
    assert round(counter.get_total_flops() / 2e9, 1) == published


def test_the_official_key_names(network):
    for key in (
        "backbone.features.4.block.2.fc1.weight",
        "backbone.features.16.1.running_var",
        "aspp.aspp1.1.bias",
        "aspp.aspp2.1.weight",
        "decoder.decode4.gru.ih.0.weight",
        "decoder.decode3.gru.hh.0.bias",
        "decoder.decode1.conv.1.running_mean",
        "decoder.decode0.conv.4.weight",
        "project_mat.conv.weight",
        "project_seg.conv.bias",
        "refiner.box_filter.weight",
        "refiner.conv.6.bias",
    ):
        assert key in network.state_dict()


@torch.no_grad()
def test_the_networks_of_one_encoder_take_one_file(network, tmp_path):
    image = torch.rand(1, 3, 64, 64)
    torch.save(network.state_dict(), tmp_path / "rvm_mobilenetv3.pth")
    fast = zoo.load("rvm-mobilenetv3-fast", tmp_path / "rvm_mobilenetv3.pth")
    torch.testing.assert_close(fast(image).alpha, network(image).alpha, atol=0, rtol=0)
    with pytest.raises(UsageError, match="its keys are those of rvm-mobilenetv3"):
        zoo.load("rvm-resnet50", tmp_path / "rvm_mobilenetv3.pth")


@torch.no_grad()
def test_zeros_are_the_start_of_a_clip(network):
    clip = torch.rand(2, 2, 3, 48, 64)
    first = network(clip[0])
    assert [tuple(r.shape[1:]) for r in first.state] == [(16, 24, 32), (20, 12, 16), (40, 6, 8), (64, 3, 4)]
    zeros = tuple(torch.zeros_like(r) for r in first.state)
    torch.testing.assert_close(network(clip[0], state=zeros).alpha, first.alpha, atol=0, rtol=0)
    for number in range(4):
        state = tuple(r if n == number else z for n, (r, z) in enumerate(zip(first.state, zeros, strict=True)))
        assert (network(clip[1], state=state).alpha - network(clip[1]).alpha).abs().max() > 1e-6


@torch.no_grad()
def test_frames_at_once_equal_frames_one_after_the_other(network):
    clips = torch.rand(3, 2, 3, 48, 64)  # three frames of two clips
    at_once = network(clips.flatten(0, 1), frames=3, downsample_ratio=0.5)
    state, alone = None, []
    for frame in clips:
        prediction = network(frame, state=state, downsample_ratio=0.5)
        state = prediction.state
        alone.append(prediction.foreground)
    torch.testing.assert_close(at_once.foreground, torch.cat(alone), atol=1e-5, rtol=0)
    for whole, last in zip(at_once.state, state, strict=True):
        torch.testing.assert_close(whole, last, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_segmentation_is_of_what_the_network_sees(network):
    heard = []
    handle = network.decoder.register_forward_hook(lambda module, inputs, output: heard.append(output[0]))
    logits = network(torch.rand(2, 3, 48, 64), downsample_ratio=0.5).maps["segmentation"]
    handle.remove()
    head = network.project_seg.conv
    assert logits.shape == (2, 1, 24, 32)
    torch.testing.assert_close(logits, F.conv2d(heard[0], head.weight, head.bias))


@pytest.mark.parametrize("size", [(33, 47), (64, 1), (1, 1)])
@pytest.mark.parametrize("ratio", [1, 0.5])
@torch.no_grad()
def test_odd_sizes(network, size, ratio):
    if ratio == 0.5 and min(size) == 1:
        ratio = None
    prediction = network(torch.rand(1, 3, *size), downsample_ratio=ratio)
    assert prediction.alpha.shape == (1, 1, *size) and prediction.foreground.shape == (1, 3, *size)
    assert prediction.alpha.isfinite().all()


def test_the_published_ratio():
    assert published_ratio(1080, 1920) == 512 / 1920
    assert published_ratio(300, 512) == 1 and published_ratio(1, 1) == 1
    assert int(5 * published_ratio(9000, 5)) == 2, "thin pictures keep two pixels"


@torch.no_grad()
def test_only_mobilenet_normalises():
    image = torch.rand(1, 3, 32, 32)
    for encoder, expected in (("mobilenetv3", normalise(image)), ("resnet50", image)):
        network, seen = shuffled(encoder), []
        network.backbone.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        network(image)
        torch.testing.assert_close(seen[0], expected)


@torch.no_grad()
def test_the_box_filter_is_the_files():
    """With no slope what is left is the filtered result, upsampled: a filter that copies must not blur it."""
    deep = DeepGuidedFilter(16)
    deep.conv[6].weight.zero_()
    deep.conv[6].bias.zero_()
    deep.box_filter.weight.zero_()
    deep.box_filter.weight[:, :, 1, 1] = 1
    image, seen, hidden = torch.rand(1, 3, 20, 24), torch.rand(1, 3, 10, 12), torch.rand(1, 16, 10, 12)
    residual, alpha = torch.rand(1, 3, 10, 12), torch.rand(1, 1, 10, 12)
    found = torch.cat(deep(image, seen, residual, alpha, hidden), 1)
    expected = F.interpolate(torch.cat((residual, alpha), 1), size=(20, 24), mode="bilinear")
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_the_fast_filter_restores_what_is_linear_in_the_picture():
    image = torch.rand(1, 3, 16, 16)
    with_mean = torch.cat((image, image.mean(1, keepdim=True)), 1)
    slope, intercept = torch.tensor([0.5, -0.3, 0.2, 0.8]).view(1, 4, 1, 1), 0.1
    residual, alpha = torch.split(slope * with_mean + intercept, [3, 1], 1)
    found = FastGuidedFilter()(image, image, residual, alpha, image)
    for one, other in zip(found, (residual, alpha), strict=True):
        torch.testing.assert_close(one[..., 1:-1, 1:-1], other[..., 1:-1, 1:-1], atol=2e-3, rtol=0)


@torch.no_grad()
def test_the_fast_filter_is_least_squares_in_each_window():
    """In float64, from the differences to each window's mean; outside the picture all is zero."""
    torch.manual_seed(0)
    seen, target = torch.rand(1, 3, 9, 12).double(), torch.rand(1, 4, 9, 12).double()
    guide = torch.cat((seen, seen.mean(1, keepdim=True)), 1)
    x, y = (F.unfold(plane, 3, padding=1).view(4, 9, 9, 12) for plane in (guide, target))
    dx, dy = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    slope = (dx * dy).mean(1) / (dx.square().mean(1) + 1e-5)
    expected = slope * guide[0] + y.mean(1) - slope * x.mean(1)
    found = torch.cat(FastGuidedFilter()(seen, seen, target[:, :3], target[:, 3:], seen), 1)
    torch.testing.assert_close(found[0], expected, atol=1e-11, rtol=0)


def recorded():
    arrays, batch = recorded_losses("foreground")

    def clips(planes):
        """Two clips of two frames, the second frame mirrored, all first frames first."""
        return torch.cat((planes, planes.flip(-1)))

    fields = ("image", "alpha", "known", "label", "foreground")
    batch = Batch(**{name: clips(getattr(batch, name)) for name in fields})
    return arrays, Prediction(clips(arrays["in/pred"]), clips(arrays["in/pred_fg"]), frames=2), batch


def test_losses_equal_the_reference():
    arrays, prediction, batch = recorded()
    with torch.device("meta"):
        network = RVM()
    terms = network.objective(prediction, batch)
    names = {
        "alpha": "pha_l1",
        "laplacian": "pha_laplacian",
        "coherence": "pha_coherence",
        "foreground": "fgr_l1",
        "foreground coherence": "fgr_coherence",
    }
    assert set(terms) == set(names)
    for name, official in names.items():
        torch.testing.assert_close(terms[name], arrays[f"out/rvm/{official}"], atol=1e-5, rtol=1e-5, msg=name)
    torch.testing.assert_close(sum(terms.values()), arrays["out/rvm/total"], atol=1e-5, rtol=0)
    batch.mask = (batch.alpha > 0.5).float()
    prediction.maps["segmentation"] = 4 * (prediction.alpha - 0.5)
    segmentation = network.objective(prediction, batch)["segmentation"]
    torch.testing.assert_close(segmentation, arrays["out/rvm.segmentation/bce"], atol=1e-5, rtol=0)


def test_unknown_pixels_teach_nothing():
    _, prediction, batch = recorded()
    batch.known[..., 48:] = 0
    other = Batch(batch.image, batch.alpha.clone(), batch.known, batch.label, foreground=batch.foreground)
    other.alpha[..., 48:] = 0.3
    with torch.device("meta"):
        network = RVM()
    one, two = network.objective(prediction, batch), network.objective(prediction, other)
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)

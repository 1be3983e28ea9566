from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.inference.network import Matter
from mattecli.mixing.batch import Batch, Label
from mattecli.zoo import checkpoints, gfm
from mattecli.zoo.encoders import imagenet
from mattecli.zoo.encoders.densenet import DenseNet121
from mattecli.zoo.gfm import GFM, collaborate, hybrid
from mattecli.zoo.gfm_parts import LAYOUTS
from mattecli.zoo.spec import Prediction
from tests.zoo.making import recorded_losses

ENCODERS = ("r34", "r34_2b", "d121", "r101")


@pytest.fixture(
    scope="module", params=[("gfm_r34_tt", "gfm-tt-r34"), ("gfm_d121_ft", "gfm-ft-d121")], ids=lambda p: p[1]
)
def released(request, parity, tmp_path_factory):
    """A recorded reference, the network's name, and the network with the official file in it, bare as released."""
    recorded, name = request.param
    reference = parity(recorded)
    path = tmp_path_factory.mktemp("gfm") / f"{recorded}.pth"
    torch.save({key: torch.from_numpy(value) for key, value in reference.checkpoint.items()}, path)
    network = zoo.load(name, path)
    path.unlink()
    return reference, name, network


@torch.inference_mode()
def test_every_output_equals_the_reference(released):
    reference, _, network = released
    prediction = network(torch.from_numpy(reference.input("img")) / 255)
    for name in ("glance", "focus"):
        truth = reference.arrays[f"out/gfm/{name}"]
        found = prediction.maps[name][..., ::3, ::3].numpy()
        np.testing.assert_allclose(found, truth, atol=1e-4, rtol=0, err_msg=name)
    differs = np.abs(prediction.maps["fusion"][..., ::2, ::2].numpy() - reference.arrays["out/gfm/fusion"]) > 1e-4
    assert differs.mean() <= 1e-3
    assert torch.equal(prediction.alpha, prediction.maps["fusion"])


def test_the_official_file_holds_more(released):
    """A classifier that is never called, and the encoder's parts twice."""
    reference, name, network = released
    keys = {"gfm-tt-r34": (688, 216), "gfm-ft-d121": (1708, 720)}[name]
    kept = network.own_tensors(reference.checkpoint)
    own = [network.own_key(key) for key in kept]
    assert (len(reference.checkpoint), len(own) - len(set(own))) == keys
    assert set(own) == set(network.state_dict()) and all(network.own_key(key) == key for key in own)


def test_two_copies_that_differ_are_refused():
    tensors = {"resnet.bn1.weight": torch.ones(64), "encoder0.1.weight": torch.zeros(64)}
    with pytest.raises(UsageError, match=r"contradicts itself: 'encoder0\.1\.weight'"):
        checkpoints.rename(hollow("gfm-tt-r34"), tensors, "x.pth")


@pytest.mark.parametrize("wrong", ["modnet", "gfm-rim-r34"])
def test_other_networks_refuse_the_file(released, wrong):
    reference, name, _ = released
    tensors = {key: torch.from_numpy(value) for key, value in reference.checkpoint.items()}
    with pytest.raises(UsageError, match=f"no checkpoint of {wrong}: its keys are those of {name}"):
        checkpoints.fit(hollow(wrong), tensors, name=wrong, source="x.pth")


def hollow(name):
    """Shapes without values."""
    with torch.device("meta"):
        return zoo.create(name)


@pytest.mark.parametrize(
    "encoder, parameters, keys, rim_keys, twice, unused",
    [
        ("r34", 55_286_316, 688, 758, 216, 513_000),
        ("r34_2b", 125_878_956, 831, 845, 210, 513_000 + 9_536 + 295_104),
        ("d121", 46_961_772, 1708, 1778, 720, 1_025_000 + 2_048),
        ("r101", 497_256_556, 1504, 1574, 624, 2_049_000),
    ],
)
def test_parameters_and_keys(encoder, parameters, keys, rim_keys, twice, unused):
    """The official counts are ours and those of what is never called."""
    network = hollow(f"gfm-tt-{encoder}")
    assert sum(p.numel() for p in network.parameters()) + unused == parameters
    idle = {"r34": 2, "r34_2b": 2 + 6 + 7, "d121": 2 + 5, "r101": 2}[encoder]
    for rosta, count in {"tt": keys, "ft": keys, "bt": keys, "rim": rim_keys}.items():
        assert len(hollow(f"gfm-{rosta}-{encoder}").state_dict()) + twice + idle == count


@pytest.mark.parametrize(
    "name, key, own",
    [
        ("gfm-tt-r34_2b", "encoder0.1.running_var", "encoder.stem.1.running_var"),
        ("gfm-tt-r34_2b", "encoder1.2.conv1.weight", "encoder.layer1.2.conv1.weight"),
        ("gfm-tt-r34_2b", "resnet.layer4.0.downsample.0.weight", "encoder.layer4.0.downsample.0.weight"),
        ("gfm-tt-r34_2b", "encoder6.3.bn2.bias", "encoder.layer6.3.bn2.bias"),
        ("gfm-tt-r34_2b", "psp6.0.weight", "glance.psp.6.0.weight"),
        ("gfm-tt-r34_2b", "decoder6_f.7.running_mean", "focus.decoder.6.7.running_mean"),
        ("gfm-tt-r34_2b", "decoder0_g.0.weight", "glance_heads.tt.0.weight"),
        ("gfm-bt-r101", "encoder1.1.2.conv3.weight", "encoder.layer1.2.conv3.weight"),
        ("gfm-bt-r101", "resnet.layer3.22.bn3.weight", "encoder.layer3.22.bn3.weight"),
        ("gfm-bt-r101", "psp_module.stages.2.1.weight", "glance.psp_module.stages.2.1.weight"),
        ("gfm-bt-r101", "decoder0_g.6.bias", "glance_heads.bt.6.bias"),
        ("gfm-rim-d121", "encoder4.2.weight", "encoder.bottom.1.weight"),
        ("gfm-rim-d121", "decoder0_g_ft.6.weight", "glance_heads.ft.6.weight"),
        ("gfm-rim-d121", "decoder0_f_bt.3.bias", "focus_heads.bt.3.bias"),
        ("gfm-rim-d121", "rim.1.fc.2.weight", "rim.1.fc.2.weight"),
        ("gfm-rim-d121", "rim.2.bias", "rim.2.bias"),
    ],
)
def test_official_keys_of_what_was_not_recorded(name, key, own):
    network = hollow(name)
    assert network.own_key(key) == own and own in network.state_dict()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders_end_at_a_thirty_second(encoder):
    layout = LAYOUTS[encoder]
    with torch.device("meta"):
        maps = layout.build().eval()(torch.empty(1, 3, 96, 160))
    assert tuple(m.shape[1] for m in maps) == layout.channels
    assert maps[-1].shape[-2:] == (3, 5) and maps[0].shape[-2:] == (96 // layout.stem, 160 // layout.stem)


def test_the_encoder_starts_from_public_weights():
    """torchvision's file has dots that its network has not, and a classifier."""
    encoder, public = DenseNet121(), DenseNet121().state_dict()
    dotted = {key.replace("norm2", "norm.2").replace("conv1", "conv.1"): value for key, value in public.items()}
    assert "features.denseblock3.denselayer24.conv.1.weight" in dotted
    imagenet.start(encoder, dotted | {"classifier.bias": torch.ones(1000)})
    assert all(torch.equal(value, public[key]) for key, value in encoder.state_dict().items())


@pytest.fixture(scope="module")
def rim():
    torch.manual_seed(0)
    return GFM("r34", "rim")


def test_rim_joins_three(rim):
    batch = _batch()
    prediction = rim.train()(batch.image)
    fusions = torch.cat([prediction.maps[f"fusion_{name}"] for name in ("tt", "ft", "bt")], 1)
    torch.testing.assert_close(prediction.maps["fusion"], rim.rim(fusions))
    torch.testing.assert_close(prediction.alpha, prediction.maps["fusion"].clamp(0, 1))
    terms = rim.objective(prediction, batch)
    branches = {
        f"{term}_{name}" for term in ("glance", "focus", "fusion", "composition") for name in ("tt", "ft", "bt")
    }
    assert set(terms) == branches | {"fusion", "composition"}


def _batch():
    torch.manual_seed(0)
    alpha = torch.zeros(2, 1, 64, 64)
    alpha[..., 24:40], alpha[..., 40:] = 0.5, 1
    layers = [torch.rand(2, 3, 64, 64) for _ in range(3)]
    kinds = torch.tensor([Label.MATTE] * 2)
    return Batch(
        layers[0], alpha, torch.ones_like(alpha), kinds, trimap=alpha, foreground=layers[1], background=layers[2]
    )


def test_other_sizes_are_refused(rim):
    with pytest.raises(UsageError, match="multiples of 32, not 64x40"):
        rim(torch.rand(1, 3, 64, 40))
    with pytest.raises(UsageError, match="rim glances and focuses at one size"):
        hybrid(rim, torch.rand(1, 3, 64, 96))


@pytest.mark.parametrize(
    "name, photo, size, seen",
    [
        ("gfm-tt-r34", (1081, 1921), None, (1080, 1919)),
        ("gfm-ft-r34", (2160, 3840), None, (1080, 1920)),
        ("gfm-tt-r34", (1100, 1940), None, (1080, 1904)),
        ("gfm-tt-r34", (1, 9000), None, (1, 9000)),
        ("gfm-tt-r34", (50, 70), None, (50, 70)),
        ("gfm-tt-r34", (1080, 1920), 720, (720, 1280)),
        ("gfm-bt-r34", (300, 400), 720, (300, 400)),
        ("gfm-tt-r34", (3000, 4000), 2000, (1080, 1440)),
        ("gfm-rim-r34", (1080, 1920), None, (352, 640)),
        ("gfm-rim-r34", (2384, 1341), None, (640, 352)),
        ("gfm-rim-r34", (1000, 9000), None, (320, 1600)),
        ("gfm-rim-r34", (50, 70), None, (32, 32)),
        ("gfm-rim-r34", (1080, 1920), 720, (704, 1280)),
        ("gfm-rim-r34", (300, 400), 720, (288, 384)),
    ],
)
def test_the_published_size_rule(name, photo, size, seen):
    assert hollow(name).spec.size(*photo, size) == seen


def test_inference_is_hybrid_at_the_size_rule(released):
    """Photos too large are shrunk once, and the alpha is as large as what the strategy was given."""
    _, _, network = released
    rgb = np.random.default_rng(0).integers(0, 255, (97, 130, 3), dtype=np.uint8)
    matter = Matter(network, "cpu", "fp32", engine="torch")
    image = torch.from_numpy(rgb.transpose(2, 0, 1))[None] / 255
    with torch.inference_mode():
        expected, alone = hybrid(network, image).alpha, network(image[..., :96, :128]).alpha
    found = matter.predict(rgb).alpha
    np.testing.assert_allclose(found, expected[0, 0], atol=1e-4)
    assert np.abs(found[:96, :128] - alone[0, 0].numpy()).max() > 1e-3


def skimage_resize(x, size):
    """What skimage.transform.resize does with floats."""
    factors = np.divide(x.shape, size)
    x = ndimage.gaussian_filter(x, np.maximum(0, (factors - 1) / 2), mode="mirror")
    return ndimage.zoom(x, 1 / factors, order=1, mode="mirror", grid_mode=True)


@pytest.mark.parametrize("size", [(96, 128), (128, 192), (32, 500)])
def test_pictures_are_resized_as_published(size):
    x = np.random.default_rng(0).random((300, 410))
    found = gfm.resize(torch.from_numpy(x)[None, None], size)[0, 0].numpy()
    inside = (slice(None), slice(2, -2))  # skimage mirrors the half pixel beyond the border where it enlarges
    np.testing.assert_allclose(found[inside], skimage_resize(x, size)[inside], atol=1e-6)


@torch.inference_mode()
def test_hybrid_is_the_published_strategy(released):
    """Glance at 1/3 and focus at 1/2, both enlarged; glance's classes decide where they are certain."""
    _, name, network = released
    photo = cv2.resize(np.random.default_rng(0).random((20, 24, 3)), (330, 270), interpolation=cv2.INTER_CUBIC)
    photo = photo.clip(0, 1).astype(np.float32)

    def seen(size):
        planes = [skimage_resize(plane.astype(np.float64), size) for plane in photo.transpose(2, 0, 1)]
        return network(torch.from_numpy(np.stack(planes)[None]).float()).maps

    classes = seen((64, 96))["glance"][0].argmax(0).numpy()
    glance = skimage_resize(classes / classes.max(), (270, 330))
    focus = skimage_resize(seen((128, 160))["focus"][0, 0].double().numpy(), (270, 330))
    if name.startswith("gfm-tt"):
        assert set(np.unique(classes)) == {0, 1, 2}
        truth = np.where(np.isclose(glance, 0), 0, np.where(np.isclose(glance, 1), 1, focus))
    else:
        truth = np.minimum(glance + focus, 1)
    prediction = hybrid(network, torch.from_numpy(photo.transpose(2, 0, 1))[None])
    assert prediction.alpha.shape == (1, 1, 270, 330)
    differs = np.abs(prediction.alpha[0, 0, 3:-3, 3:-3].numpy() - truth[3:-3, 3:-3]) > 1e-3
    assert differs.mean() <= 1e-3
    assert prediction.maps["glance"].shape == prediction.maps["focus"].shape == (1, 1, 270, 330)


@pytest.mark.parametrize("size", [(1, 1), (31, 200), (97, 65)])
@torch.inference_mode()
def test_hybrid_takes_photos_of_any_size(released, size):
    _, _, network = released
    alpha = hybrid(network, torch.rand(1, 3, *size)).alpha
    assert alpha.shape == (1, 1, *size) and alpha.isfinite().all() and 0 <= alpha.min() and alpha.max() <= 1


def recorded():
    arrays, batch = recorded_losses("glance")
    return arrays, replace(batch, alpha=(batch.alpha * 255).round() / 255)  # the reference was given bytes


@pytest.mark.parametrize("rosta, glance", [("tt", "glance3"), ("ft", "glance2"), ("bt", "glance2")])
def test_collaborative_matting_equals_the_reference(rosta, glance):
    arrays, _ = recorded()
    classes = gfm._classified(arrays[f"in/{glance}"])
    truth = arrays[f"out/gfm.collaborative_{rosta.upper()}/fusion"]
    torch.testing.assert_close(collaborate(rosta, classes, arrays["in/detail"]), truth, atol=0, rtol=0)


def test_labels_equal_the_reference():
    arrays, batch = recorded()
    alpha = arrays["out/gfm.labels/alpha"][None, None] / 255
    batch = replace(batch, alpha=alpha, known=torch.ones_like(alpha))
    for rosta, truth in (("ft", "erode50"), ("bt", "dilate50")):
        classes, detail, known = gfm._labels(rosta, batch)
        assert torch.equal(255 * classes[0, 0], arrays[f"out/gfm.labels/{truth}"].long()) and known.all()
        torch.testing.assert_close(detail, (alpha - classes).abs())


def test_losses_equal_the_reference():
    arrays, batch = recorded()
    truth = {key.removeprefix("out/gfm/"): value for key, value in arrays.items() if key.startswith("out/gfm/")}
    maps = {"glance": arrays["in/glance3"], "focus": arrays["in/detail"], "fusion": arrays["in/pred"]}
    terms = hollow("gfm-tt-r34").objective(Prediction(arrays["in/pred"], maps=maps), batch)
    expected = {
        "glance": truth["ce3_tt"],
        "focus": truth["alpha_trimap"] + truth["lap_trimap"],
        "fusion": truth["alpha_whole"] + truth["lap_whole"],
        "composition": truth["comp_whole"],
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(4 * terms[name], value, atol=1e-5, rtol=0, msg=name)


def test_two_classes_cost_what_the_reference_says(monkeypatch):
    arrays, batch = recorded()
    monkeypatch.setattr(gfm, "REACH", 1)  # recorded without erosion
    maps = {"glance": arrays["in/glance2"], "focus": arrays["in/detail"], "fusion": arrays["in/pred"]}
    terms = hollow("gfm-ft-r34").objective(Prediction(arrays["in/pred"], maps=maps), batch)
    torch.testing.assert_close(4 * terms["glance"], arrays["out/gfm/ce2"], atol=1e-5, rtol=0)


def test_without_layers_the_composite_is_left_out():
    arrays, batch = recorded()
    maps = {"glance": arrays["in/glance3"], "focus": arrays["in/detail"], "fusion": arrays["in/pred"]}
    network, prediction = hollow("gfm-tt-r34"), Prediction(arrays["in/pred"], maps=maps)
    assert set(network.objective(prediction, replace(batch, background=None))) == {"glance", "focus", "fusion"}
    with pytest.raises(UsageError, match="no trimap"):
        network.objective(prediction, replace(batch, trimap=None))


@pytest.mark.parametrize("rosta, glance", [("tt", "glance3"), ("ft", "glance2"), ("bt", "glance2")])
def test_unknown_pixels_teach_nothing(rosta, glance):
    arrays, batch = recorded()
    maps = {"glance": arrays[f"in/{glance}"], "focus": arrays["in/detail"], "fusion": arrays["in/pred"]}
    prediction, network = Prediction(arrays["in/pred"], maps=maps), hollow(f"gfm-{rosta}-r34")
    batch.known[..., 48:] = 0
    other = replace(batch, alpha=batch.alpha.clone(), trimap=batch.trimap.clone())
    other.alpha[..., 48:] = 0.3
    other.trimap[..., 48:] = 0.5
    one, two = network.objective(prediction, batch), network.objective(prediction, other)
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)

import math

import pytest
import torch
import torch.nn.functional as F

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch, Label
from mattecli.zoo.bisenetv2 import DATA, BiSeNetV2, BiSeNetV2Matting
from mattecli.zoo.spec import Prediction


@pytest.fixture(scope="module")
def reference(parity):
    return parity("bisenetv2")


@pytest.fixture(scope="module")
def network(official):
    return zoo.load("bisenetv2", official)


@torch.inference_mode()
def test_every_output_equals_the_reference(reference, network):
    data = DATA["cityscapes"]
    image = torch.from_numpy(reference.input("img"))
    image = image * torch.tensor(data.std).view(3, 1, 1) + torch.tensor(data.mean).view(3, 1, 1)
    prediction = network(image)
    reference_cases = {"with_aux": prediction.maps, "eval": network.fuse()(image).maps}
    assert set(reference_cases["eval"]) == {"logits"}
    for case, maps in reference_cases.items():
        reference.check(case, {name: value.numpy() for name, value in maps.items()})
    share = prediction.maps["logits"].softmax(1)[:, 11:13].sum(1, keepdim=True)
    torch.testing.assert_close(prediction.alpha, share, atol=1e-5, rtol=0)


def test_parameters_and_keys(network, tensors):
    assert len(tensors) == len(network.state_dict()) == 383
    assert sum(p.numel() for p in network.fuse().parameters()) == 3_358_627
    with torch.device("meta"):
        matting = BiSeNetV2Matting()
    matting.aux2 = matting.aux3 = matting.aux4 = matting.aux5_4 = None
    assert sum(p.numel() for p in matting.parameters()) == 3_340_177


@torch.inference_mode()
def test_files_saved_for_inference_have_no_auxiliary_heads(network, tensors, tmp_path):
    lean = {key: value for key, value in tensors.items() if not key.startswith("aux")}
    assert len(tensors) - len(lean) == 56
    torch.save(lean, tmp_path / "lean.pth")
    loaded, image = zoo.load("bisenetv2", tmp_path / "lean.pth"), torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(loaded(image).maps["logits"], network(image).maps["logits"], atol=0, rtol=0)
    with pytest.raises(UsageError, match="its keys are those of bisenetv2"):
        zoo.load("bisenetv2-coco", tmp_path / "lean.pth")
    torch.save({key: value for key, value in tensors.items() if not key.startswith("aux2")}, tmp_path / "broken.pth")
    with pytest.raises(UsageError, match=r"does not fit bisenetv2: 12 tensors missing \(aux2"):
        zoo.load("bisenetv2", tmp_path / "broken.pth")


@pytest.mark.parametrize(
    "photo, seen", [((1024, 2048), (1024, 2048)), ((37, 91), (64, 96)), ((720, 1280), (736, 1280))]
)
def test_the_published_size_rule(photo, seen):
    assert BiSeNetV2.spec.size(*photo) == seen


def test_other_sizes_are_refused(network):
    with pytest.raises(UsageError, match=r"multiples of 32, not 64x40"):
        network(torch.rand(1, 3, 64, 40))


def batch_and_logits(classes):
    torch.manual_seed(0)
    alpha = torch.zeros(2, 1, 32, 32)
    alpha[..., 12:] = 1
    batch = Batch(torch.rand(2, 3, 32, 32), alpha, torch.ones_like(alpha), torch.tensor([Label.MASK] * 2), mask=alpha)
    return batch, torch.randn(2, classes, 32, 32)


def test_the_loss_is_cross_entropy_on_hard_pixels():
    batch, logits = batch_and_logits(2)
    network = BiSeNetV2("person")
    terms = network.objective(Prediction(batch.alpha, maps={"logits": logits, "aux2": logits}), batch)
    every = F.cross_entropy(logits, batch.mask[:, 0].long(), reduction="none")
    torch.testing.assert_close(terms["logits"], every[every > -math.log(0.7)].mean())
    assert terms["aux2"] == terms["logits"]
    sure = torch.cat((4 - 8 * batch.mask, 8 * batch.mask - 4), 1) + 0.1 * logits
    terms = network.objective(Prediction(batch.alpha, maps={"logits": sure}), batch)
    every = F.cross_entropy(sure, batch.mask[:, 0].long(), reduction="none")
    torch.testing.assert_close(terms["logits"], every.flatten().topk(every.numel() // 16).values.mean())


def test_unknown_pixels_teach_nothing():
    batch, logits = batch_and_logits(19)
    batch.known[..., 16:] = 0
    other = Batch(batch.image, batch.alpha, batch.known, batch.label, mask=batch.mask.clone())
    other.mask[..., 16:] = 0
    network = BiSeNetV2()
    one, two = (network.objective(Prediction(b.alpha, maps={"logits": logits}), b) for b in (batch, other))
    assert one["logits"] == two["logits"] > 0
    batch.known[:] = 0
    assert network.objective(Prediction(batch.alpha, maps={"logits": logits}), batch)["logits"] == 0


def test_the_truth_costs_the_matting_network_least():
    batch, _ = batch_and_logits(1)
    network = BiSeNetV2Matting()
    maps = dict.fromkeys(("logits", *network.AUXILIARY), 20 * batch.alpha - 10)
    terms = network.objective(Prediction(batch.alpha, maps=maps), batch)
    assert set(terms) == {"alpha", "laplacian", "aux2", "aux3", "aux4", "aux5_4"}
    assert all(term < 1e-4 for term in terms.values())
    terms = network.objective(Prediction(1 - batch.alpha, maps={k: -v for k, v in maps.items()}), batch)
    assert all(term > 0.1 for term in terms.values())

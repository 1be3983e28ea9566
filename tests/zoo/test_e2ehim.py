import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch, Label
from mattecli.zoo.e2ehim import E2EHIM, match
from mattecli.zoo.e2ehim_parts import PositionAttention, _filtered
from mattecli.zoo.encoders import imagenet, swin
from mattecli.zoo.spec import Prediction

SCALED = {
    "query_embed.weight": 60,
    "globalfc.layers.2.weight": 0.35,
    "globalfck.layers.0.weight": 0.35,
    "globalfc2.layers.2.weight": 0.06,
}
"""By what the recorded checkpoint's tensors differ from the function of their keys."""


@pytest.fixture(scope="module")
def reference(parity):
    recorded = parity("e2ehim_swint")
    for key, scale in SCALED.items():
        recorded.checkpoint[key] = recorded.checkpoint[key] * np.float32(scale)
    return recorded


@pytest.fixture(scope="module")
def network(official):
    return zoo.load("e2ehim-swint", official)


def test_every_output_equals_the_reference(reference, network):
    """The one test here that takes long: the reference knows no other size than 640×640."""
    seen = {}
    places = {"perception.toplayer": "toplayer", "perception.decoder1": "decoder1", "guidance.globalfc": "globalfc"}
    hooks = [
        network.get_submodule(place).register_forward_hook(lambda m, i, output, name=name: seen.update({name: output}))
        for place, name in places.items()
    ]
    mean, std = (torch.tensor(value)[:, None, None] for value in (imagenet.MEAN, imagenet.STD))
    with torch.inference_mode():
        maps = network(torch.from_numpy(reference.input("img")) * std + mean).maps
    for hook in hooks:
        hook.remove()
    found = {
        "person_logits": maps["person_logits"],
        "alpha_first": maps["alpha"][:, :1],
        "alpha_sub8": maps["alpha"][..., ::8, ::8],
        "trimap_first": maps["trimap"][:, :3],
        "trimap_sub8": maps["trimap"][..., ::8, ::8],
    }
    reference.check("him", {name: value.numpy() for name, value in found.items()})
    for name, output in seen.items():
        flat = output.flatten()
        samples = flat[:: max(1, len(flat) // 256)][:256].numpy()
        np.testing.assert_allclose(samples, reference.arrays[f"tap/{name}[0]"], atol=1e-4, rtol=0, err_msg=name)


def test_parameters_and_keys(network, tensors):
    unused = {key for key in tensors if key.startswith(("conv1.", "conv2."))}
    assert len(tensors) == 649 and len(unused) == 4
    assert {E2EHIM.own_key(key) for key in tensors.keys() - unused} == set(network.state_dict())
    assert sum(p.numel() for p in network.parameters()) == 70_453_544 - 2 * 257
    assert E2EHIM.own_key("matting.c8d.3.layers.1.weight") == "matting.c8d.3.layers.1.weight"


def test_another_network_refuses_the_file(official):
    with pytest.raises(UsageError, match="no checkpoint of modnet: its keys are those of e2ehim-swint"):
        zoo.load("modnet", official)


@torch.inference_mode()
def test_instances_are_the_people_and_alpha_all_of_them(network):
    prediction = network(torch.rand(2, 3, 71, 101))
    maps, instances = prediction.maps, prediction.instances
    assert instances.shape == (2, 20, 71, 101) and maps["trimap"].shape == (2, 60, 71, 101)
    assert maps["segmentation"].shape == (2, 20, 9, 13) and maps["attention_2"].shape == (2, 21, 9, 13)
    person = maps["person_logits"].argmax(2) == 1
    assert 0 < person.sum() < person.numel()
    assert not instances[~person].any()
    kind = maps["trimap"].view(2, 20, 3, 71, 101).argmax(2)
    expected = torch.stack((torch.zeros_like(maps["alpha"]), maps["alpha"], torch.ones_like(maps["alpha"])))
    expected = expected.gather(0, kind[None])[0]
    assert torch.equal(instances[person], expected[person])
    torch.testing.assert_close(prediction.alpha, instances.sum(1, keepdim=True).clamp(max=1))


@torch.inference_mode()
def test_every_sample_has_filters_of_its_own():
    x, filters, bias = torch.rand(3, 8, 5, 6), torch.rand(3, 4, 8), torch.rand(3, 4, 1)
    expected = [F.conv2d(x[n : n + 1], filters[n, :, :, None, None], bias[n, :, 0]) for n in range(3)]
    torch.testing.assert_close(_filtered(x, filters, bias), torch.cat(expected))


@torch.inference_mode()
def test_the_last_block_is_linear(network):
    last = network.matting.c1
    one, other = torch.randn(2, 1, 131, 8, 8)
    zero = last(torch.zeros_like(one))
    torch.testing.assert_close(last(one - other) - zero, last(one) - last(other), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_position_attention_averages_what_is_alike():
    attention = PositionAttention(8, 4)
    attention.key_conv.weight.zero_()
    attention.gamma.fill_(2)
    x = torch.rand(2, 8, 3, 5)
    mean = attention.value_conv(x).mean((2, 3), keepdim=True)
    torch.testing.assert_close(attention(x), x + 2 * mean)


@pytest.mark.parametrize("size", [(56, 56), (33, 47), (1, 1), (3, 90)])
@torch.inference_mode()
def test_swin_halves_any_size(size):
    with torch.device("meta"):
        maps = swin.Swin()(torch.rand(1, 3, *size))
    sides = [[-(-side // 2 ** (stage + 2)) for side in size] for stage in range(4)]
    assert [list(m.shape) for m in maps] == [[1, 96 * 2**stage, *sides[stage]] for stage in range(4)]


@torch.inference_mode()
def test_shifted_windows_do_not_join_opposite_edges():
    torch.manual_seed(0)
    block = swin.Block(96, 3, swin.SHIFT).eval()
    x = torch.rand(1, 14, 14, 96)
    for place, first, last in ((0, 0, 3), (5, 3, 10), (13, 10, 14)):
        changed = x.clone()
        changed[:, place, place] = torch.rand(96)
        moved = (block(x) - block(changed)).abs().amax(-1)[0] > 1e-7
        assert moved[first:last, first:last].all() and moved.sum() == (last - first) ** 2


def test_imagenet_weights_start_swin():
    torch.manual_seed(0)
    published = {key: value for key, value in swin.Swin().state_dict().items() if not key.startswith("norm")}
    published |= {"head.weight": torch.rand(1000, 768), "norm.weight": torch.rand(768)}
    for encoder, embedded in ((swin.Swin(), True), (swin.Swin(inputs=128, patch=1), False)):
        swin.start(encoder, published)
        state = encoder.state_dict()
        same = {key for key in state if key in published and torch.equal(state[key], published[key])}
        assert same == {key for key in state if embedded or key != "patch_embed.proj.weight"} - {
            f"norm{stage}.{kind}" for stage in range(4) for kind in ("weight", "bias")
        }
    del published["layers.2.blocks.5.mlp.fc1.bias"]
    with pytest.raises(UsageError, match=r"lack layers.2.blocks.5.mlp.fc1.bias"):
        swin.start(swin.Swin(), published)


def two_people():
    """Left and right third of two pictures; in the second only the left. Query 7 finds the left, 3 the right."""
    people = torch.zeros(2, 3, 64, 96)
    people[:, 0, 16:48, :32] = 1
    people[0, 2, 16:48, 64:] = 1
    alpha = people.sum(1, keepdim=True)
    batch = Batch(
        torch.rand(2, 3, 64, 96),
        alpha,
        torch.ones_like(alpha),
        torch.tensor([Label.MATTE] * 2),
        instances=people,
    )
    found = torch.zeros(2, 20, 64, 96)
    found[:, 7], found[:, 3] = people[:, 0], people[:, 2]
    there = found.flatten(2).any(2)
    small = F.interpolate(found, scale_factor=1 / 8, mode="area")
    attention = torch.cat((small, 1 - small.sum(1, keepdim=True)), 1)
    edge = F.max_pool2d(found, 5, 1, 2) + F.max_pool2d(-found, 5, 1, 2) > 0
    kind = torch.where(edge, 1, 2 * found.long())
    maps = {
        "person_logits": 40 * torch.stack((~there, there), 2).float() - 20,
        "alpha": found,
        "trimap": 40 * F.one_hot(kind, 3).permute(0, 1, 4, 2, 3).flatten(1, 2).float(),
        "segmentation": 40 * small - 20,
        "attention_1": 40 * attention,
        "attention_2": 40 * attention,
    }
    return batch, maps


def objective(maps, batch):
    with torch.device("meta"):
        network = E2EHIM()
    return network.objective(Prediction(batch.alpha, maps=maps), batch)


def test_people_and_queries_are_matched_one_to_one():
    batch, maps = two_people()
    masks = F.interpolate(batch.instances, scale_factor=1 / 8, mode="area")
    there = batch.instances.flatten(2).any(2)
    pairs = match(maps["person_logits"], maps["segmentation"], masks, torch.ones(2, 1, 8, 12), there)
    assert set(zip(*(x.tolist() for x in (pairs.sample, pairs.query, pairs.person)), strict=True)) == {
        (0, 7, 0),
        (0, 3, 2),
        (1, 7, 0),
    }


def test_the_truth_costs_nothing_and_each_fault_its_term():
    batch, maps = two_people()
    terms = objective(maps, batch)
    assert set(terms) == {"person", "attention", "segmentation", "dice", "trimap", "alpha", "laplacian"}
    assert all(term < 1e-3 for term in terms.values())
    faults = {
        "person_logits": ("person",),
        "attention_2": ("attention",),
        "segmentation": ("segmentation", "dice"),
        "trimap": ("trimap",),
    }
    for name, feels in faults.items():
        worse = objective(maps | {name: 0.05 * maps[name]}, batch)
        assert all(worse[term] > 0.1 for term in feels)
        assert all(worse[term] < 1e-3 for term in worse.keys() - {*feels})
    worse = objective(maps | {"alpha": 0.5 * maps["alpha"]}, batch)
    assert worse["alpha"] > 0.05 and worse["laplacian"] > 0.05


def test_unknown_pixels_teach_nothing():
    batch, maps = two_people()
    maps = {name: value + torch.randn_like(value) for name, value in maps.items()}
    batch.known[..., 40:] = 0
    batch.instances[0, 2] = 0
    one = objective(maps, batch)
    batch.instances[0, 1, :, 48:] = 0.4
    batch.instances[:, 0, :, 56:] = 1
    two = objective(maps, batch)
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)


def test_without_instances_a_picture_holds_one_person():
    batch, maps = two_people()
    batch.alpha, batch.instances = batch.instances[:, :1], None
    maps = {name: value[1:].repeat(2, *[1] * (value.ndim - 1)) for name, value in maps.items()}
    assert all(term < 1e-3 for term in objective(maps, batch).values())


def test_boxes_tell_only_where_nobody_is():
    batch, maps = two_people()
    batch.label[:] = Label.BOXES
    batch.known[:] = 0
    batch.known[..., 32:64] = 1
    terms = objective(maps, batch)
    assert set(terms) == {"person", "attention"} and terms["person"] == 0 and terms["attention"] < 1e-3
    maps["attention_1"] = maps["attention_1"].flip(1)
    assert objective(maps, batch)["attention"] > 1


def test_learning_needs_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    batch, maps = two_people()
    with pytest.raises(UsageError, match=r"mattecli\[train\]"):
        objective(maps, batch)


@torch.no_grad()
def test_bf16_stays_close(network):
    image = torch.rand(1, 3, 64, 64)
    whole = network(image).maps
    with torch.autocast("cpu", torch.bfloat16):
        short = network(image).maps
    assert all(value.dtype == torch.float32 for value in short.values())
    assert (whole["alpha"] - short["alpha"]).abs().mean() < 0.1

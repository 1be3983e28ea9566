"""What holds for each network of the table, generated from it."""

import subprocess
import sys

import pytest
import torch

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch, Label

every = pytest.mark.parametrize("name", zoo.names())


@pytest.fixture(scope="module")
def networks():
    """Each network once, its normalisations given statistics that are not the identity."""
    made = {}
    for name in zoo.names():
        torch.manual_seed(0)
        made[name] = zoo.create(name)
        for module in made[name].modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return made


def feed(needs, count, height, width):
    """image and what the network needs beside it."""
    generator = torch.Generator().manual_seed(height + width)
    extra = {
        "image": {},
        "trimap": {"trimap": torch.randint(0, 3, (count, 1, height, width), generator=generator) / 2},
        "background": {"background": torch.rand(count, 3, height, width, generator=generator)},
    }[needs]
    return {"image": torch.rand(count, 3, height, width, generator=generator), **extra}


@every
def test_the_card_is_true(name, networks):
    card, network = zoo.card(name), networks[name]
    assert sum(p.numel() for p in network.parameters()) == card.parameters
    assert card.inputs == {"image": "image"}.get(network.spec.needs, f"image + {network.spec.needs}")
    assert card.paper and card.code_licence and card.weights_licence
    assert card.weights or card.address, "nobody could run this network"


@every
def test_gradients_reach_every_parameter(name, networks):
    network = networks[name].train()
    inputs = feed(network.spec.needs, 2, 64, 64)
    alpha = torch.zeros(2, 1, 64, 64)
    alpha[..., 24:] = 0.5
    alpha[..., 40:] = 1
    batch = Batch(
        image=inputs["image"],
        alpha=alpha,
        known=torch.ones_like(alpha),
        label=torch.tensor([Label.MATTE] * 2),
        mask=(alpha > 0.5).float(),
        trimap=alpha,
        foreground=torch.rand(2, 3, 64, 64),
        background=torch.rand(2, 3, 64, 64),
    )
    terms = network.objective(network(**inputs), batch)
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    network.zero_grad()
    sum(terms.values()).backward()
    # A bias before a normalisation has no effect, so its gradient may be nought but must be there.
    idle = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    idle += [key for key, p in network.named_parameters() if p.ndim > 1 and not p.grad.any()]
    assert not idle


@every
@torch.inference_mode()
def test_a_batch_of_two_equals_two_of_one(name, networks):
    network = networks[name].eval()
    both = feed(network.spec.needs, 2, 64, 96)
    together = network(**both).alpha
    for index in range(2):
        alone = network(**{key: value[index : index + 1] for key, value in both.items()}).alpha
        torch.testing.assert_close(together[index : index + 1], alone, atol=2e-5, rtol=0)


@every
@pytest.mark.parametrize("photo", [(37, 91), (101, 33), (1, 1), (500, 7), (67, 67)])
@torch.inference_mode()
def test_odd_photos_through_the_size_rule(name, networks, photo):
    network = networks[name].eval()
    height, width = network.spec.size(*photo, 64)
    prediction = network(**feed(network.spec.needs, 1, height, width))
    assert prediction.alpha.shape == (1, 1, height, width)
    assert prediction.alpha.isfinite().all()
    assert 0 <= prediction.alpha.min() and prediction.alpha.max() <= 1


@every
@torch.inference_mode()
def test_saved_weights_come_back(name, networks, tmp_path):
    from mattecli.zoo import checkpoints

    network = networks[name].eval()
    checkpoints.save(tmp_path / "w.safetensors", network.state_dict())
    inputs = feed(network.spec.needs, 1, 64, 64)
    torch.testing.assert_close(
        zoo.load(name, tmp_path / "w.safetensors")(**inputs).alpha, network(**inputs).alpha, atol=0, rtol=0
    )
    assert checkpoints.recognise(network.state_dict()) == name


@pytest.mark.parametrize("name", [n for n in zoo.names() if zoo.card(n).weights])
def test_shipped_weights_load_and_have_a_card(name):
    card = zoo.card(name)
    if not card.shipped.is_file():
        pytest.skip(f"{card.weights} is not trained yet")
    assert not zoo.load(name).training
    assert card.model_card


def test_an_unknown_name_gets_the_nearest():
    for wrong, near in [("modnett", "modnet"), ("RealTime", "realtime")]:
        with pytest.raises(UsageError, match=near):
            zoo.card(wrong)
    with pytest.raises(UsageError, match="modnet"):
        zoo.create("modnt")


def test_the_table_is_read_without_torch():
    code = "import sys; from mattecli import zoo; [zoo.card(n) for n in zoo.names()]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""What holds for each network of the table, generated from it."""

import io
import re
import subprocess
import sys

import pytest
import torch

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch, Label
from mattecli.zoo import checkpoints
from mattecli.zoo.spec import infer

LARGE, HUGE = 45_000_000, 200_000_000


def run():
    """The networks that these tests run: all but the large ones of a builder that has smaller ones."""
    chosen, builders = [], set()
    for name in sorted(zoo.names(), key=lambda name: zoo.card(name).parameters):
        card = zoo.card(name)
        if card.parameters < LARGE or card.builder not in builders:
            chosen.append(name)
        builders.add(card.builder)
    return chosen


RUN = run()

SMALLEST = list({zoo.card(name).builder: name for name in reversed(RUN)}.values())


def siblings():
    """Of the others those with a choice that no smaller one of their builder has made."""
    chosen, made = [], set()
    for name in sorted(zoo.names(), key=lambda name: zoo.card(name).parameters):
        card = zoo.card(name)
        choices = {(card.builder, *choice) for choice in card.options.items()}
        if name not in RUN and not choices <= made:
            chosen.append(name)
        made |= choices
    return chosen


SIBLINGS = siblings()

UNREACHED = {"mattecli.zoo.ppmatting:PPMatting": r"backbone\.stage4\.2\.fuse_layers\.[12]\."}
"""PP-Matting reads the finest and the coarsest of HRNet's four maps, so the way to the two between has no gradient."""


@pytest.fixture(scope="module", params=RUN)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def network(name):
    """One at a time."""
    return started(name)


def started(name):
    """`name`, its normalisations given statistics that are not the identity."""
    torch.manual_seed(0)
    made = zoo.create(name)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return made


def learned(name):
    """Skips what has no weights."""
    if not zoo.card(name).parameters:
        pytest.skip(zoo.card(name).notes)


def feed(needs, count, height, width):
    """image and what the network needs beside it."""
    generator = torch.Generator().manual_seed(height + width)
    extra = {
        "image": {},
        "trimap": {"trimap": torch.randint(0, 3, (count, 1, height, width), generator=generator) / 2},
        "background": {"background": torch.rand(count, 3, height, width, generator=generator)},
    }[needs]
    return {"image": torch.rand(count, 3, height, width, generator=generator), **extra}


@pytest.mark.parametrize("any_name", zoo.names())
def test_the_card_is_true(any_name):
    card = zoo.card(any_name)
    with torch.device("meta"):
        network = zoo.create(any_name)
    assert sum(p.numel() for p in network.parameters()) == card.parameters
    assert card.inputs == {"image": "image"}.get(network.spec.needs, f"image + {network.spec.needs}")
    assert card.paper and card.code_licence and card.weights_licence
    runs = card.weights or card.address or not card.parameters or "no published weights" in card.notes
    assert runs, "nobody could run this network"


@pytest.mark.parametrize("sibling", [name for name in SIBLINGS if zoo.card(name).parameters > HUGE])
def test_huge_siblings_fit_together(sibling):
    """Shapes, and which parameters the outputs hang on, without values."""
    with torch.device("meta"):
        network = zoo.create(sibling).train()
    inputs = {key: value.to("meta") for key, value in feed(network.spec.needs, 2, 64, 96).items()}
    prediction = network(**inputs)
    assert prediction.alpha.shape == (2, 1, 64, 96)
    sum(plane.sum() for plane in (prediction.alpha, *prediction.maps.values())).backward()
    assert not [key for key, p in network.named_parameters() if p.grad is None]


@pytest.mark.parametrize("sibling", [name for name in SIBLINGS if zoo.card(name).parameters < HUGE])
def test_siblings_learn_and_take_batches_and_odd_photos(sibling):
    """What the tests below ask of the others, smaller."""
    made = started(sibling)
    assert_gradients_reach(sibling, made, 32)
    assert_a_batch_equals_its_pictures(made, 32, 64)
    with torch.inference_mode():
        height, width = made.spec.size(37, 91, 64)
        assert infer(made, **feed(made.spec.needs, 1, height, width)).alpha.isfinite().all()


def test_gradients_reach_every_parameter(name, network):
    learned(name)
    assert_gradients_reach(name, network, 64)


def assert_gradients_reach(name, network, side):
    """The objective's, with two pictures of `side` pixels, each parameter that is not known for having none."""
    network.train()
    inputs = feed(network.spec.needs, 2, side, side)
    alpha = torch.zeros(2, 1, side, side)
    alpha[..., 3 * side // 8 :] = 0.5
    alpha[..., 5 * side // 8 :] = 1
    batch = Batch(
        image=inputs["image"],
        alpha=alpha,
        known=torch.ones_like(alpha),
        label=torch.tensor([Label.MATTE] * 2),
        mask=(alpha > 0.5).float(),
        trimap=alpha,
        foreground=torch.rand(2, 3, side, side),
        background=torch.rand(2, 3, side, side),
    )
    # RVM's refiner has nothing to do at the picture's own size.
    options = {"downsample_ratio": 0.5} if name.startswith("rvm") else {}
    if network.spec.recurrent:  # a memory has nothing to do in the first frame
        options["frames"] = 2
    terms = network.objective(network(**inputs, **options), batch)
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    network.zero_grad()
    sum(terms.values()).backward()
    unreached = UNREACHED.get(zoo.card(name).builder, "$")
    reached = {key: p for key, p in network.named_parameters() if not re.match(unreached, key)}
    # A bias before a normalisation has no effect, so its gradient may be nought but must be there.
    idle = [key for key, p in reached.items() if p.grad is None or not p.grad.isfinite().all()]
    assert not idle
    assert not [key for key, p in reached.items() if p.ndim > 1 and not p.grad.any()]


def test_a_batch_of_two_equals_two_of_one(network):
    assert_a_batch_equals_its_pictures(network, 64, 96)


@torch.inference_mode()
def assert_a_batch_equals_its_pictures(network, height, width):
    network.eval()
    both = feed(network.spec.needs, 2, height, width)
    together = network(**both).alpha
    for index in range(2):
        alone = network(**{key: value[index : index + 1] for key, value in both.items()}).alpha
        torch.testing.assert_close(together[index : index + 1], alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize("photo", [(37, 91), (101, 33), (1, 1), (500, 7), (67, 67)])
@torch.inference_mode()
def test_odd_photos_through_the_size_rule(network, photo):
    network.eval()
    height, width = network.spec.size(*photo, 64)
    prediction = infer(network, **feed(network.spec.needs, 1, height, width))
    assert prediction.alpha.shape == (1, 1, height, width)
    assert prediction.alpha.isfinite().all()
    assert 0 <= prediction.alpha.min() and prediction.alpha.max() <= 1


@torch.inference_mode()
def test_saved_weights_come_back(name, network, tmp_path):
    learned(name)
    network.eval()
    checkpoints.save(tmp_path / "w.safetensors", network.state_dict())
    inputs = feed(network.spec.needs, 1, 64, 64)
    torch.testing.assert_close(
        zoo.load(name, tmp_path / "w.safetensors")(**inputs).alpha, network(**inputs).alpha, atol=0, rtol=0
    )
    assert checkpoints.recognise(network.state_dict(), name) == name


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "w.safetensors"
    checkpoints.save(path, zoo.create("modnet").state_dict())
    return path


@pytest.mark.parametrize("name", [n for n in SMALLEST if n != "modnet" and zoo.card(n).parameters])
def test_a_foreign_file_is_refused(name, foreign):
    with pytest.raises(UsageError, match=f"no checkpoint of {name}: its keys are those of modnet"):
        zoo.load(name, foreign)


class Alpha(torch.nn.Module):
    """A network whose inputs come in the order of `keys`, as ONNX has them."""

    def __init__(self, network, keys):
        super().__init__()
        self.network, self.keys = network, keys

    def forward(self, *planes):
        return self.network(**dict(zip(self.keys, planes, strict=True))).alpha


@pytest.mark.parametrize("name", [n for n in SMALLEST if "Not for ONNX" not in zoo.card(n).notes])
@pytest.mark.filterwarnings("ignore")
@torch.inference_mode()
def test_it_exports_unless_the_card_says_why_not(name):
    pytest.importorskip("onnx")
    network, file = zoo.create(name), io.BytesIO()
    network.refine_mode = "full"  # as bgmv2's card says
    said = re.search(r"Exports with sides that are multiples of (\d+)", zoo.card(name).notes)
    side = int(said[1]) if said else 64
    inputs = feed(network.spec.needs, 1, side, side)
    alpha = Alpha(network, tuple(inputs)).eval()
    torch.onnx.export(alpha, tuple(inputs.values()), file, dynamo=False, opset_version=18)
    assert file.tell() > zoo.card(name).parameters


@pytest.mark.parametrize("name", [n for n in zoo.names() if zoo.card(n).weights])
def test_shipped_weights_load_and_have_a_card(name):
    card = zoo.card(name)
    assert card.included and card.model_card
    assert not zoo.load(name).training


def test_an_unknown_name_gets_the_nearest():
    for wrong, near in [("modnett", "modnet"), ("RealTime", "realtime")]:
        with pytest.raises(UsageError, match=near):
            zoo.card(wrong)
    with pytest.raises(UsageError, match="modnet"):
        zoo.create("modnt")


def test_the_table_is_read_without_torch():
    code = "import sys; from mattecli import zoo; [zoo.card(n) for n in zoo.names()]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The recipe key `encoder`: a fresh network whose encoder has the public ImageNet weights of a local file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.training import check_recipes, read_recipe, train
from mattecli.training.encoder_start import start_encoder
from mattecli.training.recipe import Recipe
from mattecli.zoo.encoders.densenet import DenseNet121
from mattecli.zoo.encoders.hrnet import HRNet
from mattecli.zoo.encoders.mobilenetv2 import MobileNetV2
from mattecli.zoo.encoders.mobilenetv3 import MobileNetV3Large
from mattecli.zoo.encoders.resnet import ResNet
from mattecli.zoo.encoders.swin import Swin
from mattecli.zoo.encoders.vgg import VGG16
from tests.training.making import small

CROWD = """
name = "crowd"
kind = "mattes"
root = "crowd"
composed = 1.0
scenery = 1.0
"""


@pytest.fixture
def plan(tmp_path: Path) -> Recipe:
    for kind in ("images", "alphas"):
        (tmp_path / "crowd" / kind).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / f"crowd/{kind}/0.png"), np.full((80, 80, 3), 255, np.uint8))
    start = f'encoder = "{tmp_path}/imagenet.pth"\nlearns = ["f_branch.*"]'
    (tmp_path / "recipe.toml").write_text(small(tmp_path, "modnet", CROWD, start=start))
    return read_recipe(str(tmp_path / "recipe.toml"))


def publish(encoder: nn.Module, plan: Recipe) -> dict[str, torch.Tensor]:
    """Write what torchvision would publish of this encoder."""
    tensors = {key: value for key, value in encoder.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(tensors | {"fc.weight": torch.rand(3, 3)}, plan.encoder)
    return tensors


def test_training_starts_from_the_file_and_resumes_without_reading_it(plan: Recipe) -> None:
    public = publish(MobileNetV2((18,)), plan)
    check_recipes([plan])
    train(plan)
    state = torch.load(plan.output / "last.ckpt", weights_only=True)["model"]
    backbone = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    assert all(torch.equal(backbone[key], value) for key, value in public.items())
    Path(plan.encoder).write_bytes(b"no weights any more")
    longer = dataclasses.replace(plan, optimizer=dataclasses.replace(plan.optimizer, steps=2))
    check_recipes([longer], resume=True)
    train(longer, resume=True)
    assert torch.load(plan.output / "last.ckpt", weights_only=True)["step"] == 2


def test_a_file_of_another_encoder_is_refused_before_any_work(plan: Recipe) -> None:
    publish(ResNet(18), plan)
    with pytest.raises(UsageError, match=r"imagenet\.pth: These are no ImageNet weights of this MobileNetV2: they"):
        check_recipes([plan])
    with pytest.raises(UsageError, match="no ImageNet weights"):
        train(plan)
    assert not plan.output.exists()


class Network(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(1, 1), encoder])


ENCODERS = {
    "densenet": DenseNet121,
    "hrnet": lambda: HRNet(18),
    "mobilenetv2": lambda: MobileNetV2((18,)),
    "mobilenetv3": lambda: MobileNetV3Large((16,)),
    "resnet": lambda: ResNet(18),
    "swin": Swin,
    "vgg": VGG16,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_with_public_weights_starts(plan: Recipe, name: str) -> None:
    public, encoder = publish(ENCODERS[name](), plan), ENCODERS[name]()
    start_encoder(Network(encoder), plan)
    own = encoder.state_dict()
    published = [key for key in public if not (name == "swin" and key.startswith("norm"))]
    assert all(torch.equal(own[key], public[key]) for key in published)


@pytest.mark.parametrize(
    ("encoder", "larger"),
    [
        (ResNet(18), {"layer2.2.conv1.weight": torch.rand(128, 128, 3, 3)}),
        (Swin(), {"layers.2.blocks.6.norm1.weight": torch.rand(384)}),
        (ResNet(18, norm=lambda width: nn.GroupNorm(32, width)), {"bn1.running_mean": torch.rand(64)}),
    ],
    ids=["a deeper ResNet", "a deeper Swin", "another norm"],
)
def test_a_file_that_holds_more_is_of_another_encoder(plan: Recipe, encoder: nn.Module, larger: dict) -> None:
    torch.save(encoder.state_dict() | larger, plan.encoder)
    with pytest.raises(UsageError, match=f"they also have {next(iter(larger))}"):
        start_encoder(Network(encoder), plan)


@pytest.mark.parametrize("name", ["realtime", "gca", "closed-form"])
def test_a_network_without_such_an_encoder_is_refused(plan: Recipe, name: str) -> None:
    publish(ResNet(18), plan)
    with pytest.raises(UsageError, match=f"{name} has no encoder with public ImageNet weights: leave the key out"):
        start_encoder(zoo.create(name), dataclasses.replace(plan, model=name))

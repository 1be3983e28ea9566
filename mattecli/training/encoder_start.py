"""A training that starts from the public ImageNet weights of its network's encoder."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from mattecli.errors import UsageError
from mattecli.training.recipe import Recipe
from mattecli.zoo import checkpoints
from mattecli.zoo.encoders import imagenet, swin
from mattecli.zoo.encoders.densenet import DenseNet121
from mattecli.zoo.encoders.hrnet import HRNet
from mattecli.zoo.encoders.mobilenetv2 import MobileNetV2
from mattecli.zoo.encoders.mobilenetv3 import MobileNetV3Large
from mattecli.zoo.encoders.resnet import ResNet
from mattecli.zoo.encoders.vgg import VGG16

PUBLIC = (DenseNet121, HRNet, MobileNetV2, MobileNetV3Large, ResNet, swin.Swin, VGG16)
"""Encoders whose ImageNet weights are published under the names that they have here."""


def start_encoder(network: nn.Module, recipe: Recipe) -> None:
    """Copy the weights in the file `recipe.encoder` into the encoder of `network`.

    Raises `UsageError` where the network's encoder has no public weights or the file is of another encoder, and
    `InputError` where it cannot be read.
    """
    encoder = next((module for module in network.modules() if isinstance(module, PUBLIC)), None)
    if encoder is None:
        raise UsageError(
            f"encoder names {recipe.encoder}, but {recipe.model} has no encoder with public ImageNet weights: "
            "leave the key out."
        )
    tensors = checkpoints.read(Path(recipe.encoder))
    try:
        if isinstance(encoder, swin.Swin):
            swin.start(encoder, tensors)
        else:
            imagenet.start(encoder, tensors)
    except UsageError as error:
        raise UsageError(f"{recipe.encoder}: {error}") from error

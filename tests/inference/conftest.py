"""A network whose alpha is known: the red of the picture."""

import pytest
import torch
from torch import nn

from mattecli.zoo.spec import Prediction, Spec, long_side


class Red(nn.Module):
    """alpha is the red channel, at any size: slope (1, 0, 0), intercept 0. `guides` False: alpha alone."""

    spec = Spec(size=long_side(64, 8))

    def __init__(self, guides=True):
        super().__init__()
        self.guides = guides
        self.seen = nn.Parameter(torch.zeros(1))

    def forward(self, image, *, trimap=None, background=None, state=None):
        alpha = image[:, :1]
        if not self.guides:
            return Prediction(alpha)
        slope = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, *image.shape[-2:])
        return Prediction(alpha, maps={"slope": slope, "intercept": torch.zeros_like(alpha)})


@pytest.fixture
def red():
    return Red()


@pytest.fixture
def red_without_guides():
    return Red(guides=False)

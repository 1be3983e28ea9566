"""Networks whose alpha is known: the red of the picture, its mean with the last one, its distance from a plate."""

import pytest
import torch
from torch import nn

from mattecli.zoo.spec import Prediction, Spec, long_side
from tests.networks import Red


class Remembering(nn.Module):
    """alpha is the mean of this frame's red and the last frame's alpha, 0 at the start; what it was given is kept."""

    spec = Spec(size=long_side(64, 8), recurrent=True)

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(3, 3, 1, bias=False)
        self.fine.weight.data = torch.eye(3)[..., None, None]
        self.mean = nn.Conv2d(4, 1, 1, bias=False)
        self.mean.weight.data = torch.tensor([0.5, 0, 0, 0.5]).view(1, 4, 1, 1)
        self.given = []

    def forward(self, image, *, trimap=None, background=None, state=None):
        self.given.append(state)
        last = torch.zeros_like(image[:, :1]) if state is None else state[0]
        alpha = self.mean(torch.cat((self.fine(image), last), 1))
        return Prediction(alpha, state=(alpha,))


class Difference(nn.Module):
    """alpha is how far the picture's red is from the plate's."""

    spec = Spec(size=long_side(64, 8), needs="background")

    def forward(self, image, *, trimap=None, background=None, state=None):
        return Prediction((image - background)[:, :1].abs())


@pytest.fixture
def remembering():
    return Remembering()


@pytest.fixture
def difference():
    return Difference()


@pytest.fixture
def red():
    return Red()


@pytest.fixture
def red_without_guides():
    return Red(guides=False)

"""Networks whose alpha is known."""

import torch
from torch import nn

from mattecli.zoo.spec import Prediction, Spec, long_side

SMALL = long_side(64, 8)


class Red(nn.Module):
    """alpha is the red channel, at any size: slope (1, 0, 0), intercept 0. `guides` False: alpha alone."""

    spec = Spec(size=SMALL)

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


class Even(nn.Module):
    """The same alpha everywhere, or the plate's red where it is given one."""

    def __init__(self, alpha=0.0, needs="image", size=SMALL):
        super().__init__()
        self.spec = Spec(size=size, needs=needs)
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, image, *, trimap=None, background=None, state=None):
        alpha = torch.zeros_like(image[:, :1]) + self.alpha
        return Prediction(alpha if background is None else background[:, :1])

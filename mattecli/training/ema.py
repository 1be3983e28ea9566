"""Averaged weights: what is validated and exported."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Exponential moving average of a network's parameters and running statistics.

    The decay warms up as min(decay, (1 + n) / (10 + n)) at step n. `network` holds the average, in eval
    mode. Whole-number buffers (batch counters) are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        averaged, current = [], []
        for mean, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                averaged.append(mean)
                current.append(value.detach())
            else:
                mean.copy_(value)
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(averaged, current, step)  # type: ignore[no-untyped-call]

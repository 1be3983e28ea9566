"""Matte Label Blending (Kim et al. 2024, arXiv 2404.00921): fine boundaries from few mattes on many masks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch, Label
from mattecli.mixing.composition import composite

if TYPE_CHECKING:
    from mattecli.zoo.spec import Prediction


def blend(teacher: Prediction, batch: Batch, gate: float = 0.03) -> Batch:
    """Replace the targets of MASK samples by M* = α′·M′ + (1 − α′)·S, and those of unlabelled ones by M′.

    M′ `[N, 1, H, W]` is the teacher's matte, α′ its boundary map, S the mask: the teacher, which saw only mattes,
    decides the boundary, and the mask everything else. `gate` keeps α′ to a band round the mask's edge whose
    half-width is that share of the shorter side, so that a boundary imagined elsewhere cannot enter. Blended samples
    are known everywhere, pseudo-labels only where M′ is nearly 0 or 1 or α′ says boundary; samples of other labels
    are returned as they are.
    """
    if teacher.boundary is None or batch.mask is None:
        raise UsageError("Matte Label Blending needs a teacher with a boundary head, such as realtime, and masks.")
    trust = teacher.boundary * edge_band(batch.mask, max(1, round(gate * min(batch.mask.shape[-2:]))))
    blended = composite(trust, teacher.alpha, batch.mask)
    sure = (teacher.alpha < 0.05) | (teacher.alpha > 0.95) | (teacher.boundary > 0.5)
    is_mask, is_none = ((batch.label == label).view(-1, 1, 1, 1) for label in (Label.MASK, Label.NONE))
    return replace(
        batch,
        alpha=blended.where(is_mask, teacher.alpha.where(is_none, batch.alpha)),
        known=batch.known.new_ones(()).where(is_mask, sure.to(batch.known.dtype).where(is_none, batch.known)),
    )


def edge_band(mask: Tensor, radius: int) -> Tensor:
    """1 within `radius` pixels (square window) of the edge of a binary mask `[N, 1, H, W]`, else 0."""
    side = 2 * radius + 1
    grown = F.max_pool2d(mask, side, 1, radius)
    shrunk = -F.max_pool2d(-mask, side, 1, radius)
    return (grown != shrunk).to(mask.dtype)

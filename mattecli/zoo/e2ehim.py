"""E2E-HIM: End-to-End Human Instance Matting (IEEE T-CSVT 2023, arXiv 2403.01510), with the released encoder Swin-T.

Three networks by the paper's names, in `zoo.e2ehim_parts`:

    perception   stem, Swin-T and 20 learned queries: a latent code for each person, and whether there is one
    guidance     spatial attention and semantics embedding make one guidance for all people from their codes
    matting      U-Net on the guidance; filters made from each code read that person's alpha and trimap

The released code takes one picture of 640×640; here any size and batch go, and 640×640 gives the same. Traps: the
share of each class is put behind the code; the softmax of the spatial attention has a background of its own; the last
block is linear, for its leaky ReLUs have slope 1. Modules carry the names of the official file, which also holds two
convolutions that nothing calls.

No training code was released and the losses stand in no source this was written from: `objective` is a proposal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch, Label
from mattecli.zoo import losses
from mattecli.zoo.e2ehim_parts import QUERIES, GeneralPerception, InstanceMatting, UnitedGuidance
from mattecli.zoo.encoders.imagenet import normalise
from mattecli.zoo.spec import Prediction, Spec

REFERENCE = 640
UNKNOWN, FOREGROUND = 1, 2
"""Classes of a person's trimap; 0 is what does not belong to them."""

NOBODY = 0.1
"""How little a query that found nobody weighs in the class loss."""

REACH = 10 / 640
"""How far a person's unknown region reaches from the edge, as a share of the longer side."""


def published_size(height: int, width: int, size: int | None = None) -> tuple[int, int]:
    """640×640 whatever the photo's proportions. `size` replaces 640."""
    side = size or REFERENCE
    return side, side


class E2EHIM(nn.Module):
    """See the module's docstring. Any size."""

    spec = Spec(size=published_size, instances=True)

    def __init__(self) -> None:
        super().__init__()
        self.perception = GeneralPerception()
        self.guidance = UnitedGuidance()
        self.matting = InstanceMatting()

    @staticmethod
    def own_key(key: str) -> str:
        """Our name of an official key: which of the three networks it belongs to goes before."""
        network = _OWNERS.get(key.partition(".")[0])
        if network is None:
            return key
        return f"{network}.{key.replace('.in_conv1.', '.layers.').replace('.gn.', '.')}"

    @staticmethod
    def own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`tensors` without the two convolutions that the released code never calls."""
        return {key: value for key, value in tensors.items() if not key.startswith(("conv1.", "conv2."))}

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] → alpha `[N, 1, H, W]` of all people and instances `[N, 20, H, W]`.

        An instance is a query's alpha where its trimap is unknown, 1 where that says foreground, and all zeros where
        the query found nobody. The alphas of all are added, at most to 1. The authors drop instances of less than
        1000 pixels of the photo, which whoever knows the photo has to do.

        Maps, by query: `person_logits` `[N, 20, 2]` (nobody, person); `alpha` `[N, 20, H, W]` in [0, 1]; `trimap`
        `[N, 60, H, W]`, logits of background, unknown, foreground; at 1/8 the logits `segmentation` `[N, 20, h, w]`,
        `attention_1` and `attention_2` `[N, 21, h, w]`, the last for the background.
        """
        x = normalise(image)
        features, codes, logits = self.perception(x)
        guided = self.guidance(features, codes)
        raw, trimaps = (plane.float() for plane in self.matting(x, features, guided, codes))
        alpha = raw.clamp(0, 1)
        kind = _by_query(trimaps).argmax(2)
        instances = torch.where(kind == UNKNOWN, alpha, (kind == FOREGROUND).to(alpha.dtype))
        instances = instances * (logits[..., 1] > logits[..., 0])[..., None, None]
        return Prediction(
            instances.sum(1, keepdim=True).clamp(max=1),
            instances=instances,
            maps={
                "person_logits": logits.float(),
                "alpha": alpha,
                "trimap": trimaps,
                "segmentation": guided.segmentation.float(),
                "attention_1": guided.attention[0].float(),
                "attention_2": guided.attention[1].float(),
            },
        )

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """A proposal in the manner of DETR and of matting, terms and weights; the published losses are unknown to us.

        People and queries are matched one to one (`match`). `person` (2): cross-entropy, a tenth for queries that
        found nobody. `attention` (1 each): cross-entropy over people and background. Then of those matched:
        `segmentation` (5): binary cross-entropy, and `dice` (5). `trimap` (1): cross-entropy. `alpha` (1): absolute
        error in the unknown region, a tenth of it elsewhere; `laplacian` (1) in the unknown region.

        `batch.instances` `[N, K, H, W]` are people's alphas, zeros for none; without them a picture holds one person.
        Samples without a mask or matte teach only that no attention goes to people where they are known not to be.
        The last five are left out where nobody is matched. Raises `UsageError` without scipy.
        """
        maps = prediction.maps
        people = batch.alpha if batch.instances is None else batch.instances
        size = maps["segmentation"].shape[-2:]
        masks = F.interpolate((people > 0.5).to(people.dtype), size=size, mode="area")
        known = (F.interpolate(batch.known, size=size, mode="area") == 1).to(people.dtype)
        told = batch.label >= Label.MASK
        there = (masks * known).flatten(2).any(2) & told[:, None]
        pairs = match(maps["person_logits"], maps["segmentation"], masks, known, there)
        of_person = torch.full((len(people), people.shape[1] + 1), QUERIES, device=people.device)
        of_person[pairs.sample, pairs.person] = pairs.query
        background = 1 - masks.sum(1, keepdim=True).clamp(max=1)
        nearest = torch.cat((masks, background), 1).argmax(1)
        attended = of_person.gather(1, nearest.flatten(1)).view_as(nearest)
        terms = {
            "person": 2 * _person(maps["person_logits"], pairs, told),
            "attention": _cross_entropy(maps["attention_1"], attended, known)
            + _cross_entropy(maps["attention_2"], attended, known),
        }
        if not len(pairs.sample):
            return terms
        return terms | _matched(maps, pairs, people, masks, batch.known, known)


_OWNERS = {
    part: network
    for network, parts in {
        "perception": "pre_conv res1 ds1 trans toplayer decoder1 query_embed globalfcnum",
        "guidance": "c32m c16m c8m globalfc globalfck c1t1 c1t2 otherwright1 otherwright2 g1 g2",
        "matting": "c8d c8d2 c8d3 c16 c16d c32 c32b pam c16u c8 c4 c2 c1 globalfc2",
    }.items()
    for part in parts.split()
}
"""Which network an official key's first part belongs to."""


@dataclass(frozen=True)
class Pairs:
    """Which person of which sample a query is to find, indices `[M]`."""

    sample: Tensor
    query: Tensor
    person: Tensor


@torch.no_grad()
def match(logits: Tensor, segmentation: Tensor, masks: Tensor, known: Tensor, there: Tensor) -> Pairs:
    """People and queries one to one at the least cost: 2·(1 − p(person)) + 5·cross-entropy + 5·(1 − Dice).

    `logits` `[N, 20, 2]`, `segmentation` logits `[N, 20, h, w]`, `masks` `[N, K, h, w]`, `known` `[N, 1, h, w]`;
    `there` `[N, K]` says which of the K are people. Of more than 20 the worst are left out.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise UsageError("e2ehim learns with scipy, which isn't installed: pip install 'mattecli[train]'.") from error

    pairs: list[tuple[int, int, int]] = []
    for sample in range(len(logits)):
        people = there[sample].nonzero()[:, 0]
        weight = known[sample].flatten()
        found, mask = segmentation[sample].flatten(1), masks[sample, people].flatten(1) * weight
        entropy = ((F.softplus(found) * weight).sum(1)[:, None] - found @ mask.T) / weight.sum().clamp(min=1)
        share = found.sigmoid() * weight
        overlap = 2 * share @ mask.T + 1
        dice = overlap / (share.square().sum(1)[:, None] + mask.square().sum(1) + 1)
        cost = 2 * (1 - logits[sample].softmax(1)[:, 1:]) + 5 * entropy + 5 * (1 - dice)
        queries, columns = linear_sum_assignment(cost.cpu().numpy())
        pairs += [(sample, int(query), int(people[column])) for query, column in zip(queries, columns, strict=True)]
    sample_query_person = torch.tensor(pairs, dtype=torch.long, device=logits.device).view(-1, 3)
    return Pairs(*sample_query_person.unbind(1))


def _person(logits: Tensor, pairs: Pairs, told: Tensor) -> Tensor:
    """Cross-entropy of who found somebody, in samples whose people are told."""
    target = torch.zeros(logits.shape[:2], dtype=torch.long, device=logits.device)
    target[pairs.sample, pairs.query] = 1
    weight = torch.where(target == 1, 1, NOBODY) * told[:, None]
    error = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    return (error * weight).sum() / weight.sum().clamp(min=NOBODY)


def _cross_entropy(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    return losses.mean(F.cross_entropy(logits, target, reduction="none")[:, None], known)


def _matched(
    maps: dict[str, Tensor], pairs: Pairs, people: Tensor, masks: Tensor, known: Tensor, known_small: Tensor
) -> dict[str, Tensor]:
    """The terms of matched queries, each seen as a picture `[M, 1, H, W]` of its own."""

    def queried(name: str) -> Tensor:
        return maps[name][pairs.sample, pairs.query, None]

    alpha, mask = people[pairs.sample, pairs.person, None], masks[pairs.sample, pairs.person, None]
    known, known_small = known[pairs.sample], known_small[pairs.sample]
    trimap = _trimap(alpha)
    logits = _by_query(maps["trimap"])[pairs.sample, pairs.query]
    unknown = (trimap == UNKNOWN).to(alpha.dtype) * known
    segmentation, found = queried("segmentation"), queried("alpha")
    return {
        "segmentation": 5 * losses.binary_cross_entropy(segmentation, mask, known_small),
        "dice": 5 * losses.dice(segmentation.sigmoid(), mask, known_small),
        "trimap": _cross_entropy(logits, trimap[:, 0], known),
        "alpha": losses.l1(found, alpha, unknown) + 0.1 * losses.l1(found, alpha, known - unknown),
        "laplacian": losses.laplacian(found, alpha, unknown),
    }


def _by_query(trimaps: Tensor) -> Tensor:
    """`[N, 60, H, W]` → `[N, 20, 3, H, W]`."""
    return trimaps.view(len(trimaps), QUERIES, 3, *trimaps.shape[2:])


def _trimap(alpha: Tensor) -> Tensor:
    """0 background, 1 unknown, 2 foreground, of alpha `[M, 1, H, W]`: unknown within a square `REACH` of the edge."""
    reach = max(1, round(REACH * max(alpha.shape[-2:])))
    most = F.max_pool2d(alpha, 2 * reach + 1, stride=1, padding=reach)
    least = -F.max_pool2d(-alpha, 2 * reach + 1, stride=1, padding=reach)
    return torch.where(least > 0.95, FOREGROUND, torch.where(most < 0.05, 0, UNKNOWN))

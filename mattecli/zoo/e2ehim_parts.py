"""The three networks of E2E-HIM (`zoo.e2ehim`): general perception, united guidance, instance matting.

`C/s` in the comments is a map of C channels at 1/s of the image's sides.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.zoo.encoders.swin import Swin

QUERIES = 20
"""People at most."""

LATENT, PERSON, CODE = 256, 2, 258
"""A latent code's length, the classes (0 nobody, 1 a person) whose shares are put behind it, and both together."""

DROPOUT = 0.1

HALF = 128
"""Channels of each of the two guidance maps."""

DETAIL, TRIMAP = 64, 256
"""Channels of the maps that an instance's filters read alpha and trimap from."""


class Features(NamedTuple):
    """What general perception makes of the image, by denominator of the scale."""

    x2: Tensor
    x4: Tensor
    swin4: Tensor
    swin8: Tensor
    swin16: Tensor
    swin32: Tensor


class Guided(NamedTuple):
    """What united guidance gives: the map for matting (532/8), the map at 1/16 (512), the logits of the paper's maps.

    `attention` are two of `[N, 21, h, w]`, the last channel the background's; `segmentation` `[N, 20, h, w]`.
    """

    guidance: Tensor
    x16: Tensor
    attention: tuple[Tensor, Tensor]
    segmentation: Tensor


class GeneralPerception(nn.Module):
    """Convolutional stem, Swin-T on its map at 1/4, and a DETR decoder that finds a latent code for each person."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_conv = nn.Sequential(*_layers(3, 32, 3, 16, stride=2), *_layers(32, 32, 3, 16))
        self.res1 = nn.Sequential(*_layers(32, 64, 3, 32))
        self.ds1 = nn.Sequential(*_layers(64, 128, 3, 32, stride=2))
        self.trans = Swin(inputs=128, patch=1)
        self.toplayer = nn.Sequential(*_layers(768, LATENT, 1, 32))
        self.query_embed = nn.Embedding(QUERIES, LATENT)
        self.decoder1 = LatentDecoder()
        self.globalfcnum = MLP(LATENT, 128, PERSON)

    def forward(self, x: Tensor) -> tuple[Features, Tensor, Tensor]:
        """Maps, codes `[N, 20, 258]` and their class logits `[N, 20, 2]` from a normalised image."""
        x2 = self.res1(self.pre_conv(x))
        x4 = self.ds1(x2)
        features = Features(x2, x4, *self.trans(x4))
        memory = self.toplayer(features.swin32).flatten(2).transpose(1, 2).contiguous()
        latent = self.decoder1(self.query_embed.weight, memory)
        logits = self.globalfcnum(latent)
        return features, torch.cat((latent, logits.softmax(-1)), -1), logits


class LatentDecoder(nn.Module):
    """DETR's decoder (Carion et al. 2020) with its norms after, queries as positions, none in what it looks at."""

    def __init__(self, depth: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LatentLayer() for _ in range(depth))
        self.norm = nn.Sequential(nn.LayerNorm(LATENT))

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        queries = queries.expand(len(memory), -1, -1)
        latent = torch.zeros_like(queries)
        for layer in self.layers:
            latent = layer(latent, queries, memory)
        y: Tensor = self.norm(latent)
        return y


class LatentLayer(nn.Module):
    """Attention among the codes, attention to the picture, two linear layers."""

    def __init__(self, hidden: int = 2048) -> None:
        super().__init__()
        self.self_attn, self.multihead_attn = Attention(), Attention()
        self.linear1, self.linear2 = nn.Linear(LATENT, hidden), nn.Linear(hidden, LATENT)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(LATENT) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, latent: Tensor, queries: Tensor, memory: Tensor) -> Tensor:
        placed = latent + queries
        latent = self.norm1(latent + self.dropout(self.self_attn(placed, placed, latent)))
        latent = self.norm2(latent + self.dropout(self.multihead_attn(latent + queries, memory, memory)))
        inner = self.linear2(self.dropout(F.relu(self.linear1(latent))))
        y: Tensor = self.norm3(latent + self.dropout(inner))
        return y


class Attention(nn.Module):
    """Multi-head attention with the key names of PyTorch's.

    (That one's sums depend in the last bits on whether its weights ask for gradients.)
    """

    def __init__(self, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * LATENT, LATENT)))
        # The first layer's values are zeros, so that it would learn nothing without biases.
        self.in_proj_bias = nn.Parameter(nn.init.normal_(torch.empty(3 * LATENT), std=0.02))
        self.out_proj = nn.Linear(LATENT, LATENT)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = zip(self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        projected = [F.linear(x, *part) for x, part in zip((query, key, value), parts, strict=True)]
        query, key, value = (x.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in projected)
        y = F.scaled_dot_product_attention(query, key, value, dropout_p=DROPOUT if self.training else 0)
        z: Tensor = self.out_proj(torch.cat(y.unbind(1), -1))
        return z


class UnitedGuidance(nn.Module):
    """One guidance for all people: where they are (spatial attention) and who they are (semantics embedding).

    Its filters `globalfc` read each code's two attention maps and its segmentation from the pixel feature P (256/8);
    the softmax of an attention goes over people and background, and weighs their embeddings `globalfck`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.c32m = nn.Sequential(*_layers(768, 512, 1, 16))
        self.c16m = nn.Sequential(*_layers(512 + 384, 512, 3, 16), *_residuals(512, 2))
        self.c8m = nn.Sequential(
            *_layers(512 + 192, LATENT, 3, 16), *_residuals(LATENT, 2), *_layers(LATENT, LATENT, 1, 16)
        )
        self.globalfc = MLP(CODE, 512, 512, 3 * (LATENT + 1))
        self.globalfck = MLP(CODE, 2 * HALF)
        self.c1t1, self.c1t2 = nn.Conv2d(LATENT, 1, 1), nn.Conv2d(LATENT, 1, 1)
        self.otherwright1 = nn.Sequential(nn.Conv2d(LATENT, HALF, 1))
        self.otherwright2 = nn.Sequential(nn.Conv2d(LATENT, HALF, 1))
        self.g1, self.g2 = nn.GroupNorm(32, HALF), nn.GroupNorm(32, HALF)

    def forward(self, features: Features, codes: Tensor) -> Guided:
        x16 = self.c16m(_beside(self.c32m(features.swin32), features.swin16))
        pixel = self.c8m(_beside(x16, features.swin8))
        sizes = (LATENT, LATENT, 1, 1, LATENT, 1)
        first, second, first_bias, second_bias, filters, bias = self.globalfc(codes).split(sizes, -1)
        embedding = self.globalfck(codes).split(HALF, -1)
        attention = (
            torch.cat((_filtered(pixel, first, first_bias), self.c1t1(pixel)), 1),
            torch.cat((_filtered(pixel, second, second_bias), self.c1t2(pixel)), 1),
        )
        guides = (
            _embedded(attention[0], embedding[0], self.otherwright1(pixel), self.g1),
            _embedded(attention[1], embedding[1], self.otherwright2(pixel), self.g2),
        )
        segmentation = _filtered(pixel, filters, bias)
        return Guided(torch.cat((*guides, pixel, segmentation.sigmoid()), 1), x16, attention, segmentation)


def _embedded(attention: Tensor, people: Tensor, background: Tensor, norm: nn.Module) -> Tensor:
    """Embeddings, each under `norm` (a person's is the same at every place), summed as `attention` weighs them."""
    share = attention.softmax(1)
    people = norm(people.flatten(0, 1)).view(people.shape)
    y: Tensor = torch.einsum("nqc,nqhw->nchw", people, share[:, :-1]) + norm(background) * share[:, -1:]
    return y


class InstanceMatting(nn.Module):
    """From guidance, features and codes to each person's alpha and trimap."""

    def __init__(self) -> None:
        super().__init__()
        self.c8d = nn.Sequential(*_layers(2 * HALF + LATENT + QUERIES, 512, 1, 32), *_residuals(512, 2))
        self.c8d2 = nn.Sequential(*_layers(512, 512, 3, 32, stride=2))
        self.c16 = nn.Sequential(*_leaky(512 + 512 + 384, 512, 1), *_residuals(512, 2))
        self.c16d = nn.Sequential(*_leaky(512, 768, 3, stride=2))
        self.c32 = nn.Sequential(*_leaky(768 + 768, 1024, 1), *_residuals(1024, 1))
        self.pam = PositionAttention(1024, 256)
        self.c32b = nn.Sequential(*_leaky(1024, 1024, 1), *_residuals(1024, 2))
        self.c16u = nn.Sequential(*_leaky(512 + 1024 + 384, 512, 1), *_residuals(512, 2))
        self.c8 = nn.Sequential(*_leaky(512 + 192 + 512, 512, 1), *_residuals(512, 2))
        self.c8d3 = nn.Sequential(*_layers(512, 512, 3, 32), nn.Dropout(0.1), *_layers(512, TRIMAP, 3, 32))
        self.c4 = nn.Sequential(*_leaky(512 + 96 + 128, 256, 3), *_residuals(256, 3))
        self.c2 = nn.Sequential(*_leaky(256 + 64, 128, 3), *_leaky(128, 128, 3))
        # The released code means a leaky ReLU after each, but gives it the slope 1.
        straight = (nn.Conv2d(128 + 3, 96, 3, padding=1), nn.Identity(), nn.Conv2d(96, DETAIL, 3, padding=1))
        self.c1 = nn.Sequential(*straight)
        self.globalfc2 = MLP(CODE, 512, 512, 3 * TRIMAP + 3 + DETAIL + 1)

    def forward(self, image: Tensor, features: Features, guided: Guided, codes: Tensor) -> tuple[Tensor, Tensor]:
        """alpha `[N, 20, H, W]`, not clamped, and trimap logits `[N, 60, H, W]`, three for each person."""
        x8 = self.c8d(guided.guidance)
        x16 = self.c16(torch.cat((self.c8d2(x8), guided.x16, features.swin16), 1))
        x32 = self.c32(torch.cat((self.c16d(x16), features.swin32), 1))
        x32 = self.c32b(self.pam(x32))
        u16 = self.c16u(torch.cat((x16, _up(x32, x16), features.swin16), 1))
        u8 = self.c8(_beside(u16, features.swin8, x8))
        u4 = self.c4(_beside(u8, features.swin4, features.x4))
        detail = self.c1(_beside(self.c2(_beside(u4, features.x2)), image))
        sizes = (3 * TRIMAP, 3, DETAIL, 1)
        trimap_filters, trimap_bias, filters, bias = self.globalfc2(codes).split(sizes, -1)
        trimap_filters = trimap_filters.reshape(len(codes), 3 * QUERIES, TRIMAP)
        trimap = _filtered(self.c8d3(u8), trimap_filters, trimap_bias.flatten(1)[..., None])
        return _filtered(detail, filters, bias), _up(trimap, image)


class PositionAttention(nn.Module):
    """Every place looks at all (Fu et al. 2019), weighed by a learned `gamma`.

    It begins at 0.1 and not, as theirs, at 0, so that the convolutions learn from the first step.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, inner, 1)
        self.key_conv = nn.Conv2d(channels, inner, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            conv(x).flatten(2).transpose(1, 2)[:, None] for conv in (self.query_conv, self.key_conv, self.value_conv)
        )
        y = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.gamma * y[:, 0].transpose(1, 2).reshape(x.shape)


class Residual(nn.Module):
    """1×1 to a quarter of the channels, 3×3, 1×1 back, added; its norms have 32 channels a group."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.layers = nn.Sequential(
            *_layers(channels, inner, 1, inner // 32),
            *_leaky(inner, inner, 3, inner // 32),
            nn.Conv2d(inner, channels, 1),
            nn.GroupNorm(channels // 32, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.layers(x), 0.01)


class MLP(nn.Module):
    """Linear layers of the given widths with ReLUs between."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        y: Tensor = last(x)
        return y


def _layers(inputs: int, outputs: int, kernel: int, groups: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    return [convolution, nn.GroupNorm(groups, outputs), nn.ReLU(inplace=True)]


def _leaky(inputs: int, outputs: int, kernel: int, groups: int = 32, stride: int = 1) -> list[nn.Module]:
    return [*_layers(inputs, outputs, kernel, groups, stride)[:2], nn.LeakyReLU(0.01, inplace=True)]


def _residuals(channels: int, count: int) -> list[nn.Module]:
    return [Residual(channels) for _ in range(count)]


def _filtered(x: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
    """Every sample's own 1×1 filters: `[N, C, H, W]`, `[N, Q, C]` and `[N, Q, 1]` → `[N, Q, H, W]`."""
    return torch.baddbmm(bias, filters, x.flatten(2)).view(len(x), -1, *x.shape[2:])


def _up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _beside(x: Tensor, *skips: Tensor) -> Tensor:
    return torch.cat((_up(x, skips[0]), *skips), 1)

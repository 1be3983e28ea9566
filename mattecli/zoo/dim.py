"""DIM: Deep Image Matting (Xu et al., CVPR 2017), as the port huochaitiantang/pytorch-deep-image-matting has it.

    encoder      VGG16 on image and trimap, four channels; five max pools that remember what they took
    bottleneck   conv6_1, deconv6_1 (512 channels at 1/32)
    decoder      five times: unpool to where the maximum came from, 5×5 convolution; then a 5×5 convolution to alpha
    refinement   three 3×3 convolutions on image and alpha give a residual, added before the sigmoid (section 4.2)

Adobe published no weights; the port's differ from the paper in the bottleneck (a 7×7 convolution to 4096 channels
there) and, in its version 1.5, in skips: each unpooled map is added to the encoder's of its size. Skips have no
parameters, so files with and without them look alike; take the network that the file's name tells. Before September
2019 conv6_1 was 1×1, which is a 3×3 kernel with a ring of zeros (`DIM.own_tensors`).

The trimap enters as its byte over 255, so that unknown is 128/255 and not quite one half.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.mixing.batch import Batch
from mattecli.zoo import trimap as trimaps
from mattecli.zoo.encoders import vgg
from mattecli.zoo.encoders.imagenet import normalise
from mattecli.zoo.spec import Prediction, Spec, check_sides

REFERENCE, MULTIPLE = 1600, 32
UNKNOWN = 128 / 255
DECODER = (("deconv5_1", 512), ("deconv4_1", 256), ("deconv3_1", 128), ("deconv2_1", 64), ("deconv1_1", 64))


def published_size(height: int, width: int, size: int | None = None) -> tuple[int, int]:
    """The port's "whole" strategy: each side cut to a multiple of 32 and to at most 1600, whatever the other is.

    `size` replaces 1600.
    """
    reference = size or REFERENCE
    height, width = (max(MULTIPLE, min(side, reference) // MULTIPLE * MULTIPLE) for side in (height, width))
    return height, width


class DIM(nn.Module):
    """See the module's docstring. Image sides must be multiples of 32.

    Without `refine` this is the network of stages 0 and 1, with it that of stages 2 and 3.
    """

    spec = Spec(size=published_size, needs="trimap")

    def __init__(self, skips: bool = False, refine: bool = False) -> None:
        super().__init__()
        self.skips, self.refine = skips, refine
        self.encoder = vgg.VGG16(inputs=4)
        self.conv6_1 = nn.Conv2d(512, 512, 3, padding=1)
        self.deconv6_1 = nn.Conv2d(512, 512, 1)
        inputs = 512
        for name, outputs in DECODER:
            self.add_module(name, nn.Conv2d(inputs, outputs, 5, padding=2))
            inputs = outputs
        self.deconv1 = nn.Conv2d(inputs, 1, 5, padding=2)
        if refine:
            self.refine_conv1 = nn.Conv2d(4, 64, 3, padding=1)
            self.refine_conv2 = nn.Conv2d(64, 64, 3, padding=1)
            self.refine_conv3 = nn.Conv2d(64, 64, 3, padding=1)
            self.refine_pred = nn.Conv2d(64, 1, 3, padding=1)
        for key, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not key.startswith("encoder."):
                nn.init.xavier_normal_(module.weight)

    @staticmethod
    def own_key(key: str) -> str:
        """Our name of an official key: the encoder has torchvision's."""
        layer, _, kind = key.partition(".")
        return f"encoder.{_ENCODER[layer]}.{kind}" if layer in _ENCODER else key

    @staticmethod
    def own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`tensors` with the 1×1 bottleneck of old files as the 3×3 one it equals."""
        key, found = "conv6_1.weight", dict(tensors)
        if key in found and found[key].shape[2:] == (1, 1):
            found[key] = F.pad(found[key], (1, 1, 1, 1))
        return found

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] and trimap `[N, 1, H, W]` → alpha `[N, 1, H, W]`, the trimap where that knows.

        Maps, everywhere as the network sees them: `raw` (encoder-decoder) and, with refinement, `refined`. Raises
        `UsageError` without a trimap, or for sides that are no multiples of 32.
        """
        trimap = trimaps.required(trimap, "DIM")
        check_sides(image, MULTIPLE, "DIM")
        colour = normalise(image)
        levels = torch.where((trimap > 0) & (trimap < 1), UNKNOWN, trimap)
        logits = self._decode(torch.cat((colour, levels), 1))
        maps = {"raw": logits.float().sigmoid()}
        if self.refine:
            maps["refined"] = (logits + self._residual(colour, maps["raw"])).float().sigmoid()
        return Prediction(trimaps.keep_known(maps.get("refined", maps["raw"]), trimap), maps=maps)

    def _decode(self, x: Tensor) -> Tensor:
        x, skips, indices = self.encoder(x)
        x = F.relu(self.conv6_1(x))
        x = F.relu(self.deconv6_1(x))
        for (name, _), skip, taken in zip(DECODER, reversed(skips), reversed(indices), strict=True):
            x = F.max_unpool2d(x, taken, (2, 2))
            x = F.relu(self.get_submodule(name)(x + skip if self.skips else x))
        logits: Tensor = self.deconv1(x)
        return logits

    def _residual(self, colour: Tensor, alpha: Tensor) -> Tensor:
        x = F.relu(self.refine_conv1(torch.cat((colour, alpha), 1)))
        x = F.relu(self.refine_conv2(x))
        residual: Tensor = self.refine_pred(F.relu(self.refine_conv3(x)))
        return residual

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Equations 1 and 2 in the trimap's unknown region, as the port weighs them.

        `alpha` (0.5) compares the mattes, `composition` (0.5) the colours they compose, `refined` (1) the refined
        matte: stage 1 without refinement, stage 3 with it. Stage 2 is stage 3 with all but `refine_…` frozen.
        Raises `UsageError` without trimap, foreground and background.
        """
        unknown = trimaps.unknown(batch, "DIM")
        foreground, background = trimaps.layers(batch, "DIM")
        raw = prediction.maps["raw"]
        composite = raw * foreground + (1 - raw) * background
        terms = {
            "alpha": 0.5 * _distance(raw, batch.alpha, unknown),
            # The port composes bytes and divides by 255 after the root.
            "composition": 0.5 * _distance(composite, batch.image, unknown, epsilon=1e-6 / 255),
        }
        if "refined" in prediction.maps:
            terms["refined"] = _distance(prediction.maps["refined"], batch.alpha, unknown)
        return terms


_ENCODER = vgg.keys()


def _distance(one: Tensor, other: Tensor, unknown: Tensor, epsilon: float = 1e-6) -> Tensor:
    error = ((one - other).square() + epsilon**2).sqrt().mean(1, keepdim=True)
    return (error * unknown).sum() / (unknown.sum() + 1)

"""GCA: Natural Image Matting via Guided Contextual Attention (Li & Lu, AAAI 2020).

    encoder      ResNet34-D with spectral norms on image and trimap (one plane each for background, unknown,
                 foreground); two-convolution short-cuts from the input, 1/2, 1/4, 1/8, 1/16
    guidance     three strided convolutions on the image alone, 128 channels at 1/8
    attention    at 1/8, in the encoder and in the decoder: where the image's patches are alike, the alpha features
                 are moved there (section "Guided Contextual Attention")
    decoder      residual blocks with transposed convolutions, short-cuts added; alpha = (tanh + 1) / 2

A short-cut's layers are convolution, ReLU, BatchNorm in that order, unlike all others. Training makes one power
iteration a forward pass; inference divides by the norm as stored, which `fuse` does once.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.mixing.batch import Batch
from mattecli.zoo import trimap as trimaps
from mattecli.zoo.encoders.imagenet import normalise
from mattecli.zoo.guided_attention import GuidedAttention
from mattecli.zoo.spec import Prediction, Spec, native

MULTIPLE = 32


class SpectralNorm(nn.Module):
    """A weight divided by its largest singular value, as the vectors u and v estimate it (Miyato et al. 2018).

    The weight is seen as a matrix with one row for each index of its first dimension, also where that counts a
    transposed convolution's inputs. (PyTorch's own mixes precisions under autocast, and fails.)
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.u: Tensor
        self.v: Tensor
        self.register_buffer("u", torch.empty_like(matrix[:, 0]).normal_())
        self.register_buffer("v", torch.empty_like(matrix[0]))
        if not matrix.is_meta:
            self._iterate(matrix)  # a random u and v would tell far too small a norm

    def _iterate(self, matrix: Tensor) -> None:
        self.v = F.normalize(matrix.T @ self.u, dim=0, eps=1e-12)
        self.u = F.normalize(matrix @ self.v, dim=0, eps=1e-12)

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            if self.training:
                self._iterate(matrix.detach())
            norm: Tensor = self.u @ (matrix @ self.v)
            return weight / norm


class Conv(nn.Conv2d):
    """Convolution without bias under a spectral norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int | None = None) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if padding is None else padding, bias=False)
        nn.init.xavier_uniform_(self.weight)
        self.norm: nn.Module = SpectralNorm(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.norm(self.weight), None)
        return y


class Deconv(nn.ConvTranspose2d):
    """Transposed 4×4 convolution to twice the size, without bias, under a spectral norm."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 4, stride=2, padding=1, bias=False)
        nn.init.xavier_uniform_(self.weight)
        self.norm: nn.Module = SpectralNorm(self.weight)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return F.conv_transpose2d(x, self.norm(self.weight), None, stride=2, padding=1)


class Down(nn.Module):
    """Residual block; with a stride, its identity is averaged and projected (ResNet-D)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = Conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride), Conv(inputs, outputs, 1), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + identity)


class Up(nn.Module):
    """Residual block; with `up`, its first convolution and its identity double the size."""

    def __init__(self, inputs: int, outputs: int, up: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = Deconv(inputs) if up else Conv(inputs, inputs), nn.BatchNorm2d(inputs)
        self.conv2, self.bn2 = Conv(inputs, outputs), nn.BatchNorm2d(outputs)
        self.upsample = None
        if up:
            self.upsample = nn.Sequential(
                nn.UpsamplingNearest2d(scale_factor=2), Conv(inputs, outputs, 1), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.upsample is None else self.upsample(x)
        x = F.leaky_relu(self.bn1(self.conv1(x)), 0.2)
        return F.leaky_relu(self.bn2(self.conv2(x)) + identity, 0.2)


def _down(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Down(inputs, outputs, stride), *(Down(outputs, outputs) for _ in range(blocks - 1)))


def _up(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(Up(inputs, outputs, up=True), *(Up(outputs, outputs) for _ in range(blocks - 1)))


def _shortcut(inputs: int, outputs: int) -> nn.Sequential:
    first = (Conv(inputs, outputs), nn.ReLU(inplace=True), nn.BatchNorm2d(outputs))
    return nn.Sequential(*first, Conv(outputs, outputs), nn.ReLU(inplace=True), nn.BatchNorm2d(outputs))


class Encoder(nn.Module):
    """Short-cuts at 1/1 … 1/16, the map at 1/32, the guidance at 1/8, and the attention's scales and offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(6, 32, stride=2), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = Conv(32, 32), nn.BatchNorm2d(32)
        self.conv3, self.bn3 = Conv(32, 64, stride=2), nn.BatchNorm2d(64)
        self.layer1 = _down(64, 64, 3, stride=1)
        self.layer2 = _down(64, 128, 4, stride=2)
        self.layer3 = _down(128, 256, 4, stride=2)
        self.layer_bottleneck = _down(256, 512, 2, stride=2)
        self.shortcut = nn.ModuleList(
            _shortcut(inputs, outputs) for inputs, outputs in ((6, 32), (32, 32), (64, 64), (128, 128), (256, 256))
        )
        head: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 32), (32, 128)):
            reflected = (nn.ReflectionPad2d(1), Conv(inputs, outputs, stride=2, padding=0))
            head += [*reflected, nn.ReLU(inplace=True), nn.BatchNorm2d(outputs)]
        self.guidance_head = nn.Sequential(*head)
        self.gca = GuidedAttention(128, 128)

    def forward(self, x: Tensor, unknown: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor, Tensor]:
        guidance = self.guidance_head(x[:, :3])
        x1 = F.relu(self.bn1(self.conv1(x)))
        x1 = F.relu(self.bn2(self.conv2(x1)))
        x2 = self.layer1(F.relu(self.bn3(self.conv3(x1))))
        x3, offset, scale = self.gca(guidance, self.layer2(x2), unknown)
        x4 = self.layer3(x3)
        maps = (x, x1, x2, x3, x4)
        shortcuts = [shortcut(m) for shortcut, m in zip(self.shortcut, maps, strict=True)]
        return shortcuts, self.layer_bottleneck(x4), guidance, offset, scale


class Decoder(nn.Module):
    """From the map at 1/32 and the short-cuts to alpha before tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _up(512, 256, 2)
        self.layer2 = _up(256, 128, 3)
        self.layer3 = _up(128, 64, 3)
        self.layer4 = _up(64, 32, 2)
        self.conv1, self.bn1 = Deconv(32), nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 1, 3, padding=1)
        self.gca = GuidedAttention(128, 128)

    def forward(
        self, x: Tensor, shortcuts: list[Tensor], guidance: Tensor, unknown: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        s1, s2, s3, s4, s5 = shortcuts
        x = self.layer2(self.layer1(x) + s5) + s4
        x, offset, scale = self.gca(guidance, x, unknown)
        x = self.layer4(self.layer3(x) + s3) + s2
        x = F.leaky_relu(self.bn1(self.conv1(x)), 0.2) + s1
        return self.conv2(x), offset, scale


class GCA(nn.Module):
    """See the module's docstring.

    Any image size: it is reflected below and to the right to multiples of 32, as the authors' benchmark does. The
    attention's memory grows with the square of the area: 0.5 GB for 1920 × 1080, 18 GB for 4000 × 3000.
    """

    spec = Spec(size=native(), needs="trimap")

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    @staticmethod
    def own_key(key: str) -> str:
        """Our name of an official key: a convolution under a spectral norm lies in a `module` there."""
        for official, own in _SPECTRAL.items():
            if key.endswith(official):
                return key.removesuffix(official) + own
        return key

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] and trimap `[N, 1, H, W]` → alpha `[N, 1, H, W]`, the trimap where that knows.

        Maps: `alpha` as the network sees it everywhere, and of the encoder's attention (1) and the decoder's (2)
        `offset_…` (`[N, 2, h/16, w/16]`: row and column of the patch that each attends most, from the middle; the sides
        are the padded ones) and `scale_…` (`[N, 2]`, of unknown and known patches).
        """
        trimap = trimaps.required(trimap, "GCA")
        height, width = trimap.shape[-2:]
        levels = torch.cat((trimap < 1 / 3, (trimap >= 1 / 3) & (trimap < 2 / 3), trimap >= 2 / 3), 1)
        x = _reflect(torch.cat((normalise(image), levels.to(image.dtype)), 1))
        unknown = x[:, 4:5]
        shortcuts, deep, guidance, offset_1, scale_1 = self.encoder(x, unknown)
        logits, offset_2, scale_2 = self.decoder(deep, shortcuts, guidance, unknown)
        alpha = (logits[..., :height, :width].float().tanh() + 1) / 2
        maps = {"alpha": alpha, "offset_1": offset_1, "scale_1": scale_1, "offset_2": offset_2, "scale_2": scale_2}
        return Prediction(trimaps.keep_known(alpha, trimap), maps=maps)

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """`alpha`: mean absolute error in the trimap's unknown region, the paper's only loss (equation 7).

        Raises `UsageError` without a trimap.
        """
        unknown = trimaps.unknown(batch, "GCA")
        error = (prediction.maps["alpha"] - batch.alpha).abs() * unknown
        return {"alpha": error.sum() / (unknown.sum() + 1e-8)}

    def fuse(self) -> GCA:
        """A copy for inference: weights divided by their spectral norms once."""
        network = copy.deepcopy(self).eval()
        for module in network.modules():
            if isinstance(module, Conv | Deconv):
                module.weight = nn.Parameter(module.norm(module.weight).detach())
                module.norm = nn.Identity()
        return network


_SPECTRAL = {
    ".module.weight_bar": ".weight",
    ".module.weight_u": ".norm.u",
    ".module.weight_v": ".norm.v",
}


def _reflect(x: Tensor) -> Tensor:
    """`x` reflected below and to the right to multiples of 32; more than once where it is smaller than the margin."""
    rows, columns = (_mirrored(side, x.device) for side in x.shape[-2:])
    return x if len(rows) == x.shape[-2] and len(columns) == x.shape[-1] else x[..., rows[:, None], columns]


def _mirrored(side: int, device: torch.device) -> Tensor:
    places = torch.arange(-(-side // MULTIPLE) * MULTIPLE, device=device)
    period = max(1, 2 * (side - 1))
    folded = places % period
    return torch.minimum(folded, period - folded)

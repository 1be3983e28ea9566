"""Networks, frames and comparisons that the tests of frames on a device share."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mattecli.inference import clips, guided
from mattecli.inference.behind import Blur, still
from mattecli.inference.frames import follow
from mattecli.inference.network import Matter
from mattecli.inference.on_device import OnDevice
from mattecli.inference.on_device.seeing import Eye
from mattecli.inference.rendering import Renderer
from mattecli.media.clips.planes.colour import to_planes, to_rgb
from mattecli.media.clips.planes.frame import LEFT, TOP_LEFT, Colour, Format, Frame
from mattecli.zoo.spec import Prediction, Spec, long_side

SD, HD, FULL, PQ = Colour(6, 6, 6), Colour(), Colour(full=True), Colour(9, 9, 16)
FORMATS = [
    Format(180, 320, HD),
    Format(181, 321, SD),
    Format(97, 130, FULL, alpha=True),
    Format(98, 131, SD, chroma="422"),
    Format(64, 80, HD, chroma="444", aspect=Fraction(4, 3)),
    Format(120, 214, HD, depth=10),
    Format(121, 67, FULL, depth=12, chroma="422", alpha=True),
    Format(97, 131, SD, siting=LEFT),
    Format(98, 131, SD, chroma="422", siting=(1.0, 0.5)),
    Format(120, 214, Colour(9, 9, 14), depth=10, siting=TOP_LEFT),
]
KINDS = ["composite", "cutout", "alpha", "foreground", "side-by-side"]


def named(form):
    """A short name for a test."""
    return f"{form.width}x{form.height}-{form.chroma}-{form.depth}-{form.siting}"


class Given(nn.Module):
    """A soft disc and steep lines that no picture changes: slope and intercept at half the size."""

    spec = Spec(size=long_side(64, 8))

    def __init__(self):
        super().__init__()
        self.grid = nn.Parameter(torch.rand(1, 4, 5, 6, generator=torch.Generator().manual_seed(1)))

    def forward(self, image, *, trimap=None, background=None, state=None):
        height, width = image.shape[-2:]
        lines = F.interpolate(self.grid, size=(height // 2, width // 2), mode="bicubic")
        y = torch.linspace(-1, 1, height, device=image.device)[:, None]
        x = torch.linspace(-1, 1, width, device=image.device)
        alpha = ((0.6 - (y * y + x * x).sqrt()) * 4 + 0.5).clamp(0, 1)[None, None]
        return Prediction(alpha, maps={"slope": 3 * lines[:, :3] - 1.5, "intercept": 1.5 * lines[:, 3:] - 0.3})


class Even(nn.Module):
    """The same alpha everywhere."""

    spec = Spec(size=long_side(64, 8))

    def __init__(self, alpha):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, image, *, trimap=None, background=None, state=None):
        zero = torch.zeros_like(image)
        return Prediction(zero[:, :1] + self.alpha, maps={"slope": zero, "intercept": zero[:, :1] + self.alpha})


class Counting(nn.Module):
    """alpha is a tenth of the frames seen since a scene began."""

    spec = Spec(size=long_side(64, 8), recurrent=True)

    def __init__(self):
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.1))

    def forward(self, image, *, trimap=None, background=None, state=None):
        before = torch.zeros_like(image[:, :1]) if state is None else state[0]
        alpha = before + self.step
        zero = torch.zeros_like(image)
        return Prediction(alpha, state=(alpha,), maps={"slope": zero, "intercept": alpha.float()})


class Flickering(nn.Module):
    """alpha is the red of the picture, without a slope; no memory."""

    spec = Spec(size=long_side(64, 8))

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, image, *, trimap=None, background=None, state=None):
        return Prediction(image[:, :1] * self.scale)


def matter_of(network, device="cpu", precision="fp32"):
    return Matter(network, device, precision, engine="torch", clip=True)


def picture(height, width, seed=0, cell=12):
    """Smooth colours with a little noise."""
    rng = np.random.default_rng(seed)
    grid = rng.random((height // cell + 2, width // cell + 2, 3))
    smooth = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.rint(20 + 215 * (smooth + rng.normal(0, 0.02, smooth.shape)).clip(0, 1)).astype(np.uint8)


def frame_of(form, rgb=None, index=0, seed=0):
    rgb = picture(form.height, form.width, seed) if rgb is None else rgb
    planes = to_planes(rgb, form)
    if form.alpha:
        opaque = picture(form.height, form.width, 9)[..., 0] / 255 * ((1 << form.depth) - 1)
        planes.append(np.rint(opaque).astype(form.dtype))
    frame = Frame(form, planes, index, 1, Fraction(1, 25), passing=[index])
    frame.view = lambda height, width: (shrunk if form.colour.hdr else view_of)(frame, height, width)
    return frame


def view_of(frame, height, width):
    """What a network on the device sees of SDR, in 16 bits."""
    eye = Eye(frame.format, (height, width), torch.float32, torch.device("cpu"))
    levels = torch.from_numpy(np.concatenate([plane.ravel() for plane in frame.planes]))
    seen = eye(eye.planes(levels))[0].permute(1, 2, 0).numpy()
    return np.rint(seen * 65535).astype(np.uint16)


def shrunk(frame, height, width):
    """R′G′B′ at full size, over white where it is transparent, averaged by area; 8 bits."""
    form = frame.format
    full = [cv2.resize(plane, (form.width, form.height)) for plane in frame.planes[:3]]
    rgb = to_rgb(full, replace(form, chroma="444"))
    if frame.format.alpha:
        opaque = frame.planes[3][..., None] / np.float32((1 << frame.format.depth) - 1)
        rgb = np.rint(rgb * opaque + 255 * (1 - opaque)).astype(np.uint8)
    return guided.resize(rgb, height, width)


def on_device(matter, renderer, form, **options):
    size = clips.seen_size(matter, form)
    return OnDevice(matter, renderer, form, size, **options)


def run(device, frames):
    return list(device.frames((frame, device.look(frame)) for frame in frames))


def expected(matter, renderer, frames, steady="none"):
    size = clips.seen_size(matter, frames[0].format)
    answers = follow(matter, frames, lambda frame: frame.view(*size), steady=steady)
    return [renderer.render(frame, coarse) for frame, coarse in answers]


def renderer_of(kind, form):
    behind = still(picture(99, 140, 3)) if kind in ("composite", "side-by-side") else None
    return Renderer("composite", form, Blur()) if kind == "blur" else Renderer(kind, form, behind)


def check(found, wanted, levels=2.0):
    """All of `found` within so many levels of 255 of `wanted`, and alike in all else."""
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert (one.format, one.pts, one.duration, one.time_base) == (
            other.format, other.pts, other.duration, other.time_base,
        )  # fmt: skip
        assert one.passing == other.passing and one.view is None
        assert [plane.shape for plane in one.planes] == other.format.shapes
        for plane, goal in zip(one.planes, other.planes, strict=True):
            assert plane.dtype == goal.dtype == other.format.dtype
            off = plane.astype(float) - goal
            assert np.abs(off).max() * 255 / ((1 << other.format.depth) - 1) <= levels


def scenes(form, lengths):
    """Frames of one still scene after another."""
    frames = []
    for scene, length in enumerate(lengths):
        rgb = picture(form.height, form.width, 20 + scene, cell=5)
        frames += [frame_of(form, rgb, len(frames) + index) for index in range(length)]
    return frames

"""What the network and `Cuts` see of planes."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from mattecli.inference import guided
from mattecli.inference.cuts import Cuts
from mattecli.inference.on_device import tensors
from mattecli.inference.on_device.seeing import Eye
from mattecli.inference.on_device.stage import thumbnail
from mattecli.media.clips.planes.colour import to_planes
from mattecli.media.clips.planes.frame import Format
from tests.inference.on_device.making import (
    FORMATS,
    frame_of,
    named,
    picture,
    shrunk,
    view_of,
)


@pytest.mark.parametrize("form", FORMATS, ids=named)
def test_the_network_sees_the_picture_averaged_by_area(form):
    frame = frame_of(form)
    for size in ((24, 40), (200, 352)):
        found = view_of(frame, *size) / 257
        back = cv2.resize(found, (40, 24), interpolation=cv2.INTER_AREA)
        off = np.abs(back - shrunk(frame, 24, 40))
        assert off.mean() < 1 and off.max() < 12


def test_what_no_screen_shows_is_seen_as_the_nearest():
    form = Format(40, 64, chroma="444")
    levels = torch.tensor([16, 235, 240, 16, 240, 16], dtype=torch.uint8).repeat_interleave(40 * 32)
    eye = Eye(form, (40, 64), torch.float32, torch.device("cpu"))
    seen = eye(eye.planes(levels))
    assert seen.min() == 0 and seen.max() == 1


@pytest.mark.parametrize("number", [torch.float32, torch.float16])
def test_flat_colours_are_seen_exactly(number):
    for form in FORMATS:
        planes = to_planes(np.full((form.height, form.width, 3), (200, 90, 30), np.uint8), form)
        form = replace(form, alpha=False)
        levels = torch.from_numpy(np.concatenate([plane.ravel() for plane in planes]))
        eye = Eye(form, (40, 64), number, torch.device("cpu"))
        seen = eye(eye.planes(levels)) * 255
        off = (seen - torch.tensor([200, 90, 30]).view(1, 3, 1, 1)).abs().max()
        assert off < (1.5 if form.depth == 8 or number == torch.float16 else 0.4)


@pytest.mark.parametrize(("samples", "goal"), [(10, 4), (1080, 288), (7, 7), (3, 8)])
def test_averaging_is_by_area(samples, goal):
    weights = tensors.averaging(samples, goal)
    line = np.random.default_rng(0).random((1, samples), np.float32)
    way = cv2.INTER_AREA if goal <= samples else cv2.INTER_LINEAR
    np.testing.assert_allclose(weights @ line[0], cv2.resize(line, (goal, 1), interpolation=way)[0], atol=1e-5)


def test_slopes_are_fitted_as_on_the_cpu():
    image, alpha = picture(30, 44).astype(np.float32) / 255, picture(30, 44, 2)[..., 1].astype(np.float32) / 255
    slope, intercept = tensors.fit(torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(alpha)[None, None])
    for found, wanted in zip((slope[0], intercept[0, 0]), guided.fit(image, alpha), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("size", [(48, 64), (181, 320), (30, 20), (720, 404)])
def test_cuts_are_found_in_thumbnails(size, depth):
    form = Format(*size, depth=depth)
    cuts, found = Cuts(), []
    for scene in range(3):
        seen = cv2.resize(picture(120, 120, scene), size[::-1], interpolation=cv2.INTER_CUBIC)
        for index in range(3):
            moved = np.roll(seen, index * size[1] // 40, 1)
            small = thumbnail(frame_of(form, np.rint(moved * (1 - index / 8)).astype(np.uint8)))
            assert small.dtype == np.uint8 and small.shape[2] == 3 and max(small.shape) == 64
            found.append(cuts.begins(small))
    assert found[1:] == [False, False, True, False, False, True, False, False]

"""Colour conversion against numbers of the standards, and there and back."""

from __future__ import annotations

import numpy as np
import pytest

from mattecli.media.clips.colour import to_planes, to_rgb
from mattecli.media.clips.frame import BT601, BT709, BT2020, Colour, Format


@pytest.mark.parametrize(
    ("matrix", "full", "depth", "expected"),
    [
        # Colour bars of the standards: red at 100 %.
        (BT601, False, 8, (81, 90, 240)),
        (BT709, False, 8, (63, 102, 240)),
        (BT709, False, 10, (250, 409, 960)),
        (BT2020, False, 10, (294, 387, 960)),
        (BT601, True, 8, (76, 85, 255)),
    ],
)
def test_red_has_the_levels_of_the_standard(matrix: int, full: bool, depth: int, expected: tuple[int, ...]) -> None:
    colour = Colour(matrix=matrix, full=full)
    format = Format(2, 2, colour, depth, "444")
    planes = to_planes(np.broadcast_to(np.array([255, 0, 0], np.uint8), (2, 2, 3)), format)
    assert [int(plane[0, 0]) for plane in planes] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (481, 853)])
@pytest.mark.parametrize("chroma", ["420", "422", "444"])
@pytest.mark.parametrize("depth", [8, 10])
def test_a_smooth_picture_survives_there_and_back(size: tuple[int, int], chroma: str, depth: int) -> None:
    y, x = np.mgrid[: size[0], : size[1]]
    ramp = np.stack((x / size[1], y / size[0], 0.5 + 0 * x), -1)
    rgb = np.rint(60 + 60 * ramp).astype(np.uint8)
    format = Format(*size, Colour(), depth, chroma)  # type: ignore[arg-type]
    planes = to_planes(rgb, format)
    assert [plane.shape for plane in planes] == format.shapes
    assert all(plane.dtype == format.dtype for plane in planes)
    coarse = 10 if min(size) < 10 and chroma != "444" else 2 if depth == 8 else 1
    assert np.abs(to_rgb(planes, format).astype(int) - rgb).max() <= coarse

"""Colour conversion against numbers of the standards, and there and back."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from av.filter import Graph

from mattecli.media.clips.planes.colour import spread, subsample, to_planes, to_rgb
from mattecli.media.clips.planes.frame import BT601, BT709, BT2020, CENTRE, LEFT, TOP_LEFT, Colour, Format, Siting
from mattecli.media.clips.planes.swscale import levels, picture_of


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


def photo(height: int, width: int) -> np.ndarray:
    """Colours with edges as sharp as a lens leaves them."""
    rng = np.random.default_rng(3)
    image = np.full((height, width, 3), 90.0)
    for _ in range(40):
        y, x = rng.integers(0, height), rng.integers(0, width)
        image[y : y + 12, x : x + 16] = rng.uniform(20, 235, 3)
    for axis in (0, 1):
        image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return np.rint(image).astype(np.uint8)


@pytest.mark.parametrize(("siting", "name"), [(LEFT, "left"), (CENTRE, "center"), (TOP_LEFT, "topleft")])
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_chroma_is_where_swscale_has_it(siting: Siting, name: str, size: tuple[int, int]) -> None:
    format = Format(*size, Colour(6, 6, 6), siting=siting)
    rgb = photo(*size)
    planes = to_planes(rgb, format)
    picture = picture_of(planes, "yuv420p")
    graph = Graph()
    source = graph.add_buffer(width=size[1], height=size[0], format=picture.format, time_base=Fraction(1, 25))
    way = "flags=bilinear+accurate_rnd+full_chroma_int+full_chroma_inp"
    scale = graph.add("scale", f"in_chroma_loc={name}:in_color_matrix=smpte170m:in_range=limited:{way}")
    graph.link_nodes(source, scale, graph.add("format", "gbrp"), graph.add("buffersink")).configure()
    graph.vpush(picture)
    green, blue, red = levels(graph.vpull())
    ours, theirs = to_rgb(planes, format).astype(int), np.dstack((red, green, blue)).astype(int)
    if not any(side % 2 for side in size):  # swscale stretches what is half a sample too long
        assert np.abs(ours - theirs)[:-2, :-2].max() <= 2
    others = [to_rgb(planes, Format(*size, Colour(6, 6, 6), siting=one)) for one in (LEFT, CENTRE, TOP_LEFT)]
    off = [np.abs(one.astype(int) - rgb).mean() for one in others]
    assert off.index(min(off)) == (LEFT, CENTRE, TOP_LEFT).index(siting)


@pytest.mark.parametrize("chroma", ["420", "422"])
@pytest.mark.parametrize("siting", [LEFT, CENTRE, TOP_LEFT, (1.0, 0.5), (0.5, 1.0)])
def test_a_slope_stays_in_place_wherever_chroma_lies(chroma: str, siting: Siting) -> None:
    y, x = np.mgrid[:40, :60]
    rgb = np.stack((60 + 2 * x, 200 - 2 * y, 100 + x + y), -1).astype(np.uint8)
    format = Format(40, 60, chroma=chroma, siting=siting)  # type: ignore[arg-type]
    back = to_rgb(to_planes(rgb, format), format).astype(int)
    assert np.abs(back - rgb)[2:-2, 2:-2].max() <= 2


SITINGS = pytest.mark.parametrize("siting", [LEFT, CENTRE, TOP_LEFT, (1.0, 0.5), (0.5, 1.0)])


@SITINGS
@pytest.mark.parametrize("chroma", ["420", "422"])
@pytest.mark.parametrize("size", [(40, 60), (41, 61), (1, 2), (3, 1)])
def test_planes_change_size_about_their_samples(size: tuple[int, int], chroma: str, siting: Siting) -> None:
    """A ramp keeps its place, to chroma's size and back."""
    format = Format(*size, chroma=chroma, siting=siting)  # type: ignore[arg-type]
    ramp = np.add.outer(2.0 * np.arange(size[0]), np.arange(size[1])).astype(np.float32)
    small = subsample(ramp, format)
    assert small.shape == format.shapes[1]
    rows, columns = (1 if now == goal else 2 for now, goal in zip(size, small.shape, strict=True))
    y, x = rows * np.arange(small.shape[0])[:, None], columns * np.arange(small.shape[1])
    places = 2 * (y + (rows - 1) * siting[1]) + x + (columns - 1) * siting[0]
    np.testing.assert_allclose(small[1:-1, 1:-1], places[1:-1, 1:-1], atol=1e-4)
    wide = spread(small, format)
    on_pixels = [at in (0, 1) and step == 2 for at, step in zip(siting[::-1], (rows, columns), strict=True)]
    assert wide.shape == tuple(full if on else own for full, own, on in zip(size, small.shape, on_pixels, strict=True))
    if all(on_pixels):
        np.testing.assert_allclose(wide[2:-2, 2:-2], ramp[2:-2, 2:-2], atol=1e-4)


@SITINGS
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_alpha_keeps_its_type_and_its_ends(siting: Siting, dtype: Any) -> None:
    top, format = np.iinfo(dtype).max, Format(33, 47, siting=siting)
    noise = np.random.default_rng(0).integers(0, top, (33, 47), dtype, endpoint=True)
    small = subsample(noise, format)
    assert small.dtype == dtype
    assert np.abs(small - subsample(noise.astype(np.float32), format)).max() <= 1.5
    for level in (0, top):
        assert (subsample(np.full((33, 47), level, dtype), format) == level).all()


@pytest.mark.parametrize(("luma", "shown"), [(255, 255), (235, 255), (16, 0), (0, 0)])
@pytest.mark.parametrize("bits", [8, 16])
def test_levels_beyond_white_and_black_are_white_and_black(luma: int, shown: int, bits: int) -> None:
    form = Format(2, 2)
    planes = [np.full(shape, level, np.uint8) for shape, level in zip(form.shapes, (luma, 128, 128), strict=True)]
    assert (to_rgb(planes, form, bits) == shown * (1 if bits == 8 else 257)).all()

"""Frames made in the planes against slow ones made of R′G′B′ in floating point."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from mattecli.inference import guided, spill
from mattecli.inference.behind import plain
from mattecli.inference.coarse import Coarse
from mattecli.inference.planes import enlarge
from mattecli.inference.rendering import Renderer, blend, of_planes
from mattecli.media.clips.planes.colour import spread, subsample, to_planes, to_rgb
from mattecli.media.clips.planes.frame import BT601, BT709, BT2020, HLG, LEFT, PQ, TOP_LEFT, Colour, Format, Frame

FORMATS = [
    Format(96, 128),
    Format(481, 853),
    Format(96, 128, Colour(full=True)),
    Format(97, 131, Colour(BT601, 6, 6), chroma="422"),
    Format(97, 131, chroma="444"),
    Format(96, 128, Colour(BT2020, 9, 14), depth=10),
    Format(97, 131, depth=10, chroma="422"),
    Format(90, 121, depth=12, chroma="444"),
    Format(96, 128, siting=LEFT),
    Format(97, 131, siting=LEFT),
    Format(97, 131, chroma="422", siting=LEFT),
    Format(96, 128, Colour(BT2020, 9, 14), depth=10, siting=TOP_LEFT),
    Format(97, 131, siting=(1.0, 0.5)),
]


def answer(alpha, slope, intercept):
    return Coarse(alpha, np.zeros((*alpha.shape, 3), np.uint8), (slope, intercept))


def shown(form):
    return f"{form.height}x{form.width} {form.chroma} {form.depth} bits, matrix {form.colour.matrix}, {form.siting}"


def picture(height, width, seed=0):
    """Smooth and of every hue, away from black and white: `[H, W, 3]` in [0, 1]."""
    field = np.random.default_rng(seed).random((4, 5, 3))
    return 0.2 + 0.6 * cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def framed(rgb, form, **rest):
    planes = to_planes(np.rint(rgb * 65535).astype(np.uint16), replace(form, alpha=False))
    return Frame(form, planes, 7, 2, Fraction(1, 25), **rest)


def coarse_of(height, width):
    """Slopes of a matte that is 0, soft and 1 in turn, at a small size."""
    rng = np.random.default_rng(1)
    slope = cv2.resize(rng.normal(0, 0.5, (4, 5, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    alpha = cv2.resize(rng.uniform(-0.6, 1.6, (4, 5)), (width, height), interpolation=cv2.INTER_CUBIC)
    intercept = alpha - slope.sum(-1) / 2
    return answer(alpha.clip(0, 1).astype(np.float32), *(np.float32(m) for m in (slope.transpose(2, 0, 1), intercept)))


def flat(alpha):
    """A matte of levels in columns, the slope 0."""
    row = np.asarray(alpha, np.float32)[None].repeat(4, 0)
    return answer(row.clip(0, 1), np.zeros((3, *row.shape), np.float32), row)


def exact_rgb(planes, form):
    """R′G′B′ `[H, W, 3]` in [0, 1], nothing rounded on the way."""
    luma, *chroma = (plane.astype(np.float64) for plane in planes[:3])
    full = [luma, *(whole(plane, form) for plane in chroma)]
    matrix, offset = form.colour.to_rgb(form.depth)
    return (np.dstack(full) @ matrix.T + offset).clip(0, 1)


def whole(plane, form):
    """Chroma's `plane` at luma's size."""
    plane = spread(plane, form)
    by = -(-form.height // plane.shape[0]), -(-form.width // plane.shape[1])
    return enlarge(plane, by, form.height, form.width)


def exact_planes(rgb, form):
    """Levels, not rounded."""
    matrix, offset = form.colour.from_rgb(form.depth)
    full = np.moveaxis(rgb @ matrix.T + offset, -1, 0)
    return [full[0], *(subsample(plane, form) for plane in full[1:])]


def exact_alpha(frame, coarse):
    rgb = np.rint(exact_rgb(frame.planes, frame.format) * 65535).astype(np.uint16)
    return guided.apply(rgb, coarse.slope, coarse.intercept)


@pytest.mark.parametrize("form", FORMATS, ids=shown)
def test_alpha_is_the_photo_paths(form):
    frame, coarse = framed(picture(form.height, form.width), form), coarse_of(36, 64)
    made = Renderer("cutout", form).render(frame, coarse)
    alpha = exact_alpha(frame, coarse)
    assert alpha.min() == 0 and alpha.max() == 1
    found = made.planes[3] / ((1 << form.depth) - 1)
    assert np.abs(found - alpha).max() <= 2 / 255


@pytest.mark.parametrize("form", FORMATS, ids=shown)
def test_composite_is_that_of_rgb(form):
    frame, coarse = framed(picture(form.height, form.width), form), coarse_of(36, 64)
    back = framed(picture(form.height, form.width, seed=5), form)
    made = Renderer("composite", form, lambda frame, alpha: back.planes).render(frame, coarse)
    assert [(p.shape, p.dtype) for p in made.planes] == [(shape, form.dtype) for shape in form.shapes]
    alpha = exact_alpha(frame, coarse)
    levels = np.rint(alpha * np.iinfo(form.dtype).max).astype(form.dtype)
    front = exact_rgb(spill.remove(frame.planes, form, of_planes(levels, form)), form)
    mixed = alpha[..., None] * front + (1 - alpha[..., None]) * exact_rgb(back.planes, form)
    for found, expected in zip(made.planes, exact_planes(mixed, form), strict=True):
        error = np.abs(found - expected) * 255 / ((1 << form.depth) - 1)
        assert error.max() <= 2
        assert error.mean() <= 0.4


@pytest.mark.parametrize("form", FORMATS, ids=shown)
def test_levels_pass_where_alpha_is_0_or_1(form):
    rng = np.random.default_rng(0)
    top = (1 << form.depth) - 1
    front, back = ([rng.integers(0, top + 1, shape, form.dtype) for shape in form.shapes] for _ in range(2))
    frame = Frame(form, front, 0, 1, Fraction(1, 25))
    coarse = flat([-1, -1, -1, 0.5, 2, 2, 2])
    made = Renderer("composite", form, lambda frame, alpha: back).render(frame, coarse)
    for found, own, other in zip(made.planes, front, back, strict=True):
        third = own.shape[1] // 3
        np.testing.assert_array_equal(found[:, :third], other[:, :third])
        np.testing.assert_array_equal(found[:, -third:], own[:, -third:])


def test_over_itself_a_frame_is_itself_but_for_soft_edges():
    form = Format(100, 140)
    frame = framed(picture(100, 140), form)
    coarse = coarse_of(36, 64)
    made = Renderer("composite", form, lambda frame, alpha: frame.planes).render(frame, coarse)
    alpha = Renderer("cutout", form).render(frame, coarse).planes[3]
    for found, own, share in zip(made.planes, frame.planes, of_planes(alpha, form), strict=True):
        sure = (share == 0) | (share == 255)
        assert 0.2 < sure.mean() < 0.9
        np.testing.assert_array_equal(found[sure], own[sure])
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    assert np.abs(blend(noise[0], noise[0], noise[1]).astype(int) - noise[0]).max() <= 1


def test_over_the_true_background_the_frame_comes_back_and_elsewhere_nothing_of_it_stays():
    form, front, back = Format(160, 200), np.array([230, 40, 40]), np.array([20, 60, 200])
    y, x = np.mgrid[:160, :200]
    alpha = ((50 - np.hypot(y - 80, x - 100)) / 12 + 0.5).clip(0, 1)
    frame = framed((alpha[..., None] * front + (1 - alpha[..., None]) * back) / 255, form)
    coarse = answer(alpha.astype(np.float32), np.zeros((3, 160, 200), np.float32), alpha.astype(np.float32))
    same = Renderer("composite", form, plain(back)).render(frame, coarse)
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(same.planes, frame.planes, strict=True)) <= 10
    white = Renderer("composite", form, plain((255, 255, 255))).render(frame, coarse)
    expected = alpha[..., None] * front + (1 - alpha[..., None]) * 255
    before = np.abs(alpha[..., None] * to_rgb(frame.planes, form) + (1 - alpha[..., None]) * 255 - expected)
    after = np.abs(to_rgb(white.planes, form) - expected)
    assert after.max() <= 0.35 * before.max()
    assert after.mean() <= 0.25 * before.mean()


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("kind", ["composite", "cutout", "alpha"])
def test_own_alpha_multiplies(kind, depth):
    form = Format(64, 96, depth=depth, alpha=True)
    frame = framed(picture(64, 96), form)
    own = np.full((64, 96), 1 << (depth - 1), form.dtype)
    own[:, 48:] = (1 << depth) - 1
    frame.planes.append(own)
    made = Renderer(kind, form, plain((0, 0, 0))).render(frame, flat([1, 1]))
    half = (1 << (depth - 1)) / ((1 << depth) - 1)
    if kind == "composite":
        black = 16 << (depth - 8)
        expected = black + half * (frame.planes[0][:, :40].astype(float) - black)
        assert np.abs(made.planes[0][:, :40] - expected).max() <= 1
        np.testing.assert_array_equal(made.planes[0][:, 48:], frame.planes[0][:, 48:])
        assert not made.format.alpha and len(made.planes) == 3
    elif kind == "cutout":
        np.testing.assert_array_equal(made.planes[3], own)
    else:
        scale = 1 << (depth - 8)
        assert np.abs(made.planes[0][:, :40] - scale * (16 + 219 * half)).max() <= 0.5
        assert (made.planes[0][:, 48:] == scale * 235).all()


@pytest.mark.parametrize(("depth", "goal"), [(8, 8), (10, 10), (12, 10)])
def test_the_alpha_is_a_grey_clip(depth, goal):
    form = Format(33, 51, Colour(BT2020, 9, PQ), depth, "422", aspect=Fraction(4, 3))
    renderer = Renderer("alpha", form)
    assert renderer.format == Format(33, 51, Colour(BT709, 1, 1), goal, "420", aspect=Fraction(4, 3))
    frame = framed(picture(33, 51), form)
    made = renderer.render(frame, answer(np.ones((8, 8), np.float32), np.zeros((3, 8, 8)), np.ones((8, 8))))
    assert [(p.shape, p.dtype) for p in made.planes] == [(shape, made.format.dtype) for shape in made.format.shapes]
    scale = 1 << (goal - 8)
    assert [np.unique(plane).tolist() for plane in made.planes] == [[235 * scale], [128 * scale], [128 * scale]]


def test_a_cutout_is_straight_and_goes_on_smoothly():
    form = Format(120, 160, depth=10)
    front, back = np.array([230, 40, 40]), np.array([20, 60, 200])
    alpha = np.linspace(-4, 5, 160).clip(0, 1)[None].repeat(120, 0)
    frame = framed((alpha[..., None] * front + (1 - alpha[..., None]) * back) / 255, form)
    coarse = answer(alpha.astype(np.float32), np.zeros((3, 120, 160), np.float32), alpha.astype(np.float32))
    made = Renderer("cutout", form).render(frame, coarse)
    assert made.format == replace(form, alpha=True)
    np.testing.assert_allclose(made.planes[3], alpha * 1023, atol=1)
    error = np.abs(to_rgb(made.planes, form).astype(int) - front)
    assert error[alpha > 0.5].max() <= 40
    assert error[alpha == 0].mean() <= 5
    alone = Renderer("foreground", form).render(frame, coarse)
    assert alone.format == form
    for plane, expected in zip(alone.planes, made.planes, strict=False):
        np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("form", FORMATS, ids=shown)
def test_side_by_side_has_the_frame_left(form):
    frame = framed(picture(form.height, form.width), form)
    renderer = Renderer("side-by-side", form)
    made = renderer.render(frame, flat([-1, -1]))
    assert [plane.shape for plane in made.planes] == renderer.format.shapes
    for plane, own in zip(made.planes, frame.planes, strict=True):
        np.testing.assert_array_equal(plane[:, : own.shape[1]], own)
    grey = to_rgb(made.planes, renderer.format)[:, form.width + 2 :]
    if form.colour.primaries != 9:
        assert np.abs(grey.astype(int) - 128).max() <= 2


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_alpha_follows_luma(transfer):
    """Slopes that speak of another picture are not applied, and edges are sharper than the network's."""
    form = Format(240, 320, Colour(BT2020, 9, transfer), 10)
    y, x = np.mgrid[:240, :320]
    alpha = (np.hypot(y - 120, x - 160) < 70 + 10 * np.sin(np.arctan2(y - 120, x - 160) * 24)).astype(np.float32)
    alpha = cv2.GaussianBlur(alpha, (3, 3), 0)
    frame = framed(0.25 + 0.4 * alpha[..., None].repeat(3, -1), form)
    small = cv2.resize(alpha, (80, 60), interpolation=cv2.INTER_AREA)
    coarse = answer(small, np.full((3, 60, 80), 9, np.float32), np.full((60, 80), -5, np.float32))
    found = Renderer("cutout", form).render(frame, coarse).planes[3] / 1023
    bilinear = cv2.resize(small, (320, 240), interpolation=cv2.INTER_LINEAR)
    assert np.abs(found - alpha).mean() < 0.5 * np.abs(bilinear - alpha).mean()


def test_stamps_and_packets_stay_and_planes_may_be_read_only():
    form = Format(48, 64)
    frame = framed(picture(48, 64), form, view=lambda h, w: None, passing=["sound"], key=True)
    for plane in frame.planes:
        plane.flags.writeable = False
    for kind in ("composite", "cutout", "alpha", "foreground", "side-by-side"):
        made = Renderer(kind, form, plain((9, 9, 9))).render(frame, coarse_of(18, 32))
        assert (made.pts, made.duration, made.time_base, made.passing) == (7, 2, Fraction(1, 25), ["sound"])
        assert made.view is None and made.key
        assert [plane.shape for plane in made.planes] == made.format.shapes


def test_a_composite_needs_a_background():
    with pytest.raises(ValueError, match="behind"):
        Renderer("composite", Format(8, 8))

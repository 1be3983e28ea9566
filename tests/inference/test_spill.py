"""The subject's colours where they are known, and the quick solution against the slow one."""

import cv2
import numpy as np
import pytest

from mattecli.inference import spill
from mattecli.inference.planes import shrink, steps
from mattecli.inference.spill import remove
from mattecli.media.clips.planes.colour import to_planes, to_rgb
from mattecli.media.clips.planes.frame import Format

FRONT, BACK = np.array([200, 60, 60]), np.array([40, 90, 180])


def alphas_of(alpha, form):
    top = np.iinfo(form.dtype).max
    levels = np.rint(alpha * top).astype(form.dtype)
    averaged = shrink(levels, steps(form))
    return [levels, averaged, averaged]


def disc(height, width, soft=12.0):
    y, x = np.mgrid[:height, :width]
    return ((min(height, width) / 3 - np.hypot(y - height / 2, x - width / 2)) / soft + 0.5).clip(0, 1)


def mixed(alpha, front=FRONT, back=BACK):
    return np.rint(alpha[..., None] * front + (1 - alpha[..., None]) * back).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "chroma", "depth"),
    [((240, 320), "420", 8), ((481, 853), "420", 8), ((241, 135), "422", 10), ((99, 130), "444", 12)],
)
def test_flat_colours_come_back(size, chroma, depth):
    form, alpha = Format(*size, depth=depth, chroma=chroma), disc(*size)
    planes = to_planes(mixed(alpha), form)
    found = remove(planes, form, alphas_of(alpha, form))
    assert [plane.shape for plane in found] == form.shapes
    before, after = (np.abs(to_rgb(p, form).astype(int) - FRONT).mean(-1) * alpha for p in (planes, found))
    soft = (alpha > 0) & (alpha < 1)
    assert after[soft].mean() <= 0.25 * before[soft].mean()
    assert after.max() <= 0.4 * before.max()


@pytest.mark.parametrize("chroma", ["420", "422", "444"])
def test_squares_solve_what_the_formula_says(chroma):
    """The formula on whole planes, with the means that the module estimates."""
    form = Format(150, 210, chroma=chroma)
    rng = np.random.default_rng(0)
    alpha = cv2.GaussianBlur(rng.random((150, 210)), (0, 0), 8)
    alpha = ((alpha - alpha.min()) / np.ptp(alpha)).clip(0.05, 0.9)
    planes = to_planes(rng.integers(0, 256, (150, 210, 3), np.uint8), form)
    alphas = alphas_of(alpha, form)
    found = remove(planes, form, alphas)
    rows, columns = steps(form)
    for index, by in enumerate([(2, 2), (4 // rows, 4 // columns), (4 // rows, 4 // columns)]):
        plane, share = planes[index], alphas[index]
        ((near, apart),) = spill._estimate([pad32(plane, index, form)], pad32(share, index, form), by)
        up = [
            cv2.resize(p[1:-1, 1:-1], None, fx=by[1], fy=by[0])[: len(plane), : plane.shape[1]] for p in (near, apart)
        ]
        a = share / 255
        expected = up[0] + a / (a * a + (1 - a) ** 2) * (plane - up[0] + (1 - a) * up[1])
        np.testing.assert_allclose(found[index], expected.clip(0, 255), atol=0.6)


def pad32(plane, index, form):
    rows, columns = steps(form) if index else (1, 1)
    return np.pad(plane, [(0, -n % (16 // by)) for n, by in zip(plane.shape, (rows, columns), strict=True)], "edge")


def test_sure_levels_stay():
    form, alpha = Format(96, 128), np.zeros((96, 128))
    alpha[:, 64:], alpha[:, 60:68] = 1, np.linspace(0, 1, 8)
    planes = to_planes(np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8), form)
    alphas = alphas_of(alpha, form)
    found = remove(planes, form, alphas)
    for plane, front, share in zip(planes, found, alphas, strict=True):
        np.testing.assert_array_equal(front[share == 255], plane[share == 255])
        assert (front[:, : plane.shape[1] // 4] == plane[:, : plane.shape[1] // 4]).all()
    assert remove(planes, form, alphas_of(0 * alpha, form))[0] is planes[0]


def test_extended_the_subject_goes_on():
    form, alpha = Format(200, 200), disc(200, 200)
    found = to_rgb(remove(to_planes(mixed(alpha), form), form, alphas_of(alpha, form), extend=True), form).astype(int)
    assert np.abs(found - FRONT).max() <= 30
    assert np.abs(found - FRONT)[alpha == 0].mean() <= 4


def test_with_nothing_to_go_by_the_levels_stay_finite():
    form = Format(40, 40)
    planes = to_planes(np.full((40, 40, 3), 90, np.uint8), form)
    for alpha in (np.zeros((40, 40)), np.ones((40, 40)), np.full((40, 40), 0.5)):
        found = remove(planes, form, alphas_of(alpha, form), extend=True)
        assert np.abs(to_rgb(found, form).astype(int) - 90).max() <= 2

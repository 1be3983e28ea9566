"""The guided upsampling: exact where the model holds, the same in strips as in one, better than bilinear."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli.inference import guided


def picture(height, width, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_affine_alpha_is_exact_at_any_size(dtype):
    rgb = picture(97, 143, dtype)
    slope = np.tile(np.array([0.5, -0.2, 0.3], np.float32)[:, None, None], (1, 12, 18))
    alpha = guided.apply(rgb, slope, np.full((12, 18), 0.1, np.float32))
    expected = rgb / np.iinfo(dtype).max @ [0.5, -0.2, 0.3] + 0.1
    np.testing.assert_allclose(alpha, expected.clip(0, 1), atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    full=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    coarse=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    strip=st.integers(1, 3000),
)
def test_strips_equal_the_whole(full, coarse, strip):
    rng = np.random.default_rng(1)
    rgb, slope, intercept = picture(*full), rng.normal(size=(3, *coarse)), rng.normal(size=coarse)
    slope, intercept = slope.astype(np.float32), intercept.astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guided, "STRIP", strip)
        found = guided.apply(rgb, slope, intercept)
    up = [cv2.resize(plane, full[::-1], interpolation=cv2.INTER_LINEAR) for plane in (*slope, intercept)]
    whole = sum(up[c] * (rgb[..., c] / np.float32(255)) for c in range(3)) + up[3]
    np.testing.assert_allclose(found, whole.clip(0, 1), atol=1e-4)


def test_at_the_networks_own_size_its_alpha_comes_back():
    rgb, alpha = picture(40, 50), np.random.default_rng(2).random((40, 50), np.float32)
    slope, intercept = guided.fit(rgb.astype(np.float32) / 255, alpha)
    np.testing.assert_allclose(guided.apply(rgb, slope, intercept), alpha, atol=1e-4)


def test_fit_finds_the_slope_of_an_affine_alpha():
    image = np.random.default_rng(3).random((60, 60, 3), np.float32)
    slope, intercept = guided.fit(image, image @ np.float32([0.6, -0.3, 0.2]) + np.float32(0.3), epsilon=1e-9)
    np.testing.assert_allclose(slope.mean((1, 2)), [0.6, -0.3, 0.2], atol=1e-3)
    np.testing.assert_allclose(intercept, 0.3, atol=1e-3)


@pytest.mark.parametrize("factor", [4, 8])
def test_hairs_come_back_sharper_than_bilinear(factor):
    """Drawn strands over a gradient, their alpha shrunk by area and brought back."""
    alpha = np.zeros((512, 512), np.float32)
    cv2.ellipse(alpha, (256, 400), (150, 200), 0, 0, 360, 1, -1, cv2.LINE_AA)
    strands = np.zeros((512, 512), np.uint8)
    for x, y in np.random.default_rng(4).integers(0, 512, (60, 2)).tolist():
        cv2.line(strands, (256, 300), (x, y // 2), 255, 1, cv2.LINE_AA)
    alpha = np.maximum(alpha, strands / np.float32(255))
    ramp = np.linspace(0.6, 0.9, 512, dtype=np.float32)[None, :, None] * np.float32([0.7, 0.9, 1])
    rgb = np.rint(255 * (ramp + alpha[..., None] * (np.float32([0.3, 0.2, 0.1]) - ramp))).astype(np.uint8)
    small = (512 // factor, 512 // factor)
    coarse = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA)
    image = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    error = np.abs(guided.apply(rgb, *guided.fit(image, coarse)) - alpha).mean()
    bilinear = np.abs(cv2.resize(coarse, (512, 512), interpolation=cv2.INTER_LINEAR) - alpha).mean()
    assert error < 0.6 * bilinear

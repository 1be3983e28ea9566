"""Foreground colours: against pymatting's multi-level estimation, and against colours that are known."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli.media import foreground as module
from mattecli.media.foreground import estimate_foreground


def scene(height=300, width=400, seed=0):
    """(image, alpha, foreground): a coloured disc with soft hair over a striped background."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot(x - width / 2, y - height / 2) / min(height, width)
    hair = cv2.resize(random.random((height // 2, width // 2), np.float32), (width, height))
    alpha = np.clip((0.34 - radius) / 0.16 + 0.7 * (hair - 0.5), 0, 1)
    alpha[radius > 0.46] = 0
    colours = cv2.resize(random.random((4, 5, 3), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    front = np.clip(0.1 + 0.5 * colours, 0, 1)
    back = np.stack([0.5 + 0.5 * np.sin(x / 9), 0.5 + 0.4 * np.cos(y / 15), 0.9 - 0 * x], -1)
    image = alpha[..., None] * front + (1 - alpha[..., None]) * back
    return image.astype(np.float32), alpha.astype(np.float32), front.astype(np.float32)


def error(one, other, weight):
    """Mean absolute difference, weighted."""
    return float((np.abs(one - other) * weight[..., None]).sum() / weight.sum() / 3)


@pytest.mark.parametrize("seed", range(3))
def test_against_pymatting_and_truth(seed):
    reference = pytest.importorskip("pymatting").estimate_foreground_ml
    image, alpha, truth = scene(seed=seed)
    ours, theirs = estimate_foreground(image, alpha), reference(image, alpha)
    soft = alpha * ((alpha > 0) & (alpha < 1))
    assert error(ours, truth, soft) <= 1.05 * error(theirs, truth, soft)
    assert error(ours, truth, soft) < 0.5 * error(image, truth, soft)
    assert error(ours, theirs, alpha) < 0.015


def test_no_old_background_in_the_cutout():
    """A blue screen leaves no blue: composited over black, the soft edge is the red of the subject."""
    _, alpha, _ = scene()
    front, back = np.float32([0.8, 0.1, 0.1]), np.float32([0, 0, 1])
    image = alpha[..., None] * front + (1 - alpha[..., None]) * back
    found = estimate_foreground(image, alpha)
    assert np.abs(found - front)[alpha > 0.05].max() < 0.03


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_pictures(dtype):
    image, alpha, _ = scene()
    top = np.iinfo(dtype).max
    whole, matte = np.rint(image * top).astype(dtype), np.rint(alpha * top).astype(dtype)
    found = estimate_foreground(whole, matte)
    assert found.dtype == dtype
    expected = estimate_foreground(whole / np.float32(top), matte / np.float32(top))
    seen = alpha > 0.5 / 255
    assert np.abs(found / top - expected)[seen].max() <= 0.51 / top + 1e-5
    np.testing.assert_array_equal(found[matte == top], whole[matte == top])


def test_tiles_change_nothing(monkeypatch):
    image, alpha, _ = scene()
    whole = estimate_foreground(image, alpha)
    monkeypatch.setattr(module, "_TILE", 16)
    seen = alpha > 0.5 / 255
    np.testing.assert_allclose(estimate_foreground(image, alpha)[seen], whole[seen], atol=1e-6)


def test_only_soft_boxes_are_solved_in_full(monkeypatch):
    image, alpha, _ = scene()
    hard = (alpha > 0.5).astype(np.float32)
    hard[150:160, 200:210] = 0.5
    solved, solve = [], module._Level.solve

    def noted(level, top, left, height, width):
        solved.append((level.step, height * width))
        return solve(level, top, left, height, width)

    monkeypatch.setattr(module._Level, "solve", noted)
    estimate_foreground(image, hard)
    assert sum(size for step, size in solved if step == 1) <= 12 * 12


def test_differs_from_pymatting_no_more_than_pymatting_turned_around():
    reference = pytest.importorskip("pymatting").estimate_foreground_ml
    image, alpha, _ = scene()
    theirs = reference(image, alpha)
    turned = reference(np.ascontiguousarray(image[::-1, ::-1]), np.ascontiguousarray(alpha[::-1, ::-1]))[::-1, ::-1]
    assert error(estimate_foreground(image, alpha), theirs, alpha) <= error(turned, theirs, alpha)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 9), st.sampled_from([0.0, 0.5, 1.0, None]))
def test_any_size_and_alpha(height, width, seed, level):
    random = np.random.default_rng(seed)
    image = random.random((height, width, 3), np.float32)
    alpha = random.random((height, width), np.float32)
    if level is not None:
        alpha[:] = level
    before = image.copy()
    found = estimate_foreground(image, alpha)
    assert found.shape == image.shape and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(found[alpha == 1], image[alpha == 1])


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="H, W"):
        estimate_foreground(np.zeros((4, 5, 3), np.float32), np.zeros((5, 4), np.float32))

"""Planes in pieces are as planes in one."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli.inference import planes
from mattecli.inference.planes import Squares, bands, enlarge, extremes, pad, shrink, window


def noise(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 90), small=st.integers(1, 40), rows=st.integers(1, 60), width=st.integers(1, 9))
def test_bands_equal_the_whole(height, small, rows, width):
    coarse = noise(small, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planes, "ROWS", rows)
        found = [band.resized(coarse, 7) for band in bands(height, small)]
    whole = cv2.resize(coarse, (7, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(np.vstack(found), whole.reshape(height, 7), atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(high=st.integers(1, 20), by=st.sampled_from([(1, 1), (1, 2), (2, 2), (4, 2)]), cuts=st.lists(st.integers(1, 60)))
def test_windows_equal_the_whole(high, by, cuts):
    coarse = noise(high, 6)
    height, width = high * by[0], 6 * by[1]
    whole = enlarge(coarse, by, height, width)
    edges = [0, *sorted({cut for cut in cuts if cut < height}), height]
    found = [window(coarse, by, slice(a, b), width - 1) for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(np.vstack(found), whole[:, : width - 1], atol=1e-6)


def test_squares_are_taken_put_back_and_enlarged_in_place():
    plane, size = noise(32, 48), (8, 16)
    mask = np.random.default_rng(1).random((4, 3)) < 0.6
    squares = Squares(*np.nonzero(mask))
    copy = np.zeros_like(plane)
    squares.put(copy, size, squares.take(plane, size))
    np.testing.assert_array_equal(copy, plane * np.kron(mask, np.ones(size)))
    small = shrink(plane, (4, 2))
    rim = cv2.copyMakeBorder(small, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    whole = enlarge(small, (4, 2), 32, 48)
    np.testing.assert_allclose(squares.enlarged(rim, (4, 2), size), squares.take(whole, size), atol=1e-6)
    least, most = extremes(plane, size)
    np.testing.assert_array_equal(least[mask], squares.take(plane, size).min((1, 2)))
    np.testing.assert_array_equal(most[mask], squares.take(plane, size).max((1, 2)))


def test_shrinking_averages_and_repeats_the_last_samples():
    plane = noise(5, 7)
    found = shrink(plane, (2, 4))
    whole = np.pad(plane, ((0, 1), (0, 1)), "edge").reshape(3, 2, 2, 4).mean((1, 3))
    np.testing.assert_allclose(found, whole, atol=1e-6)
    assert pad(plane, (5, 7)) is plane

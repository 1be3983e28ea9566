"""Holes are filled from what surrounds them."""

from __future__ import annotations

import numpy as np
import pytest

from mattecli.mixing.push_pull import extended


@pytest.mark.parametrize("gain", [1, 4])
@pytest.mark.parametrize("size", [(64, 64), (37, 50)])
def test_one_colour_fills_every_hole(size, gain):
    known = np.zeros(size, np.float32)
    known[:: size[0] - 1, :: size[1] // 5] = 1
    picture = np.full((*size, 2), 0.7, np.float32)
    filled = extended(picture * known[..., None], known, gain)
    assert np.abs(filled - 0.7).max() < 1e-5


def test_what_is_known_stays_and_what_is_unknown_lies_between():
    picture = np.zeros((40, 60, 2), np.float32)
    picture[:, 30:] = 1
    known = np.ones((40, 60), np.float32)
    known[10:30, 20:40] = 0
    filled = extended(picture * known[..., None], known)
    assert np.array_equal(filled[known > 0], picture[known > 0])
    assert np.abs(filled[12:28, 21, 0] - 0.1).max() < 0.1 and np.abs(filled[12:28, 38, 0] - 0.9).max() < 0.1


def test_gain_listens_to_what_is_near():
    known = np.zeros((64, 64), np.float32)
    known[32, 24], known[:, :4] = 1, 1
    picture = np.zeros((64, 64, 2), np.float32)
    picture[32, 24] = 1
    far, near = (extended(picture * known[..., None], known, gain)[32, 27, 0] for gain in (1, 4))
    assert near > 2 * far

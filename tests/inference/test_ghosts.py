from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mattecli.inference.coarse import Coarse
from mattecli.inference.ghosts import without_ghosts


def coarse(*pieces: tuple[int, int, int, float]) -> Coarse:
    """Discs (x, y, radius, alpha) of a matte of 256 x 320."""
    alpha = np.zeros((256, 320), np.float32)
    for x, y, radius, opaque in pieces:
        alpha = np.maximum(alpha, cv2.circle(np.zeros_like(alpha), (x, y), radius, opaque, -1))
    seen = np.zeros((256, 320, 3), np.uint8)
    return Coarse(alpha, seen, (np.zeros((3, 128, 160), np.float32), cv2.resize(alpha, (160, 128))))


PERSON = (90, 128, 60, 1.0)


def test_a_half_transparent_piece_far_from_the_subject_goes() -> None:
    cleaned = without_ghosts(coarse(PERSON, (250, 60, 30, 0.35)))
    assert_array_equal(cleaned.alpha, coarse(PERSON).alpha)
    assert cleaned.at(np.zeros((512, 640, 3), np.uint8))[:, 420:].max() == 0


@pytest.mark.parametrize("other", [(250, 60, 30, 0.55), (157, 128, 4, 0.2), (250, 60, 10, 1.0)])
def test_people_who_are_surer_and_wisps_beside_the_subject_stay(other: tuple[int, int, int, float]) -> None:
    before = coarse(PERSON, other)
    assert without_ghosts(before) is before


def test_what_lies_between_goes_in_part_so_that_no_rounding_decides() -> None:
    left = without_ghosts(coarse(PERSON, (250, 60, 30, 0.45))).alpha[60, 250]
    assert 0.15 < left < 0.3


def test_a_faint_subject_alone_stays() -> None:
    faint = coarse((90, 128, 60, 0.3), (250, 60, 20, 0.2))
    assert without_ghosts(faint).alpha[128, 90] == np.float32(0.3)
    assert without_ghosts(faint).alpha[60, 250] == 0
    nothing = coarse()
    assert without_ghosts(nothing) is nothing

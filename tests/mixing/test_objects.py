import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli.mixing import objects
from mattecli.mixing.batch import Label
from mattecli.mixing.sources import Picture

SEEDS = st.integers(0, 2**32 - 1)
GREEN, BLUE = (0, 180, 0), (0, 0, 180)


def _texture():
    return np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8)


def _picture(soft=1.5, label=Label.MATTE):
    """A blue ellipse before green."""
    alpha = np.zeros((240, 160), np.uint8)
    cv2.ellipse(alpha, (80, 120), (40, 100), 0, 0, 360, 255, -1)
    alpha = cv2.GaussianBlur(alpha, (0, 0), soft)
    foreground, share = np.full((240, 160, 3), BLUE, np.uint8), alpha[..., None] / 255
    rgb = np.rint(share * foreground + (1 - share) * np.array(GREEN)).astype(np.uint8)
    return Picture(rgb, label, alpha, foreground)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(1, 120))
def test_a_solid_fills_a_part_of_its_square_and_has_a_thin_edge(seed, side):
    colours, alpha = objects.solid(side, _texture(), np.random.default_rng(seed))
    assert colours.shape == (*alpha.shape, 3) and colours.min() >= 0 and colours.max() <= 255
    assert alpha.min() >= 0 and alpha.max() <= 1
    if side > 60:
        assert alpha[0, 0] == alpha[0, -1] == alpha[-1, 0] == alpha[-1, -1] == 0 and alpha.max() > 0.5
        assert ((alpha > 0) & (alpha < 1)).mean() < 0.12


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_a_held_thing_belongs_to_the_subject_and_is_what_is_seen(seed):
    before = _picture()
    after = objects.held(before, _texture(), np.random.default_rng(seed))
    assert (after.alpha >= before.alpha).all()
    share, colours = after.alpha[..., None] / 255.0, after.foreground.astype(float)
    composed = share * colours + (1 - share) * np.array(GREEN)
    assert np.abs(composed - after.rgb).max() <= 3, "colours and alpha compose the picture"
    unmoved = (after.rgb == before.rgb).all(-1)
    assert (after.foreground[unmoved & (before.alpha > 250)] == BLUE).all()


def test_most_people_asked_to_hold_something_do_and_it_reaches_past_them():
    reached = 0
    for seed in range(40):
        before = _picture()
        after = objects.held(before, _texture(), np.random.default_rng(seed))
        grown = int((after.alpha > 127).sum()) - int((before.alpha > 127).sum())
        hidden = ((after.foreground != BLUE).any(-1) & (before.alpha > 250)).sum()
        assert grown == 0 or hidden > 0
        reached += grown > 100
    assert reached > 10


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_a_thing_behind_changes_what_is_not_the_subject(seed):
    before = _picture()
    after = objects.behind(before, _texture(), np.random.default_rng(seed))
    assert after.alpha is before.alpha and after.foreground is before.foreground
    assert (after.rgb[before.alpha == 255] == before.rgb[before.alpha == 255]).all()
    share = before.alpha / 255
    assert ((share > 0.2) & (share < 0.8)).sum() > 100
    assert (after.rgb[..., 2] >= np.floor(share * BLUE[2])).all(), "soft pixels keep their share of the subject's blue"


def test_things_stand_behind():
    changed = [
        (objects.behind(_picture(), _texture(), np.random.default_rng(seed)).rgb != _picture().rgb).any()
        for seed in range(20)
    ]
    assert sum(changed) > 10


def test_what_a_trimap_does_not_know_holds_nothing():
    unknown = Picture(_picture().rgb, Label.MASK, np.full((240, 160), 128, np.uint8))
    assert objects.held(unknown, _texture(), np.random.default_rng(0)) is unknown


def test_scenery_gets_things_in_it():
    scenery = np.full((120, 200, 3), GREEN, np.uint8)
    after = objects.standing(scenery, _texture(), np.random.default_rng(3))
    assert after.shape == scenery.shape and (scenery == GREEN).all(), "the picture given is not written to"
    assert 50 < (after != GREEN).any(-1).sum() < after[..., 0].size


@pytest.mark.parametrize("shape", [(8, 5, 3), (2, 2, 3), (1, 30, 3)])
def test_small_textures_do(shape):
    for seed in range(20):
        objects.solid(30, np.zeros(shape, np.uint8), np.random.default_rng(seed))

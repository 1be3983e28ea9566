import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli.mixing import labels


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31 - 1), st.integers(0, 6), st.integers(0, 6))
def test_trimap_is_right_where_it_is_sure(seed, dilate, erode):
    alpha = np.random.default_rng(seed).choice(np.float32([0, 0, 0.4, 1, 1]), (20, 24)).astype(np.float32)
    trimap = labels.trimap(alpha, dilate, erode)
    assert set(np.unique(trimap)) <= {0.0, 0.5, 1.0}
    assert (alpha[trimap == 1] > 0.95).all()
    assert (alpha[trimap == 0] < 0.05).all()


def test_trimap_band_is_as_wide_as_asked():
    alpha = np.zeros((9, 40), np.float32)
    alpha[:, 20:] = 1
    row = labels.trimap(alpha, dilate=3, erode=5)[4]
    assert np.flatnonzero(row == 0.5).tolist() == list(range(17, 25))


def test_trimap_of_a_subject_that_leaves_the_picture_is_sure_at_the_border():
    assert (labels.trimap(np.ones((8, 8), np.float32), 3) == 1).all()


def test_boundary_excludes_its_limits():
    alpha = np.float32([[0, 0.05, 0.06, 0.5, 0.94, 0.95, 1]])
    assert labels.boundary(alpha).tolist() == [[0, 0, 1, 1, 1, 0, 0]]


def test_interior_leaves_out_the_edge_only():
    mask = np.zeros((9, 20), np.float32)
    mask[:, 10:] = 1
    assert np.flatnonzero(labels.interior(mask, 2)[4] == 0).tolist() == [8, 9, 10, 11]
    assert labels.interior(mask, 0).all()


def test_boxes_know_only_what_lies_outside():
    known = labels.outside_boxes((10, 10), np.float32([[0.2, 0.3, 0.5, 0.6]]), margin=0.0)
    assert known.sum() == 100 - 9
    assert (known[3:6, 2:5] == 0).all()


def test_specks_are_closed_and_the_rest_stays():
    mask = np.zeros((100, 100), bool)
    mask[20:80, 20:80] = True
    speckled = mask.copy()
    speckled[50, 50] = False
    speckled[5, 5] = True
    assert (labels.without_specks(speckled) == mask).all()
    speckled[40:50, 40:50] = False
    assert not labels.without_specks(speckled)[45, 45]

"""Plates held by hand: views of one scene from a camera that moved, with somebody in one of them."""

import cv2
import numpy as np
import pytest

from mattecli.errors import InputError
from mattecli.inference.guidance.aligning import follow, lay, register

SIZE = (270, 480)
SUBJECT = (slice(90, None), slice(180, 300))


def scene(seed=0):
    """Coloured boards one on the other, larger than a view."""
    rng = np.random.default_rng(seed)
    rgb = np.full((420, 700, 3), 120, np.uint8)
    for _ in range(500):
        corner = rng.integers(0, (700, 420))
        cv2.rectangle(rgb, corner, corner + rng.integers(6, 60, 2), rng.integers(40, 200, 3).tolist(), -1)
    return cv2.GaussianBlur(rgb, (0, 0), 0.8)


def camera(turn=0.0, right=0.0, down=0.0, tilt=0.0):
    """From the scene's pixels to a view's: degrees, pixels, perspective."""
    height, width = SIZE
    matrix = np.vstack((cv2.getRotationMatrix2D((350, 210), turn, 1), (tilt, 0, 1)))
    return np.array([[1, 0, width / 2 - 350 + right], [0, 1, height / 2 - 210 + down], [0, 0, 1]]) @ matrix


def view(matrix, seed=0, size=SIZE):
    return cv2.warpPerspective(scene(seed), matrix, size[::-1], flags=cv2.INTER_CUBIC)


def with_subject(rgb):
    """Somebody with a pattern of their own, cut off by the lower edge."""
    rgb = rgb.copy()
    rgb[SUBJECT] = 255 - scene(7)[:180, :120]
    return rgb


def corners(found, truth):
    """Mean distance of the picture's corners in pixels; `found` is in shares of the sides."""
    height, width = SIZE
    shares = np.array([[[0, 0], [1, 0], [1, 1], [0, 1]]], np.float64)
    ends = cv2.perspectiveTransform(shares, found) * (width, height) - 0.5
    return np.linalg.norm(ends - cv2.perspectiveTransform(shares * (width, height) - 0.5, truth), axis=-1).mean()


MOVED = camera(turn=3, right=17, down=-9, tilt=4e-5)
TRUTH = camera() @ np.linalg.inv(MOVED)


@pytest.fixture(scope="module")
def pair():
    """A picture with somebody in it, and the plate: seen from elsewhere, darker and yellower."""
    noise = np.random.default_rng(1).normal(0, 2, (2, *SIZE, 3))
    picture = with_subject(view(camera())) + noise[0]
    plate = view(MOVED) * (0.85, 0.8, 0.7) + noise[1]
    return tuple(np.rint(rgb).clip(0, 255).astype(np.uint8) for rgb in (picture, plate))


def test_the_corners_are_found_in_spite_of_the_subject(pair):
    picture, plate = pair
    assert corners(np.eye(3), TRUTH) > 20
    assert corners(register(plate, picture), TRUTH) < 0.5


def test_another_size_and_depth(pair):
    """A plate of twice the picture's size, whose proportions differ."""
    picture, plate = pair
    larger = cv2.resize(plate, (960, 600), interpolation=cv2.INTER_CUBIC).astype(np.uint16) * 257
    found = register(larger, picture)
    assert corners(found, TRUTH) < 0.5
    laid = lay(larger, picture, found)
    assert laid.dtype == np.uint8 and laid.shape == picture.shape
    deep = lay(plate, picture.astype(np.uint16) * 257, found)
    assert deep.dtype == np.uint16 and np.abs(deep / 257 - laid).mean() < 2


OTHERS = {
    "scene": view(MOVED, seed=3),
    "plain": np.full((270, 480, 3), 90, np.uint8),
    "tiny": np.zeros((2, 1, 3), np.uint8),
}


@pytest.mark.parametrize("plate", OTHERS.values(), ids=OTHERS)
def test_another_scene_is_told(pair, plate):
    with pytest.raises(InputError, match="another scene, or too little texture"):
        register(plate, pair[0])


def test_the_next_frames_are_followed(pair):
    """The camera goes on by some pixels a frame, and nothing adds up."""
    _, plate = pair
    found = register(plate, pair[0])
    for step in range(1, 6):
        matrix = camera(turn=0.4 * step, right=4 * step, down=2 * step)
        found = follow(plate, with_subject(view(matrix)), found)
        assert corners(found, matrix @ np.linalg.inv(MOVED)) < 0.5
    assert follow(plate, view(camera(), seed=3), found) is None


def test_what_is_laid_equals_the_background(pair):
    """In place and exposure; what the plate doesn't show is the picture's."""
    picture, plate = pair
    laid = lay(plate, picture, register(plate, picture))
    behind = view(camera()).astype(int)
    assert np.abs(plate - behind).mean() > 20
    assert np.abs(laid - behind).mean() < 4
    shown = cv2.warpPerspective(np.full(SIZE, 255, np.uint8), TRUTH, SIZE[::-1])
    strip = (shown == 0) & (np.indices(SIZE)[1] > 320)
    assert strip.sum() > 300
    assert (laid[strip] == picture[strip]).mean() > 0.95


def test_a_subject_at_the_edge_is_not_cut_off(pair):
    """Below the plate's lower edge there is no background to see, yet the subject must differ from what is laid."""
    picture, _ = pair
    higher = camera(down=25)
    laid = lay(view(higher), picture, register(view(higher), picture)).astype(int)
    rows, columns = slice(-20, None), slice(190, 290)
    assert np.abs(laid - picture)[rows, columns].mean() > 20
    assert np.abs(laid - picture)[rows, :170].mean() < 1 and np.abs(laid - picture)[rows, 310:].mean() < 1

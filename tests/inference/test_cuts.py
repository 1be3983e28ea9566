"""Cuts of a clip: found where another scene begins, not where only camera, light or subjects change."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mattecli.inference.cuts import Cuts

ASSETS = Path(__file__).parents[2] / "assets"
HEIGHT, WIDTH, LENGTH = 72, 128, 12
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photos():
    return [cv2.imread(str(ASSETS / f"{name}.jpg"))[..., ::-1] for name in ("portrait", "example", "backdrop")]


def window(photo, x=0.5, y=0.5, share=0.6, angle=0.0):
    """What a camera sees that points at (x, y) of `photo` and takes in `share` of its width or height."""
    height, width = photo.shape[:2]
    scale = share * min(width / WIDTH, height / HEIGHT)
    turn = cv2.getRotationMatrix2D((0, 0), angle, scale)
    turn[:, 2] = np.array([x * width, y * height]) - turn[:, :2] @ [WIDTH / 2, HEIGHT / 2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(cv2.blur(photo, (5, 5)), turn, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT)


def lit(picture, gain=1.0, offset=0.0, noise=0.0):
    return (picture * gain + offset + noise * rng.normal(size=picture.shape)).clip(0, 255).astype(np.uint8)


def found(frames):
    """Numbers of the frames that begin a scene, without the first, which always does."""
    cuts = Cuts()
    begins = [number for number, frame in enumerate(frames) if cuts.begins(frame)]
    assert begins[0] == 0
    return begins[1:]


MOVES = {
    "pan": lambda t: {"x": 0.4 + 0.02 * t},
    "zoom": lambda t: {"share": 0.5 * 1.03**t},
    "shake": lambda t: {"x": 0.5 + 0.012 * np.sin(9 * t), "y": 0.5 + 0.012 * np.cos(7 * t), "angle": np.sin(5 * t)},
    "roll": lambda t: {"angle": 2 * t},
}
LIGHTS = {
    "ramp": lambda t: {"gain": 0.4 * 1.12**t},
    "dimmed at once": lambda t: {"gain": 0.5 if t > 5 else 1},
    "flashes": lambda t: {"gain": 2.5, "offset": 30} if t in (3, 4, 8) else {},
    "noise": lambda t: {"noise": 10},
}


@pytest.mark.parametrize("move", MOVES)
def test_cameras_move_within_a_scene(photos, move):
    for photo in photos:
        assert found([window(photo, **MOVES[move](t)) for t in range(LENGTH)]) == []


@pytest.mark.parametrize("light", LIGHTS)
def test_light_changes_within_a_scene(photos, light):
    for photo in photos:
        assert found([lit(window(photo, x=0.45 + 0.005 * t), **LIGHTS[light](t)) for t in range(LENGTH)]) == []


def test_subjects_move_within_a_scene(photos):
    back, front = window(photos[2]), window(photos[0])[:, : WIDTH // 3]
    frames = []
    for t in range(LENGTH):
        left = 7 * t
        frames.append(back.copy())
        frames[-1][:, left : left + front.shape[1]] = front[:, : WIDTH - left]
    assert found(frames) == []


@pytest.mark.parametrize("light", ["steady", *LIGHTS])
def test_another_photo_is_a_cut(photos, light):
    for a, b in [(0, 1), (1, 2), (2, 0)]:
        scenes = [window(photos[a if t < 6 else b], x=0.45 + 0.005 * t) for t in range(LENGTH)]
        frames = [lit(frame, **LIGHTS.get(light, lambda t: {})(t)) for t, frame in enumerate(scenes)]
        assert found(frames) == [6]


def test_a_cut_between_pictures_of_one_brightness_and_colour(photos):
    one, other = (window(photo).astype(np.float32) for photo in photos[:2])
    other = (other - other.mean((0, 1))) / other.std((0, 1)) * one.std((0, 1)) + one.mean((0, 1))
    assert found([lit(one, noise=3)] * 5 + [lit(other, noise=3)] * 5) == [5]


def test_there_and_back_are_two_cuts(photos):
    one, other = (window(photo) for photo in photos[:2])
    assert found([one, one, other, other, one, one]) == [2, 4]


def test_what_never_correlates_is_cut_no_longer_after_a_while():
    frames = [rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8) // 8 for _ in range(40)]
    assert max(found(frames), default=0) < 20


def test_a_new_size_begins_a_scene(photos):
    one = window(photos[0])
    assert found([one, one, one[:, :90], one[:, :90]]) == [2]


def test_sixteen_bits_are_seen_as_eight(photos):
    frames = [window(photos[0])] * 3 + [window(photos[1])] * 3
    assert found([frame.astype(np.uint16) * 257 for frame in frames]) == [3]

"""The plates of photos and clips: which belongs to which, and what doesn't fit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from mattecli.errors import InputError, UsageError
from mattecli.inference.guidance.hints import NOTHING, Hints
from mattecli.inference.guidance.plate import check, for_clip, for_photos, open_plate
from mattecli.media.batch import Job
from mattecli.media.clips.planes.frame import Colour, Format, Frame
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.photos import Photo
from tests.inference.guidance.test_aligning import MOVED, camera, view, with_subject
from tests.media.clips.making import make_clip


def photo(rgb, name="a.jpg"):
    return Photo(rgb, None, None, None, name)


def save(path, rgb):
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return str(path)


def plain(level, height=40, width=60):
    return np.full((height, width, 3), level, np.uint8)


def behind(text, rgb, *, align=False, names=("a.jpg",)):
    jobs = [Job(Path(name), Path(f"{name}.png")) for name in names]
    hint = for_photos(str(text), jobs, align, lambda photo: NOTHING)
    return [hint(photo(rgb, name)).background for name in names]


def test_one_plate_serves_all_photos_and_keeps_other_hints(tmp_path):
    plate = save(tmp_path / "plate.png", plain(7, 20, 30))
    for found in behind(plate, plain(0), names=("a.jpg", "b.jpg")):
        np.testing.assert_array_equal(found, plain(7))
    region = np.ones((40, 60), np.float32)
    hints = for_photos(plate, [Job(Path("a.jpg"), None)], False, lambda photo: Hints(region=region))(photo(plain(0)))
    assert hints.region is region and hints.background is not None


def test_a_folder_has_one_for_each(tmp_path):
    save(tmp_path / "a.png", plain(1))
    save(tmp_path / "b.tif", plain(2))
    found = behind(tmp_path, plain(0), names=("a.jpg", "b.jpg"))
    assert [rgb[0, 0, 0] for rgb in found] == [1, 2]
    with pytest.raises(InputError, match=r"c\.jpg: .* holds no picture called c"):
        behind(tmp_path, plain(0), names=("a.jpg", "c.jpg"))


def test_other_proportions_are_told_with_both_sizes(tmp_path):
    plate = save(tmp_path / "plate.png", plain(7, 60, 40))
    with pytest.raises(InputError, match=r"plate\.png is 40 x 60 pixels, a\.jpg is 60 x 40.*--align"):
        behind(plate, plain(0))
    with pytest.raises(UsageError, match=r"plate\.png is 40 x 60 pixels, clip\.mp4 is 60 x 40.*--align"):
        for_clip(plate, "clip.mp4", Format(40, 60))
    assert for_clip(plate, "clip.mp4", Format(40, 60), align=True)
    assert for_clip(plate, "clip.mp4", Format(120, 160, aspect=Fraction(1, 2)))


def test_a_photo_by_hand(tmp_path):
    picture = with_subject(view(camera()))
    (laid,) = behind(save(tmp_path / "plate.png", view(MOVED)), picture, align=True)
    assert laid.shape == picture.shape and np.abs(laid.astype(int) - view(camera())).mean() < 3
    with pytest.raises(InputError, match=r"a\.jpg and .*other\.png: the plate shows another scene"):
        behind(save(tmp_path / "other.png", view(MOVED, seed=3)), picture, align=True)


def frame(rgb, number):
    """Of 25 a second."""

    def seen(height, width):
        return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)

    return Frame(Format(*rgb.shape[:2]), [], number, 1, Fraction(1, 25), seen)


def test_a_clip_by_hand(tmp_path):
    """Found at the first frame and at a cut to another view, followed in between, kept where it can't be seen."""
    plate = for_clip(save(tmp_path / "plate.png", view(MOVED)), "clip.mp4", Format(270, 480), align=True)
    cameras = [camera(), camera(right=3, turn=0.3), camera(right=-70, turn=-8)]
    for number, matrix in enumerate(cameras):
        laid = plate(frame(with_subject(view(matrix)), number), 270, 480)
        assert np.abs(laid.astype(int) - view(matrix))[:90].mean() < 3
    hidden = plate(frame(plain(90, 270, 480), len(cameras)), 270, 480)
    assert hidden.shape == (270, 480, 3)


def test_a_clip_of_another_scene(tmp_path):
    plate = for_clip(save(tmp_path / "plate.png", view(MOVED, seed=3)), "clip.mp4", Format(270, 480), align=True)
    with pytest.raises(InputError, match=r"--background .*plate\.png at 0\.00 s of the clip: the plate shows another"):
        plate(frame(view(camera()), 0), 270, 480)


@pytest.mark.parametrize("start", [None, 0.08, 9.0])
def test_a_moving_plate_runs_from_the_same_second_and_its_last_frame_stays(tmp_path, start):
    make_clip(tmp_path / "plate.mkv", 5)
    with open_clip(str(tmp_path / "plate.mkv")) as clip:
        views = [one.view(32, 48) for one in clip]
    plate = open_plate(str(tmp_path / "plate.mkv"), start)
    first = {None: 0, 0.08: 2, 9.0: 4}[start]
    for number in range(7):
        shown = plate(frame(plain(0), number), 32, 48)
        np.testing.assert_array_equal(shown, views[min(first + number, 4)])


def test_a_turned_plate_and_one_in_hdr(tmp_path):
    make_clip(tmp_path / "turned.mp4", 2, turn=(90, False, False))
    assert for_clip(str(tmp_path / "turned.mp4"), "clip.mp4", Format(96, 64)).size == (96, 64)
    make_clip(tmp_path / "hdr.mkv", 2, pixel="yuv420p10le", colour=Colour(9, 9, 16))
    shown = for_clip(str(tmp_path / "hdr.mkv"), "clip.mp4", Format(64, 96))(frame(plain(0), 0), 64, 96)
    assert shown.dtype == np.uint8 and shown.shape == (64, 96, 3)


@pytest.mark.parametrize("text", ["-", "webcam:0"])
def test_a_plate_that_can_be_read_only_once(text):
    with pytest.raises(UsageError, match="save it to a file first"):
        open_plate(text)


@pytest.mark.parametrize(
    "needs, background, align, words",
    [
        ("background", None, False, "needs to see the scene"),
        ("image", "p.png", False, "looks at no background plate"),
        ("image", None, True, "give one with --background"),
    ],
)
def test_flags_that_do_not_go_together(needs, background, align, words):
    with pytest.raises(UsageError, match=words):
        check("net", needs, background, align)
    check("net", "background", "p.png", True)

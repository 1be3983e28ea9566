"""Cutouts, composites and crops, where the alpha, the foreground and the background are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli.errors import UsageError
from mattecli.inference import background
from mattecli.inference.output import Output, Shares, blend, foreground, quantise, subject
from mattecli.media.photos import Photo

FRONT, BACK = np.array([230, 40, 40], np.uint8), np.array([20, 60, 200], np.uint8)


def disc(height=160, width=200, soft=12.0):
    """A soft-edged disc: alpha `HxW`."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return ((50 - distance) / soft + 0.5).clip(0, 1).astype(np.float32)


def photo(alpha, front=FRONT, back=BACK, own=None):
    rgb = blend(alpha, np.full((*alpha.shape, 3), front, np.uint8), np.full((*alpha.shape, 3), back, np.uint8))
    return Photo(rgb, own, b"profile", b"exif", "photo.jpg")


def test_over_the_true_background_the_photo_comes_back():
    alpha = disc()
    shot = photo(alpha)
    output = Output("composite", background.still(BACK.reshape(1, 1, 3), b"profile"))
    found = output.render(shot, alpha)
    assert np.abs(found.pixels.astype(int) - shot.rgb).max() <= 3
    assert (found.icc, found.exif) == (b"profile", b"exif")


def test_no_fringe_of_the_old_background():
    alpha = disc()
    found = Output("composite", background.parse("white")).render(photo(alpha), alpha).pixels
    expected = blend(alpha, np.full_like(found, FRONT), np.full_like(found, 255))
    assert np.abs(found.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_cutout_is_straight(bit_depth):
    alpha = disc()
    pixels = Output("cutout", bit_depth=bit_depth).render(photo(alpha), alpha).pixels
    top = 2**bit_depth - 1
    assert pixels.dtype == (np.uint8 if bit_depth == 8 else np.uint16)
    np.testing.assert_array_equal(pixels[..., 3], np.rint(alpha * top))
    visible = pixels[alpha > 0.05][:, :3] / top
    assert np.abs(visible - FRONT / 255).max() < 0.03


def test_alpha_carries_no_profile_and_rounds():
    alpha = disc()
    found = Output(bit_depth=16).render(photo(alpha), alpha)
    assert found.icc is None and found.exif is None and found.note is None
    np.testing.assert_array_equal(found.pixels, np.rint(alpha * 65535).astype(np.uint16))


def test_own_alpha_multiplies():
    alpha = disc()
    own = np.full(alpha.shape, 128, np.uint8)
    found = Output().render(photo(alpha, own=own), alpha).pixels
    np.testing.assert_array_equal(found, np.rint(alpha * np.float32(128 / 255) * 255))


def test_shares_are_of_the_whole_photo_however_it_is_cropped():
    alpha = np.zeros((40, 50), np.float32)
    alpha[10:20, 10:30], alpha[20:25, 10:30], alpha[30, 0], alpha[31, 0] = 1, 0.5, 0.05, 0.95
    alpha[0, 0] = 0.04
    found = Output("cutout", margin=0.0).render(photo(alpha), alpha)
    assert found.shares == Shares(subject=round((200 + 50 + 1.04) / 2000, 5), soft=100 / 2000)
    own = np.full(alpha.shape, 128, np.uint8)
    assert Output().render(photo(alpha, own=own), alpha).shares.soft == pytest.approx(301 / 2000, abs=1e-5)


def test_crop_keeps_the_subject_and_a_margin():
    alpha = disc()
    found = Output(margin=0.1).render(photo(alpha), alpha)
    left, top, right, bottom = found.box
    assert found.pixels.shape == (bottom - top, right - left)
    assert (np.where(alpha > 0.1)[0].min() - top) == pytest.approx(0.1 * 110, abs=3)
    np.testing.assert_array_equal(found.pixels, quantise(alpha, np.dtype("uint8"))[top:bottom, left:right])


@pytest.mark.parametrize("kind", ["alpha", "cutout", "foreground", "composite"])
def test_no_subject_is_said(kind):
    alpha = np.zeros((40, 60), np.float32)
    found = Output(kind, background.parse("white"), margin=0.1).render(photo(alpha), alpha)
    assert "no subject" in found.note
    assert found.box is None
    assert found.pixels.shape[:2] == (40, 60)


@pytest.mark.parametrize(("kind", "said"), [("alpha", None), ("cutout", "photo.jpg: its colours are odd.")])
def test_what_became_of_the_colours_is_said_of_colours(kind, said):
    odd = replace(photo(disc()), note="its colours are odd.")
    assert Output(kind).render(odd, disc()).note == said


def test_a_speck_is_no_subject():
    alpha = np.zeros((2000, 3000), np.float32)
    alpha[5, 5] = 1
    assert subject(alpha) is None
    alpha[500:1500, 1000:2000] = 1
    np.testing.assert_allclose(subject(alpha), (1000, 500, 2000, 1500), atol=12)


def test_blur_has_no_halo_of_the_subject():
    alpha = disc()
    found = background.blur(photo(alpha).rgb, alpha, radius=15)
    visible = (1 - alpha[..., None]) * (found - BACK.astype(float))
    assert np.abs(visible).max() <= 2


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(30, 40), (1, 1), (1, 70)])
def test_blur_of_nothing_but_subject_or_background(shape, value):
    alpha = np.full(shape, value, np.float32)
    assert background.blur(photo(alpha).rgb, alpha, radius=40).shape == (*shape, 3)


@pytest.mark.parametrize(
    ("text", "colour"),
    [("white", (255, 255, 255)), ("#1e90ff", (30, 144, 255)), ("30,144,255", (30, 144, 255)), ("#fa0", (255, 170, 0))],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours(text, colour, dtype):
    found, _ = background.parse(text)(np.zeros((2, 3, 3), dtype), np.zeros((2, 3), np.float32), None)
    assert found.dtype == dtype
    assert (found == np.array(colour) * (257 if dtype == np.uint16 else 1)).all()


@pytest.mark.parametrize("text", ["nothing.jpg", "1,2,300", "#12345", "blur:x", "blur:0", "blurred", ""])
def test_what_is_no_background_is_refused(text):
    with pytest.raises(UsageError, match="--bg"):
        background.parse(text)


def test_a_background_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "beach.jpg").write_text("sand")
    with pytest.raises(UsageError, match=r"--bg .*not a photo"):
        background.parse(str(tmp_path / "beach.jpg"))


@settings(deadline=None, max_examples=40)
@given(*[st.integers(1, 60)] * 4)
def test_cover_fills_whatever_the_shapes(high, wide, height, width):
    picture = np.full((high, wide, 3), 7, np.uint8)
    found = background.cover(picture, height, width)
    assert found.shape == (height, width, 3)
    assert (found == 7).all()


def test_cover_keeps_the_centre():
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = 255
    assert (background.cover(picture, 50, 50) == 255).all()


def test_foreground_is_the_photo_where_alpha_is_one():
    alpha = disc()
    rgb = np.random.default_rng(0).integers(0, 256, (*alpha.shape, 3), np.uint8)
    found = foreground(rgb, alpha)
    np.testing.assert_array_equal(found[alpha == 1], rgb[alpha == 1])

"""Backgrounds take on the photo's colour space, with a network whose alpha is the red of the photo."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.cli import app
from mattecli.media.photos import encode, read_photo
from tests.icc import ADOBE_RGB, DISPLAY_P3, PROPHOTO, SRGB
from tests.networks import Red

SAND = np.array([200, 100, 50], np.uint8)
BROKEN = DISPLAY_P3.profile.replace(b"rXYZ", b"????")


@pytest.fixture(autouse=True)
def known_network(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "load", lambda name, weights=None: Red())
    monkeypatch.chdir(tmp_path)


def photo(name, icc=None, dtype=np.uint8):
    """A subject of pure red left, nothing right."""
    rgb = np.zeros((40, 60, 3), dtype)
    rgb[:, :30, 0] = np.iinfo(dtype).max
    Path(name).write_bytes(encode(rgb, Path(name).suffix, icc=icc))
    return name


def beach(icc=None, colour=SAND):
    Path("beach.tiff").write_bytes(encode(np.full((10, 10, 3), colour), ".tiff", icc=icc))
    return "beach.tiff"


def composite(source, bg, *arguments):
    done = CliRunner().invoke(app, ["matte", source, "-o", "out.tiff", "--overwrite", "--bg", bg, *arguments])
    made = read_photo(Path("out.tiff"))
    return SimpleNamespace(code=done.exit_code, err=done.stderr, rgb=made.rgb, icc=made.icc)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("space", [DISPLAY_P3, ADOBE_RGB, PROPHOTO], ids=["p3", "adobe", "prophoto"])
def test_an_srgb_background_in_a_photo_of_a_wide_space(space, depth):
    dtype, top = (np.uint8, 255) if depth == 8 else (np.uint16, 65535)
    source = photo("photo.tiff", space.profile, dtype)
    for bg in (beach(), beach(SRGB.profile), "200,100,50"):
        done = composite(source, bg, "--bit-depth", str(depth))
        assert done.code == 0 and "colours" not in done.err
        assert done.icc == space.profile and done.rgb.dtype == dtype
        np.testing.assert_array_equal(done.rgb[:, :28], read_photo(Path(source)).rgb[:, :28])
        np.testing.assert_allclose(done.rgb[20, 50] / top, SRGB.to(space, SAND / 255), atol=1.6 / 255)


def test_a_wide_background_in_an_untagged_photo():
    done = composite(photo("photo.png"), beach(DISPLAY_P3.profile))
    assert done.code == 0 and done.icc is None
    np.testing.assert_allclose(done.rgb[20, 50] / 255, DISPLAY_P3.to(SRGB, SAND / 255), atol=1.6 / 255)


def test_photos_of_two_spaces_in_one_run():
    Path("in").mkdir()
    photo("in/p3.png", DISPLAY_P3.profile)
    photo("in/plain.png")
    assert CliRunner().invoke(app, ["matte", "in", "-o", "out", "--bg", beach()]).exit_code == 0
    wide, plain = (read_photo(Path("out", name)).rgb[20, 50] for name in ("p3.png", "plain.png"))
    np.testing.assert_array_equal(plain, SAND)
    np.testing.assert_allclose(wide / 255, SRGB.to(DISPLAY_P3, SAND / 255), atol=1.6 / 255)


def test_between_equal_profiles_16_bits_stay():
    colour = np.array([51234, 25678, 12345], np.uint16)
    bg = beach(ADOBE_RGB.profile, colour)
    done = composite(photo("photo.tiff", ADOBE_RGB.profile, np.uint16), bg, "--bit-depth", "16")
    np.testing.assert_array_equal(done.rgb[20, 50], colour)


def test_a_blurred_photo_keeps_its_numbers():
    Path("photo.png").write_bytes(encode(np.full((40, 60, 3), [0, 100, 50], np.uint8), ".png", icc=DISPLAY_P3.profile))
    assert (composite("photo.png", "blur").rgb == [0, 100, 50]).all()


@pytest.mark.parametrize("broken", ["photo", "background"])
def test_a_damaged_profile_is_said_and_nothing_converted(broken):
    source = photo("photo.tiff", BROKEN if broken == "photo" else DISPLAY_P3.profile)
    done = composite(source, beach(BROKEN if broken == "background" else None))
    said = [line for line in done.err.splitlines() if "converted" in line]
    assert done.code == 0 and len(said) == 1 and said[0].startswith("photo.tiff: the background isn't")
    np.testing.assert_array_equal(done.rgb[20, 50], SAND)


def test_each_persons_file_says_so_too():
    done = composite(photo("photo.tiff", BROKEN), beach(), "--pick", "1")
    assert done.code == 0 and "isn't converted" in done.err


@pytest.mark.parametrize("space", [b"CMYK", b"GRAY"])
def test_profiles_that_are_not_for_rgb_count_as_none(space):
    icc = DISPLAY_P3.profile.replace(b"RGB ", space)
    done = composite(photo("photo.jpg", icc), beach(icc))
    assert done.code == 0 and "converted" not in done.err and done.icc is None
    np.testing.assert_array_equal(done.rgb[20, 50], SAND)


def test_without_profiles_pillow_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    np.testing.assert_array_equal(composite(photo("photo.png"), beach()).rgb[20, 50], SAND)

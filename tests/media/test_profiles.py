"""Colours between profiles, against what the spaces' own formulas give."""

import numpy as np
import pytest

from mattecli.errors import InputError
from mattecli.inference import background
from mattecli.media import profiles
from tests.icc import ADOBE_RGB, DISPLAY_P3, PROPHOTO, SRGB, assemble


def colours(dtype=np.uint8):
    """A lattice of the whole cube, `[27, 27, 3]`."""
    steps = np.linspace(0, np.iinfo(dtype).max, 9).round().astype(dtype)
    return np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("wide", [DISPLAY_P3, ADOBE_RGB, PROPHOTO], ids=["p3", "adobe", "prophoto"])
def test_as_the_formulas_say(wide, dtype):
    rgb = colours(dtype)
    signal = np.rint(255 * (rgb / np.iinfo(dtype).max)) / 255
    for found, expected in [
        (profiles.convert(rgb, None, wide.profile), SRGB.to(wide, signal)),
        (profiles.convert(rgb, wide.profile, None), wide.to(SRGB, signal)),
        (profiles.convert(rgb, DISPLAY_P3.profile + b"\0", wide.profile), DISPLAY_P3.to(wide, signal)),
    ]:
        assert found.dtype == np.uint8 and np.abs(found - 255 * expected).max() < 1.5


@pytest.mark.parametrize("space", [SRGB, DISPLAY_P3, ADOBE_RGB, PROPHOTO], ids=["srgb", "p3", "adobe", "prophoto"])
def test_white_and_black_stay(space):
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(profiles.convert(ends, None, space.profile), ends)


def test_of_equal_profiles_nothing_is_touched():
    rgb = colours(np.uint16)
    assert profiles.convert(rgb, DISPLAY_P3.profile, DISPLAY_P3.profile) is rgb
    assert profiles.convert(rgb, None, None) is rgb


def test_strip_by_strip_is_the_same(monkeypatch):
    whole = profiles.convert(colours(), None, DISPLAY_P3.profile)
    monkeypatch.setattr(profiles, "_STRIP", 100)
    np.testing.assert_array_equal(profiles.convert(colours(), None, DISPLAY_P3.profile), whole)


@pytest.mark.parametrize(
    "broken",
    [
        b"nonsense",
        DISPLAY_P3.profile[:200],
        DISPLAY_P3.profile.replace(b"rXYZ", b"????"),
        DISPLAY_P3.profile.replace(b"RGB ", b"CMYK"),
        DISPLAY_P3.profile.replace(b"RGB ", b"GRAY"),
    ],
    ids=["nonsense", "cut", "no red", "cmyk", "grey"],
)
def test_a_damaged_profile_is_refused(broken):
    for pair in ((None, broken), (broken, None)):
        with pytest.raises(InputError, match="LittleCMS"):
            profiles.convert(colours(), *pair)


def test_tables_both_ways():
    there, back = DISPLAY_P3.tables
    icc = assemble(b"mntrRGB ", {b"A2B0": there, b"B2A0": back})
    rgb = colours()
    for found, expected in [
        (profiles.convert(rgb, icc, None), DISPLAY_P3.to(SRGB, rgb / 255)),
        (profiles.convert(rgb, None, icc), SRGB.to(DISPLAY_P3, rgb / 255)),
    ]:
        assert np.abs(found - 255 * expected).max() < 4


def test_tables_of_a_scanner_can_only_be_read():
    icc = assemble(b"scnrRGB ", {b"A2B0": DISPLAY_P3.tables[0]})
    assert np.abs(profiles.convert(colours(), icc, None) - 255 * DISPLAY_P3.to(SRGB, colours() / 255)).max() < 4
    rgb = np.full((2, 2, 3), [200, 100, 50], np.uint8)
    behind, note = background.parse("200,100,50")(rgb, np.ones((2, 2), np.float32), icc)
    np.testing.assert_array_equal(behind, rgb)
    assert "isn't converted" in note and note.endswith("use pictures in sRGB.")


def test_without_littlecms(monkeypatch):
    from PIL import ImageCms, _util

    monkeypatch.setattr(ImageCms, "core", _util.DeferredError.new(ImportError("no _imagingcms")))
    rgb = np.full((2, 2, 3), [200, 100, 50], np.uint8)
    behind, note = background.parse("200,100,50")(rgb, np.ones((2, 2), np.float32), DISPLAY_P3.profile)
    np.testing.assert_array_equal(behind, rgb)
    assert note.endswith("lacks LittleCMS; `pip install --force-reinstall pillow` brings it.")

"""Profiles made of what a file says, against the spaces' own formulas and the profile for grey they come from."""

import numpy as np
import pytest

from mattecli.media import profiles, spaces
from mattecli.media.photos import encode, read_photo
from tests.icc import ADOBE_RGB, BT2020, DISPLAY_P3, PROPHOTO, SRGB, Space

RGB = np.stack(np.meshgrid(*[np.linspace(0, 255, 9).round().astype(np.uint8)] * 3), -1).reshape(27, 27, 3)


@pytest.mark.parametrize("space", [ADOBE_RGB, PROPHOTO, Space(SRGB.primaries, gamma=1.8)])
def test_as_the_formulas_say(space):
    icc = spaces.profile(spaces.Space("x", space.primaries, space.white, space.gamma))
    assert np.abs(profiles.convert(RGB, icc, None) - 255 * space.to(SRGB, RGB / 255)).max() < 1.5


@pytest.mark.parametrize(
    ("primaries", "transfer", "space"),
    [
        (12, 13, DISPLAY_P3),
        (12, 1, DISPLAY_P3),
        (11, 2, DISPLAY_P3),
        (9, 14, BT2020),
        (1, 5, Space(SRGB.primaries, gamma=2.8)),
        (1, 8, Space(SRGB.primaries, gamma=1.0)),
        (9, 4, Space(BT2020.primaries, gamma=2.2)),
    ],
)
def test_codes(primaries, transfer, space):
    found = profiles.convert(RGB, spaces.of_codes(primaries, transfer), None)
    assert np.abs(found - 255 * space.to(SRGB, RGB / 255)).max() < 1.5


@pytest.mark.parametrize("codes", [(1, 13), (2, 2), (1, 1), (6, 6), (5, 4), (9, 16), (9, 18)])
def test_codes_without_a_profile(codes):
    assert spaces.of_codes(*codes) is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".avif"])
def test_every_format_takes_them(suffix):
    icc = spaces.profile(spaces.ADOBE_RGB)
    assert read_photo(encode(RGB, suffix, icc=icc)).icc == icc


@pytest.mark.parametrize(
    "primaries", [((0, 0), (0, 0), (0, 0)), ((0.64, 0.33),) * 3, ((0.9, 0.9), (0.3, 0.6), (0.1, 0.1))]
)
def test_what_is_no_space(primaries):
    with pytest.raises(ValueError, match=r"chromaticity|[Ss]ingular"):
        spaces.profile(spaces.Space("x", primaries))


@pytest.mark.parametrize("gamma", [None, 1.0, 1.8])
def test_grey_levels_look_as_before(gamma):
    of_rgb = Space(SRGB.primaries, gamma=gamma).profile
    levels = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, 2)
    made = spaces.of_grey(of_rgb.replace(b"rTRC", b"kTRC"))
    assert np.abs(profiles.convert(levels, made, None).astype(int) - profiles.convert(levels, of_rgb, None)).max() <= 1


IN_LAB = DISPLAY_P3.profile.replace(b"RGB XYZ ", b"GRAYLab ").replace(b"rTRC", b"kTRC")


@pytest.mark.parametrize("icc", [b"", b"x" * 140, DISPLAY_P3.profile, DISPLAY_P3.profile[:150], IN_LAB])
def test_a_profile_without_a_curve_for_grey(icc):
    assert spaces.of_grey(icc) is None

"""Tone mapping against the numbers of the standards, and the table against the exact formula."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mattecli.media.clips.planes.colour import to_planes, to_rgb
from mattecli.media.clips.planes.frame import BT2020, HLG, PQ, Colour, Format, Frame
from mattecli.media.clips.planes.hdr import compress, light, nits_to_pq, pq_to_nits, to_sdr, tone_map
from mattecli.media.clips.reading.clip import open_clip
from tests.media.clips.making import make_clip, rgb_of


def grey(value: float) -> np.ndarray:  # type: ignore[type-arg]
    return np.full((1, 3), value, np.float32)


def test_signals_stand_for_the_light_of_the_standards() -> None:
    """BT.2408, table 1: reference white is 203 nits, at 58 % PQ and 75 % HLG; 26 nits are 38 % and 38 %."""
    assert light(grey(0.58), PQ)[0, 0] == pytest.approx(203, rel=0.02)
    assert light(grey(0.75), HLG)[0, 0] == pytest.approx(203, rel=0.01)
    assert light(grey(0.38), PQ)[0, 0] == pytest.approx(26, rel=0.05)
    assert light(grey(0.38), HLG)[0, 0] == pytest.approx(26, rel=0.05)
    assert light(grey(1), HLG)[0, 0] == pytest.approx(1000, rel=1e-3)
    assert pq_to_nits(np.float32([1, 0])).tolist() == pytest.approx([10000, 0])
    nits = np.float32([0.1, 1, 100, 203, 4000])
    np.testing.assert_allclose(pq_to_nits(nits_to_pq(nits)), nits, rtol=1e-3)


def test_the_curve_leaves_dark_as_it_is_and_ends_at_reference_white() -> None:
    nits = np.linspace(0, 1500, 3000, dtype=np.float32)
    mapped = compress(nits)
    np.testing.assert_allclose(mapped[nits < 90], nits[nits < 90], rtol=1e-3, atol=1e-3)
    assert (np.diff(mapped) >= -1e-3).all()
    assert mapped[nits >= 1000] == pytest.approx(203, rel=1e-3)


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("primaries", [1, 9, 12])
def test_grey_stays_grey_and_colours_stay_in_bounds(transfer: int, primaries: int) -> None:
    colour = Colour(BT2020, primaries, transfer)
    ramp = tone_map(np.repeat(np.linspace(0, 1, 50, dtype=np.float32)[:, None], 3, 1), colour)
    assert np.ptp(ramp, axis=-1).max() < 1e-3
    assert (np.diff(ramp[:, 0]) >= -1e-4).all() and ramp[0, 0] == 0 and ramp[-1, 0] == pytest.approx(1, abs=1e-3)
    every = np.random.default_rng(0).random((2000, 3)).astype(np.float32)
    mapped = tone_map(every, colour)
    assert np.isfinite(mapped).all() and mapped.min() >= 0 and mapped.max() <= 1


def test_a_bt709_colour_in_bt2020_comes_back_as_itself() -> None:
    """Orange at 50 nits, below the knee: BT.2020's numbers for it by BT.2087, table 2's matrix."""
    orange = np.array([1.0, 0.4, 0.1])
    wide = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]) @ orange
    mapped = tone_map(nits_to_pq((wide * 50).astype(np.float32))[None], Colour(BT2020, 9, PQ))[0]
    np.testing.assert_allclose(mapped, (orange * 50 / 203) ** (1 / 2.4), atol=2e-3)


def off(ours: Any, theirs: Any) -> Any:
    """Of the light of white; the levels of a channel near black say little."""
    return np.abs((ours / 255.0) ** 2.4 - (theirs / 255.0) ** 2.4)


def hdr_frame(transfer: int, chroma: str = "420") -> Frame:
    form = Format(64, 96, Colour(BT2020, 9, transfer), 10, chroma, alpha=True)  # type: ignore[arg-type]
    bright = (rgb_of(0).astype(np.uint16) * 200).clip(0, 65535).astype(np.uint16)
    alpha = np.broadcast_to(np.linspace(0, 1023, 96).round().astype(np.uint16), (64, 96))
    return Frame(form, [*to_planes(bright, form), alpha], 7, 3, Fraction(1, 30), None, ["packet"], True)


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("chroma", ["420", "444"])
def test_a_whole_frame_in_sdr(transfer: int, chroma: str) -> None:
    frame = hdr_frame(transfer, chroma)
    sdr = to_sdr(frame)
    assert sdr.format == Format(64, 96, Colour(1, 1, 1), 8, "420", alpha=True)
    assert [plane.shape for plane in sdr.planes] == sdr.format.shapes
    assert (sdr.pts, sdr.duration, sdr.time_base, sdr.passing, sdr.key) == (7, 3, Fraction(1, 30), ["packet"], True)
    assert sdr.planes[3][0].tolist() == np.rint(frame.planes[3][0] / 1023 * 255).tolist()
    exact = tone_map(to_rgb(frame.planes, frame.format, 16).astype(np.float32) / 65535, frame.format.colour) * 255
    apart = off(to_rgb(sdr.planes, sdr.format), exact)
    assert apart.mean() < 0.006 and np.percentile(apart, 99) < 0.04
    assert to_sdr(sdr) is sdr


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_the_small_picture_of_an_hdr_clip_is_sdr(tmp_path: Path, transfer: int) -> None:
    colour = Colour(BT2020, 9, transfer)
    make_clip(tmp_path / "a.mp4", 3, codec="libx265", pixel="yuv420p10le", colour=colour)
    with open_clip(str(tmp_path / "a.mp4")) as clip:
        frames = list(clip)
    assert clip.format.colour == colour and clip.format.colour.hdr
    for frame in frames:
        signal = to_rgb(frame.planes, frame.format, 16).astype(np.float32) / 65535
        exact = tone_map(signal, colour) * 255
        assert frame.view
        apart = off(frame.view(64, 96), exact)
        assert apart.mean() < 0.006 and np.percentile(apart, 99) < 0.04
        assert np.abs(frame.view(64, 96) - signal * 255).mean() > 15  # not the signal as it stands


@pytest.mark.parametrize("signal", [(0.4, 0, 0), (0, 0.4, 0), (0, 0.1, 0.4)])
def test_what_no_sdr_screen_can_show_keeps_its_luminance(signal: Any) -> None:
    """Colours of BT.2020 outside BT.709, dark enough to stay as bright as they are."""
    rgb = np.array([signal], np.float32)
    nits = light(rgb, PQ) @ np.array([0.2627, 0.6780, 0.0593])
    shown = tone_map(rgb, Colour(BT2020, 9, PQ)).astype(np.float64) ** 2.4 @ np.array([0.2126, 0.7152, 0.0722])
    np.testing.assert_allclose(shown * 203, nits, rtol=0.01)

"""Times of pictures, and parts of clips."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from mattecli.media.clips.reading.timing import Clock, Part


@dataclass
class Stamped:
    pts: int | None
    dts: int | None = None
    time_base: Fraction = Fraction(1, 1000)
    duration: int | None = None
    type: str = "audio"

    @property
    def stream(self) -> Stamped:
        return self


@pytest.mark.parametrize(
    ("given", "made", "mended"),
    [
        ([0, 40, 90, 100], [0, 40, 90, 100], 0),
        ([None, None, None], [0, 40, 80], 0),
        ([80, None, 200], [80, 120, 200], 0),
        ([0, 0, 40, 30, 80], [0, 1, 40, 41, 80], 2),
        ([5000, 5040, 0, 40, 80], [5000, 5040, 5080, 5120, 5160], 3),  # a recording that starts again
    ],
)
def test_times_always_rise(given: Any, made: list[int], mended: int) -> None:
    clock = Clock(40)
    stamps: Any = [clock.stamp(Stamped(pts)) for pts in given]  # type: ignore[arg-type]
    assert (stamps, clock.mended) == (made, mended)


def test_the_order_of_packets_gives_the_times() -> None:
    clock = Clock(1, ordered=True)
    for dts in (0, 2, 3):
        clock.sent(Stamped(None, dts))  # type: ignore[arg-type]
    stamps: Any = [clock.stamp(Stamped(pts)) for pts in (4, 1, 9)]  # type: ignore[arg-type]
    assert stamps == [0, 2, 3]


@pytest.mark.parametrize(("seconds", "base", "tick"), [(0.1, Fraction(1, 15360), 1536), (1 / 3, Fraction(1, 30), 10)])
def test_seconds_are_taken_to_the_nearest_tick(seconds: float, base: Fraction, tick: int) -> None:
    """0.1 as a float is a little more than a tenth, which mustn't cost the frame at exactly a tenth."""
    assert Part.between(seconds, None, Fraction(0), base).begin == tick
    assert Part.between(None, seconds, Fraction(2), base).end == tick + 2 / base


def test_packets_outside_are_cut_and_the_rest_moved() -> None:
    part = Part.between(1.0, 2.0, Fraction(0), Fraction(1, 1000))
    part.first = 1020
    times = (0, 47936, 48960 - 1023, 48960, 72000, 95999, 96000)
    packets: Any = [Stamped(pts, pts, Fraction(1, 48000), 1024) for pts in times]
    kept = part.cut(packets)
    assert [packet.pts for packet in kept] == [packet.dts for packet in kept] == [-1023, 0, 23040, 47039]


@pytest.mark.parametrize(
    ("begin", "given", "made"),
    [
        (None, (500, 5000), (500, 1520)),
        (None, (1900, None), (1900, None)),
        (None, (2020, 40), None),
        (1000, (500, 5000), (0, 1000)),
        (1000, (500, 521), (0, 1)),
        (1000, (500, 520), None),
        (1000, (1100, 100), (80, 100)),
        (1000, (1020, None), (0, None)),
    ],
)
def test_subtitles_are_shortened_to_the_part(begin: int | None, given: Any, made: Any) -> None:
    """Pictures at 1.02 s and 2.02 s are the first of the part, and the first behind it."""
    part = Part(begin, 2020, Fraction(1, 1000), 1020)
    time, duration = given
    text: Any = Stamped(time, time, Fraction(1, 1000), duration, "subtitle")
    assert [(p.pts, p.duration) for p in part.cut([text])] == ([made] if made else [])
    assert text.dts == text.pts

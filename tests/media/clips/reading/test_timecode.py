"""Time code, against counting all of its numbers one after the other."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mattecli.media.clips.reading.timecode import moved, recounted


def test_dropped_numbers_are_passed_over() -> None:
    numbers = [
        f"00:{minute:02}:{second:02};{frame:02}"
        for minute in range(22)
        for second in range(60)
        for frame in range(30)
        if second or frame > 1 or minute % 10 == 0
    ]
    for first in (0, 1797, 1798, 1800, 17981, 17982):
        for later in (0, 1, 2, 1798, 17983):
            assert moved(numbers[first], later, Fraction(30000, 1001)) == numbers[first + later]


@pytest.mark.parametrize(
    ("timecode", "rate", "frames", "expected"),
    [
        ("01:00:59:24", 25, 1, "01:01:00:00"),
        ("00:00:59:29", Fraction(30000, 1001), 1, "00:01:00:00"),
        ("00:00:59;59", Fraction(60000, 1001), 1, "00:01:00;04"),
        ("23:59:59:23", 24, 2, "00:00:00:01"),
        ("one o'clock", 25, 2, ""),
        ("01:00:00:00", Fraction(1, 10), 2, ""),
    ],
)
def test_a_few(timecode: str, rate: Fraction, frames: int, expected: str) -> None:
    assert moved(timecode, frames, Fraction(rate)) == expected


@pytest.mark.parametrize(
    ("timecode", "old", "new", "expected"),
    [
        ("01:00:00;45", Fraction(60000, 1001), Fraction(30000, 1001), "01:00:00;22"),
        ("00:01:00;02", Fraction(30000, 1001), Fraction(60000, 1001), "00:01:00;04"),
        ("00:01:00;04", Fraction(30000, 1001), 25, "00:01:00:03"),
        ("10:00:00:12", 24, 24, "10:00:00:12"),
        ("", 25, 50, ""),
    ],
)
def test_another_rate_counts_other_frames(timecode: str, old: Fraction, new: Fraction, expected: str) -> None:
    assert recounted(timecode, Fraction(old), Fraction(new)) == expected

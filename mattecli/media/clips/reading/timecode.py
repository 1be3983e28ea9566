"""Time code: by what editors find a clip's place in what was shot (SMPTE ST 12-1)."""

from __future__ import annotations

import re
from fractions import Fraction

NUMBERS = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)")


def moved(timecode: str, frames: int, rate: Fraction) -> str:
    """`HH:MM:SS:FF` so many `frames` later at `rate`; "" for what is none.

    With `;` or `.` before FF it drops numbers: those of the first frames of each minute but every tenth, 2 at 29.97
    frames a second, 4 at 59.94.
    """
    found, base = NUMBERS.fullmatch(timecode), round(rate)
    if not found or not base:
        return ""
    hours, minutes, seconds, frame = (int(found[part]) for part in (1, 2, 3, 5))
    mark = found[4]
    dropped = 0 if mark == ":" or base % 30 else base // 15
    minutes += 60 * hours
    number = (60 * minutes + seconds) * base + frame - dropped * (minutes - minutes // 10) + frames
    ten = 600 * base - 9 * dropped
    tens, rest = divmod(number % (144 * ten), ten)
    minutes = max(0, rest - dropped) // (60 * base - dropped)
    seconds, frame = divmod(rest + dropped * minutes - 60 * base * minutes, base)
    hours, minutes = divmod(10 * tens + minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{mark}{frame:02}"


def recounted(timecode: str, old: Fraction, new: Fraction) -> str:
    """The same time of day where `new` frames are counted a second instead of `old`; "" for what is none."""
    found = NUMBERS.fullmatch(timecode)
    if not found or not round(old):
        return ""
    mark = ":" if round(new) % 30 else found[4]
    return f"{found[1]}:{found[2]}:{found[3]}{mark}{int(found[5]) * round(new) // round(old):02}"

"""A clip at another frame rate: frames are repeated or left out, none is blended."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

from mattecli.errors import UsageError
from mattecli.media.clips.planes.frame import Frame
from mattecli.media.clips.reading.camera import Camera
from mattecli.media.clips.reading.clip import Clip
from mattecli.media.clips.reading.timecode import recounted


def at_rate(clip: Clip | Camera, rate: Fraction) -> Any:
    """`clip` with `rate` frames a second, each the one that is shown in the middle of its time.

    Raises UsageError for live clips.
    """
    if isinstance(clip, Camera) or clip.live:
        raise UsageError(f"{clip.name} is live and keeps its own rate; leave --fps out.")
    return _Resampled(clip, rate)


class _Resampled:
    """In all but its frames and their times the clip itself."""

    def __init__(self, clip: Clip, rate: Fraction) -> None:
        self._clip, self.rate, self.time_base = clip, rate, 1 / rate
        self.frames = None if clip.frames is None else max(1, round(clip.frames * rate / clip.rate))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clip, name)

    @property
    def timecode(self) -> str:
        return recounted(self._clip.timecode, self._clip.rate, self.rate)

    def skip_to(self, pts: int) -> None:
        self._clip.skip_to(math.floor(pts * self.time_base / self._clip.time_base))

    def __iter__(self) -> Iterator[Frame]:
        number, held, waiting = None, None, list[Any]()
        for frame in self._clip:
            begin, end = frame.pts * frame.time_base, (frame.pts + frame.duration) * frame.time_base
            number = math.ceil(begin * self.rate - Fraction(1, 2)) if number is None else number
            waiting += frame.passing
            while (number + Fraction(1, 2)) * self.time_base < end:
                if held is not None:
                    yield held
                held = replace(frame, pts=number, duration=1, time_base=self.time_base, passing=waiting)
                number, waiting = number + 1, []
        if held is not None:
            yield replace(held, passing=held.passing + waiting)

"""Another clip that runs beside the one that is matted."""

from __future__ import annotations

from fractions import Fraction

from mattecli.inference.guided import Picture
from mattecli.media.clips.planes.frame import ROUNDED, Frame
from mattecli.media.clips.reading.camera import Camera
from mattecli.media.clips.reading.clip import Clip


class Beside:
    """The frame that `clip` shows `ahead` seconds after the time of the other clip's frame."""

    def __init__(self, clip: Clip | Camera, ahead: Fraction = Fraction(0)) -> None:
        self.size = clip.format.height, round(clip.format.width * clip.format.aspect)
        self._frames = iter(clip)
        self._shown = next(self._frames)
        self._coming = next(self._frames, None)
        self._begins = self._shown.pts * self._shown.time_base + ahead + ROUNDED

    def __call__(self, frame: Frame, height: int, width: int) -> Picture:
        time = frame.pts * frame.time_base + self._begins
        while self._coming is not None and self._coming.pts * self._coming.time_base <= time:
            self._shown, self._coming = self._coming, next(self._frames, None)
        assert self._shown.view is not None
        return self._shown.view(height, width)

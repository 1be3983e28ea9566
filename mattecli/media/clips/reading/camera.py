"""A webcam as a clip that never ends, through OpenCV: the newest frame, whatever was dropped to keep up."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mattecli.errors import InputError, UsageError
from mattecli.media.clips.planes.frame import BT709, Colour, Format, Frame
from mattecli.media.clips.planes.swscale import levels, reformat

Image = NDArray[np.uint8]
COLOUR = Colour(BT709, 1, 1)
PATIENCE = 3.0
"""Seconds without a picture after which a camera is given up; some need one or two to begin, or lose a few."""
RATES = 1, 240
"""Between these a driver's frames a second are believed; some say 0, -1 or millions."""
USUAL_RATE = 30

# what OpenCV would print of a camera that isn't there reaches the user as an error's one sentence
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def find_camera(source: str) -> tuple[int, tuple[int, int] | None] | None:
    """N of "webcam:N" (0 of "webcam"), with width and height of "webcam:N@1280x720"; None for all other sources.

    Raises UsageError where N or the size is none.
    """
    if re.split("[:@]", source)[0].lower() != "webcam":
        return None
    found = re.fullmatch(r"webcam:?(\d*)(?:@(\d+)x(\d+))?", source.lower())
    if not found:
        raise UsageError(f"{source} is no webcam; the first is webcam:0, or webcam:0@1280x720 for that size.")
    number, width, height = found.groups()
    return int(number or 0), (int(width), int(height)) if width else None


class Camera:
    """Frames of webcam `number` as a live clip; has what a `Clip` has. Without a `size` (width, height), which cameras
    give or else the nearest that they have, it is OpenCV's choice, mostly 640x480.

    A thread reads all the time and keeps the newest frame only. Times are those at which frames were read, from 0 at
    the first that is taken; a frame's duration is what the camera's rate promises. `end`: seconds after which it stops.
    Raises InputError where the camera can't be opened or gives no picture. One that stops later is `cut_short`.
    """

    live, time_base, decoder, timecode = True, Fraction(1, 90000), "webcam", ""

    def __init__(self, number: int, size: tuple[int, int] | None = None, *, end: float | None = None) -> None:
        self.name = f"webcam:{number}"
        self.container = self.video = self.frames = None
        self.duration = end
        self.metadata: dict[str, str] = {}
        self.others: list[Any] = []
        self.chapters: list[Any] = []
        self.notes: list[str] = []
        self.cut_short = False
        self.rate = Fraction(USUAL_RATE)
        self._converter = VideoReformatter()
        self._newest: tuple[Image, float] | None = None
        self._changed, self._over = threading.Condition(), False
        self._thread = threading.Thread(target=self._read, args=(number, size), name=self.name, daemon=True)
        self._thread.start()
        first = self._take()
        if first is None:
            raise InputError(
                f"{self.name} gives no picture; is it there, not in use by another program, and allowed to this one?"
            )
        height, width = first[0].shape[:2]
        self.format = Format(height, width, COLOUR)
        if size and (width, height) != size:
            self.notes.append(f"{self.name} gives {width}x{height}, not {size[0]}x{size[1]}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(PATIENCE)

    def __iter__(self) -> Iterator[Frame]:
        began, last = None, -1
        while (taken := self._take()) is not None:
            image, read_at = taken
            began = read_at if began is None else began
            if self.duration is not None and read_at - began >= self.duration:
                return
            last = max(round((read_at - began) / self.time_base), last + 1)
            yield self._frame(image, last)

    def _frame(self, image: Image, pts: int) -> Frame:
        full = self.format.width, self.format.height
        if image.shape[1::-1] != full:
            image = np.asarray(cv2.resize(image, full, interpolation=cv2.INTER_AREA), np.uint8)

        def view(height: int, width: int) -> Image:
            small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)

        picture = reformat(self._converter, VideoFrame.from_ndarray(image, "bgr24"), "yuv420p", COLOUR, COLOUR)
        return Frame(self.format, levels(picture), pts, round(1 / self.rate / self.time_base), self.time_base, view)

    def _take(self) -> tuple[Image, float] | None:
        """The newest frame, each once; waits for one. None when the camera stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._over)
            taken, self._newest = self._newest, None
            return taken

    def _read(self, number: int, size: tuple[int, int] | None) -> None:
        """All that is done with the camera, since not every system lets threads share one."""
        capture = cv2.VideoCapture(number)
        try:
            if size:
                _ask_for(capture, *size)
            if RATES[0] <= (rate := capture.get(cv2.CAP_PROP_FPS)) <= RATES[1]:
                self.rate = Fraction(rate).limit_denominator(1001)
            waiting_since = time.monotonic()
            while capture.isOpened() and not self._over:
                good, image = capture.read()
                now = time.monotonic()
                if good and image is not None:
                    waiting_since = now
                    with self._changed:
                        self._newest = np.asarray(image, np.uint8), now
                        self._changed.notify_all()
                elif now - waiting_since > PATIENCE:
                    break
                else:
                    time.sleep(0.01)
        finally:
            capture.release()
            with self._changed:
                if not self._over:
                    self._over = self.cut_short = True
                    self.notes.append(f"{self.name} stopped giving pictures.")
                self._changed.notify_all()


def _ask_for(capture: Any, width: int, height: int) -> None:
    """As Motion JPEG where the camera has it: USB 2 has no room for many large pictures a second as they are."""
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)

"""A webcam as a clip, with a stand-in for OpenCV's capture."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
import pytest

from mattecli.errors import InputError, UsageError
from mattecli.media.clips.planes.colour import to_rgb
from mattecli.media.clips.reading import camera
from mattecli.media.clips.reading.camera import Camera
from mattecli.media.clips.reading.clip import open_clip
from tests.media.clips.making import rgb_of


class Capture:
    """Gives picture n when `step` was called n times, but none where `fails`; `stop` ends it."""

    fails, rate = range(0), 20.0

    def __init__(self, number: int) -> None:
        self.opened, self.given, self.released = number == 0, 0, False
        self.allowed = threading.Semaphore(1 + len(self.fails))
        self.read_again = threading.Semaphore(0)
        self.stopped, self.asked = False, list[tuple[int, float]]()

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def set(self, what: int, value: float) -> None:
        self.asked.append((what, value))

    def get(self, what: int) -> float:
        return self.rate if what == cv2.CAP_PROP_FPS else 0.0

    def read(self) -> tuple[bool, Any]:
        self.read_again.release()
        self.allowed.acquire()
        if self.stopped:
            return False, None
        self.given += 1
        if self.given - 1 in self.fails:
            return False, None
        return True, np.ascontiguousarray(rgb_of(self.given - 1)[..., ::-1])

    def step(self, count: int = 1) -> None:
        """Waits until `count` more pictures are taken."""
        for _ in range(count):
            self.read_again.acquire()
            self.allowed.release()
        self.read_again.acquire()
        self.read_again.release()

    def stop(self) -> None:
        self.stopped = True
        self.allowed.release(1000)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Any:
    made: list[Capture] = []

    def make(number: int) -> Capture:
        made.append(Capture(number))
        return made[-1]

    monkeypatch.setattr(cv2, "VideoCapture", make)
    return made


def test_only_the_newest_picture_is_given(capture: list[Capture], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "PATIENCE", 0.0)
    clip = open_clip("webcam:0")
    assert isinstance(clip, Camera) and clip.live and clip.frames is None and clip.rate == 20
    source = capture[0]
    source.read_again.acquire()  # that of the first picture
    frames, taken = iter(clip), []
    for steps in (3, 1, 2):
        source.step(steps)
        taken.append(next(frames))
    times = [frame.pts for frame in taken]
    assert times[0] == 0 and times == sorted(set(times))
    for frame, number in zip(taken, (3, 4, 6), strict=True):
        assert [plane.shape for plane in frame.planes] == clip.format.shapes
        rgb = to_rgb(frame.planes, frame.format).astype(int)
        assert np.abs(rgb - rgb_of(number)).mean() < 1.5
        assert frame.view and np.abs(frame.view(64, 96).astype(int) - rgb_of(number)).max() == 0
        assert frame.duration == 90000 // 20
    source.stop()
    assert list(frames) == [] and clip.notes == ["webcam:0 stopped giving pictures."] and clip.cut_short
    clip.close()
    assert source.released


def test_it_stops_at_its_end(capture: list[Capture], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(camera.time, "monotonic", lambda: next(clock))
    with open_clip("webcam:0", end=3) as clip:
        capture[0].allowed.release(500)
        times = [frame.time for frame in clip]
        capture[0].stop()
    assert times[0] == 0 and max(times) < 3 and not clip.cut_short and not clip.notes


@pytest.mark.parametrize("rate", [-1.0, 0.0, float("inf"), float("nan"), 1e7])
def test_a_rate_that_cannot_be_is_the_usual_one(
    capture: list[Capture], monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    monkeypatch.setattr(Capture, "rate", rate)
    with open_clip("webcam:0") as clip:
        assert clip.rate == 30
        capture[0].stop()


def test_single_pictures_may_be_lost(capture: list[Capture], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Capture, "fails", range(2))
    with open_clip("webcam:0") as clip:
        for _ in range(3):
            capture[0].read_again.acquire()
        capture[0].step()
        assert np.abs(to_rgb(next(iter(clip)).planes, clip.format).astype(int) - rgb_of(3)).mean() < 1.5
        capture[0].stop()


def test_a_camera_that_is_not_there(capture: list[Capture]) -> None:
    with pytest.raises(InputError, match="webcam:7 gives no picture"):
        open_clip("webcam:7")
    assert capture[0].released
    for wrong in ("webcam:front", "webcam:0@large"):
        with pytest.raises(UsageError, match="webcam:0"):
            open_clip(wrong)


def test_a_camera_is_asked_for_a_size(capture: list[Capture]) -> None:
    for name, said in (("webcam:0@96x64", []), ("webcam@1280x720", ["webcam:0 gives 96x64, not 1280x720."])):
        with open_clip(name) as clip:
            assert (clip.name, clip.format.width, clip.format.height, clip.notes) == ("webcam:0", 96, 64, said)
            capture[-1].stop()
    wide, high = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
    assert capture[-1].asked[1:] == [(wide, 1280), (high, 720)]

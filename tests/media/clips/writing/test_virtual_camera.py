"""Frames into a virtual camera, with a stand-in for pyvirtualcam."""

from __future__ import annotations

import sys
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mattecli.errors import InputError
from mattecli.media.clips.planes.colour import to_planes, to_rgb
from mattecli.media.clips.planes.frame import BT2020, PQ, Colour, Format, Frame
from mattecli.media.clips.planes.hdr import to_sdr
from mattecli.media.clips.writing import virtual_camera
from mattecli.media.clips.writing.virtual_camera import VirtualCamera
from tests.media.clips.making import rgb_of

FORMAT = Format(64, 96, Colour())


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """When each picture was shown, and the picture, and at last that it was closed."""
    clock, shown = [100.0], list[Any]()

    class Camera:
        device = "fake"

        def __init__(self, width: int, height: int, fps: float, device: str | None = None) -> None:
            if device == "missing":
                raise RuntimeError("'obs' backend: none\n'unitycapture' backend: none")

        def send(self, rgb: Any) -> None:
            clock[0] += 0.01
            shown.append((clock[0], rgb))

        def close(self) -> None:
            shown.append("closed")

    def sleep(seconds: float) -> None:
        assert seconds >= 0
        clock[0] += seconds

    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=Camera))
    monkeypatch.setattr(virtual_camera, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    return shown


def show(times: list[int], *, live: bool, device: str | None = None, form: Format = FORMAT) -> None:
    clip: Any = SimpleNamespace(rate=Fraction(25), live=live, others=[])
    sink = VirtualCamera(device, form, clip)
    for number, time in enumerate(times):
        sink.write(Frame(form, to_planes(rgb_of(number), form), time, 1, Fraction(1, 1000)))
    sink.close()


def test_a_file_is_shown_in_its_own_time(shown: list[Any]) -> None:
    show([500, 600, 601, 1500], live=False)
    assert shown.pop() == "closed"
    assert [time - shown[0][0] for time, _ in shown] == pytest.approx([0, 0.1, 0.11, 1.0], abs=1e-6)
    for number, (_, rgb) in enumerate(shown):
        assert rgb.shape == (64, 96, 3) and rgb.dtype == np.uint8
        assert np.abs(rgb.astype(int) - rgb_of(number)).mean() < 1.5


def test_what_is_live_does_not_wait(shown: list[Any]) -> None:
    show([0, 1000, 5000], live=True)
    assert shown.pop() == "closed" and shown[-1][0] - shown[0][0] == pytest.approx(0.02)


def test_no_device_is_one_sentence(shown: list[Any]) -> None:
    with pytest.raises(InputError, match=r"^No virtual camera can be opened: 'obs' backend: none; 'unity.*: none$"):
        show([], live=False, device="missing")


def test_hdr_becomes_sdr(shown: list[Any]) -> None:
    form = Format(64, 96, Colour(BT2020, 9, PQ), depth=10)
    show([0], live=True, form=form)
    levels = to_rgb(to_sdr(Frame(form, to_planes(rgb_of(0), form), 0, 1, Fraction(1, 25))).planes, FORMAT)
    assert np.abs(shown[0][1].astype(int) - levels).mean() < 2
    assert np.abs(shown[0][1].astype(int) - rgb_of(0)).mean() > 10

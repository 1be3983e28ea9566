"""Clips as numbered pictures."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mattecli.errors import InputError, UsageError
from mattecli.media.clips.planes.colour import to_planes, to_rgb
from mattecli.media.clips.planes.frame import BT709, BT2020, HLG, PQ, Colour, Format, Frame
from mattecli.media.clips.writing import picturesink
from mattecli.media.clips.writing.exr import exr, linear
from mattecli.media.clips.writing.sink import Target, open_sink
from mattecli.media.photos import read_photo


def write(path, format, frames, clip):
    sink = open_sink(Target(path), format, clip)
    for frame in frames:
        sink.write(frame)
    sink.close()
    return sink


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("suffix", "alpha", "depth"),
    [
        *((".png", False, 8), (".png", False, 10), (".png", True, 8), (".png", True, 10)),
        *((".tiff", False, 8), (".tiff", False, 10), (".tiff", True, 10)),
    ],
)
def test_pictures_hold_the_frames(tmp_path, origin, frames, suffix, alpha, depth):
    format = Format(63, 95, depth=depth, alpha=alpha)
    made = frames(format, range(0, 240, 20))
    write(tmp_path / "new" / f"out_%03d{suffix}", format, made, origin())
    assert names(tmp_path / "new") == [f"out_{k:03}{suffix}" for k in range(1, 13)]
    found = cv2.imread(str(tmp_path / "new" / f"out_012{suffix}"), cv2.IMREAD_UNCHANGED)
    bits = 16 if depth > 8 else 8
    np.testing.assert_array_equal(found[..., 2::-1], to_rgb(made[11].planes, format, bits))
    if alpha:
        expected = made[11].planes[3] / ((1 << depth) - 1)
        assert np.abs(found[..., 3] / ((1 << bits) - 1) - expected).max() < 1e-4


@pytest.mark.parametrize(("primaries", "told"), [(1, False), (9, True), (12, True)])
def test_wider_primaries_are_told_by_a_profile(tmp_path, origin, frames, primaries, told):
    format = Format(64, 96, Colour(BT709, primaries, 1))
    write(tmp_path / "%d.png", format, frames(format), origin())
    assert (read_photo(tmp_path / "1.png").icc is not None) == told


def test_jpeg_says_that_ten_bits_are_too_many(tmp_path, origin, frames):
    format = Format(64, 96, depth=10)
    sink = write(tmp_path / "%d.jpg", format, frames(format), origin())
    assert names(tmp_path) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert "8" in sink.notes[0]
    with pytest.raises(UsageError, match="transparency"):
        open_sink(Target(tmp_path / "%d.jpg"), Format(64, 96, alpha=True), origin())


def test_pictures_need_a_number(tmp_path, origin):
    with pytest.raises(UsageError, match=r"out_%05d\.png"):
        open_sink(Target(tmp_path / "out.png"), Format(64, 96), origin())
    with pytest.raises(UsageError, match="number them"):
        open_sink(Target(None, container=".png"), Format(64, 96), origin())


def test_pictures_take_neither_codec_nor_quality(tmp_path, origin):
    for wrong in ({"codec": "h264"}, {"quality": 5}):
        with pytest.raises(UsageError, match="pictures"):
            open_sink(Target(tmp_path / "%d.png", **wrong), Format(64, 96), origin())


def test_pictures_appear_together_or_not_at_all(tmp_path, origin, frames):
    format = Format(64, 96)
    sink = open_sink(Target(tmp_path / "%d.png"), format, origin())
    for frame in frames(format):
        sink.write(frame)
        assert all(name.startswith(".") for name in names(tmp_path))
    sink.abort()
    assert names(tmp_path) == []
    with pytest.raises(InputError, match="no frame"):
        open_sink(Target(tmp_path / "%d.png"), format, origin()).close()
    assert names(tmp_path) == []


def test_only_the_processors_that_may_be_used_encode(tmp_path, origin, frames, monkeypatch):
    encoded, before, format = threading.Event(), threading.active_count(), Format(64, 96)
    monkeypatch.setattr(picturesink, "processors", lambda: 1)
    monkeypatch.setattr(picturesink.photos, "encode", lambda *_, **__: bytes(encoded.wait(10)))
    sink = open_sink(Target(tmp_path / "%d.png"), format, origin())
    for frame in frames(format)[:2]:
        sink.write(frame)
    assert threading.active_count() == before + 1
    encoded.set()
    sink.close()


def test_a_full_disk_is_told_as_it_is(tmp_path, origin, frames, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "%d.png", Format(64, 96), frames(Format(64, 96)), origin())
    assert caught.value.errno == 28
    assert names(tmp_path) == []


def test_exr_holds_light_multiplied_by_alpha(tmp_path):
    format = Format(4, 6, Colour(), chroma="444", alpha=True)
    grey = to_planes(np.full((4, 6, 3), 128, np.uint8), format)
    frame = Frame(format, [*grey, np.full((4, 6), 51, np.uint8)], 0, 1, 1)
    (tmp_path / "a.exr").write_bytes(exr(frame.planes, frame.format))
    with av.open(str(tmp_path / "a.exr")) as again:
        picture = next(again.decode(video=0))
    green, blue, red, alpha = (np.frombuffer(plane, np.float16)[:6].astype(float) for plane in picture.planes)
    assert alpha == pytest.approx(np.full(6, 0.2), abs=1e-3)
    assert red == pytest.approx(np.full(6, 0.2 * (128 / 255) ** 2.4), abs=1e-3)
    assert green == pytest.approx(red) and blue == pytest.approx(red)


def test_light_of_the_standards():
    white = np.ones((1, 3), np.float32)
    assert linear(white, Colour()) == pytest.approx(np.ones((1, 3)), abs=1e-4)
    assert linear(0.5 * white, Colour(transfer=13)) == pytest.approx(np.full((1, 3), 0.21404), abs=1e-4)
    # BT.2408: 203 nits are 58 % of PQ and 75 % of HLG
    assert linear(np.float32(0.5807) * white, Colour(BT2020, 9, PQ)) == pytest.approx(np.ones((1, 3)), abs=5e-3)
    assert linear(np.float32(0.75) * white, Colour(BT2020, 9, HLG)) == pytest.approx(np.ones((1, 3)), abs=5e-3)
    # red of BT.2020 lies outside BT.709 (BT.2087)
    red = linear(np.array([[1, 0, 0]], np.float32), Colour(BT709, 9, 1))
    assert red == pytest.approx(np.array([[1.6605, -0.1246, -0.0182]]), abs=2e-3)


def test_exr_frames_are_numbered_too(tmp_path, origin, frames):
    format = Format(63, 95, depth=10)
    write(tmp_path / "shot.%04d.exr", format, frames(format, (0, 20)), origin())
    assert names(tmp_path) == ["shot.0001.exr", "shot.0002.exr"]
    with av.open(str(tmp_path / "shot.0001.exr")) as again:
        assert (again.streams.video[0].width, again.streams.video[0].height) == (95, 63)


def test_few_pictures_wait_to_be_encoded(tmp_path, origin, frames, monkeypatch):
    encoded, format = threading.Event(), Format(64, 96)
    monkeypatch.setattr(picturesink, "processors", lambda: 1)
    monkeypatch.setattr(picturesink.photos, "encode", lambda *_, **__: bytes(encoded.wait(10)))
    sink = open_sink(Target(tmp_path / "%d.png"), format, origin())
    first, second, third, _ = frames(format)
    sink.write(first)
    sink.write(second)
    writer = threading.Thread(target=sink.write, args=[third])
    writer.start()
    writer.join(0.2)
    assert writer.is_alive(), "it waits for room"
    encoded.set()
    writer.join()
    sink.close()

"""Numbered pictures as clips."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from mattecli.errors import InputError
from mattecli.media.clips.planes.colour import to_rgb
from mattecli.media.clips.planes.frame import Frame
from mattecli.media.clips.reading import sequence
from mattecli.media.clips.reading.clip import open_clip
from tests.media.clips.making import rgb_of


def write(folder: Path, form: str, numbers: list[int]) -> None:
    for number in numbers:
        cv2.imwrite(str(folder / form.format(number)), rgb_of(number)[..., ::-1])


def shown(frames: list[Frame]) -> list[int]:
    """Which picture each frame is."""
    found = []
    for frame in frames:
        rgb = to_rgb(frame.planes, frame.format).astype(int)
        found.append(min(range(16), key=lambda n: np.abs(rgb - rgb_of(n)).sum()))
        assert np.abs(rgb - rgb_of(found[-1])).max() <= 2
    return found


def read(source: Path, **options: Any) -> tuple[Any, list[Frame]]:
    with open_clip(str(source), **options) as clip:
        return clip, list(clip)


def test_a_pattern_finds_its_first_number(tmp_path: Path) -> None:
    write(tmp_path, "shot_{:04d}.png", [7, 8, 9, 10])
    write(tmp_path, "shot_{:03d}.png", [1])
    clip, frames = read(tmp_path / "shot_%04d.png")
    assert shown(frames) == [7, 8, 9, 10]
    assert [frame.pts for frame in frames] == [0, 1, 2, 3]
    assert (clip.time_base, clip.rate, clip.frames, clip.duration) == (Fraction(1, 25), 25, 4, pytest.approx(0.16))
    assert clip.format.colour.full and clip.format.chroma == "444" and clip.notes == []
    assert clip.container is clip.video is None


def test_stars_are_counted_not_spelt(tmp_path: Path) -> None:
    write(tmp_path, "n{}.png", [8, 9, 10, 11])
    (tmp_path / ".n3.png").write_bytes(b"")
    clip, frames = read(tmp_path / "n*.png", rate=Fraction(30000, 1001))
    assert shown(frames) == [8, 9, 10, 11]
    assert clip.time_base == Fraction(1001, 30000)


def test_numbers_that_are_missing_leave_the_picture_before(tmp_path: Path) -> None:
    write(tmp_path, "n%%{}.png".replace("%%", ""), [3, 4, 6])
    (tmp_path / "n7.png").write_bytes(b"no picture")
    clip, frames = read(tmp_path / "n%d.png")
    assert (shown(frames), [frame.pts for frame in frames]) == ([3, 4, 6], [0, 1, 3])
    assert [frame.duration for frame in frames[:2]] == [1, 2]
    assert len(clip.notes) == 2 and "missing (1)" in clip.notes[0] and "n7.png" in clip.notes[1]


def test_a_part_of_a_sequence(tmp_path: Path) -> None:
    write(tmp_path, "n{:02d}.png", list(range(10)))
    _, frames = read(tmp_path / "n%02d.png", start=0.12, end=0.24)
    assert (shown(frames), [frame.pts for frame in frames]) == ([3, 4, 5], [0, 1, 2])


def test_one_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    write(tmp_path, "n{}.png", [5])
    _, frames = read(tmp_path / "n5.png")
    assert shown(frames) == [5]


@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_photos_are_turned_as_their_exif_says(tmp_path: Path, orientation: int, quarters: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = rgb_of(0)
    Image.fromarray(stored).save(tmp_path / "a_1.jpg", exif=exif, quality=95, subsampling=0)
    _, (frame,) = read(tmp_path / "a_%d.jpg")
    found = to_rgb(frame.planes, frame.format).astype(int)
    assert np.abs(found - np.rot90(stored, quarters)).mean() < 2


def test_deep_and_transparent_pictures(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 65535, 96).round().astype(np.uint16), (64, 96))
    cv2.imwrite(
        str(tmp_path / "n1.png"), np.dstack([*[rgb_of(0)[..., 2 - c].astype(np.uint16) * 257 for c in range(3)], ramp])
    )
    _, (frame,) = read(tmp_path / "n%d.png")
    assert (frame.format.depth, frame.format.alpha) == (12, True)
    assert np.abs(frame.planes[3] - ramp / 65535 * 4095).max() <= 2
    assert np.abs(to_rgb(frame.planes, frame.format).astype(int) - rgb_of(0)).max() <= 2


def test_linear_light_of_exr_is_shown_through_srgb(tmp_path: Path) -> None:
    signal = rgb_of(0).astype(np.float32) / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4).astype(np.float32)
    with av.open(str(tmp_path / "n1.exr"), "w", format="image2") as container:
        stream: Any = container.add_stream("exr", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "gbrpf32le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(linear, "gbrpf32le")))
    _, (frame,) = read(tmp_path / "n%d.exr")
    assert np.abs(to_rgb(frame.planes, frame.format).astype(int) - rgb_of(0)).max() <= 2
    assert frame.format.colour.transfer == 13


@pytest.mark.parametrize("pattern", ["n%d.png", "n*.png", "nowhere/n%d.png"])
def test_no_picture_like_it(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="No file is called like"):
        open_clip(str(tmp_path / pattern))
    (tmp_path / "n1.png").write_bytes(b"no picture")
    if "nowhere" not in pattern:
        with pytest.raises(InputError, match="no picture that can be decoded"):
            open_clip(str(tmp_path / pattern))


def test_few_pictures_are_decoded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "n{:02d}.png", list(range(30)))
    decoded, decode = list[Path](), sequence._decode

    def noting(path: Path) -> Any:
        decoded.append(path)
        return decode(path)

    monkeypatch.setattr(sequence, "AHEAD", 2)
    monkeypatch.setattr(sequence, "_decode", noting)
    with open_clip(str(tmp_path / "n%02d.png")) as clip:
        frames = iter(clip)
        assert next(frames).pts == 0
        threading.Event().wait(0.2)
        assert len(decoded) <= 5 and len(list(frames)) == 29

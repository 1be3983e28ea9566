"""Moving edges without combs, still ones without loss, and every picture at its own time."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from mattecli.media.clips.planes.swscale import picture_of
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.clips.reading.deinterlacing import Deinterlacer


def make(path: Path, pts: Sequence[int], *, interlaced: bool = True, speed: int = 4, first: int = 0) -> None:
    """Grey, with a textured bar that moves by `speed` pixels a frame, half of it from the upper field to the lower."""
    with av.open(str(path), "w") as container:
        options = {"qp": "0", **({"x264-params": "tff=1"} if interlaced else {})}
        video = container.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for index, stamp in enumerate(pts, first):
            luma = np.full((64, 96), 60, np.uint8)
            for field in (0, 1):
                place = speed * index + field * speed // 2
                luma[field::2, place : place + 12] = 200 if field or speed else 190
            grey = np.full((32, 48), 128, np.uint8)
            picture = picture_of([luma, grey, grey], "yuv420p")
            picture.pts, picture.time_base = stamp, Fraction(1, 1000)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))


PTS = [0, 40, 80, 130, 160, 200, 245, 280]


def test_moving_edges_are_not_combed_and_times_are_kept(tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", PTS)
    with open_clip(str(tmp_path / "a.mkv")) as clip:
        frames = list(clip)
    assert [frame.pts for frame in frames] == PTS
    assert [frame.duration for frame in frames] == [40, 40, 50, 30, 40, 45, 35, 40]
    assert clip.notes == ["Its interlaced pictures were deinterlaced, at the same frame rate."]
    for index, frame in enumerate(frames[1:-1], 1):
        rows = frame.planes[0][4:-4].astype(int)
        assert np.abs(np.diff(rows, axis=0)).max() < 20, "a comb is 140 high"
        edge = 4 * index + 6
        assert rows[:, edge].min() > 190 and rows[:, edge + 20].max() < 70, "the upper field's moment"


def test_what_stands_still_keeps_its_rows(tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", PTS, speed=0)
    with open_clip(str(tmp_path / "a.mkv")) as clip:
        frames = list(clip)
    for frame in frames[2:-2]:
        assert frame.planes[0][30, 6] == 190 and frame.planes[0][31, 6] == 200


def test_progressive_pictures_are_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", PTS, interlaced=False)
    with open_clip(str(tmp_path / "a.mkv")) as clip:
        frames = list(clip)
    assert clip.notes == []
    assert all(abs(int(frame.planes[0][10, 4 * n + 13]) - 60) < 2 for n, frame in enumerate(frames))
    assert all(abs(int(frame.planes[0][11, 4 * n + 13]) - 200) < 2 for n, frame in enumerate(frames))


@pytest.mark.parametrize("last", [True, False])
def test_pictures_of_both_kinds_and_of_two_sizes(tmp_path: Path, last: bool) -> None:
    """In order, none lost: those that wait come out before others take their place."""
    make(tmp_path / "a.mkv", PTS)
    make(tmp_path / "b.mkv", PTS, interlaced=False, first=8)

    def decoded(name: str) -> list[VideoFrame]:
        with av.open(str(tmp_path / name)) as container:
            return list(container.decode(video=0))

    large = VideoFrame(192, 128, "yuv420p")
    pictures = [*decoded("b.mkv"), *decoded("a.mkv"), *decoded("b.mkv"), *([large] if last else [])]
    deinterlacer = Deinterlacer()
    made = list(deinterlacer(zip(pictures, range(len(pictures)), strict=True)))
    assert [time for _, time in made] == list(range(len(pictures))) and deinterlacer.count == len(PTS)
    assert [picture.width for picture, _ in made] == [picture.width for picture in pictures]
    assert not any(picture.interlaced_frame for picture, _ in made)
    assert all(one is other for (one, _), other in zip(made[:8], pictures[:8], strict=True))


def test_levels_mean_what_they_did_where_another_pixel_format_is_taken(tmp_path: Path) -> None:
    """Hardware gives NV12, which FFmpeg's filter doesn't take."""
    make(tmp_path / "a.mkv", PTS[:3])
    with av.open(str(tmp_path / "a.mkv")) as container:
        pictures = [picture.reformat(format="nv12") for picture in container.decode(video=0)]
    for picture in pictures:
        picture.colorspace, picture.color_range = 9, 2
    made = [picture for picture, _ in Deinterlacer()(zip(pictures, PTS, strict=False))]
    assert [(each.format.name, each.colorspace, each.color_range) for each in made] == [("yuv420p", 9, 2)] * 3

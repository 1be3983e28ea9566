"""Pixel formats, colour tags, alpha, orientation and cropping, against numbers worked out here."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mattecli.media.clips.planes.colour import to_planes, to_rgb
from mattecli.media.clips.planes.frame import BT601, BT709, BT2020, Colour, Format, Frame
from mattecli.media.clips.planes.swscale import levels, picture_of
from mattecli.media.clips.reading.clip import Clip, open_clip
from mattecli.media.clips.reading.pictures import Pictures, colour_of
from tests.media.clips.making import make_clip, rgb_of

SIZE = (64, 96)


def smooth() -> np.ndarray[Any, Any]:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.rint(np.stack((40 + 150 * x / 96, 30 + 180 * y / 64, 200 - 120 * x / 96 + 0 * y), -1)).astype(np.uint8)


def frame_of(picture: av.VideoFrame, **options: Any) -> Frame:
    return Pictures(picture, **options).frame(picture, 0, 1, Fraction(1, 25), [])


def tagged(picture: av.VideoFrame, colour: Colour) -> av.VideoFrame:
    picture.colorspace, picture.color_range = colour.matrix, 2 if colour.full else 1
    picture.color_primaries, picture.color_trc = colour.primaries, colour.transfer
    return picture


def off(ours: Any, theirs: Any) -> float:
    return float(np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).max())


@pytest.mark.parametrize(
    ("matrix", "full", "depth", "chroma"),
    list(product((BT601, BT709, BT2020, 7, 4), (False, True), (8, 10), ("420", "422", "444"))),
)
def test_the_small_picture_has_the_colours_of_the_planes(matrix: int, full: bool, depth: int, chroma: Any) -> None:
    """swscale is told matrix and range, and obeys: a wrong one would be off by 10 levels and more."""
    colour = Colour(matrix, 1, 1, full)
    form = Format(*SIZE, colour, depth, chroma)
    planes = to_planes(smooth(), form)
    frame = frame_of(tagged(picture_of(planes, f"yuv{chroma}p{'10le' if depth == 10 else ''}"), colour))
    assert frame.format == form
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(frame.planes, planes, strict=True))
    assert frame.view
    for height, width in (SIZE, (32, 48), (21, 37), (80, 120)):
        view = frame.view(height, width)
        assert (view.shape, view.dtype) == ((height, width, 3), np.uint8)
        way = cv2.INTER_AREA if height < 64 else cv2.INTER_LINEAR
        exact = cv2.resize(to_rgb(planes, form), (width, height), interpolation=way)
        assert off(view, exact) <= 3 and abs(float(np.mean(view.astype(float) - exact))) < 0.5


@pytest.mark.parametrize(
    ("size", "tags", "expected"),
    [
        ((64, 96), (2, 2, 2, 0), (BT601, 6, 6, False)),
        ((288, 352), (2, 2, 2, 0), (BT601, 5, 6, False)),
        ((720, 1280), (2, 2, 2, 0), (BT709, 1, 1, False)),
        ((536, 1280), (2, 2, 2, 0), (BT709, 1, 1, False)),
        ((1280, 720), (3, 3, 3, 0), (BT709, 1, 1, False)),
        ((64, 96), (0, 0, 0, 1), (BT601, 6, 6, False)),  # RGB's code on YUV, reserved codes
        ((64, 96), (200, 99, 99, 2), (BT601, 6, 6, True)),
        ((64, 96), (1, 1, 13, 2), (BT709, 1, 13, True)),
        ((2160, 3840), (2, 9, 16, 1), (BT2020, 9, 16, False)),
        ((64, 96), (10, 9, 14, 1), (BT2020, 9, 14, False)),
        ((64, 96), (15, 2, 16, 1), (BT2020, 9, 16, False)),
    ],
)
def test_colour_untagged_and_wrongly_tagged(size: tuple[int, int], tags: Any, expected: Any) -> None:
    picture = av.VideoFrame(size[1], size[0], "yuv420p")
    picture.colorspace, picture.color_primaries, picture.color_trc, picture.color_range = tags
    colour, note = colour_of(picture)
    assert colour == Colour(*expected)
    assert bool(note) == (tags[0] in (10, 15))


def test_what_the_pictures_leave_open_the_container_says(tmp_path: Path) -> None:
    """ProRes pictures have tags of their own, which this file leaves empty."""
    make_clip(tmp_path / "a.mov", 1, codec="prores_ks", pixel="yuv422p10le", colour=Colour(BT2020, 9, 18))
    with av.open(str(tmp_path / "a.mov")) as container:
        assert next(container.decode(video=0)).colorspace == 2
    with open_clip(str(tmp_path / "a.mov")) as clip:
        assert clip.format.colour == Colour(BT2020, 9, 18)


def test_jpegs_yuv_has_full_range_whatever_its_tag_and_that_of_photos_is_srgb() -> None:
    picture = av.VideoFrame(96, 64, "yuvj420p")
    picture.colorspace, picture.color_range = 5, 1
    assert colour_of(picture, "mjpeg")[0] == Colour(5, 5, 6, True)
    assert colour_of(picture, "jpg")[0] == Colour(5, 1, 13, True)


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "bgra", "gbrp", "rgb48le", "gbrp10le", "rgb0"])
@pytest.mark.parametrize("primaries", [1, 9])
def test_rgb_becomes_full_range_yuv(name: str, primaries: int) -> None:
    picture = av.VideoFrame.from_ndarray(smooth(), "rgb24").reformat(format=name)
    picture.color_primaries = primaries
    frame = frame_of(picture)
    deep = {"rgb48le": 12, "gbrp10le": 10}.get(name, 8)
    form, alpha = frame.format, name == "bgra"
    assert (form.depth, form.chroma, form.alpha) == (deep, "444", alpha)
    assert form.colour == Colour(BT709 if primaries == 1 else BT2020, primaries, 13, True)
    exact = to_planes(smooth(), Format(*SIZE, form.colour, deep, "444"))
    assert max(off(a, b) for a, b in zip(frame.planes, exact, strict=False)) <= (1 if deep == 8 else 4)
    assert frame.view and off(frame.view(*SIZE), smooth()) <= 1


@pytest.mark.parametrize(
    ("name", "chroma", "depth"),
    [
        ("nv12", "420", 8),
        ("nv21", "420", 8),
        ("p010le", "420", 10),
        ("yuyv422", "422", 8),
        ("uyvy422", "422", 8),
        ("yuv411p", "422", 8),
        ("yuv410p", "420", 8),
        ("yuv440p", "444", 8),
        ("yuv420p14le", "420", 12),
        ("yuv422p16le", "422", 12),
        ("yuv420p9le", "420", 10),
        ("yuv420p10be", "420", 10),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_other_yuv_becomes_the_nearest_planar_one(name: str, chroma: str, depth: int, full: bool) -> None:
    colour = Colour(BT709, 1, 1, full)
    planes = to_planes(smooth(), Format(*SIZE, colour, 8, "444"))
    side = 2 if full else 1
    code = {"src_colorspace": 1, "dst_colorspace": 1, "src_color_range": side, "dst_color_range": side}
    picture = tagged(picture_of(planes, "yuv444p").reformat(format=name, **code), colour)
    frame = frame_of(picture)
    form = frame.format
    assert (form.chroma, form.depth, form.colour) == (chroma, depth, colour)
    assert [plane.shape for plane in frame.planes] == form.shapes
    scale = ((1 << depth) - 1) / 255 if full else 1 << (depth - 8)
    assert off(frame.planes[0] / scale, planes[0]) <= 1
    assert frame.view and off(frame.view(*SIZE)[8:-8, 8:-8], smooth()[8:-8, 8:-8]) <= 8


@pytest.mark.parametrize(
    ("codec", "tag", "full"), [("h264", 0, False), ("png", 0, True), ("h264", 2, True), ("png", 1, False)]
)
@pytest.mark.parametrize("name", ["gray", "gray10le", "gray12le"])
def test_grey_keeps_its_levels_and_its_range(name: str, codec: str, tag: int, full: bool) -> None:
    depth = {"gray": 8}.get(name) or int(name[4:6])
    ramp = np.linspace(16, 235, 96 * 64).reshape(SIZE)
    grey = np.rint(ramp * (1 << (depth - 8))).astype(np.uint8 if depth == 8 else np.uint16)
    picture = picture_of([grey], name)
    picture.color_range = tag
    frame = frame_of(picture, codec=codec)
    assert (frame.format.chroma, frame.format.depth, frame.format.colour.full) == ("420", depth, full)
    np.testing.assert_array_equal(frame.planes[0], grey)
    assert {int(level) for plane in frame.planes[1:] for level in np.unique(plane)} == {128 << (depth - 8)}
    light = ramp if full else (ramp - 16) * 255 / 219
    assert frame.view and off(frame.view(*SIZE), light[..., None]) <= (1.5 if depth == 8 or not full else 2.5)


def alpha_ramp(depth: int) -> np.ndarray[Any, Any]:
    top = (1 << depth) - 1
    return np.broadcast_to(np.rint(np.linspace(0, top, SIZE[1])), SIZE).astype(np.uint8 if depth == 8 else np.uint16)


@pytest.mark.parametrize(
    ("name", "codec", "pixel", "depth", "within"),
    [
        ("a.mkv", "ffv1", "yuva420p", 8, 0),
        ("a.mkv", "ffv1", "yuva444p10le", 10, 0),
        ("a.webm", "libvpx-vp9", "yuva420p", 8, 0),
        ("a.webm", "libvpx", "yuva420p", 8, 6),
        ("a.mov", "prores_ks", "yuva444p10le", 12, 4),
    ],
)
def test_alpha_is_the_fourth_plane(tmp_path: Path, name: str, codec: str, pixel: str, depth: int, within: int) -> None:
    alpha = alpha_ramp(10 if "10" in pixel else 8)
    options = {"libvpx-vp9": {"lossless": "1"}, "libvpx": {"auto-alt-ref": "0", "crf": "4"}}.get(codec, {})
    make_clip(tmp_path / name, 3, codec=codec, pixel=pixel, alpha=[alpha] * 3, options=options)
    with open_clip(str(tmp_path / name)) as clip:
        frames = list(clip)
    assert clip.format.alpha and clip.format.depth == depth and len(frames) == 3
    for frame in frames:
        assert [plane.shape for plane in frame.planes] == frame.format.shapes
        assert off(frame.planes[3], alpha_ramp(depth)) <= within
    view = frames[0].view
    assert view and view(*SIZE)[:, 0].min() >= 250  # transparent pixels lie over white
    assert off(view(*SIZE)[:, -1], rgb_of(0)[:, -1]) <= 8


@pytest.mark.parametrize(
    ("codec", "pixel", "name"), [("qtrle", "argb", "a.mov"), ("png", "rgba", "a.mov"), ("ffv1", "bgra", "a.mkv")]
)
def test_alpha_beside_rgb(tmp_path: Path, codec: str, pixel: str, name: str) -> None:
    alpha = alpha_ramp(8)
    with av.open(str(tmp_path / name), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixel
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.dstack((smooth(), alpha))), "rgba")
        container.mux(stream.encode(picture.reformat(format=pixel)))
        container.mux(stream.encode(None))
    with open_clip(str(tmp_path / name)) as clip:
        (frame,) = clip
    assert off(frame.planes[3], alpha) <= 1
    assert (frame.planes[3].min(), frame.planes[3].max()) == (0, 255)
    assert off(to_rgb(frame.planes, frame.format), smooth()) <= 2


def orient(stored: np.ndarray[Any, Any], a: int, b: int, c: int, d: int) -> np.ndarray[Any, Any]:
    """Pixel by pixel, as FFmpeg's display.h has it: (x, y) is shown at (a x + c y, b x + d y), moved to begin at 0."""
    height, width = stored.shape[:2]
    places = {(a * x + c * y, b * x + d * y): (y, x) for y in range(height) for x in range(width)}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    shown = np.empty((width, height) if a == 0 else (height, width), stored.dtype)
    for (x, y), place in places.items():
        shown[y - top, x - left] = stored[place]
    return shown


EIGHT = [(a, 0, 0, d) for a, d in product((1, -1), repeat=2)] + [(0, b, c, 0) for b, c in product((1, -1), repeat=2)]


@pytest.mark.parametrize(("a", "b", "c", "d"), EIGHT)
def test_all_eight_orientations(tmp_path: Path, a: int, b: int, c: int, d: int) -> None:
    one = 1 << 16
    matrix = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30]
    size = (16, 24)
    made = make_clip(tmp_path / "a.mp4", 2, size, matrix=matrix, aspect=Fraction(4, 3))
    with open_clip(str(tmp_path / "a.mp4")) as clip:
        frames = list(clip)
    for frame, planes in zip(frames, made, strict=True):
        for ours, theirs in zip(frame.planes, planes, strict=True):
            np.testing.assert_array_equal(ours, orient(theirs, a, b, c, d))
    assert (frames[0].format.width, frames[0].format.aspect) == ((24, Fraction(4, 3)) if a else (16, Fraction(3, 4)))
    upright = to_rgb(frames[0].planes, frames[0].format)
    view = frames[0].view
    assert view and np.abs(view(*upright.shape[:2]).astype(int) - upright).mean() < 2


def test_a_clip_turned_by_a_phone(tmp_path: Path) -> None:
    """PyAV's degrees are counter-clockwise."""
    made = make_clip(tmp_path / "a.mp4", 1, turn=(-90, False, False))
    with open_clip(str(tmp_path / "a.mp4")) as clip:
        (frame,) = clip
    np.testing.assert_array_equal(frame.planes[0], np.rot90(made[0][0], -1))


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("start", [None, 0.04])
def test_a_turned_clip_with_alpha(tmp_path: Path, codec: str, start: float | None) -> None:
    """Its decoder isn't told how it is turned, and a tag (here of a copy) may say in capitals that it has alpha."""
    alpha = alpha_ramp(8)
    turn = (90.0, False, False)
    options = {"auto-alt-ref": "0", "crf": "4"}
    make_clip(tmp_path / "a.webm", 3, codec=codec, pixel="yuva420p", alpha=[alpha] * 3, turn=turn, options=options)
    with av.open(str(tmp_path / "a.webm")) as first, av.open(str(tmp_path / "b.webm"), "w") as second:
        stream = second.add_stream_from_template(first.streams.video[0])
        stream.metadata["alpha_mode"] = "1"
        for packet in first.demux(video=0):
            if packet.size:
                packet.stream = stream
                second.mux(packet)
    for name in ("a.webm", "b.webm"):
        with open_clip(str(tmp_path / name), start=start) as clip:
            frames = list(clip)
        assert (clip.format.width, clip.format.height, clip.format.alpha) == (64, 96, True)
        assert all(off(frame.planes[3], np.rot90(alpha)) <= 8 for frame in frames) and len(frames) == (
            2 if start else 3
        )


@pytest.mark.parametrize(
    ("pixel", "size", "turn", "chroma"),
    [
        ("yuv422p", (64, 96), (90, False, False), "444"),
        ("yuv422p10le", (64, 96), (180, False, False), "422"),
        ("yuv420p", (65, 97), (180, False, False), "444"),
        ("yuv420p", (65, 96), (0, True, False), "420"),
        ("yuv444p", (65, 97), (90, False, False), "444"),
    ],
)
def test_chroma_stays_with_its_pixels_when_turned(
    tmp_path: Path, pixel: str, size: tuple[int, int], turn: Any, chroma: str
) -> None:
    """4:2:2 on its side, and pairs of an odd side that begin at the other end, need all chroma samples."""
    make_clip(tmp_path / "still.mkv", 1, size, pixel=pixel)
    make_clip(tmp_path / "turned.mkv", 1, size, pixel=pixel, turn=turn)
    with open_clip(str(tmp_path / "still.mkv")) as clip, open_clip(str(tmp_path / "turned.mkv")) as other:
        (still,), (turned,) = clip, other
    assert turned.format.chroma == chroma
    exact = np.rot90(to_rgb(still.planes, still.format), turn[0] // 90)
    exact = exact[:, ::-1] if turn[1] else exact
    rgb = to_rgb(turned.planes, turned.format)
    assert rgb.shape == exact.shape
    assert float(np.abs(rgb.astype(float) - exact).mean()) < 1


def test_what_the_container_crops_is_gone(tmp_path: Path) -> None:
    """Matroska's PixelCropLeft, written over the DisplayUnit of a file that has none of its own."""
    path = tmp_path / "a.mkv"
    made = make_clip(path, 2)
    data = path.read_bytes()
    assert data.count(b"\x54\xb2\x81\x04") == 1
    path.write_bytes(data.replace(b"\x54\xb2\x81\x04", b"\x54\xcc\x81\x08"))
    with open_clip(str(path)) as clip:
        frames = list(clip)
    assert (clip.format.height, clip.format.width) == (64, 88)
    for frame, planes in zip(frames, made, strict=True):
        np.testing.assert_array_equal(frame.planes[0], planes[0][:, 8:])
        np.testing.assert_array_equal(frame.planes[1], planes[1][:, 4:])


def test_pictures_that_change_become_like_the_first(tmp_path: Path) -> None:
    first, other = Format(*SIZE, Colour(BT601, 6, 6)), Format(32, 48, Colour(BT709, 1, 1, True))
    pictures = Pictures(tagged(picture_of(to_planes(smooth(), first), "yuv420p"), first.colour))
    small = cv2.resize(smooth(), (48, 32), interpolation=cv2.INTER_AREA)
    changed = tagged(picture_of(to_planes(small, other), "yuv420p"), other.colour)
    frame = pictures.frame(changed, 0, 1, Fraction(1, 25), [])
    assert frame.format == first and [plane.shape for plane in frame.planes] == first.shapes
    assert off(to_rgb(frame.planes, first)[4:-4, 4:-4], smooth()[4:-4, 4:-4]) <= 5
    assert frame.view and off(frame.view(32, 48), small) <= 5


def test_a_palette_is_seen_through_only_where_it_says_so() -> None:
    for alpha, expected in ((255, False), (0, True)):
        picture = av.VideoFrame(96, 64, "pal8")
        palette: Any = picture.planes[1]
        np.frombuffer(palette, np.uint32)[:] = (np.full(256, 255) << 24 | 0x204060).astype(np.uint32)
        np.frombuffer(palette, np.uint32)[7] = alpha << 24
        assert frame_of(picture).format.alpha is expected


def test_padded_rows_are_cut(tmp_path: Path) -> None:
    picture = av.VideoFrame(50, 4, "yuv420p")
    assert picture.planes[0].line_size > 50
    assert [plane.shape for plane in levels(picture)] == [(4, 50), (2, 25), (2, 25)]


def test_the_view_outlives_the_clip_and_may_be_asked_from_anywhere(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    make_clip(tmp_path / "a.mp4", 8)
    with open_clip(str(tmp_path / "a.mp4")) as clip:
        assert isinstance(clip, Clip)
        frames = list(clip)
    with ThreadPoolExecutor(4) as pool:
        views = list(pool.map(lambda frame: frame.view(32, 48), frames * 4))
    for index, view in enumerate(views):
        exact = cv2.resize(rgb_of(index % 8), (48, 32), interpolation=cv2.INTER_AREA)
        assert float(np.abs(view.astype(float) - exact).mean()) < 2


@pytest.mark.parametrize(
    ("codec", "matrix", "siting"),
    [("mjpeg", BT601, (0.5, 0.5)), ("h264", BT709, (0.0, 0.5)), ("hevc", BT2020, (0.0, 0.0))],
)
def test_chroma_lies_where_the_codec_puts_it(codec: str, matrix: int, siting: Any) -> None:
    picture = av.VideoFrame(96, 64, "yuv420p")
    picture.colorspace = matrix
    assert Pictures(picture, codec=codec).format.siting == siting

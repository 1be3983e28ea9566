"""Backgrounds of clips: their levels, their place and their time."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from mattecli.errors import UsageError
from mattecli.inference import behind
from mattecli.inference.behind import Blur, Moving, parse, plain, still
from mattecli.media.clips.planes.colour import to_planes, to_rgb
from mattecli.media.clips.planes.frame import BT601, BT709, BT2020, HLG, PQ, Colour, Format, Frame
from mattecli.media.photos import encode
from tests.icc import DISPLAY_P3, SRGB

SHOWS = np.zeros((9, 16), np.float32)
"""The alpha of an empty frame."""


def frame(form, planes=(), pts=0, base=Fraction(1, 25)):
    return Frame(form, list(planes), pts, 1, base)


def first(planes):
    return [int(plane[0, 0]) for plane in planes]


class FakeClip:
    """Flat frames, the n-th of grey 20·n, at `stamps` in `base`; the last lasts for `last`."""

    opened = 0

    def __init__(self, form, stamps, last=1, base=Fraction(1, 10)):
        self.format, self.stamps, self.last, self.base = form, stamps, last, base
        type(self).opened += 1
        self.closed = False

    def __iter__(self):
        for number, pts in enumerate(self.stamps):
            assert not self.closed
            duration = self.stamps[number + 1] - pts if number + 1 < len(self.stamps) else self.last
            rgb = np.full((self.format.height, self.format.width, 3), 20 * number, np.uint8)
            yield Frame(self.format, to_planes(rgb, self.format), pts, duration, self.base)

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("colour", "depth", "rgb", "expected"),
    [
        (Colour(), 8, (255, 0, 0), (63, 102, 240)),
        (Colour(BT601, 6, 6), 8, (255, 0, 0), (81, 90, 240)),
        (Colour(full=True), 8, (255, 255, 255), (255, 128, 128)),
        (Colour(), 10, (0, 0, 0), (64, 512, 512)),
        # BT.2408, table 1: SDR white is 203 nits, 58 % of PQ's range and 75 % of HLG's
        (Colour(BT2020, 9, PQ), 10, (255, 255, 255), (64 + 0.5807 * 876, 512, 512)),
        (Colour(BT2020, 9, HLG), 10, (255, 255, 255), (64 + 0.75 * 876, 512, 512)),
        (Colour(BT2020, 9, PQ), 10, (0, 0, 0), (64, 512, 512)),
        # light of BT.709's red in BT.2020 (BT.2087) and in P3 (SMPTE EG 432-1); here at gamma 2.4
        (Colour(BT2020, 9, 14), 10, (255, 0, 0), (0.6274, 0.0691, 0.0164)),
        (Colour(BT709, 12, 13), 10, (255, 0, 0), (0.8225, 0.0332, 0.0171)),
    ],
)
def test_colours_have_the_levels_of_their_standard(colour, depth, rgb, expected):
    form = Format(18, 32, colour, depth)
    provider = plain(rgb)
    planes = provider(frame(form), SHOWS)
    assert [(plane.shape, plane.dtype) for plane in planes] == [(shape, form.dtype) for shape in form.shapes]
    assert all(np.ptp(plane) == 0 for plane in planes)
    if max(expected) < 1:
        np.testing.assert_allclose(to_rgb(planes, form, 16)[0, 0] / 65535, np.power(expected, 1 / 2.4), atol=0.004)
    else:
        np.testing.assert_allclose(first(planes), expected, atol=1)
    assert provider(frame(form, pts=1), SHOWS) is planes


def test_a_picture_covers_the_frame_about_its_centre():
    picture = np.zeros((40, 200, 3), np.uint8)
    picture[:, 60:140] = 200
    form = Format(20, 40, chroma="444")
    rgb = to_rgb(still(picture)(frame(form), SHOWS), form)
    assert np.abs(rgb.astype(int) - 200).max() <= 2
    wide = Format(20, 40, chroma="444", aspect=Fraction(2))
    rgb = to_rgb(still(picture)(frame(wide), SHOWS), wide).astype(int)
    assert np.abs(rgb[:, 11:29] - 200).max() <= 3 and rgb[:, :9].max() <= 3


@pytest.mark.parametrize(("chroma", "depth"), [("420", 8), ("422", 10), ("444", 8)])
@pytest.mark.parametrize("radius", [None, 2, 9, 40])
def test_blur_shows_nothing_of_the_subject(chroma, depth, radius):
    form = Format(121, 167, depth=depth, chroma=chroma)
    rgb = np.empty((121, 167, 3), np.uint8)
    rgb[:] = np.linspace(60, 120, 167, dtype=np.uint8)[None, :, None]
    clean = to_planes(rgb, form)
    rgb[30:90, 50:110] = (255, 0, 0)
    alpha = np.zeros((61, 84), np.float32)
    alpha[14:46, 24:56] = 1
    planes = Blur(radius)(frame(form, to_planes(rgb, form)), alpha)
    assert [(plane.shape, plane.dtype) for plane in planes] == [(shape, form.dtype) for shape in form.shapes]
    scale = 1 << (depth - 8)
    error = [np.abs(plane.astype(int) - own) / scale for plane, own in zip(planes, clean, strict=True)]
    assert max(part.max() for part in error) <= 25
    assert error[0][:20].mean() <= 6


def test_blur_is_a_gaussian_where_there_is_no_subject():
    form = Format(128, 128, chroma="444")
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    planes = to_planes(rgb, form)
    for found, own in zip(Blur(12)(frame(form, planes), SHOWS), planes, strict=True):
        expected = cv2.GaussianBlur(own.astype(np.float32), (0, 0), 12, borderType=cv2.BORDER_REPLICATE)
        assert np.abs(found - expected)[16:-16, 16:-16].max() <= 4


def shown(moving, form, pts, base):
    return round(
        first(to_rgb(moving(frame(form, pts=pts, base=base), SHOWS), form)[..., :1].transpose(2, 0, 1))[0] / 20
    )


def test_a_clip_is_shown_by_its_own_stamps_and_starts_over():
    form = Format(16, 24, chroma="444")
    stamps, base = [7, 8, 11, 12], Fraction(1, 10)  # lasts 0.1, 0.3, 0.1 and 0.2 s: 0.7 s in all
    moving = Moving(lambda: FakeClip(form, stamps, last=2, base=base))
    numbers = [0, 1, 1, 1, 2, 3, 3]
    expected = [numbers[tick % 7] for tick in range(30)]
    assert [shown(moving, form, tick, base) for tick in range(30)] == expected
    # at another rate, and just before a frame changes
    moving = Moving(lambda: FakeClip(form, stamps, last=2, base=base))
    ticks = [0, 9, 10, 39, 40, 49, 50, 69, 70, 80]
    assert [shown(moving, form, tick, Fraction(1, 100)) for tick in ticks] == [
        numbers[tick // 10 % 7] for tick in ticks
    ]


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001), Fraction(60)])
def test_clips_of_one_rate_keep_step_though_one_rounds_its_times(rate):
    form, exact = Format(16, 24, chroma="444"), [Fraction(n) / rate for n in range(12)]
    rounded = [round(1000 * time) for time in exact]
    moving = Moving(lambda: FakeClip(form, range(12), base=1 / rate))
    assert [shown(moving, form, stamp, Fraction(1, 1000)) for stamp in rounded] == list(range(12))
    moving = Moving(lambda: FakeClip(form, rounded, last=rounded[1], base=Fraction(1, 1000)))
    assert [shown(moving, form, number, 1 / rate) for number in range(12)] == list(range(12))


def test_a_clip_is_opened_once_a_pass_and_found_after_a_leap_either_way():
    form = Format(16, 24, chroma="444")
    FakeClip.opened = 0
    moving = Moving(lambda: FakeClip(form, [0, 1, 2], base=Fraction(1)))
    assert [shown(moving, form, tick, Fraction(1)) for tick in (0, 1, 2)] == [0, 1, 2]
    assert FakeClip.opened == 1
    assert shown(moving, form, 3_000_001, Fraction(1)) == 1
    assert FakeClip.opened == 2
    assert shown(moving, form, 2, Fraction(1)) == 2
    FakeClip.opened = 0
    alone = Moving(lambda: FakeClip(form, [5]))
    assert [shown(alone, form, tick, Fraction(1)) for tick in (0, 9)] == [0, 0] and FakeClip.opened == 1


@pytest.mark.parametrize(
    "own",
    [
        Format(30, 50, Colour(BT601, 6, 6)),
        Format(31, 41, Colour(full=True), chroma="422"),
        Format(480, 270, depth=10),
        Format(90, 160, aspect=Fraction(4, 3)),
        Format(48, 64, Colour(BT2020, 9, 14), 10),
        Format(48, 64, Colour(BT709, 12, 13)),
        Format(48, 64, Colour(BT2020, 9, PQ), 10),
        Format(48, 64, alpha=True),
    ],
    ids=lambda form: f"{form.height}x{form.width}, {form.colour.transfer}",
)
@pytest.mark.parametrize(
    "form", [Format(54, 96), Format(53, 97, Colour(full=True), 10, "444")], ids=["8 bits", "10 bits"]
)
def test_a_clip_is_brought_to_the_frames_size_and_colours(own, form):
    class Grey(FakeClip):
        def __iter__(self):
            rgb = np.full((own.height, own.width, 3), (120, 90, 60), np.uint8)
            planes = to_planes(behind.in_colour(rgb, own.colour), own)
            yield Frame(own, [*planes, np.zeros_like(planes[0])] if own.alpha else planes, 0, 1, self.base)

    planes = Moving(lambda: Grey(own, [0]))(frame(form), SHOWS)
    assert [(plane.shape, plane.dtype) for plane in planes] == [(shape, form.dtype) for shape in form.shapes]
    assert np.abs(to_rgb(planes, form).astype(int) - (120, 90, 60)).max() <= (6 if own.colour.hdr else 3)


def test_a_clip_of_the_same_format_is_not_touched():
    form = Format(54, 96)
    planes = [np.random.default_rng(0).integers(0, 256, shape, np.uint8) for shape in form.shapes]

    class Noise(FakeClip):
        def __iter__(self):
            yield Frame(form, planes, 0, 1, self.base)

    found = Moving(lambda: Noise(form, [0]))(frame(form), SHOWS)
    assert all(a is b for a, b in zip(found, planes, strict=True))


def test_what_the_text_says(tmp_path):
    assert parse("transparent") is None
    form = Format(32, 48)
    empty = frame(form, to_planes(np.full((32, 48, 3), 77, np.uint8), form))
    white = to_planes(np.full((32, 48, 3), 255, np.uint8), form)
    for text in ("white", "#fff", "#FFFFFF", "255,255,255"):
        assert first(parse(text)(empty, SHOWS)) == first(white)
    assert np.abs(parse("blur:3")(empty, SHOWS)[0].astype(int) - empty.planes[0]).max() <= 1
    cv2.imwrite(str(tmp_path / "beach.png"), np.full((9, 9, 3), (0, 0, 255), np.uint8))
    assert first(parse(str(tmp_path / "beach.png"))(empty, SHOWS)) == [63, 102, 240]
    write_clip(tmp_path / "sea.mkv", form)
    (tmp_path / "sea.mkv").rename(tmp_path / "sea")
    moving = parse(str(tmp_path / "sea"))
    levels = [first(moving(frame(form, pts=pts, base=Fraction(1, 10)), SHOWS))[0] for pts in (0, 1, 2, 3, 5)]
    assert levels == [40, 80, 120, 40, 120]


def test_a_photo_behind_a_clip_is_brought_to_srgb(tmp_path):
    orange = np.full((9, 9, 3), (200, 100, 50), np.uint8)
    (tmp_path / "p3.png").write_bytes(encode(orange, ".png", icc=DISPLAY_P3.profile))
    form = Format(32, 48)
    empty = frame(form, to_planes(np.zeros((32, 48, 3), np.uint8), form))
    wide = np.rint(255 * DISPLAY_P3.to(SRGB, orange / 255)).astype(np.uint8)
    expected = first(plain(wide[0, 0].tolist())(empty, SHOWS))
    assert np.abs(np.subtract(first(parse(str(tmp_path / "p3.png"))(empty, SHOWS)), expected)).max() <= 1
    (tmp_path / "odd.png").write_bytes(encode(orange, ".png", icc=DISPLAY_P3.profile.replace(b"rXYZ", b"????")))
    with pytest.raises(UsageError, match=r"odd\.png: LittleCMS"):
        parse(str(tmp_path / "odd.png"))


def write_clip(path, form):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", 10, width=form.width, height=form.height, pix_fmt="yuv420p")
        for level in (40, 80, 120):
            picture = av.VideoFrame(form.width, form.height, "yuv420p")
            for plane, value in zip(picture.planes, (level, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nowhere.mp4", "no file, no colour"),
        ("blur:0", "radius above 0"),
        ("blur:x", "no file, no colour"),
        ("-", "only once"),
        ("webcam:0", "only once"),
        ("{}/broken.jpg", "broken.jpg"),
        ("{}/text.mp4", "text.mp4"),
        ("{}", "folder"),
        ("{}/shot_%03d.png", "shot_"),
    ],
)
def test_what_cannot_be_a_background_is_said(text, says, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "text.mp4").write_text("no clip" * 100)
    with pytest.raises(UsageError, match=says) as caught:
        parse(text.format(tmp_path))
    assert str(caught.value).startswith("--bg ")


def test_each_pass_of_a_clip_is_closed():
    form, opened = Format(16, 16), []
    moving = Moving(lambda: opened.append(FakeClip(form, [0, 1])) or opened[-1])
    for pts in (0, 3, 6, 12, 1):  # it lasts for 5 of these; the last one leads back
        moving(frame(form, pts=pts), SHOWS)
    assert [clip.closed for clip in opened] == [True, True, True, False]


def test_a_clip_of_wide_pixels_is_as_wide_as_it_is_shown():
    own, form = Format(32, 32, aspect=Fraction(2)), Format(32, 64)
    rows = np.linspace(40, 200, 32).astype(np.uint8)[:, None].repeat(32, 1)
    planes = [rows, *(np.full((16, 16), 128, np.uint8) for _ in range(2))]

    class Source:
        format = own

        def __iter__(self):
            yield frame(own, planes)

    luma = Moving(Source)(frame(form), SHOWS)[0]
    np.testing.assert_allclose(luma.mean(1), rows[:, 0], atol=2)


def test_blur_shows_next_to_nothing_of_what_is_half_subject():
    form, alpha = Format(48, 96), np.repeat(np.float32([1, 0.5, 0]), 8)[None].repeat(12, 0)
    luma = np.full((48, 96), 235, np.uint8)
    luma[:, 60:] = 16
    planes = [luma, *(np.full((24, 48), 128, np.uint8) for _ in range(2))]
    assert Blur(4.0)(frame(form, planes), alpha)[0].max() <= 20

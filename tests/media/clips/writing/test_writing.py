"""Clips written and read again: frames, stamps, colours, alpha, and what happens to the file."""

from __future__ import annotations

import io
import os
import signal
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mattecli.errors import InputError, UsageError
from mattecli.media.clips.planes.frame import BT601, BT709, BT2020, HLG, PQ, Colour, Format
from mattecli.media.clips.writing.sink import Target, open_sink

SMALL = Format(64, 96)
VARIABLE = (0, 20, 40, 61, 100, 120, 250, 260)


def names(folder):
    return [path.name for path in folder.iterdir()]


def write(path, format, frames, clip, **options):
    sink = open_sink(Target(path, **options), format, clip)
    for frame in frames:
        sink.write(frame)
    sink.close()
    return sink


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
def test_every_stamp_and_the_last_duration_survive_in_mp4(tmp_path, origin, frames, reread, codec):
    write(tmp_path / "a.mp4", SMALL, frames(SMALL, VARIABLE, last=77), origin(), codec=codec)
    again = reread(tmp_path / "a.mp4")
    assert again.times == [Fraction(pts, 600) for pts in VARIABLE]
    movie = (tmp_path / "a.mp4").read_bytes().partition(b"mvhd")[2]
    scale, length = struct.unpack(">II", movie[12:20])
    assert Fraction(length, scale) == Fraction(260 + 77, 600)


def test_a_late_start_stays_late(tmp_path, origin, frames, reread):
    write(tmp_path / "a.mov", SMALL, frames(SMALL, (777, 797, 830), last=77), origin())
    again = reread(tmp_path / "a.mov")
    assert again.times == [Fraction(pts, 600) for pts in (777, 797, 830)]


def test_ntsc_rate_stays_exact(tmp_path, origin, frames, reread):
    tick = Fraction(1001, 30000)
    clip = origin(time_base=tick, rate=1 / tick)
    write(tmp_path / "a.mp4", SMALL, frames(SMALL, range(8), time_base=tick, last=1), clip)
    again = reread(tmp_path / "a.mp4")
    assert again.times == [k * tick for k in range(8)]
    assert again.video.average_rate == 1 / tick
    assert again.end == 8 * tick


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_matroska_keeps_stamps_to_the_millisecond(tmp_path, origin, frames, reread, suffix):
    path = tmp_path / f"a{suffix}"
    write(path, SMALL, frames(SMALL, VARIABLE, last=77), origin())
    assert [float(t) for t in reread(path).times] == pytest.approx([p / 600 for p in VARIABLE], abs=0.00051)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "h264"), ("a.mp4", "hevc"), ("a.mkv", "av1"), ("a.webm", "vp9"), ("a.mov", "prores")]
)
@pytest.mark.parametrize("colour", [Colour(), Colour(BT601, 6, 6), Colour(BT709, 1, 1, full=True)])
def test_colour_tags_survive(tmp_path, origin, frames, reread, name, codec, colour):
    format = Format(64, 96, colour)
    write(tmp_path / name, format, frames(format, (0, 20)), origin(), codec=codec)
    found = reread(tmp_path / name).video.codec_context
    if codec != "prores":  # whose levels have limited range by definition
        assert found.color_range == (2 if colour.full else 1)
    assert (found.color_primaries, found.color_trc) == (colour.primaries, colour.transfer)
    assert found.colorspace in ({5, 6} if colour.matrix == BT601 else {colour.matrix})


@pytest.mark.parametrize("clear", [False, True])
def test_prores_has_limited_range_only(tmp_path, origin, frames, reread, clear):
    form = Format(64, 96, Colour(full=True), chroma="444", alpha=clear)
    made = frames(form, (0, 20))
    sink = write(tmp_path / "a.mov", form, made, origin(), codec="prores")
    assert "became limited" in sink.notes[0]
    after = reread(tmp_path / "a.mov").planes()
    span, wide = 219 * 16, 224 * 16
    assert np.abs(after[0] - (256 + span / 255 * made[0].planes[0])).mean() < 16  # of 12 bits
    for number in (1, 2):
        assert np.abs(after[number] - (2048 + wide / 255 * (made[0].planes[number] - 128.0))).mean() < 16
    if clear:
        assert np.abs(after[3] - 4095 / 255 * made[0].planes[3]).max() < 16


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_goes_into_10_bit_hevc_with_its_tags(tmp_path, origin, frames, reread, transfer):
    format = Format(64, 96, Colour(BT2020, 9, transfer), depth=10)
    sink = write(tmp_path / "a.mp4", format, frames(format), origin())
    found = reread(tmp_path / "a.mp4").video.codec_context
    assert (found.pix_fmt, found.codec_tag, found.color_trc) == ("yuv420p10le", "hvc1", transfer)
    assert sink.encoder.startswith("HEVC")


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
@pytest.mark.parametrize("chroma", ["420", "422", "444"])
@pytest.mark.parametrize("alpha", [False, True])
def test_ffv1_is_lossless(tmp_path, origin, frames, reread, depth, chroma, alpha):
    format = Format(63, 95, depth=depth, chroma=chroma, alpha=alpha)
    made = frames(format, (0, 20))
    write(tmp_path / "a.mkv", format, made, origin(), codec="ffv1")
    again = reread(tmp_path / "a.mkv")
    lifted = 4 if (depth, chroma, alpha) == (12, "420", True) else 0
    for index, frame in enumerate(made):
        for plane, expected in zip(again.planes(index), frame.planes, strict=True):
            np.testing.assert_array_equal(plane >> lifted, expected)


@pytest.mark.parametrize(
    ("name", "codec", "decoder"),
    [("a.mov", "prores", ""), ("a.webm", "vp9", "libvpx-vp9"), ("a.mkv", "ffv1", ""), ("a.mkv", "vp9", "libvpx-vp9")],
)
@pytest.mark.parametrize("depth", [8, 10])
def test_alpha_survives(tmp_path, origin, frames, reread, name, codec, decoder, depth):
    format = Format(64, 96, depth=depth, alpha=True)
    made = frames(format, (0, 20, 40))
    write(tmp_path / name, format, made, origin(), codec=codec if "mkv" in name else "auto")
    again = reread(tmp_path / name, decoder)
    assert again.video.codec_context.codec.canonical_name == codec
    for index, frame in enumerate(made):
        alpha = again.planes(index)[3] / ((1 << again.pictures[index].format.components[3].bits) - 1)
        expected = frame.planes[3] / ((1 << depth) - 1)
        assert np.abs(alpha - expected).max() <= 2 / 255
        assert (alpha[expected == 1] >= 0.9985).all()


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "h264"), ("a.mp4", "hevc"), ("a.webm", "vp9"), ("a.mov", "prores")]
)
def test_pictures_look_the_same(tmp_path, origin, frames, reread, name, codec):
    format = Format(64, 96)
    made = frames(format)
    write(tmp_path / name, format, made, origin(), codec=codec)
    again = reread(tmp_path / name)
    deep = again.pictures[0].format.components[0].bits - 8
    for index, frame in enumerate(made):
        error = np.abs(again.planes(index)[0].astype(float) / (1 << deep) - frame.planes[0])
        assert error.mean() < 1.2


@pytest.mark.parametrize(
    ("name", "codec", "size"),
    [
        ("a.mp4", "h264", (482, 854)),
        ("a.mp4", "hevc", (482, 854)),
        ("a.mp4", "av1", (481, 853)),
        ("a.webm", "vp9", (481, 853)),
        ("a.mov", "prores", (481, 853)),
        ("a.mkv", "ffv1", (481, 853)),
    ],
)
def test_odd_sizes_stay_or_grow_by_their_edge(tmp_path, origin, frames, reread, name, codec, size):
    format = Format(481, 853)
    made = frames(format, (0,))
    sink = write(tmp_path / name, format, made, origin(), codec=codec)
    again = reread(tmp_path / name)
    assert (again.video.height, again.video.width) == size
    luma = again.planes()[0].astype(float) / (1 << (again.pictures[0].format.components[0].bits - 8))
    assert np.abs(luma[:481, :853] - made[0].planes[0]).mean() < 1.5
    if size != (481, 853):
        assert "853x481 became 854x482" in sink.notes[0]
        assert np.abs(luma[481, :853] - made[0].planes[0][480]).mean() < 3


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_pixels_keep_their_shape(tmp_path, origin, frames, reread, name):
    format = Format(64, 96, aspect=Fraction(4, 3))
    write(tmp_path / name, format, frames(format), origin())
    assert reread(tmp_path / name).video.sample_aspect_ratio == Fraction(4, 3)


def test_where_pixels_must_be_square_the_picture_is_scaled(tmp_path, origin, frames, reread):
    format = Format(64, 96, aspect=Fraction(4, 3))
    sink = write(tmp_path / "a.webm", format, frames(format), origin())
    assert (reread(tmp_path / "a.webm").video.width, reread(tmp_path / "a.webm").video.height) == (128, 64)
    assert "square, 128x64" in sink.notes[0]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
def test_one_frame_is_a_clip(tmp_path, origin, frames, reread, name):
    write(tmp_path / name, SMALL, frames(SMALL, (0,)), origin())
    assert len(reread(tmp_path / name).times) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_frames_of_hevc_have_sane_decoding_times(tmp_path, origin, frames, count):
    for number in range(6):  # x265 leaves them to chance
        write(tmp_path / f"{number}.mp4", SMALL, frames(SMALL, range(0, 20 * count, 20)), origin(), codec="hevc")
        with av.open(str(tmp_path / f"{number}.mp4")) as again:
            stamps = [packet.dts * packet.time_base for packet in again.demux(video=0) if packet.size]
        assert len(stamps) == count
        assert min(stamps) >= -0.1


def test_the_file_appears_when_it_is_whole(tmp_path, origin, frames):
    path = tmp_path / "new" / "a.mp4"
    sink = open_sink(Target(path), SMALL, origin())
    for frame in frames(SMALL):
        sink.write(frame)
        assert not path.exists()
    sink.close()
    assert names(path.parent) == ["a.mp4"]
    sink.abort()
    assert path.exists()


def test_an_aborted_clip_leaves_the_old_file(tmp_path, origin, frames):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    sink = open_sink(Target(path), SMALL, origin())
    sink.write(frames(SMALL)[0])
    sink.abort()
    assert names(tmp_path) == ["a.mp4"]
    assert path.read_bytes() == b"old"


def test_no_frame_makes_no_file(tmp_path, origin):
    sink = open_sink(Target(tmp_path / "a.mp4"), SMALL, origin())
    with pytest.raises(InputError, match="no frame"):
        sink.close()
    assert names(tmp_path) == []


def test_names_with_colons_and_spaces(tmp_path, origin, frames, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("12:30 a.mp4"), SMALL, frames(SMALL), origin())
    assert names(tmp_path) == ["12:30 a.mp4"]


class Full(io.RawIOBase):
    """A disk with room for so many bytes."""

    def __init__(self, room):
        self.room = room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return len(data)


@pytest.mark.parametrize("container", [".mkv", ".mp4"])
@pytest.mark.parametrize("room", [10, 3000])
def test_a_full_disk_behind_stdout_is_told_as_it_is(origin, frames, monkeypatch, container, room):
    monkeypatch.setattr(sys, "stdout", type("Out", (), {"buffer": Full(room)}))
    with pytest.raises(OSError, match="No space left") as caught:
        write(None, SMALL, frames(SMALL, range(0, 2000, 20)), origin(), container=container)
    assert caught.value.errno == 28


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_a_name_is_told_as_it_is(tmp_path, origin, frames, monkeypatch):
    hidden = []

    def full(self):
        hidden.append(self.beside)
        return "/dev/full"

    monkeypatch.setattr("mattecli.media.clips.writing.goal.Goal.target", property(full))
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "a.mkv", SMALL, frames(SMALL, range(0, 2000, 20)), origin())
    assert caught.value.errno == 28
    assert hidden
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="files have no limit here")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize("parts", [False, True])
def test_a_disk_that_is_full_at_the_very_end(tmp_path, origin, frames, name, parts):
    """The system lets a file grow to all but its last byte, and to half."""
    import resource

    made = frames(SMALL)
    write(tmp_path / name, SMALL, made, origin())
    size = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (size - 1, size // 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                sink = open_sink(
                    Target(tmp_path / name), SMALL, origin(), segments=tmp_path / "parts" if parts else None
                )
                for frame in made:
                    sink.write(frame)
                sink.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert names(tmp_path) in ([], ["parts"]), "what is whole may be gone on with"


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path, origin):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is no folder"):
        open_sink(Target(tmp_path / "file" / "a.mp4"), SMALL, origin())
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        open_sink(Target(tmp_path / "a.mp4"), SMALL, origin())


@pytest.mark.parametrize("container", [".mkv", ".mp4", ".mov", ".webm"])
def test_stdout_gets_a_stream(origin, frames, reread, monkeypatch, container):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", type("Out", (), {"buffer": buffer}))
    write(None, SMALL, frames(SMALL, VARIABLE), origin(), container=container)
    again = reread(io.BytesIO(buffer.getvalue()))
    assert [float(t) for t in again.times] == pytest.approx([p / 600 for p in VARIABLE], abs=0.00051)


def test_a_device_is_written_to_directly(origin, frames):
    write(Path(os.devnull), SMALL, frames(SMALL), origin())
    assert not Path(os.devnull).is_file()


def test_a_size_that_the_encoder_refuses_is_one_sentence(tmp_path, origin):
    format = Format(2, 70000)
    with pytest.raises(UsageError, match="70000x2"):
        open_sink(Target(tmp_path / "a.mp4"), format, origin())
    assert names(tmp_path) == []


def test_narrow_pixels_become_square_by_height(tmp_path, origin, frames, reread):
    """As those of NTSC."""
    format = Format(72, 108, aspect=Fraction(8, 9))
    write(tmp_path / "a.webm", format, frames(format, (0,)), origin())
    assert (reread(tmp_path / "a.webm").video.width, reread(tmp_path / "a.webm").video.height) == (108, 81)


def test_prores_keeps_every_level_of_a_deep_alpha(tmp_path, origin, frames, reread):
    format = Format(64, 96, depth=10, chroma="444", alpha=True)
    (made,) = frames(format, (0,))
    write(tmp_path / "a.mov", format, [made], origin())
    assert np.abs(reread(tmp_path / "a.mov").planes()[3] / 4095 - made.planes[3] / 1023).max() < 0.5 / 1023


def test_a_full_disk_behind_stdout_may_show_at_the_very_end(origin, frames, monkeypatch):
    """What is written to is buffered."""

    class Full(io.BytesIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", type("Out", (), {"buffer": Full()}))
    with pytest.raises(OSError, match="No space left"):
        write(None, SMALL, frames(SMALL), origin())

"""What goes together: suffixes, codecs, transparency, depth; and hardware that isn't there."""

from __future__ import annotations

import os
import struct
import sys
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import pytest

from mattecli.errors import UsageError
from mattecli.media.clips.planes.frame import BT2020, PQ, Colour, Format
from mattecli.media.clips.writing.codecs import CODECS, CONTAINERS, encoding, refusal, suffix_of
from mattecli.media.clips.writing.mastering import mastering
from mattecli.media.clips.writing.sink import Target, open_sink

EIGHT, TEN = Format(64, 96), Format(64, 96, depth=10)
CLEAR = Format(64, 96, alpha=True)


@pytest.mark.parametrize(
    ("suffix", "format", "encoder", "pixels"),
    [
        (".mp4", EIGHT, "libx264", "yuv420p"),
        (".mp4", TEN, "libx265", "yuv420p10le"),
        (".mp4", Format(64, 96, depth=12), "libx265", "yuv420p10le"),
        (".mp4", Format(64, 96, chroma="422"), "libx264", "yuv422p"),
        (".mp4", Format(64, 96, chroma="444"), "libx264", "yuv420p"),
        (".mov", EIGHT, "libx264", "yuv420p"),
        (".mov", CLEAR, "prores_ks", "yuva444p10le"),
        (".mkv", CLEAR, "ffv1", "yuva420p"),
        (".mkv", TEN, "libx265", "yuv420p10le"),
        (".webm", EIGHT, "libvpx-vp9", "yuv420p"),
        (".webm", TEN, "libsvtav1", "yuv420p10le"),
        (".webm", CLEAR, "libvpx-vp9", "yuva420p"),
    ],
)
def test_auto_takes_what_fits(suffix, format, encoder, pixels):
    made = encoding(suffix, "auto", format)
    assert (made.encoder, made.pixels) == (encoder, pixels)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("depth", [8, 10, 12, 16])
@pytest.mark.parametrize("chroma", ["420", "422", "444"])
def test_every_codec_opens_with_what_is_made_for_it(name, depth, chroma):
    codec = CODECS[name]
    for alpha in (False, True) if codec.transparent else (False,):
        made = encoding(codec.suffixes[0], name, Format(64, 96, depth=depth, chroma=chroma, alpha=alpha))
        assert refusal(made) == ""


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_goes_into_the_files_it_claims(name):
    for suffix in CODECS[name].suffixes:
        container = av.open("nowhere", "w", format=CONTAINERS[suffix])
        assert CODECS[name].encoder in container.supported_codecs


@pytest.mark.parametrize(
    ("suffix", "codec", "format", "says"),
    [
        (".mp4", "prores", EIGHT, "use .mov"),
        (".webm", "h264", EIGHT, "use .mp4"),
        (".webm", "h264", EIGHT, "one of av1, vp9"),
        (".mp4", "auto", CLEAR, "use .mov, .webm, .mkv"),
        (".mov", "h264", CLEAR, r"use prores \(.mov\)"),
        (".mp4", "vp9", CLEAR, "use .webm or .mkv"),
        (".mp4", "divx", EIGHT, "use one of auto, h264"),
        (".mkv", "ffv1_nvenc", EIGHT, "use one of auto"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(suffix, codec, format, says):
    with pytest.raises(UsageError, match=says):
        encoding(suffix, codec, format)


@pytest.mark.parametrize("name", ["clip", "clip.xyz", "clip.avi"])
def test_unknown_suffixes_are_one_sentence(name):
    with pytest.raises(UsageError, match=r"can be written; use .mp4"):
        suffix_of(name)


def test_quality_replaces_the_default_on_the_codecs_scale():
    assert encoding(".mp4", "auto", EIGHT).words == "H.264, libx264, crf 17"
    made = encoding(".mp4", "auto", EIGHT, quality=25)
    assert (made.words, made.options["crf"]) == ("H.264, libx264, crf 25", "25")
    with pytest.raises(UsageError, match="from 1"):
        encoding(".mp4", "auto", EIGHT, quality=99)
    with pytest.raises(UsageError, match="lossless"):
        encoding(".mkv", "ffv1", EIGHT, quality=10)


def test_losses_are_told():
    assert "12 bits became 10" in encoding(".mp4", "auto", Format(64, 96, depth=12)).notes[0]
    assert "4:4:4 became 4:2:0" in encoding(".mp4", "auto", Format(64, 96, chroma="444")).notes[0]
    assert encoding(".mp4", "auto", EIGHT).notes == []


def test_hardware_that_does_not_work_is_software_unless_it_was_named(monkeypatch):
    monkeypatch.setattr("mattecli.media.clips.writing.codecs.refusal", lambda made: "no such device")
    for hwaccel in ("auto", "cuda", "vaapi", "none"):
        assert encoding(".mp4", "auto", EIGHT, hwaccel=hwaccel).encoder == "libx264"
    with pytest.raises(UsageError, match="no such device; use h264"):
        encoding(".mp4", "h264_nvenc", EIGHT)


def test_hardware_that_works_is_used_where_nothing_is_lost(monkeypatch):
    monkeypatch.setattr("mattecli.media.clips.writing.codecs.refusal", lambda made: "")
    made = encoding(".mp4", "auto", EIGHT, hwaccel="cuda")
    assert (made.encoder, made.pixels, made.words) == ("h264_nvenc", "nv12", "H.264, NVENC, quality 17")
    assert encoding(".mp4", "auto", TEN, hwaccel="auto").pixels == "p010le"
    assert encoding(".mp4", "hevc_qsv", EIGHT).encoder == "hevc_qsv"
    assert encoding(".mp4", "av1_amf", EIGHT, quality=30).options["qp_i"] == "120"
    assert "gpu" not in made.options and encoding(".mp4", "h264", EIGHT, hwaccel="cuda:1").options["gpu"] == "1"
    for suffix, format in ((".mp4", Format(64, 96, chroma="422")), (".webm", EIGHT), (".mov", CLEAR)):
        assert "_nvenc" not in encoding(suffix, "auto", format, hwaccel="auto").encoder


def test_the_screen_it_was_graded_on_is_told_again(tmp_path, origin, frames, reread):
    format = Format(96, 128, Colour(BT2020, 9, PQ), depth=10)
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    options = {"x265-params": f"log-level=error:master-display={display}:max-cll=1000,400"}
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx265", rate=25, options=options, width=128, height=96, pix_fmt="yuv420p10le")
        for number in range(3):
            picture = av.VideoFrame(128, 96, "yuv420p10le")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    before = reread(tmp_path / "a.mp4")
    clip = origin(container=before.container, video=before.video)
    sink = open_sink(Target(tmp_path / "b.mp4"), format, clip)
    for frame in frames(format):
        sink.write(frame)
    sink.close()
    for codec in ("libx265", "libx264"):
        after = reread(tmp_path / "b.mp4")
        told, notes = mastering(codec, origin(container=after.container, video=after.video))
        assert notes == []
        assert display in next(iter(told.values()))
        assert "cll=1000,400" in next(iter(told.values()))
    assert mastering("libx265", origin()) == ({}, [])
    options, notes = mastering("prores_ks", clip)
    assert options == {} and "(HDR10) was left out" in notes[0]


@pytest.mark.parametrize("bright", [(1, 0), (0, 0)])
def test_what_is_said_of_each_picture_is_left_out_with_a_sentence(tmp_path, origin, monkeypatch, bright):
    """And a screen with a brightness that can't be, of which FFmpeg says that there is none, stays what it was."""
    place = [7500, 3000, 34000, 16000, 13250, 34500, 15635, 16450]
    numbers = [n for value in place for n in (value, 50000)] + [50, 10000, 1000, 10000, *bright]
    side = {
        "MASTERING_DISPLAY_METADATA": struct.pack("22i", *numbers),
        "CONTENT_LIGHT_LEVEL": struct.pack("2I", 1000, 200),
        "DYNAMIC_HDR_PLUS": b"",
    }
    container = SimpleNamespace(streams=[None], decode=lambda stream: iter([SimpleNamespace(side_data=side)]))
    (tmp_path / "a.mp4").touch()
    clip = origin(container=SimpleNamespace(name=str(tmp_path / "a.mp4")), video=SimpleNamespace(index=0))
    monkeypatch.setattr(av, "open", lambda *_, **__: nullcontext(container))
    options, notes = mastering("libx265", clip)
    screen = ":master-display=G(34000,16000)B(13250,34500)R(7500,3000)WP(15635,16450)L(1000,50)" * any(bright)
    assert options == {"x265-params": f"log-level=error{screen}:max-cll=1000,200"}
    assert notes == ["HDR10+, which is said of each picture, was left out."]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc")
def test_no_encoder_puts_the_process_before_others(tmp_path, origin, frames):
    sink = open_sink(Target(tmp_path / "a.mp4", codec="av1"), EIGHT, origin())
    for frame in frames(EIGHT):
        sink.write(frame)
    threads = [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
    sink.close()

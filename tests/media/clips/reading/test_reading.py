"""Clips that PyAV wrote come back with every frame, time and packet; whatever isn't a clip ends in one sentence."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Sequence
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from mattecli.errors import InputError, UsageError
from mattecli.media.clips.planes.frame import Frame
from mattecli.media.clips.reading.clip import Clip, open_clip
from mattecli.media.clips.reading.decoding import Decoding
from tests.media.clips.making import SAMPLES, make_clip, rgb_of, with_ticks


def read(source: Path | str, **options: Any) -> tuple[Clip, list[Frame]]:
    with open_clip(str(source), **options) as clip:
        assert isinstance(clip, Clip)
        return clip, list(clip)


def assert_same(frames: list[Frame], made: list[list[Any]]) -> None:
    assert len(frames) == len(made)
    for frame, planes in zip(frames, made, strict=True):
        assert [plane.shape for plane in frame.planes] == frame.format.shapes
        for ours, theirs in zip(frame.planes, planes, strict=True):
            np.testing.assert_array_equal(ours, theirs)


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def feed(monkeypatch: pytest.MonkeyPatch, stream: io.BytesIO) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))


@pytest.mark.parametrize(
    ("name", "codec", "pixel"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv444p"),
        ("a.mp4", "libx265", "yuv420p10le"),
        ("a.avi", "libx264", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        *(("a.mkv", "ffv1", f"yuv{c}p{d}") for c in (420, 422, 444) for d in ("", "10le", "12le")),
    ],
)
@pytest.mark.parametrize("size", [(64, 96), (66, 98)])
def test_every_level_of_every_frame(tmp_path: Path, name: str, codec: str, pixel: str, size: tuple[int, int]) -> None:
    options = {"lossless": "1"} if "vp9" in codec else {}
    made = make_clip(tmp_path / name, 5, size, codec=codec, pixel=pixel, options=options)
    clip, frames = read(tmp_path / name)
    assert_same(frames, made)
    assert clip.notes == [] and clip.frames in (5, None)
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(5)], abs=1e-3)


def test_an_odd_size_keeps_its_last_row_and_column(tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mkv", 3, (65, 97))
    clip, frames = read(tmp_path / "a.mkv")
    assert clip.format.shapes == [(65, 97), (33, 49), (33, 49)]
    assert_same(frames, made)


def test_a_clip_is_read_once(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mkv", 3)
    with open_clip(str(tmp_path / "a.mkv")) as clip:
        assert len(list(clip)) == 3
        with pytest.raises(RuntimeError, match="only once"):
            list(clip)


def test_planes_are_not_to_be_written_to(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 2)
    _, frames = read(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="read-only"):
        frames[0].planes[0][:] = 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_times_are_the_files_own(tmp_path: Path, suffix: str) -> None:
    pts, base = [0, 3, 4, 9, 20, 21, 22, 40], Fraction(1, 90 if suffix == ".mp4" else 1000)
    make_clip(tmp_path / f"a{suffix}", pts=pts, time_base=base)
    clip, frames = read(tmp_path / f"a{suffix}")
    assert [frame.pts * clip.time_base for frame in frames] == [n * base for n in pts]
    assert [frame.duration * clip.time_base for frame in frames[:-1]] == [(b - a) * base for a, b in pairwise(pts)]


def test_avi_with_b_frames_gets_its_times_in_order(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.avi", 12, codec="libx264", options={"bf": "3", "qp": "20", "preset": "medium"})
    _, frames = read(tmp_path / "a.avi")
    assert [frame.pts for frame in frames] == list(range(12))
    light = [frame.planes[0].mean() for frame in frames]
    assert light == sorted(light)


@pytest.mark.parametrize(("ticks", "start"), [(100, None), (100, 0.4), (26.4, None)])
def test_avi_whose_sound_has_many_ticks_a_chunk(tmp_path: Path, ticks: float, start: float | None) -> None:
    """FFmpeg counts chunks of MP3 that have a block for a sample size, whatever the header's tick is."""
    path = tmp_path / "a.avi"
    make_clip(path, 25, codec="ffv1", sound="libmp3lame")
    with av.open(str(path)) as container:
        expected = [float(p.dts * p.time_base) for p in container.demux(audio=0) if p.size and p.dts is not None]
    with_ticks(path, ticks)
    with open_clip(str(path), start=start) as clip:
        times = [float(p.pts * p.time_base) for frame in clip for p in frame.passing]
    heard = [time - (start or 0) for time in expected if time + 576 / SAMPLES > (start or 0)]
    assert times == pytest.approx(heard, abs=0.0015)


@pytest.mark.parametrize("first", [2**33 - 18000, 10 * 3600 * 90000])
def test_a_clip_begins_at_zero_whatever_the_clock_said(tmp_path: Path, first: int) -> None:
    """MPEG-TS counts to 2 ** 33 from any time; players of MP4 show no frame before 0, and wait for a late one."""
    with av.open(str(tmp_path / "a.ts"), "w", options={"mpegts_copyts": "1"}) as container:
        video: Any = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.time_base = Fraction(1, 90000)
        for index in range(8):
            picture = av.VideoFrame.from_ndarray(rgb_of(index), "rgb24")
            picture.pts = first + 3600 * index
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    with av.open(str(tmp_path / "a.ts")) as container:
        assert container.start_time in (-200_000, 36_000_000_000)
    _, frames = read(tmp_path / "a.ts")
    assert [frame.pts for frame in frames] == [3600 * index for index in range(8)]


def test_recordings_joined_byte_by_byte_follow_each_other(tmp_path: Path) -> None:
    """Sound, which is longer than the picture here, stays with it on both sides of the seam."""
    make_clip(tmp_path / "a.ts", codec="libx264", sound="aac")
    once = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "b.ts").write_bytes(once + once)
    clip, alone = read(tmp_path / "a.ts")
    assert clip.notes == []
    with open_clip(str(tmp_path / "b.ts")) as both:
        frames = list(both)
        heard = [packet for frame in frames for packet in frame.passing]
        sound = [packet.dts * packet.time_base for packet in heard]
        assert both.notes == ["Its times begin anew 1 time; what follows was moved on."]
    assert sound == sorted(set(sound)) and len(sound) % 2 == 0
    shift = sound[len(sound) // 2] - sound[0]
    assert shift >= len(alone) / 25
    times = [frame.pts * frame.time_base for frame in alone]
    assert [frame.pts * frame.time_base for frame in frames] == [*times, *(time + shift for time in times)]


def test_a_bitstream_without_times_gets_them_from_its_rate(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.h264", codec="libx264")
    for rate, seconds in ((None, 1 / 25), (Fraction(10), 1 / 10)):
        _, frames = read(tmp_path / "a.h264", rate=rate)
        assert [frame.time for frame in frames] == pytest.approx([n * seconds for n in range(8)])


def test_sound_subtitles_and_chapters_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    lines, parts = [(0, 80, "hello"), (120, 200, "there")], [(0, 100, "one"), (100, 320, "two")]
    make_clip(path, sound="pcm_s16le", subtitles=lines, chapters=parts, metadata={"title": "A clip"})
    with av.open(str(path)) as container:
        own = [(p.stream_index, p.pts, bytes(p)) for p in container.demux() if p.size and p.stream.type != "video"]
    with open_clip(str(path)) as clip:
        frames = list(clip)
        packets = [packet for frame in frames for packet in frame.passing]
        assert [(p.stream_index, p.pts, bytes(p)) for p in packets] == own
        assert [stream.type for stream in clip.others] == ["audio", "subtitle"]
    assert clip.metadata["title"] == "A clip"
    assert [chapter["metadata"]["title"] for chapter in clip.chapters] == ["one", "two"]
    assert max(len(frame.passing) for frame in frames) <= 3
    with open_clip(str(path), passing=False) as clip:
        assert not any(frame.passing for frame in clip) and clip.others == []


KEYED = pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"qp": "20", "bf": "3", "preset": "medium", "x264-params": "keyint=12:open-gop=1"}),
        ("a.mp4", "libx265", {"x265-params": "log-level=none:keyint=12:bframes=3"}),
        ("a.ts", "libx264", {"qp": "20", "bf": "3", "preset": "medium", "g": "9"}),
        ("a.avi", "libx264", {"qp": "20", "bf": "3", "preset": "medium", "g": "9"}),
        ("a.mpg", "mpeg2video", {"g": "9", "bf": "2"}),
        ("a.webm", "libvpx-vp9", {"g": "10", "lossless": "1"}),
        ("a.mkv", "ffv1", {}),
    ],
)


@KEYED
def test_a_part_is_the_same_frames(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    make_clip(tmp_path / name, 30, codec=codec, options=options)
    _, every = read(tmp_path / name)
    for start, end in ((0.0, 0.2), (0.44, 0.72), (0.8, None)):
        _, part = read(tmp_path / name, start=start, end=end)
        wanted = [f for f in every if start - 1e-6 <= f.time - every[0].time < (end or 9) - 1e-6]
        assert [frame.pts for frame in part] == [frame.pts - wanted[0].pts for frame in wanted]
        assert_same(part, [frame.planes for frame in wanted])


@KEYED
@pytest.mark.parametrize("start", [None, 0.24])
def test_what_is_skipped_changes_nothing_after_it(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], start: float | None
) -> None:
    """Levels, times and durations, to the tick; where the container can seek, the beginning isn't decoded again."""
    uneven = {"pts": [n + n // 7 for n in range(30)]} if name.endswith(("mp4", "webm", "mkv")) else {}
    make_clip(tmp_path / name, 30, codec=codec, options=options, **uneven)
    _, every = read(tmp_path / name, start=start)
    for index in (0, 13, len(every) - 1):
        with open_clip(str(tmp_path / name), start=start) as clip:
            assert isinstance(clip, Clip)
            before = clip._reel.found
            clip.skip_to(every[index].pts + every[index].duration // 2)
            frames = list(clip)
            decoded = clip._reel.found - before
        assert [(f.pts, f.duration) for f in frames] == [(f.pts, f.duration) for f in every[index:]]
        assert_same(frames, [frame.planes for frame in every[index:]])
        assert decoded < len(every) - index + 14 or name.endswith(("avi", "mpg", "ts"))


def test_what_is_skipped_takes_its_sound_with_it(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mkv", 25, sound="pcm_s16le")
    with open_clip(str(tmp_path / "a.mkv")) as clip:
        assert isinstance(clip, Clip)
        clip.skip_to(600)
        frames = list(clip)
        heard = [packet.pts for frame in frames for packet in frame.passing]
        with pytest.raises(RuntimeError, match="being read"):
            clip.skip_to(800)
    assert frames[0].pts == 600 and 500 < min(heard) < max(heard) < 1000


def test_times_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than leave frames out."""
    make_clip(tmp_path / "a.mkv", 25)
    with open_clip(str(tmp_path / "a.mkv")) as clip:
        assert isinstance(clip, Clip)
        monkeypatch.setattr(clip._reel, "pictures", lambda: iter([(None, 900)]))
        with pytest.raises(InputError, match="can't be gone on with"):
            clip.skip_to(600)


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_a_part_starts_at_zero_and_keeps_its_sound_in_step(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    parts = [(0, 500, "one"), (500, 1000, "two")]
    made = make_clip(path, 25, sound="pcm_s16le", chapters=parts, options={"g": "6"})
    with open_clip(str(path), start=0.4, end=0.68) as clip:
        frames = list(clip)
        assert_same(frames, made[10:17])
        assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(7)])
        packets = [packet for frame in frames for packet in frame.passing]
        heard = {float(p.pts * p.time_base): np.frombuffer(bytes(p), "<i2") for p in packets}
    assert -0.05 < min(heard) <= 0 and 0.2 < max(heard) < 0.28
    for time, samples in heard.items():
        assert samples[0] == pytest.approx(round((time + 0.4) * SAMPLES), abs=9)  # Matroska's times are whole ms
    assert (clip.frames, clip.duration) == (7, pytest.approx(0.28))
    times = [(c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in clip.chapters]
    assert times == [(0, Fraction(1, 10)), (Fraction(1, 10), Fraction(28, 100))]


def test_a_part_shows_its_subtitles_no_longer_than_its_pictures(tmp_path: Path) -> None:
    lines = [(0, 600, "one"), (600, 900, "two")]
    make_clip(tmp_path / "a.mkv", 25, subtitles=lines)
    with open_clip(str(tmp_path / "a.mkv"), start=0.4, end=0.72) as clip:
        packets = [packet for frame in clip for packet in frame.passing]
        said = [(bytes(p), p.pts * p.time_base * 1000, (p.duration or 0) * p.time_base * 1000) for p in packets]
    assert said == [(b"one", 0, 200), (b"two", 200, 120)]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(
    ("pts", "times", "lengths"),
    [
        ([0, 40, 80, 5000], {"end": 1.0}, [40, 40, 920]),
        ([0, 40, 80, 5000], {"end": 9.0}, None),
        ([0, 200, 350, 500, 800, 1200], {"start": 0.3, "end": 0.9}, [150, 300, 100]),
        ([0, 5000, 10000], {"end": 7.0}, [5000, 2000]),
        ([0, 40, 80, 120, 160], {"end": 0.1}, [40, 40, 40]),  # an even clip stays even
        ([0, 33, 67, 100, 133], {"start": 0.03, "end": 0.09}, [34, 33]),
    ],
)
def test_a_part_ends_where_it_should(tmp_path: Path, suffix: str, pts: Any, times: Any, lengths: Any) -> None:
    make_clip(tmp_path / f"a{suffix}", len(pts), pts=pts, time_base=Fraction(1, 1000))
    clip, frames = read(tmp_path / f"a{suffix}", **times)
    found = [round(1000 * frame.duration * clip.time_base) for frame in frames]
    assert found == lengths or (lengths is None and found[:3] == [40, 40, 4920])
    assert lengths or frames[-1].time + frames[-1].duration * clip.time_base <= 9


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ({"start": 1.0}, [(2, 0, 4000), (3, 4000, 40), (4, 4040, 3000)]),
        ({"start": 1.0, "end": 2.0}, [(2, 0, 1000)]),
        ({"start": 4.95}, [(3, 0, 40), (4, 40, 3000)]),
        ({"start": 6.0, "end": 7.0}, [(4, 0, 1000)]),
    ],
)
def test_a_part_begins_with_what_is_shown_for_long(tmp_path: Path, suffix: str, times: Any, shown: Any) -> None:
    """A slide in a screen recording."""
    path, pts = tmp_path / f"a{suffix}", [0, 40, 80, 5000, 5040, 8040]
    made = make_clip(path, 6, pts=pts, time_base=Fraction(1, 1000), options={"g": "1"})
    clip, frames = read(path, **{"end": 8.04, **times})
    assert_same(frames, [made[n] for n, _, _ in shown])
    found = [(round(1000 * f.time), round(1000 * f.duration * clip.time_base)) for f in frames]
    assert found == [(time, length) for _, time, length in shown]
    with open_clip(str(path), **{"end": 8.04, **times}) as again:
        assert isinstance(again, Clip)
        again.skip_to(frames[0].pts + frames[0].duration // 2)
        assert [(f.pts, f.duration) for f in again] == [(f.pts, f.duration) for f in frames]


def test_sound_comes_no_earlier_than_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it lies in the file: what ends early has no more of the one than of the other."""
    make_clip(tmp_path / "a.mkv", 50, sound="pcm_s16le")
    demux = Decoding._demux

    def sound_first(decoding: Decoding) -> Any:
        yield from sorted(demux(decoding), key=lambda packet: packet.stream.type)

    monkeypatch.setattr(Decoding, "_demux", sound_first)
    with open_clip(str(tmp_path / "a.mkv")) as clip:
        count = 0
        for frame in clip:
            end = frame.time + frame.duration * frame.time_base
            assert all(packet.pts * packet.time_base < end for packet in frame.passing)
            count += len(frame.passing)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert count == sum(packet.size > 0 for packet in container.demux(audio=0))


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_how_many_frames_a_part_has(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    make_clip(tmp_path / f"a{suffix}", 40, rate=rate)
    for start, end in ((None, 0.02), (None, 0.3), (None, 0.334), (0.1, 1.001), (0.5, None), (None, None), (0.5, 7.0)):
        clip, frames = read(tmp_path / f"a{suffix}", start=start, end=end)
        assert clip.frames == len(frames), (start, end)


def test_a_picture_later_than_its_sound_stays_later(tmp_path: Path) -> None:
    late: Any = {"pts": [40 * n + 80 for n in range(8)], "time_base": Fraction(1, 1000)}
    make_clip(tmp_path / "alone.mkv", chapters=[(0, 200, "one"), (200, 400, "two")], **late)
    clip, frames = read(tmp_path / "alone.mkv")
    assert [frame.pts for frame in frames] == [40 * n for n in range(8)]
    assert [(c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in clip.chapters] == [
        (0, Fraction(120, 1000)),
        (Fraction(120, 1000), Fraction(320, 1000)),
    ]
    make_clip(tmp_path / "a.mkv", sound="pcm_s16le", **late)
    _, frames = read(tmp_path / "a.mkv", end=0.28)
    assert [frame.pts for frame in frames] == [80, 120, 160, 200, 240]
    _, frames = read(tmp_path / "a.mkv", start=0)
    assert [frame.pts for frame in frames] == [40 * n for n in range(8)]


@pytest.mark.parametrize(
    ("times", "error", "says"),
    [
        ({"start": 5.0}, InputError, "ends before"),
        ({"start": 0.09, "end": 0.1}, InputError, "no picture in the part"),
        ({"start": 0.2, "end": 0.1}, UsageError, "end after it starts"),
    ],
)
def test_a_part_of_nothing_is_refused(tmp_path: Path, times: Any, error: type[Exception], says: str) -> None:
    make_clip(tmp_path / "a.mkv")
    with pytest.raises(error, match=says):
        open_clip(str(tmp_path / "a.mkv"), **times)


def test_stdin_as_a_pipe_and_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_clip(tmp_path / "a.mkv")
    whole = make_clip(tmp_path / "a.mp4", 12, (192, 256))
    feed(monkeypatch, Pipe((tmp_path / "a.mkv").read_bytes()))
    clip, frames = read("-", start=0.08, hwaccel="auto")
    assert_same(frames, made[2:])
    assert clip.name == "stdin"
    feed(monkeypatch, io.BytesIO((tmp_path / "a.mp4").read_bytes()))
    assert_same(read("-")[1], whole)
    feed(monkeypatch, Pipe((tmp_path / "a.mp4").read_bytes()))
    with pytest.raises(InputError, match="index is at its end, which can't be read from a pipe"):
        open_clip("-")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are files on POSIX systems only")
def test_a_named_pipe_is_opened_once(tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mkv")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "a.mkv").read_bytes()))
    writer.start()
    _, frames = read(tmp_path / "pipe", hwaccel="auto", start=0.04)
    writer.join()
    assert_same(frames, made[1:])


def test_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("http_proxy", raising=False)
    made = make_clip(tmp_path / "a.mkv")
    make_clip(tmp_path / "a.mp4", 12, (192, 256))

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        clip, frames = read(f"{address}/a.mkv")
        assert_same(frames, made)
        assert not clip.live
        with pytest.raises(InputError, match="can't be opened"):
            open_clip(f"{address}/none.mkv")
        with pytest.raises(InputError, match=r"index is at its end.* sends no parts of files"):
            open_clip(f"{address}/a.mp4")
        server.shutdown()


def test_a_name_with_a_colon_and_a_percent_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_clip(tmp_path / "a.mkv")
    (tmp_path / "a.mkv").rename(tmp_path / "take 1:2 %d*.mkv")
    assert_same(read("take 1:2 %d*.mkv")[1], made)


def test_what_is_no_clip_ends_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "junk.mp4").write_bytes(b"not a clip" * 100)
    make_clip(tmp_path / "whole.mp4")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:900])
    with av.open(str(tmp_path / "song.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLES, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = SAMPLES
        container.mux(stream.encode(frame))
    for name, says in {
        "none.mp4": "does not exist",
        "empty.mp4": "is empty",
        "junk.mp4": "no clip of a known format",
        "cut.mp4": "damaged or cut short",
        "song.mkv": "sound but no picture",
        "": "is a folder",
    }.items():
        with pytest.raises(InputError, match=says) as caught:
            open_clip(str(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value) and str(caught.value).count(". ") == 0
    with pytest.raises(InputError, match="protocol not found"):
        open_clip("nonsense://clip.mp4")


def test_no_frame_at_all(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 3)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    start = data.find(b"mdat") + 4
    data[start : data.find(b"moov") - 4] = bytes(data.find(b"moov") - 4 - start)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(InputError, match="no picture that can be decoded"):
        open_clip(str(tmp_path / "a.mp4"))


def test_a_clip_cut_short_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mkv", 25)
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) * 2 // 3])
    clip, frames = read(tmp_path / "a.mkv")
    assert 10 < len(frames) < 20
    assert_same(frames, made[: len(frames)])
    assert any("cut short" in note for note in clip.notes) and clip.cut_short


FRAGMENTS = {
    "plain": "frag_keyframe+empty_moov",
    "first in the header": "frag_keyframe",
    "indexed in front": "frag_keyframe+delay_moov+dash+global_sidx",
}


@pytest.mark.parametrize(
    ("kind", "place", "frames"),
    [
        ("plain", "in the data", range(11, 20)),
        ("plain", "in a header", [10]),
        ("plain", "in the index behind", [25]),
        ("first in the header", "in the data", range(11, 20)),
        ("indexed in front", "between", [10]),
    ],
)
def test_a_fragmented_mp4_cut_short_says_so(tmp_path: Path, kind: str, place: str, frames: Sequence[int]) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": FRAGMENTS[kind]}) as container:
        video: Any = container.add_stream("libx264", rate=25, options={"g": "10", "bf": "0"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for index in range(25):
            container.mux(video.encode(av.VideoFrame.from_ndarray(rgb_of(index), "rgb24")))
        container.mux(video.encode(None))
    whole, every = read(path)
    assert (len(every), whole.frames, whole.notes, whole.cut_short) == (25, 25, [], False)
    data = path.read_bytes()
    second = data.index(b"moof", data.index(b"moof") + 4) - 4
    end = data.index(b"mdat", second)
    ends = {
        "in the data": end - 4 + int.from_bytes(data[end - 4 : end], "big") - 20,
        "in a header": second + 8,
        "in the index behind": len(data) - 30,
        "between": second,
    }
    path.write_bytes(data[: ends[place]])
    clip, shown = read(path)
    assert len(shown) in frames and clip.cut_short == (len(shown) < 25)
    assert not read(path, end=0.1)[0].cut_short


def test_an_mp4_cut_short_says_so_and_a_trimmed_one_does_not(tmp_path: Path) -> None:
    """Its header, in front, knows every frame; a player's trimming leaves frames in the file that aren't shown."""
    make_clip(tmp_path / "a.mp4", 25, options={"bf": "2"})
    fast = {"movflags": "faststart"}
    with av.open(str(tmp_path / "a.mp4")) as first, av.open(str(tmp_path / "b.mp4"), "w", options=fast) as second:
        stream = second.add_stream_from_template(first.streams.video[0])
        for packet in first.demux(video=0):
            if packet.size:
                packet.stream = stream
                second.mux(packet)
    data = (tmp_path / "b.mp4").read_bytes()
    place = data.index(b"elst") + 12  # of the edit's length
    half = int.from_bytes(data[place : place + 4], "big") // 2
    (tmp_path / "trimmed.mp4").write_bytes(data[:place] + half.to_bytes(4, "big") + data[place + 4 :])
    clip, frames = read(tmp_path / "trimmed.mp4")
    assert 10 < len(frames) < 18 and clip.notes == []
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 3 // 4])
    clip, frames = read(tmp_path / "cut.mp4")
    assert 5 < len(frames) < 24 and any("cut short" in note for note in clip.notes)


def test_a_packet_that_cannot_be_decoded_is_skipped(tmp_path: Path) -> None:
    """Its frame before stays on, so that nothing moves against the sound."""
    path = tmp_path / "a.mp4"
    make_clip(path, options={"g": "1"})
    with av.open(str(path)) as container:
        place, size = next((p.pos, p.size) for n, p in enumerate(container.demux(video=0)) if n == 3)
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)
    clip, frames = read(path)
    assert [round(frame.time * 25) for frame in frames] == [0, 1, 2, 4, 5, 6, 7]
    assert frames[2].duration == 2 * frames[1].duration
    assert clip.notes == ["What could not be decoded was skipped (1 packet)."]


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover: Any = container.add_stream("mjpeg", rate=1, options={"color_range": "2"})
        cover.width, cover.height, cover.pix_fmt = 256, 256, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video: Any = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        container.mux(cover.encode(av.VideoFrame(256, 256, "yuvj420p")))
        for index in range(3):
            container.mux(video.encode(av.VideoFrame.from_ndarray(rgb_of(index), "rgb24")))
        container.mux(video.encode(None))
    clip, frames = read(path)
    assert (clip.format.width, len(frames), clip.notes) == (96, 3, [])


def test_another_picture_track_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        videos: list[Any] = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for video in videos:
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for video, count in zip(videos, (5, 2), strict=True):
            for index in range(count):
                container.mux(video.encode(av.VideoFrame.from_ndarray(rgb_of(index), "rgb24")))
            container.mux(video.encode(None))
    clip, frames = read(path)
    assert len(frames) == 5 and clip.notes == ["Another picture track was left out (h264, 96x64)."]


def test_hardware_that_is_not_there(tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mkv")
    clip, frames = read(tmp_path / "a.mkv", hwaccel="auto")  # no hardware decodes FFV1
    assert_same(frames, made)
    assert clip.decoder.startswith("ffv1, software")
    assert read(tmp_path / "a.mkv")[0].decoder == "ffv1, software"
    with pytest.raises(UsageError, match="FFmpeg was built without nonsense"):
        open_clip(str(tmp_path / "a.mkv"), hwaccel="nonsense")
    for device in av.codec.hwaccel.hwdevices_available()[:1]:
        with pytest.raises(UsageError, match=f"can't be decoded by {device}"):
            open_clip(str(tmp_path / "a.mkv"), hwaccel=device)


def test_a_hardware_decoder_is_named_and_one_that_fails_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in: there is no such hardware where these tests run."""
    from mattecli.media.clips.reading import clip as reading
    from mattecli.media.clips.reading import decoding

    made = make_clip(tmp_path / "a.mkv")
    plain = decoding.Decoding.__init__

    def answer(self: Any, source: Any, hwaccel: Any, passing: bool) -> None:
        if hwaccel == "cuda":
            raise PermissionError(1, "Operation not permitted")
        plain(self, source, None, passing)

    monkeypatch.setattr(decoding.Decoding, "__init__", answer)
    monkeypatch.setattr(reading, "hwdevices_available", lambda: ["cuda", "vaapi"])
    monkeypatch.setattr(reading, "HWAccel", lambda kind, **options: kind)
    clip, frames = read(tmp_path / "a.mkv", hwaccel="auto")
    assert_same(frames, made)
    assert clip.decoder == "ffv1, vaapi"
    with pytest.raises(UsageError, match="cuda: operation not permitted"):
        open_clip(str(tmp_path / "a.mkv"), hwaccel="cuda")


class Hardware:
    """Decodes as `decoder` does, or nothing."""

    is_hwaccel, tried = True, 0

    def __init__(self, decoder: Any, works: bool = True) -> None:
        self.decoder, self.works, self.name = decoder, works, "av1"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    def decode(self, packet: Any) -> Any:
        Hardware.tried += 1
        if not self.works:
            raise av.InvalidDataError(1, "no hardware")
        return self.decoder.decode(packet)


@pytest.mark.parametrize("works", [True, False])
def test_av1_is_given_to_the_decoder_that_hardware_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """A stand-in; hardware that can't decode this stream is given up long before the file's end."""
    from mattecli.media.clips.reading import clip as reading
    from mattecli.media.clips.reading import decoding, opening

    path = tmp_path / "a.mp4"
    make_clip(path, 12 if works else 80, codec="libsvtav1", turn=(90, False, False), options={"preset": "12"})
    asked, plain = [], opening.Source.open

    def answer(self: Any, device: Any = None) -> Any:
        if device:
            raise RuntimeError("no stream is compatible")
        return plain(self)

    def create(name: str, mode: str, device: Any) -> Any:
        asked.append((name, mode, device))
        return Hardware(av.CodecContext.create("libdav1d", "r"), works)

    monkeypatch.setattr(opening.Source, "open", answer)
    monkeypatch.setattr(decoding, "CodecContext", SimpleNamespace(create=create))
    monkeypatch.setattr(reading, "hwdevices_available", lambda: ["cuda"])
    monkeypatch.setattr(reading, "HWAccel", lambda kind, device, **options: (kind, device))
    monkeypatch.setattr(Hardware, "tried", 0)
    software, every = read(path)
    clip, frames = read(path, hwaccel="auto")
    assert asked == [("av1", "r", ("cuda", None))] and len(frames) == len(every)
    assert clip.format == software.format and clip.format.height > clip.format.width
    if works:
        assert clip.decoder == "av1, cuda"
        assert read(path, hwaccel="cuda:1")[0].decoder == "av1, cuda:1" and asked[-1][2] == ("cuda", "1")
        return
    assert clip.decoder.endswith("software (no hardware answered)") and Hardware.tried == decoding.PATIENCE
    with pytest.raises(UsageError, match="cuda:1: it has no decoder for this video"):
        open_clip(str(path), hwaccel="cuda:1")


def test_decoding_gives_no_more_than_it_is_asked_for(tmp_path: Path) -> None:
    """Memory stays flat: after a few frames of many, most of the file is still unread."""
    make_clip(tmp_path / "a.mkv", 200, sound="pcm_s16le")
    with open_clip(str(tmp_path / "a.mkv")) as clip:
        assert isinstance(clip, Clip) and clip.container
        frames = iter(clip)
        for _ in range(5):
            frame = next(frames)
        rest = sum(1 for packet in clip.container.demux(video=0) if packet.size)
    assert frame.pts == 160 and rest > 120


def test_pictures_that_came_out_damaged_are_counted(tmp_path: Path) -> None:
    """A broadcast that lost two of its small packets."""
    make_clip(tmp_path / "a.ts", 12, codec="libx264", options={"bf": "0"})
    data = (tmp_path / "a.ts").read_bytes()
    half = len(data) // 376 * 188
    (tmp_path / "a.ts").write_bytes(data[:half] + data[half + 376 :])
    clip, frames = read(tmp_path / "a.ts")
    assert len(frames) == 12 and "1 picture came out damaged." in clip.notes


def test_what_was_read_before_the_source_failed_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_clip(tmp_path / "a.mkv", 60)

    class Torn(Pipe):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 40_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    feed(monkeypatch, Torn((tmp_path / "a.mkv").read_bytes()))
    clip, frames = read("-")
    assert 10 < len(frames) < 60
    assert_same(frames, made[: len(frames)])
    assert "Reading stopped early: input/output error." in clip.notes and clip.cut_short


def test_sound_that_stands_late_in_the_file_belongs_to_the_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all muxers lay it beside its pictures."""
    from mattecli.media.clips.reading.decoding import Decoding

    make_clip(tmp_path / "a.mkv", 40, sound="pcm_s16le")
    demux = Decoding._demux

    def late(self: Decoding) -> Any:
        held = []
        for packet in demux(self):
            if packet.stream.type == "video":
                yield packet
            else:
                held.append(packet)
            if len(held) > 8:
                yield held.pop(0)
        yield from held

    heard = []
    for _ in range(2):
        with open_clip(str(tmp_path / "a.mkv"), end=0.6) as clip:
            heard.append([packet.pts for frame in clip for packet in frame.passing])
        monkeypatch.setattr(Decoding, "_demux", late)
    assert heard[0] == heard[1] and len(heard[0]) > 8

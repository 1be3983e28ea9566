"""Clips in segments: the joined file is what one go would have made, and an end in between loses little."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest

from mattecli.errors import UsageError
from mattecli.media.clips.planes.frame import Format
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.clips.writing.segments import Whole
from mattecli.media.clips.writing.sink import Target, open_sink
from tests.media.clips.making import make_clip, with_ticks

SMALL = Format(64, 96)
SECOND = 600
LONG = tuple(k * 4 * SECOND + (k * 37) % 11 for k in range(14))
"""Three segments of 20 s, at a variable rate."""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "codec", "alpha"),
    [
        ("a.mp4", "h264", False),
        ("a.mov", "h264", False),
        ("a.mkv", "h264", False),
        ("a.mp4", "hevc", False),
        ("a.mkv", "hevc", False),
        ("a.webm", "vp9", True),
        ("a.mov", "prores", True),
        ("a.mkv", "ffv1", True),
        ("a.mp4", "av1", False),
    ],
)
def test_joined_segments_are_like_one_go(tmp_path, origin, frames, reread, name, codec, alpha):
    format = Format(64, 96, alpha=alpha)
    made = frames(format, LONG, last=333)
    whole = open_sink(Target(tmp_path / f"whole_{name}", codec=codec), format, origin())
    parts = open_sink(Target(tmp_path / name, codec=codec), format, origin(), segments=tmp_path / "parts")
    for frame in made:
        whole.write(frame)
        parts.write(frame)
    assert len([n for n in names(tmp_path / "parts") if n[0] != "." and n.endswith(name[1:])]) == 2
    whole.close()
    parts.close()
    assert names(tmp_path) == sorted([name, f"whole_{name}"])
    decoder = "libvpx-vp9" if codec == "vp9" else ""
    one, joined = reread(tmp_path / f"whole_{name}", decoder), reread(tmp_path / name, decoder)
    assert joined.times == one.times
    if name.endswith(("mkv", "webm")):  # which say it
        assert joined.video.average_rate == one.video.average_rate
    assert joined.video.codec_context.codec_tag == one.video.codec_context.codec_tag
    for index in range(len(made)):
        for a, b in zip(joined.planes(index), one.planes(index), strict=True):
            assert np.abs(a.astype(int) - b).mean() <= 2 << (one.pictures[0].format.components[0].bits - 8)
    if name.endswith("mp4"):
        assert joined.container.duration == pytest.approx(one.container.duration, abs=2000)


def test_the_next_run_goes_on_behind_whole_segments(tmp_path, origin, frames, reread):
    made = frames(SMALL, LONG)
    target, parts = Target(tmp_path / "a.mp4"), tmp_path / "parts"
    sink = open_sink(target, SMALL, origin(), segments=parts)
    assert sink.done_until is None and "begins at the start" in sink.notes[-1]
    for frame in made[:8]:
        sink.write(frame)
    sink.abort()
    assert names(tmp_path) == ["parts"]
    sink = open_sink(target, SMALL, origin(), segments=parts)
    assert sink.done_until == LONG[4] and sink.notes[-1].endswith("goes on at 20.0 s.")
    for frame in made[3:]:
        sink.write(frame)
    sink.close()
    assert sink.whole == Whole(len(LONG), len(LONG) - 5, pytest.approx((LONG[-1] + 20) / SECOND, abs=0.01))
    assert reread(tmp_path / "a.mp4").times == [Fraction(pts, SECOND) for pts in LONG]
    assert names(tmp_path) == ["a.mp4"]


def test_what_a_killed_program_leaves_is_in_the_folder_and_goes(tmp_path, origin, frames):
    made, parts = frames(SMALL, LONG), tmp_path / "parts"
    killed = open_sink(Target(tmp_path / "a.mp4"), SMALL, origin(), segments=parts)
    for frame in made[:8]:
        killed.write(frame)
    assert names(tmp_path) == ["parts"]
    (unfinished,) = parts.glob(".*")
    killed._folder.leave(remove=False)  # as the lock goes with its process
    again = open_sink(Target(tmp_path / "a.mp4"), SMALL, origin(), segments=parts)
    assert not unfinished.exists() and again.done_until == LONG[4]
    killed.abort()
    again.abort()


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_two_runs_keep_off_each_other(tmp_path, origin, frames):
    target, parts = Target(tmp_path / "a.mp4"), tmp_path / "parts"
    first = open_sink(target, SMALL, origin(), segments=parts)
    for frame in frames(SMALL, LONG)[:8]:
        first.write(frame)
    there = names(parts)
    with pytest.raises(UsageError, match="Another run is at work"):
        open_sink(target, SMALL, origin(), segments=parts)
    assert names(parts) == there
    first.abort()


@pytest.mark.parametrize(("torn", "done"), [(0, None), (1, LONG[4])])
def test_what_is_not_as_it_was_written_and_all_behind_it_are_made_again(tmp_path, origin, frames, torn, done):
    target, parts = Target(tmp_path / "a.mp4"), tmp_path / "parts"
    first = open_sink(target, SMALL, origin(), segments=parts)
    for frame in frames(SMALL, LONG):
        first.write(frame)
    first.abort()
    whole = sorted(parts.glob("0*"))
    whole[torn].write_bytes(whole[torn].read_bytes()[:-9])
    (parts / "picked.npz").touch()
    again = open_sink(target, SMALL, origin(), segments=parts)
    assert again.done_until == done
    assert names(parts) == [*(path.name for path in whole[:torn]), "settings.txt"]
    again.abort()


def test_frames_that_are_there_are_passed_over(tmp_path, origin, frames, reread):
    made = frames(SMALL, LONG)
    for count in (8, 12, 14):  # ended twice
        sink = open_sink(Target(tmp_path / "a.mkv"), SMALL, origin(), segments=tmp_path / "parts")
        for frame in made[:count]:
            sink.write(frame)
        if count == 14:
            sink.close()
        sink.abort()
    assert [float(t) for t in reread(tmp_path / "a.mkv").times] == pytest.approx([p / SECOND for p in LONG], abs=0.0006)


def test_segments_of_other_settings_are_refused(tmp_path, origin, frames):
    sink = open_sink(Target(tmp_path / "a.mp4"), SMALL, origin(), segments=tmp_path / "parts", key="beach.jpg")
    for frame in frames(SMALL, LONG):
        sink.write(frame)
    sink.abort()
    whole = names(tmp_path / "parts")
    for target, key in (
        (Target(tmp_path / "a.mp4"), "forest.jpg"),
        (Target(tmp_path / "a.mp4", quality=30), "beach.jpg"),
    ):
        with pytest.raises(UsageError, match="other settings"):
            open_sink(target, SMALL, origin(), segments=tmp_path / "parts", key=key)
    assert names(tmp_path) == ["parts"] and names(tmp_path / "parts") == whole


def test_pictures_have_no_segments(tmp_path, origin):
    with pytest.raises(UsageError, match="segments"):
        open_sink(Target(tmp_path / "a_%03d.png"), SMALL, origin(), segments=tmp_path / "parts")


def test_a_live_clip_cannot_be_gone_on_with(tmp_path, origin):
    camera = origin()
    camera.live = True
    with pytest.raises(UsageError, match="live"):
        open_sink(Target(tmp_path / "a.mp4"), SMALL, camera, segments=tmp_path / "parts")
    assert names(tmp_path) == []


@pytest.mark.parametrize("goal", ["b.mp4", "b.mkv"])
def test_sound_is_read_again_for_the_join(tmp_path, input_clip, rewrite, reread, goal):
    path = input_clip("a.mp4", sound="aac", text="mov_text")
    rewrite(path, Target(tmp_path / goal), segments=tmp_path / "parts")
    before, after = reread(path), reread(tmp_path / goal)
    assert [float(t) for t in after.times] == pytest.approx([float(t) for t in before.times], abs=0.00051)
    assert after.md5(1) == before.md5(1)
    assert [float(p.pts * p.time_base) for p in after.others[1]] == pytest.approx(
        [float(p.pts * p.time_base) for p in before.others[1]], abs=0.00051
    )
    assert after.container.metadata["title"] == "A title"
    assert any(b"Line 6" in bytes(packet) for packet in after.others[2])


def test_sound_read_again_has_its_times_in_avi_too(tmp_path, reread):
    path = tmp_path / "a.avi"
    make_clip(path, 25, codec="ffv1", sound="libmp3lame")
    with_ticks(path, 100)
    with open_clip(str(path), end=0.6) as clip:
        sink = open_sink(Target(tmp_path / "b.mkv"), clip.format, clip, segments=tmp_path / "parts")
        for frame in clip:
            sink.write(frame)
        sink.close()
    heard = [float(packet.pts * packet.time_base) for packet in reread(tmp_path / "b.mkv").others[1]]
    assert heard == pytest.approx([0.072 * number for number in range(9)], abs=0.001)


def test_sound_read_again_follows_the_seams_of_joined_recordings(tmp_path, reread):
    make_clip(tmp_path / "a.ts", codec="libx264", sound="aac")
    (tmp_path / "b.ts").write_bytes(2 * (tmp_path / "a.ts").read_bytes())
    heard = []
    for segments in (None, tmp_path / "parts"):
        with open_clip(str(tmp_path / "b.ts")) as clip:
            sink = open_sink(Target(tmp_path / "b.mkv"), clip.format, clip, segments=segments)
            for frame in clip:
                sink.write(frame)
            sink.close()
        heard.append([packet.pts for packet in reread(tmp_path / "b.mkv").others[1]])
    assert heard[0] == heard[1] and len(heard[0]) > 4


def test_joined_segments_say_that_they_are_transparent(tmp_path, origin, frames):
    """By a tag of WebM, without which nobody looks for their alpha."""
    format = Format(64, 96, alpha=True)
    sink = open_sink(Target(tmp_path / "a.webm"), format, origin(), segments=tmp_path / "parts")
    for frame in frames(format):
        sink.write(frame)
    sink.close()
    with open_clip(str(tmp_path / "a.webm")) as clip:
        assert clip.format.alpha


def test_a_segment_of_slower_pictures_follows_one_of_faster_ones(tmp_path, origin, frames, reread):
    """Whose first decoding times, of our own, lie before those that were written."""
    stamps = [SECOND * second for second in (*range(21), 29, 38, 47)]
    sink = open_sink(Target(tmp_path / "a.mp4"), SMALL, origin(), segments=tmp_path / "parts")
    for frame in frames(SMALL, stamps):
        sink.write(frame)
    sink.close()
    assert reread(tmp_path / "a.mp4").times == [Fraction(pts, SECOND) for pts in stamps]

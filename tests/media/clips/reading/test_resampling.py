"""Other frame rates: how many frames there are, and which is shown when."""

from fractions import Fraction

import av
import pytest

from mattecli.errors import UsageError
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.clips.reading.resampling import at_rate
from tests.media.clips.making import make_clip


def read(path, rate):
    with open_clip(str(path)) as clip:
        resampled = at_rate(clip, Fraction(rate))
        frames = list(resampled)
        packets = [packet.pts for frame in frames for packet in frame.passing]
        assert resampled.format is clip.format and resampled.rate == rate
        return resampled.frames, frames, packets


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(50, [0, 0, 1, 1, 2, 2, 3, 3]), (25, [0, 1, 2, 3]), ("25/2", [1, 3]), (30, [0, 1, 2, 2, 3]), (5, [2])],
)
def test_frames_are_repeated_or_left_out(tmp_path, rate, shown):
    made = make_clip(tmp_path / "in.mkv", 4, sound="pcm_s16le")
    count, frames, packets = read(tmp_path / "in.mkv", Fraction(rate))
    assert [(frame.pts, frame.duration, frame.time_base) for frame in frames] == [
        (n, 1, 1 / Fraction(rate)) for n in range(len(shown))
    ]
    assert all((frame.planes[0] == made[n][0]).all() for frame, n in zip(frames, shown, strict=True))
    assert abs(count - len(shown)) <= 1
    with av.open(str(tmp_path / "in.mkv")) as container:
        assert packets == [packet.pts for packet in container.demux(audio=0) if packet.size]


def test_uneven_frames_become_even(tmp_path):
    made = make_clip(tmp_path / "in.mp4", 3, pts=[0, 100, 120], time_base=Fraction(1, 1000))
    _, frames, _ = read(tmp_path / "in.mp4", 50)
    assert all((frame.planes[0] == made[n][0]).all() for frame, n in zip(frames, [0, 0, 0, 0, 0, 1, 2], strict=False))


def test_the_time_code_counts_the_new_frames(tmp_path):
    make_clip(tmp_path / "in.mov", 60, rate=50, timecode="01:00:00:20")
    with open_clip(str(tmp_path / "in.mov"), start=0.1) as clip:
        assert at_rate(clip, Fraction(25)).timecode == "01:00:00:12"


def test_a_live_clip_has_its_own():
    class Live:
        live, name = True, "webcam:0"

    with pytest.raises(UsageError, match="webcam:0"):
        at_rate(Live(), Fraction(25))


@pytest.mark.parametrize("rate", [50, "25/2", 30, 10])
def test_what_is_skipped_changes_nothing_after_it(tmp_path, rate):
    make_clip(tmp_path / "in.mp4", 9, pts=[0, 40, 60, 300, 310, 350, 600, 610, 620], time_base=Fraction(1, 1000))
    _, every, _ = read(tmp_path / "in.mp4", Fraction(rate))
    for index in (1, len(every) // 2, len(every) - 1):
        with open_clip(str(tmp_path / "in.mp4")) as clip:
            resampled = at_rate(clip, Fraction(rate))
            resampled.skip_to(index)
            frames = {frame.pts: frame.planes[0].tobytes() for frame in resampled}
        wanted = {frame.pts: frame.planes[0].tobytes() for frame in every}
        assert frames == {pts: wanted[pts] for pts in range(min(frames), len(every))} and min(frames) <= index

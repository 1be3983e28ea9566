"""A clip through a network into another: the same frames at the same times, whatever happens on the way."""

from __future__ import annotations

import errno
import hashlib
import threading
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from mattecli.errors import InputError, UsageError
from mattecli.inference import clips, pipeline
from mattecli.inference.behind import Moving, plain
from mattecli.inference.clips import process
from mattecli.inference.guidance.hints import Hints
from mattecli.inference.guidance.plate import open_plate
from mattecli.inference.instances import parse_pick
from mattecli.inference.network import Matter
from mattecli.inference.rendering import Renderer
from mattecli.inference.tracking import Tracker
from mattecli.media.clips.planes.frame import Colour, Format, Frame
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.clips.writing.sink import Target, open_sink
from mattecli.zoo.spec import Prediction
from tests.media.clips.making import make_clip, rgb_of
from tests.networks import Even


@pytest.fixture(autouse=True)
def no_thread_is_left(monkeypatch):
    monkeypatch.setattr(pipeline, "INTERVAL", 0.005)
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def run(source, goal, network=None, kind="composite", behind=None, *, codec="auto", clip=None, sink=None, **options):
    matter = Matter(network or Even(), "cpu", "fp32", engine="torch", clip=True)
    clip = clip or open_clip(str(source))
    renderer = Renderer(kind, clip.format, behind or plain((0, 128, 0)))
    sink = sink or open_sink(Target(goal, codec), renderer.format, clip)
    return process(clip, matter, renderer, sink, **options)


def read(path):
    """Frames `(time, duration in seconds)` and their planes."""
    with open_clip(str(path)) as clip:
        frames = list(clip)
        return clip.format, [frame.pts * frame.time_base for frame in frames], [frame.planes for frame in frames]


def packets_of(path, kind):
    with av.open(str(path)) as container:
        found = [packet for packet in container.demux(container.streams.best(kind)) if packet.size]
        return [(packet.pts * packet.time_base, hashlib.md5(bytes(packet)).hexdigest()) for packet in found]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_every_frame_comes_out_at_its_own_time(tmp_path, suffix):
    pts = [0, 7, 9, 30, 31, 60, 100, 101]
    make_clip(tmp_path / "in.mp4", pts=pts, time_base=Fraction(1, 600), sound="aac")
    summary = run(tmp_path / "in.mp4", tmp_path / f"out{suffix}")
    _, times, _ = read(tmp_path / f"out{suffix}")
    tick = Fraction(1, 1000) if suffix == ".mkv" else Fraction(1, 600)
    assert times == [round(Fraction(stamp, 600) / tick) * tick for stamp in pts]
    assert summary.frames == 8 and summary.duration >= 101 / 600 and not summary.interrupted
    assert packets_of(tmp_path / f"out{suffix}", "audio") == packets_of(tmp_path / "in.mp4", "audio")


@pytest.mark.parametrize("colour", [Colour(6, 6, 6), Colour(1, 1, 1), Colour(1, 1, 1, full=True), Colour(9, 9, 14)])
@pytest.mark.parametrize("pixel", ["yuv420p", "yuv422p10le"])
def test_colours_are_kept_where_alpha_is_0(tmp_path, colour, pixel):
    """The clip behind itself, with nothing in front of it."""
    made = make_clip(tmp_path / "in.mkv", 3, pixel=pixel, colour=colour)
    run(
        tmp_path / "in.mkv",
        tmp_path / "out.mkv",
        behind=Moving(lambda: open_clip(str(tmp_path / "in.mkv"))),
        codec="ffv1",
    )
    form, _, planes = read(tmp_path / "out.mkv")
    assert form.colour == colour
    for found, sent in zip(planes, made, strict=True):
        assert all((a == b).all() for a, b in zip(found, sent, strict=True))


def test_colours_of_the_usual_encoder_are_near(tmp_path):
    made = make_clip(tmp_path / "in.mp4", 3)
    run(tmp_path / "in.mp4", tmp_path / "out.mp4", behind=Moving(lambda: open_clip(str(tmp_path / "in.mp4"))))
    _, _, planes = read(tmp_path / "out.mp4")
    for found, sent in zip(planes, made, strict=True):
        off = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(found, sent, strict=True)]
        assert max(plane.mean() for plane in off) < 1 and abs(np.mean(found[0]) - np.mean(sent[0])) < 0.5


def test_turned_clips_come_out_upright(tmp_path):
    make_clip(tmp_path / "in.mp4", 2, turn=(90, False, False))
    run(tmp_path / "in.mp4", tmp_path / "out.mp4", Even(1.0))
    with av.open(str(tmp_path / "out.mp4")) as container:
        picture = next(container.decode(video=0))
    assert (picture.width, picture.height, picture.rotation) == (64, 96, 0)
    rgb = picture.to_ndarray(format="rgb24").astype(int)
    red = rgb[..., 0] - rgb[..., 2] > 80
    assert red[-20:, :12].mean() > 0.9 and red[:70].mean() < 0.1


@pytest.mark.parametrize(("codec", "suffix", "size"), [("h264", ".mp4", (482, 854)), ("ffv1", ".mkv", (481, 853))])
def test_odd_sizes(tmp_path, codec, suffix, size):
    make_clip(tmp_path / "in.mkv", 2, (481, 853))
    summary = run(tmp_path / "in.mkv", tmp_path / f"out{suffix}", codec=codec)
    form, _, _ = read(tmp_path / f"out{suffix}")
    assert (form.height, form.width) == size
    assert any("853x481" in note for note in summary.notes) == (codec == "h264")


@pytest.mark.parametrize("kind", ["composite", "cutout"])
def test_frames_that_stay_on_the_device(tmp_path, monkeypatch, kind):
    """As on CUDA, here with the CPU for a device: what comes out is what the other way makes."""
    make_clip(tmp_path / "in.mkv", 5)
    run(tmp_path / "in.mkv", tmp_path / "a.mkv", Even(0.3), kind, codec="ffv1")
    monkeypatch.setattr(clips, "suits", lambda matter: True)
    run(tmp_path / "in.mkv", tmp_path / "b.mkv", Even(0.3), kind, codec="ffv1")
    (form, times, planes), (other, other_times, others) = read(tmp_path / "a.mkv"), read(tmp_path / "b.mkv")
    assert form == other and times == other_times and len(times) == 5
    for one, two in zip(planes, others, strict=True):
        assert max(np.abs(a.astype(int) - b.astype(int)).max() for a, b in zip(one, two, strict=True)) <= 2


def test_one_frame_and_no_sound(tmp_path):
    make_clip(tmp_path / "in.mp4", 1)
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4").frames == 1
    assert read(tmp_path / "out.mp4")[1] == [0]


def test_what_a_cut_file_still_holds(tmp_path):
    make_clip(tmp_path / "in.mkv", 8)
    whole = (tmp_path / "in.mkv").read_bytes()
    (tmp_path / "in.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    summary = run(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert 1 < summary.frames < 8 and len(read(tmp_path / "out.mp4")[1]) == summary.frames


class Full:
    """A sink whose disk is full after two frames."""

    def __init__(self, sink):
        self._sink, self._count = sink, 0
        self.notes = []

    def write(self, frame):
        self._count += 1
        if self._count == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._sink.write(frame)

    def close(self):
        self._sink.close()

    def abort(self):
        self._sink.abort()


@pytest.mark.parametrize(("done", "rest"), [(None, "nothing is left of it"), (-9, "its whole segments stay")])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, done, rest):
    make_clip(tmp_path / "in.mp4")
    clip = open_clip(str(tmp_path / "in.mp4"))
    sink = Full(open_sink(Target(tmp_path / "out" / "x.mp4"), clip.format, clip))
    sink.done_until = done
    with pytest.raises(InputError, match=f"no space left on device; {rest}"):
        run(None, None, clip=clip, sink=sink)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_the_muxer_refuses_is_a_sentence_too(tmp_path, monkeypatch):
    make_clip(tmp_path / "in.mp4")
    clip = open_clip(str(tmp_path / "in.mp4"))
    sink = open_sink(Target(tmp_path / "out" / "x.mp4"), clip.format, clip)

    def refuse():
        raise av.ArgumentError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(sink, "close", refuse)
    with pytest.raises(InputError, match="can't be written: invalid argument; nothing is left of it"):
        run(None, None, clip=clip, sink=sink)
    assert list((tmp_path / "out").iterdir()) == []


def broken(*_, **__):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Frame, "__post_init__"), (Matter, "step"), (Renderer, "render"), (clips, "follow")],
    ids=["decode", "network", "render", "follow"],
)
def test_an_error_in_any_stage_leaves_nothing(tmp_path, monkeypatch, owner, name):
    make_clip(tmp_path / "in.mp4", 40)
    clip = open_clip(str(tmp_path / "in.mp4"))
    monkeypatch.setattr(owner, name, broken, raising=name != "__post_init__")
    if owner is Frame:
        monkeypatch.setattr(
            type(clip), "__iter__", lambda self: iter([Frame(self.format, [], 0, 1, self.time_base, broken)])
        )
    with pytest.raises(ZeroDivisionError):
        run(None, tmp_path / "out" / "x.mp4", clip=clip)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("where", ["step", "before"])
def test_too_little_memory_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, where):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    make_clip(tmp_path / "in.mp4", 4)
    if where == "step":
        monkeypatch.setattr(Matter, "step", full)
    else:
        monkeypatch.setattr(clips, "suits", lambda matter: True)
        monkeypatch.setattr(clips, "OnDevice", full)
    with pytest.raises(InputError, match="not enough memory; try a smaller --size"):
        run(tmp_path / "in.mp4", tmp_path / "out" / "x.mp4")
    assert list((tmp_path / "out").iterdir()) == []


def after(frames):
    def report(progress):
        if progress.frames >= frames:
            raise KeyboardInterrupt

    return report


@pytest.fixture
def endless(tmp_path, monkeypatch):
    """A clip that goes on for ever, with sound."""
    make_clip(tmp_path / "in.mkv", 3, sound="pcm_s16le")
    with open_clip(str(tmp_path / "in.mkv")) as clip:
        first = next(iter(clip))
    clip = open_clip(str(tmp_path / "in.mkv"))

    def frames(self):
        for pts in range(0, 10**9, 40):
            yield Frame(
                first.format, first.planes, pts, 40, Fraction(1, 1000), lambda h, w: np.zeros((h, w, 3), np.uint8)
            )

    monkeypatch.setattr(type(clip), "__iter__", frames)
    return clip


def test_ctrl_c_leaves_a_file_that_plays_up_to_there(tmp_path, endless, monkeypatch):
    summary = run(None, tmp_path / "out" / "x.mp4", clip=endless, report=after(5))
    assert summary.interrupted and summary.frames >= 5
    monkeypatch.undo()
    _, times, _ = read(tmp_path / "out" / "x.mp4")
    assert times == [Fraction(40 * n, 1000) for n in range(summary.frames)]
    assert summary.duration == pytest.approx(summary.frames * 0.04)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.mp4"]


@pytest.mark.parametrize(("options", "frames"), [({"discard": True}, 3), ({}, 0)])
def test_ctrl_c_may_leave_nothing(tmp_path, endless, options, frames):
    class Slow(Even):
        def forward(self, image, **given):
            if not frames:
                threading.Event().wait(0.1)
            return super().forward(image, **given)

    summary = run(None, tmp_path / "out" / "x.mp4", Slow(), clip=endless, report=after(frames), **options)
    assert summary.interrupted and (summary.frames == 0) == (frames == 0)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_broken_run_is_gone_on_with(tmp_path):
    """Frames of ten seconds, segments of twenty: what is whole is not done again."""

    class Counting(Even):
        seen, fails_at = 0, None

        def forward(self, image, **given):
            Counting.seen += 1
            if Counting.seen == self.fails_at:
                raise ZeroDivisionError
            return super().forward(image, **given)

    def start(network):
        clip = open_clip(str(tmp_path / "in.mp4"))
        sink = open_sink(Target(tmp_path / "x.mp4"), clip.format, clip, segments=tmp_path / "segments")
        return run(None, None, network, clip=clip, sink=sink)

    make_clip(tmp_path / "in.mp4", 8, rate=Fraction(1, 10))
    failing = Counting()
    failing.fails_at = 8
    with pytest.raises(ZeroDivisionError):
        start(failing)
    assert not (tmp_path / "x.mp4").exists()
    whole = len(list((tmp_path / "segments").glob("*.mp4")))
    Counting.seen = 0
    summary = start(Counting())
    assert 1 <= whole <= 3 and summary.frames == Counting.seen == 8 - 2 * whole + 2
    assert read(tmp_path / "x.mp4")[1] == [10 * n for n in range(8)]
    assert not (tmp_path / "segments").exists()


def test_a_live_clip_drops_frames_but_no_sound(tmp_path):
    class Camera:
        live, frames, notes, format = True, None, ["It stopped."], Format(16, 16)
        closed = False

        def __iter__(self):
            for number in range(30):
                view = np.full((64, 64, 3), number, np.uint8)
                yield Frame(
                    self.format,
                    [np.zeros(s, np.uint8) for s in self.format.shapes],
                    number,
                    1,
                    Fraction(1, 10),
                    lambda h, w, view=view: view,
                    passing=[number],
                )
            read.set()

        def close(self):
            self.closed = True

    class Last:
        done_until = None

        def __init__(self):
            self.frames, self.ended, self.notes = [], None, ["It has no sound."]

        def write(self, frame):
            read.wait()
            self.frames.append(frame)

        def close(self):
            self.ended = "closed"

        def abort(self):
            self.ended = self.ended or "aborted"

    read, camera, sink = threading.Event(), Camera(), Last()
    summary = run(None, None, clip=camera, sink=sink)
    assert summary.frames == len(sink.frames) < 30 and summary.frames + summary.dropped == 30
    assert [packet for frame in sink.frames for packet in frame.passing] == list(range(30))
    assert sink.frames[-1].pts == 29 and sink.ended == "closed" and camera.closed
    assert summary.notes == ["It has no sound.", "It stopped."]


@pytest.mark.parametrize("suffix", [".png", ".mkv"])
def test_a_network_sees_the_plate(tmp_path, suffix):
    """Its alpha is the plate's red: the same in each frame of a picture, its own in each of a clip."""
    make_clip(tmp_path / "in.mkv", 4)
    plate = tmp_path / f"plate{suffix}"
    if suffix == ".png":
        import cv2

        cv2.imwrite(str(plate), np.full((20, 30, 3), (0, 0, 51), np.uint8))
    else:
        make_clip(plate, 2)
    shown = open_plate(str(plate))
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", Even(needs="background"), "alpha", codec="ffv1",
        hint=lambda *seen: Hints(background=shown(*seen)))  # fmt: skip
    _, _, planes = read(tmp_path / "out.mkv")
    levels = [round((float(one[0].mean()) - 16) / 219 * 255) for one in planes]
    expected = [51] * 4 if suffix == ".png" else [round(rgb_of(n)[..., 0].mean()) for n in (0, 1, 1, 1)]
    assert levels == pytest.approx(expected, abs=1)


def test_a_plate_that_is_none(tmp_path):
    with pytest.raises(UsageError, match="--background"):
        open_plate(str(tmp_path / "none.png"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UsageError, match="text"):
        open_plate(str(tmp_path / "text.png"))


def test_who_is_kept_is_kept_where_frames_could_stay_on_the_device(tmp_path, monkeypatch):
    """They don't: people are told apart on the CPU."""

    class Bright(Even):
        def forward(self, image, **given):
            return Prediction((image[:, :1] > 0.7).float() + 0 * self.alpha)

    make_clip(tmp_path / "in.mkv", 3)
    monkeypatch.setattr(clips, "suits", lambda matter: True)
    tracker = Tracker(parse_pick("1"), "in.mkv", (64, 96))
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", Bright(), "alpha", codec="ffv1", tracker=tracker)
    _, _, planes = read(tmp_path / "out.mkv")
    for luma, *_ in planes:
        assert luma[8, 12] > 230 and luma[40:, 40:].max() == 16
    with pytest.raises(InputError, match="no number 2"):
        run(tmp_path / "in.mkv", tmp_path / "no.mkv", Bright(), tracker=Tracker(parse_pick("2"), "in.mkv", (64, 96)))
    assert not (tmp_path / "no.mkv").exists()


def test_the_network_sees_square_pixels():
    matter = Matter(Even(), "cpu", "fp32")
    assert clips.seen_size(matter, Format(480, 720, aspect=Fraction(8, 9))) == (48, 64)
    assert clips.seen_size(matter, Format(480, 640)) == (48, 64)


def test_what_is_told_beside_a_frame_is_told_where_frames_could_stay_on_the_device(tmp_path, monkeypatch):
    """They don't: hints are of the CPU."""
    make_clip(tmp_path / "in.mkv", 2)
    monkeypatch.setattr(clips, "suits", lambda matter: True)
    plate = np.full((48, 64, 3), 255, np.uint8)
    run(tmp_path / "in.mkv", tmp_path / "out.mkv", Even(needs="background"), "alpha", codec="ffv1",
        hint=lambda frame, height, width: Hints(background=plate[:height, :width]))  # fmt: skip
    assert all((luma == 235).all() for luma, *_ in read(tmp_path / "out.mkv")[2])


def test_a_live_clip_waits_for_no_rehearsal(remembering):
    """The network sees each frame once, before there is another."""

    class Camera:
        live, frames, notes, format = True, None, [], Format(16, 16)

        def __iter__(self):
            planes = [np.full(shape, 128, np.uint8) for shape in self.format.shapes]
            for number in range(10):
                yield Frame(self.format, planes, number, 1, Fraction(1, 10), lambda h, w: np.zeros((h, w, 3), np.uint8))
                written.acquire(timeout=2)

        def close(self):
            pass

    class Last:
        done_until, notes = None, []

        def write(self, frame):
            written.release()

        def close(self):
            pass

        abort = close

    written, matter = threading.Semaphore(0), Matter(remembering, "cpu", "fp32", engine="torch", clip=True)
    summary = process(Camera(), matter, Renderer("alpha", Camera.format), Last())
    assert (summary.frames, summary.dropped) == (10, 0) and len(matter.network.given) == 10


def test_of_a_run_that_goes_on_the_frames_to_come_are_counted(tmp_path):
    """With the second that the network sees again."""
    make_clip(tmp_path / "in.mp4", 100)
    with open_clip(str(tmp_path / "in.mp4")) as clip:
        sink = type("Sink", (), {"done_until": 3 / clip.time_base})
        assert clips._Job(clip, None, sink, None).total == 50


def test_who_stops_reading_what_is_written_gets_no_sentence(tmp_path):
    """As `head` does behind a pipe."""

    class Closed(Full):
        done_until = None

        def write(self, frame):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    make_clip(tmp_path / "in.mp4", 2)
    clip = open_clip(str(tmp_path / "in.mp4"))
    with pytest.raises(BrokenPipeError):
        run(None, None, clip=clip, sink=Closed(open_sink(Target(tmp_path / "x.mp4"), clip.format, clip)))


def test_a_file_that_was_given_up_holds_no_frames(tmp_path, monkeypatch):
    make_clip(tmp_path / "in.mp4", 2)
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: pipeline.Work(5, 1.0, {}, interrupted=True, given_up=True))
    assert run(tmp_path / "in.mp4", tmp_path / "x.mp4").frames == 0

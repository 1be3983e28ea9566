"""`mattecli video` as it is typed, with a network whose alpha is the red of the picture."""

import io
import json
import re
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.cli import app, clip_display, console
from mattecli.cli.clip_display import Display
from mattecli.cli.console import patiently
from mattecli.cli.video import _rate, _seconds
from mattecli.errors import InputError, UsageError
from mattecli.inference import clips, instances, network
from mattecli.inference.guidance import clips as guidance
from mattecli.inference.pipeline import Progress
from tests.media.clips.making import make_clip
from tests.networks import Red


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """clip.mp4 of 8 frames (25 a second, with sound) in the working directory."""
    monkeypatch.setattr(zoo, "load", lambda name, weights=None: Red())
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4", sound="aac")
    return tmp_path


def run(*arguments, data=None):
    done = CliRunner().invoke(
        app, ["video", *map(str, arguments), "--engine", "torch", "--hwaccel", "none"], input=data
    )
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return SimpleNamespace(code=done.exit_code, out=done.stdout_bytes, text=done.stdout, err=done.stderr)


def facts(path, **options):
    """Codec, pixel format, frames, and whether there is sound."""
    with av.open(str(path) if not isinstance(path, bytes) else io.BytesIO(path), **options) as container:
        video = container.streams.video[0]
        frames = sum(1 for _ in container.decode(video))
        return video.codec_context.name, video.codec_context.pix_fmt, frames, bool(container.streams.audio)


def files(root):
    return sorted(path.name for path in root.iterdir())


def test_a_clip_over_a_colour(folder):
    done = run("clip.mp4", "--bg", "green")
    assert done.code == 0 and done.out == b""
    assert files(folder) == ["clip.mp4", "clip_composite.mp4"]
    assert facts("clip_composite.mp4") == ("h264", "yuv420p", 8, True)
    for words in (
        "clip.mp4: 96x64, 25 fps, 8 frames (h264",
        "realtime on cpu",
        "clip_composite.mp4: H.264, libx264",
        "8 frames in",
    ):
        assert words in done.err


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        ([], "clip_alpha.mp4", ("h264", "yuv420p", 8, True)),
        (["--output", "cutout"], "clip_cutout.mov", ("prores", "yuva444p12le", 8, True)),
        (["--bg", "transparent", "--codec", "ffv1"], "clip_cutout.mkv", ("ffv1", "yuva420p", 8, True)),
        (["--codec", "prores"], "clip_cutout.mov", ("prores", "yuva444p12le", 8, True)),
        (["--output", "side-by-side", "--audio", "none"], "clip_beside.mp4", ("h264", "yuv420p", 8, False)),
        (["--output", "foreground", "--codec", "ffv1"], "clip_foreground.mkv", ("ffv1", "yuv420p", 8, True)),
        (["-o", "x.mov"], "x.mov", ("prores", "yuva444p12le", 8, True)),
        (["-o", "x.mkv"], "x.mkv", ("h264", "yuv420p", 8, True)),
        (["-o", "x.mov", "--bg", "red"], "x.mov", ("h264", "yuv420p", 8, True)),
    ],
)
def test_what_is_made_and_how_it_is_called(folder, arguments, name, expected):
    done = run("clip.mp4", *arguments)
    assert done.code == 0, done.err
    assert files(folder) == sorted(["clip.mp4", name])
    assert facts(name) == expected


def test_pictures_in_and_out(folder):
    assert run("clip.mp4", "-o", "cut_%03d.png", "--end", "0.1").code == 0
    pictures = [cv2.imread(f"cut_{n:03}.png", cv2.IMREAD_UNCHANGED) for n in (1, 2, 3)]
    assert all(picture.shape == (64, 96, 4) for picture in pictures) and len(files(folder)) == 4
    assert run("cut_%03d.png", "--bg", "white", "--fps", "24").code == 0
    with av.open("cut_composite.mp4") as container:
        assert container.streams.video[0].average_rate == 24 and container.streams.video[0].frames == 3
    assert run("clip.mp4", "-o", "cut_%03d.png").code == 2
    assert run("cut_%03d.png", "-o", "cut_%03d.png", "--overwrite").code == 2


def test_mattes_hold_alpha_in_exr_too(folder):
    """Whose numbers are light elsewhere."""
    for pattern in ("a_%d.exr", "a_%d.png"):
        assert run("clip.mp4", "-o", pattern, "--output", "alpha", "--end", "0.04").code == 0
    with av.open("a_1.exr") as container:
        picture = next(container.decode(video=0))
    planes = [np.frombuffer(plane, np.float16 if plane.line_size < 4 * 96 else np.float32) for plane in picture.planes]
    expected = cv2.imread("a_1.png")[..., 0] / 255
    assert all(np.abs(plane.reshape(64, -1)[:, :96] - expected).max() < 0.005 for plane in planes)


def test_stdin_to_stdout(folder):
    make_clip(folder / "in.mkv", 4)
    done = run("-", "-o", "-", "--bg", "blue", "--json", data=(folder / "in.mkv").read_bytes())
    assert done.code == 0, done.err
    assert facts(done.out)[0::2] == ("h264", 4)
    assert [json.loads(line)["event"] for line in done.err.splitlines()][0::2] == ["start", "done"]


def test_a_part(folder):
    done = run(
        "clip.mp4", "-o", "part.mkv", "--start", "0:00.08", "--end", "0.24", "--codec", "ffv1", "--output", "alpha"
    )
    assert done.code == 0
    with av.open("part.mkv") as container:
        assert [frame.time for frame in container.decode(video=0)] == [0.0, 0.04, 0.08, 0.12]


def test_another_rate(folder):
    assert run("clip.mp4", "-o", "fast.mp4", "--fps", "50", "--bg", "red").code == 0
    with av.open("fast.mp4") as container:
        assert [frame.time for frame in container.decode(video=0)] == [n / 50 for n in range(16)]


def test_events(folder):
    done = run("clip.mp4", "-o", "x.mkv", "--bg", "black", "--codec", "ffv1", "--json", "--quiet")
    assert done.code == 0 and done.err == ""
    events = [json.loads(line) for line in done.text.splitlines()]
    first, *between, last = events
    assert (first["event"], first["input"], first["output"]) == ("start", "clip.mp4", "x.mkv")
    assert (first["width"], first["height"], first["frames"], first["fps"]) == (96, 64, 8, 25.0)
    assert "h264" in first["decoder"] and "FFV1" in first["encoder"] and "cpu" in first["network"]
    assert {event["event"] for event in between} <= {"progress", "note"}
    assert (last["event"], last["frames"], last["duration"], last["interrupted"]) == ("done", 8, 0.32, False)
    assert set(last["busy"]) == {"decode", "network", "encode"}
    failed = run("none.mp4", "--json")
    assert failed.code == 1 and "none.mp4 does not exist" in failed.err
    assert json.loads(failed.text)["event"] == "error"


def test_what_the_file_cannot_hold_is_noted(folder):
    make_clip(folder / "odd.mkv", 2, (63, 95))
    done = run("odd.mkv", "-o", "x.mp4", "--json")
    notes = [event["note"] for event in map(json.loads, done.text.splitlines()) if event["event"] == "note"]
    assert len(notes) == 1 and "95x63 became 96x64" in notes[0] and done.err.count(notes[0]) == 1


def test_existing_files(folder):
    (folder / "x.mp4").write_bytes(b"mine")
    refused = run("clip.mp4", "-o", "x.mp4")
    assert refused.code == 2 and "--overwrite" in refused.err
    assert (folder / "x.mp4").read_bytes() == b"mine"
    assert run("clip.mp4", "-o", "x.mp4", "--overwrite").code == 0
    assert facts("x.mp4")[2] == 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["clip.mp4", "-o", "clip.mp4", "--overwrite"], "would be overwritten"),
        (["clip.mp4", "--bg", "clip.mp4", "-o", "../{name}/clip.mp4", "--overwrite"], "would be overwritten"),
        (["clip.mp4", "--output", "composite"], "needs --bg"),
        (["clip.mp4", "--output", "composite", "--bg", "transparent"], "needs --bg"),
        (["clip.mp4", "--output", "alpha", "--bg", "red"], "--bg red goes behind"),
        (["clip.mp4", "--bg", "beech.jpg"], "beech.jpg"),
        (["clip.mp4", "-o", "x.gif"], "no format"),
        (["clip.mp4", "-o", "x"], "without suffix"),
        (["clip.mp4", "-o", "x.png"], "_%05d.png"),
        (["clip.mp4", "-o", "x.mp4", "--output", "cutout"], "transparency"),
        (["clip.mp4", "-o", "x.mp4", "--codec", "divx"], "no codec"),
        (["clip.mp4", "-o", "x.webm", "--codec", "h264"], "can't hold"),
        (["clip.mp4", "-o", "x.mp4", "--quality", "99"], "crf"),
        (["clip.mp4", "--start", "1:2:3:4"], "no time"),
        (["clip.mp4", "--start", "0.2", "--end", "0.1"], "end after it starts"),
        (["clip.mp4", "--fps", "0"], "no rate"),
        (["clip.mp4", "--device", "tpu"], "unknown"),
        (["clip.mp4", "--background", "clip.mp4"], "no background plate"),
        (["clip.mp4", "--align"], "give one with --background"),
        (["clip.mp4", "-o", "camera"], "mattecli[live]"),
    ],
)
def test_wrong_use_is_refused_before_work(folder, monkeypatch, arguments, sentence):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    before = files(folder)
    done = run(*(argument.format(name=folder.name) for argument in arguments))
    assert done.code == 2, done.err
    assert sentence in done.err and "Traceback" not in done.err and " on cpu" not in done.err
    assert files(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [["-o", "x.webm", "--codec", "h264"], ["-o", "x.mp4", "--output", "cutout"], ["--bg", "beech.jpg"]],
)
def test_what_is_wrong_is_said_before_a_network_is_fetched(folder, monkeypatch, arguments):
    def load(*_):
        raise InputError("No connection.")

    monkeypatch.setattr(zoo, "load", load)
    done = run("clip.mp4", *arguments)
    assert done.code == 2 and "No connection" not in done.err
    assert "No connection" in run("clip.mp4", "-o", "x.mp4").err and files(folder) == ["clip.mp4"]


def test_a_virtual_camera(folder, monkeypatch):
    shown = []

    class Camera:
        def __init__(self, width, height, fps, device=None):
            assert (width, height, fps, device) == (96, 64, 25.0, "/dev/video7")
            self.device = device

        def send(self, rgb):
            shown.append(rgb)

        def close(self):
            shown.append("closed")

    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=Camera))
    done = run("clip.mp4", "-o", "camera:/dev/video7", "--bg", "lime")
    assert done.code == 0 and "Sound was left out" in done.err
    assert shown.pop() == "closed" and len(shown) == 8
    assert shown[0].shape == (64, 96, 3) and shown[0].dtype == np.uint8
    assert shown[0][-1, -1, 1] > shown[0][0, 0, 1]  # the red corner is in front


def interrupt(monkeypatch, frames):
    """Ctrl-C when so many frames are done; the network waits for it before it does more than two further ones."""
    shown, forward, pressed, seen = Display.__call__, Red.forward, threading.Event(), []

    def called(self, work):
        shown(self, work)
        if work.frames >= frames:
            pressed.set()
            raise KeyboardInterrupt

    def waiting(self, image, **given):
        seen.append(image)
        assert len(seen) <= frames + 2 or pressed.wait(30)
        return forward(self, image, **given)

    monkeypatch.setattr(Display, "__call__", called)
    monkeypatch.setattr(Red, "forward", waiting)


def test_ctrl_c_says_what_is_left(folder, monkeypatch):
    make_clip(folder / "clip.mp4", 20, rate=10, sound="aac")
    interrupt(monkeypatch, 8)
    done = run("clip.mp4", "-o", "x.mp4", "--json")
    assert done.code == 130
    frames = facts("x.mp4")[2]  # up to the pauses of threads
    assert f"interrupted; x.mp4 holds the first {frames / 10} s and plays; only a run with --resume" in done.err
    assert 8 <= frames < 20 and files(folder) == ["clip.mp4", "x.mp4"]
    assert json.loads(done.text.splitlines()[-1])["interrupted"] is True


def test_ctrl_c_behind_the_last_frame_comes_too_late(folder, monkeypatch):
    interrupt(monkeypatch, 8)
    done = run("clip.mp4", "-o", "x.mp4", "--discard")
    assert done.code == 0 and "x.mp4: 8 frames in" in done.err
    assert facts("x.mp4")[2] == 8 and files(folder) == ["clip.mp4", "x.mp4"]


def test_ctrl_c_with_discard(folder, monkeypatch):
    interrupt(monkeypatch, 2)
    done = run("clip.mp4", "-o", "x.mp4", "--discard")
    assert done.code == 130 and "interrupted; nothing was written." in done.err
    assert files(folder) == ["clip.mp4"]


def test_a_run_that_can_be_gone_on_with(folder, monkeypatch):
    with monkeypatch.context() as patch:
        make_clip(folder / "slow.mp4", 9, rate=Fraction(1, 10))
        interrupt(patch, 4)
        broken = run("slow.mp4", "-o", "x.mp4", "--resume")
        assert broken.code == 130 and "the same command goes on" in broken.err
    assert files(folder) == [".x.mp4.segments", "clip.mp4", "slow.mp4"]
    other = run("slow.mp4", "-o", "x.mp4", "--resume", "--bg", "red")
    assert other.code == 2 and "other settings" in other.err
    gone_on = run("slow.mp4", "-o", "x.mp4", "--resume")
    assert gone_on.code == 0
    assert files(folder) == ["clip.mp4", "slow.mp4", "x.mp4"] and facts("x.mp4")[2] == 9
    new = re.search(r"x\.mp4: 9 frames, (\d) of them new, in", gone_on.err)  # how many is up to the pauses of threads
    assert new and 0 < int(new[1]) < 9
    assert run("clip.mp4", "-o", "-", "--resume").code == 2


def test_a_background_that_changed_is_another_setting(folder, monkeypatch):
    make_clip(folder / "slow.mp4", 9, rate=Fraction(1, 10))
    arguments = ["slow.mp4", "-o", "x.mp4", "--resume", "--bg", "beach.png"]
    cv2.imwrite("beach.png", np.zeros((8, 8, 3), np.uint8))
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        assert run(*arguments).code == 130
    cv2.imwrite("beach.png", np.full((9, 9, 3), 200, np.uint8))
    other = run(*arguments)
    assert other.code == 2 and "other settings" in other.err


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="a system without signals between threads")
def test_ctrl_c_while_an_input_is_silent():
    """In a process of its own: whoever runs the tests may have other threads, and SIGINT ignored."""
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["interrupted", "7"], done.stderr
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 / 0)


SILENT = """
import signal, threading
from mattecli.cli.console import patiently

signal.signal(signal.SIGINT, signal.default_int_handler)
never = threading.Event()

def silent():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    never.wait()

try:
    patiently(silent)
except KeyboardInterrupt:
    print("interrupted")
print(patiently(lambda: 7))
"""


PEOPLE = {1: (60, 90), 2: (10, 26)}
"""Left and right end of the two red bars of two.mkv in its first frame, by size; each frame they are a pixel on."""


def make_two(path, frames=9, rate=25):
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=rate)
        video.height, video.width, video.pix_fmt = 64, 128, "yuv444p"
        for number in range(frames):
            rgb = np.zeros((64, 128, 3), np.uint8)
            for start, end in PEOPLE.values():
                rgb[12:52, start + number : end + number, 0] = 255
            container.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(video.encode(None))


def spans(path, least):
    """The columns in which each frame shows somebody: first and past the last; None where nobody is."""
    with av.open(str(path)) as container:
        rows = [frame.to_ndarray(format="gray")[32] > least for frame in container.decode(video=0)]
    found = [np.flatnonzero(row) for row in rows]
    return [(int(one[0]), int(one[-1]) + 1) if one.size else None for one in found]


@pytest.mark.parametrize("arguments", [["--output", "alpha"], ["--bg", "black"]])
@pytest.mark.parametrize(("pick", "who"), [("1", 1), ("2", 2), ("18,30", 2), ("0.6,0.5", 1)])
def test_one_person_is_kept(folder, arguments, pick, who):
    make_two(folder / "two.mkv")
    done = run("two.mkv", "-o", "x.mkv", "--codec", "ffv1", "--pick", pick, *arguments)
    assert done.code == 0, done.err
    first, end = PEOPLE[who]
    for number, span in enumerate(spans("x.mkv", least=40)):
        assert span == pytest.approx((first + number, end + number), abs=1)


def test_who_is_picked_stays_the_same_in_a_run_that_goes_on(folder, monkeypatch):
    """Where it goes on, the other one is the larger."""
    make_two(folder / "two.mkv", 9, Fraction(1, 10))
    arguments = ["two.mkv", "-o", "x.mkv", "--codec", "ffv1", "--output", "alpha", "--resume", "--pick"]
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        assert run(*arguments, "2").code == 130
    assert "picked.npz" in files(folder / ".x.mkv.segments")
    other = run(*arguments, "1")
    assert other.code == 2 and "other settings" in other.err
    monkeypatch.setattr(instances, "parse_pick", lambda text: lambda people, name: pytest.fail("picked again"))
    assert run(*arguments, "2").code == 0
    assert spans("x.mkv", least=40) == [pytest.approx((10 + n, 26 + n), abs=1) for n in range(9)]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--pick", "3"], 1, "two.mkv at 0.00 s: there is no number 3 to pick; 2 people were found"),
        (["--pick", "127,2"], 1, "nobody is at 127,2"),
        (["--pick", "128,2"], 2, "two.mkv: 128,2 lies outside its 128 x 64 pixels."),
        (["--pick", "left"], 2, "--pick left names nobody"),
        (["--instances"], 2, "--pick N keeps one person"),
    ],
)
def test_nobody_to_pick(folder, arguments, code, sentence):
    make_two(folder / "two.mkv", 2)
    done = run("two.mkv", "-o", "x.mkv", *arguments)
    assert done.code == code and sentence in done.err and files(folder) == ["clip.mp4", "two.mkv"]


def test_a_clip_cut_short_is_written_as_far_as_it_goes(folder):
    make_clip(folder / "a.mkv", 25)
    data = (folder / "a.mkv").read_bytes()
    (folder / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    done = run("cut.mkv", "-o", "x.mp4")
    assert done.code == 1 and "cut short" in done.err and 10 < facts("x.mp4")[2] < 20
    assert run("a.mkv", "-o", "y.mp4").code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a system without SIGTERM from outside")
@pytest.mark.parametrize(("moment", "left"), [("start", []), ("work", ["x.mp4"])])
@pytest.mark.parametrize("kind", ["SIGTERM", "SIGHUP"])
def test_who_ends_it_by_a_signal_gets_a_whole_file(tmp_path, moment, left, kind):
    """In a process of its own, which gets it while the network starts, or from its fourth frame on."""
    make_clip(tmp_path / "clip.mkv", 60)
    command = [sys.executable, "-c", ENDED, moment, kind]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 128 + getattr(signal, kind) and "interrupted" in done.stderr, done.stderr
    assert files(tmp_path) == ["clip.mkv", *left]
    if left:
        assert 4 <= facts(tmp_path / "x.mp4")[2] < 60


ENDED = """
import os, signal, sys, time
from mattecli import zoo
from mattecli.cli import app
from mattecli.inference import clips
from mattecli.inference.rendering import Renderer
from tests.networks import Red

moment, kind = sys.argv[1:]
signal.signal(getattr(signal, kind), signal.SIG_DFL)  # whoever runs the tests may have it ignored
zoo.load = lambda name, weights=None: Red()
plain, seen, suits = Renderer.render, [], clips.suits

def end():
    os.kill(os.getpid(), getattr(signal, kind))

def render(self, *arguments):
    seen.append(len(seen))
    if len(seen) == 4 and moment == "work":
        end()
    time.sleep(0.02 * (len(seen) > 4))
    return plain(self, *arguments)

def start(matter):
    if moment == "start":
        end()
    return suits(matter)

Renderer.render, clips.suits = render, start
options = "--engine torch --device cpu --hwaccel none --output alpha"
app(["video", "clip.mkv", "-o", "x.mp4", *options.split()])
"""


def test_who_leaves_is_noted(folder):
    make_two(folder / "two.mkv", 80)
    done = run("two.mkv", "-o", "x.mkv", "--pick", "1")
    assert done.code == 0 and "Who was picked is out of sight" in done.err


def test_the_real_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4", 4, sound="aac")
    done = run("clip.mp4", "--bg", "blur", "--size", "64")
    assert done.code == 0, done.err
    assert facts("clip_composite.mp4") == ("h264", "yuv420p", 4, True)


def test_a_terminal_shows_where_the_work_is(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr(console, "console", terminal)
    monkeypatch.setattr(clip_display, "console", terminal)
    with Display(json=False, quiet=False, data_on_stdout=False) as display:
        display(Progress(120, 300, 5.0, 24.2, 75.0, {"decode": 0.2, "network": 0.5, "encode": 0.9}))
    said = terminal.file.getvalue()
    assert "120/300 · 24.2 fps · 1:15 left · encode is the bottleneck" in said


def test_times_and_rates():
    assert [_seconds("--start", text) for text in ("83.5", "1:23.5", "0:01:23.5", "100:00", "5.", ".2", None)] == [
        83.5, 83.5, 83.5, 6000.0, 5.0, 0.2, None
    ]  # fmt: skip
    assert [_rate(text) for text in ("24", "29.97", "23.976", "30000/1001", "12.5", None)] == [
        24, Fraction(30000, 1001), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25, 2), None
    ]  # fmt: skip
    for wrong in ("", ".", "-3", "1:", "a", "1:2:3:4"):
        with pytest.raises(UsageError):
            _seconds("--end", wrong)
    for wrong in ("", "x", "1/0", "0", "1e9", "24/"):
        with pytest.raises(UsageError):
            _rate(wrong)


def test_options_come_to_those_whom_they_are_for(folder, monkeypatch):
    given = {}

    def note(module, name):
        plain = getattr(module, name)

        def called(*arguments, **options):
            given[name] = [*arguments, *options.items()]
            return plain(*arguments, **options)

        monkeypatch.setattr(module, name, called)

    note(clips, "process")
    note(network, "Matter")
    note(guidance, "for_frames")
    note(sys.modules["mattecli.cli.video"], "sink_for")
    options = "--stateless --start 0.04 --size 64 --quality 30 --precision fp32 --discard"
    assert run("clip.mp4", "-o", "x.mp4", *options.split()).code == 0
    assert ("steady", "delay") in given["process"] and ("discard", True) in given["process"]
    assert "fp32" in given["Matter"] and ("size", 64) in given["Matter"]
    assert ("start", 0.04) in given["for_frames"] and 30 in given["sink_for"]


def test_segments_of_other_options_are_refused(folder, monkeypatch):
    make_clip(folder / "slow.mp4", 9, rate=Fraction(1, 10))
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        assert run("slow.mp4", "-o", "x.mp4", "--resume").code == 130
    for other in ("--model modnet", "--size 64", "--stateless", "--pick 1", "--start 0", "--output foreground"):
        done = run("slow.mp4", "-o", "x.mp4", "--resume", *other.split())
        assert done.code == 2 and "other settings" in done.err, other


def test_a_run_that_could_be_gone_on_with_may_be_discarded(folder, monkeypatch):
    make_clip(folder / "slow.mp4", 9, rate=Fraction(1, 10))
    interrupt(monkeypatch, 4)
    done = run("slow.mp4", "-o", "x.mp4", "--resume", "--discard")
    assert done.code == 130 and "nothing was written" in done.err
    assert files(folder) == ["clip.mp4", "slow.mp4"]


@pytest.mark.parametrize("option", ["--bg", "--background", "--trimap", "--mask"])
def test_no_input_is_written_over(folder, option):
    make_clip(folder / "other.mp4", 2)
    before = (folder / "other.mp4").read_bytes()
    done = run("clip.mp4", option, "other.mp4", "-o", "other.mp4", "--overwrite")
    assert done.code == 2 and "other.mp4 is an input" in done.err
    assert (folder / "other.mp4").read_bytes() == before

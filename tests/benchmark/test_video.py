"""`bench video` on a tiny clip: which figures there are, not how large."""

import json
import math
import sys

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.benchmark import video
from mattecli.benchmark.clip import make_clip, scene
from mattecli.benchmark.video import Setting, bench_video
from mattecli.cli import app
from tests.networks import Even

STAGES = ["decode", "network", "render", "encode", "transcode", "network, eager", "end to end, eager", "end to end"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A small network, a small clip, early soon."""
    monkeypatch.setattr(zoo, "load", lambda name, weights=None: Even())
    whole = make_clip
    monkeypatch.setattr(video, "make_clip", lambda path, frames: whole(path, frames, (64, 96)))
    monkeypatch.setattr(video, "EARLY", 2)
    monkeypatch.setattr(video, "EAGER", 4)


def test_the_rows():
    told = []
    rows = bench_video(frames=9, setting=Setting(device="cpu", engine="torch", hwaccel="none"), report=told.append)
    assert rows == told and [row.name for row in rows] == STAGES
    assert [row.frames for row in rows] == [9, 9, 9, 9, 9, 4, 4, 9]
    assert all(0 < row.seconds and row.fps == row.frames / row.seconds and row.of >= 1 for row in rows)
    assert rows[3].how == rows[4].how == "H.264, libx264, crf 17"
    last = rows[-1]
    assert last.memory is None if sys.platform != "linux" else 2**20 < last.early <= 2 * last.memory
    assert all(row.memory is None for row in rows[:-1])


def test_the_rows_of_a_device(monkeypatch):
    """Here with the CPU for a device."""
    monkeypatch.setattr(video, "suits", lambda matter: True)
    monkeypatch.setattr(video, "RUNS", 3)
    rows = bench_video(frames=5, setting=Setting(device="cpu", engine="torch", hwaccel="none"))
    names = ["decode", "network, render", "without transfers", "encode", "transcode", "end to end"]
    assert [row.name for row in rows] == names and [row.frames for row in rows] == [5, 5, 3, 5, 5, 5]
    assert all(row.fps > 0 for row in rows)


def test_a_clip_of_ones_own_and_shorter_than_asked_for(tmp_path):
    make_clip(tmp_path / "in.mp4", 3, (64, 96))
    rows = bench_video(str(tmp_path / "in.mp4"), 5, Setting(device="cpu", engine="torch", hwaccel="none"))
    assert {row.name: row.frames for row in rows}["end to end"] == 3


def test_the_clip_made_for_it(tmp_path):
    """A person in orange, who wanders before a scene that pans."""
    with av.open(str(make_clip(tmp_path / "x.mp4", 60, (128, 224)))) as clip:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in clip.decode(video=0)]
    assert len(frames) == 60 and frames[0].shape == (128, 224, 3)
    suits = [(frame[..., 0] > 150) & (frame[..., 1] - frame[..., 2] > 10) & (frame[..., 2] < 90) for frame in frames]
    columns = [float(suit[70:].nonzero()[1].mean()) for suit in suits]
    assert 0.05 < suits[0].mean() < 0.3
    assert columns[59] - columns[0] > 20
    assert np.abs(frames[0][:40, :30] - frames[59][:40, :30]).mean() > 10


def test_a_scene_has_detail_at_every_size():
    made = scene(128, 256).astype(np.float32)
    assert made.shape == (128, 256, 3) and 30 < made.std() < 90
    details = []
    for _ in range(4):
        smaller = cv2.resize(made, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        details.append((made - cv2.resize(smaller, made.shape[1::-1])).std())
        made = smaller
    assert min(details) > 6
    assert (scene(8, 8) != scene(8, 8, seed=1)).any()


def test_command():
    arguments = ["bench", "video", "--frames", "4", "--device", "cpu", "--engine", "torch", "--hwaccel", "none"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["name"] for record in records] == STAGES
    assert all(math.isfinite(record["fps"]) and 0 <= record["busy"] for record in records)
    assert "of the transcode" in done.stderr
    table = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert table.stderr == "" and all(name in table.stdout for name in STAGES)


def test_a_clip_that_is_none():
    done = CliRunner().invoke(app, ["bench", "video", "none.mp4"])
    assert done.exit_code == 1 and "none.mp4 does not exist" in done.stderr

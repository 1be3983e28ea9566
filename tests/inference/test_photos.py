"""Many photos: order, overlap, failures that stay one photo's, and an end that leaves whole files only."""

import errno
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from mattecli.inference import photos
from mattecli.inference.network import Matter
from mattecli.inference.output import Output
from mattecli.inference.photos import process
from mattecli.media.batch import Job


@pytest.fixture
def jobs(tmp_path):
    """Eight photos of different sizes; the fourth is broken, the sixth missing."""
    made = []
    for index in range(8):
        source = tmp_path / f"photo{index}.png"
        cv2.imwrite(str(source), np.full((20 + index, 30, 3), 10 * index, np.uint8))
        made.append(Job(source, tmp_path / "out" / f"photo{index}.png"))
    made[3].source.write_bytes(made[3].source.read_bytes()[:60])
    made[5].source.unlink()
    return made


def test_all_but_the_broken_are_done_in_order(jobs, red):
    outcomes = []
    process(jobs, Matter(red, "cpu"), Output(), outcomes.append)
    assert [outcome.job for outcome in outcomes] == jobs
    assert [index for index, outcome in enumerate(outcomes) if outcome.error] == [3, 5]
    assert "photo5.png does not exist" in outcomes[5].error
    for index, outcome in enumerate(outcomes):
        if not outcome.error:
            assert (outcome.height, outcome.width) == (20 + index, 30)
            assert (cv2.imread(str(outcome.job.target), cv2.IMREAD_UNCHANGED) == 10 * index).all()
    assert len(list((jobs[0].target.parent).iterdir())) == 6


@pytest.mark.parametrize("limit", [0, 1500, 10**9])
def test_in_flight_limit_changes_nothing(jobs, red, limit, monkeypatch):
    monkeypatch.setattr(photos, "IN_FLIGHT", limit)
    outcomes = []
    process(jobs, Matter(red, "cpu"), Output(), outcomes.append)
    assert [outcome.job for outcome in outcomes] == jobs


def test_a_full_disk_fails_the_photo_and_leaves_nothing(jobs, red, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        if "photo1" in path.name:
            write(path, data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    outcomes = []
    process(jobs[:3], Matter(red, "cpu"), Output(), outcomes.append)
    assert "no space left" in outcomes[1].error
    assert sorted(path.name for path in jobs[0].target.parent.iterdir()) == ["photo0.png", "photo2.png"]


def test_ctrl_c_leaves_whole_files_only(jobs, red, monkeypatch):
    matter = Matter(red, "cpu")
    predict, calls = matter.predict, []
    threads = set(threading.enumerate())

    def interrupted(rgb, hints):
        calls.append(rgb)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(rgb, hints)

    monkeypatch.setattr(matter, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process(jobs, matter, Output())
    for path in jobs[0].target.parent.glob("*"):
        assert path.suffix == ".png"
        assert cv2.imread(str(path)) is not None
    assert set(threading.enumerate()) == threads


def test_stdin_is_read_where_ctrl_c_can_end_it(jobs, red, monkeypatch):
    """A thread that waits for stdin would keep the interrupted program alive."""
    readers, data = [], jobs[0].source.read_bytes()

    def read():
        readers.append(threading.current_thread())
        return data

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=read)))
    outcomes = []
    process([Job(None, jobs[0].target)], Matter(red, "cpu"), Output(), outcomes.append)
    assert readers == [threading.main_thread()] and outcomes[0].height == 20


def test_a_stdin_that_cannot_be_read_is_told(jobs, red, monkeypatch):
    def read():
        raise IsADirectoryError(errno.EISDIR, "Is a directory")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=read)))
    outcomes = []
    process([Job(None, jobs[0].target)], Matter(red, "cpu"), Output(), outcomes.append)
    assert outcomes[0].error == "stdin: is a directory."


def test_a_stdout_that_cannot_be_written_is_told(jobs, red, monkeypatch):
    def write(data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=SimpleNamespace(write=write)))
    outcomes = []
    process([Job(jobs[0].source, None)], Matter(red, "cpu"), Output(), outcomes.append)
    assert outcomes[0].error == "stdout can't be written: no space left on device."


def of_python():
    raise MemoryError


def of_a_gpu():
    raise torch.OutOfMemoryError


def of_a_cpu():
    torch.empty(2**60)


def of_opencv():
    cv2.resize(np.zeros((2, 2, 3), np.uint8), (2**31 - 1, 2**31 - 1))


@pytest.mark.parametrize("lack", [of_python, of_a_gpu, of_a_cpu, of_opencv])
def test_out_of_memory_is_one_photos(jobs, red, monkeypatch, lack):
    matter = Matter(red, "cpu")
    predict = matter.predict

    def large(rgb, hints):
        if rgb.shape[0] == 21:
            lack()
        return predict(rgb, hints)

    monkeypatch.setattr(matter, "predict", large)
    outcomes = []
    process(jobs[:3], matter, Output(), outcomes.append)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert "memory" in outcomes[1].error


def test_what_opencv_refuses_is_a_sentence(jobs, red, monkeypatch):
    matter = Matter(red, "cpu")
    monkeypatch.setattr(matter, "predict", lambda rgb, hints: cv2.resize(rgb, (0, 0)))
    outcomes = []
    process(jobs[:1], matter, Output(), outcomes.append)
    said = outcomes[0].error
    assert "OpenCV says: " in said and ".cpp" not in said and "\n" not in said


def test_a_fault_of_ours_is_not_hidden(jobs, red, monkeypatch):
    matter = Matter(red, "cpu")
    monkeypatch.setattr(matter, "predict", lambda rgb, hints: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        process(jobs, matter, Output())

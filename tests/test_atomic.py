"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mattecli import atomic
from mattecli.errors import InputError


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("moment", ["write_bytes", "replace"])
def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch, failure, moment):
    goal = tmp_path / "alpha.png"
    goal.write_bytes(b"before")
    real = Path.write_bytes

    def fail(self, data):
        if moment == "write_bytes":
            real(self, data[:3])
        raise failure

    monkeypatch.setattr(Path, moment, fail)
    expected = InputError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="no space left" if expected is InputError else None):
        atomic.write(goal, b"after and longer")
    monkeypatch.undo()
    assert goal.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [goal]


def test_writing(tmp_path):
    goal = tmp_path / "new" / "folder" / "alpha.png"
    atomic.write(goal, b"one")
    atomic.write(goal, b"two")
    assert goal.read_bytes() == b"two"
    assert list(goal.parent.iterdir()) == [goal]
    with pytest.raises(InputError, match="can't be written"):
        atomic.write(tmp_path / "new", b"a folder is there")
    with pytest.raises(InputError, match="no folder"):
        atomic.write(goal / "below_a_file.png", b"")


def test_a_block_that_fails_leaves_nothing_and_its_error_as_it_was(tmp_path):
    with pytest.raises(OSError, match="No space left"), atomic.replacing(tmp_path / "a") as part:
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()), daemon=True)
    reader.start()
    atomic.write(pipe, b"all of it")
    reader.join(10)
    assert heard == [b"all of it"] and pipe.is_fifo()


WRITER = """
import pathlib, sys
from mattecli import atomic

parts = [atomic.Part(pathlib.Path(name), suffix, folder=not suffix) for name, suffix in zip(sys.argv[1:], (".mp4", ""))]
(parts[1].path / "1.png").touch()
print(*(part.path.name for part in parts), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_what_a_killed_process_left_of_a_goal_is_removed_when_it_is_written_again(tmp_path):
    ours = [tmp_path / "clip.mp4", tmp_path / "shot_%04d.png"]
    theirs = [tmp_path / ".clip.mp4.part", tmp_path / ".clip.mp4.0123abcd.mp4"]
    for path in theirs:
        path.touch()
    arguments = [sys.executable, "-c", WRITER, *(path.name for path in ours)]
    with subprocess.Popen(arguments, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        parts = {tmp_path / name for name in writer.stdout.readline().split()}
        for path in ours:
            atomic.Part(path, ".new").remove()
        assert parts <= set(tmp_path.iterdir()), "they are being written"
        writer.kill()
    atomic._left.cache_clear()  # as in a new process
    atomic.Part(tmp_path / "another.mp4", ".mp4").remove()
    assert parts <= set(tmp_path.iterdir()), "it is not for this goal"
    for path in ours:
        atomic.write(path, b"whole")
    assert set(tmp_path.iterdir()) == {*ours, *theirs}


def test_long_names_and_folders_that_cannot_be_listed(tmp_path):
    goal = tmp_path / ("\N{OLD HUNGARIAN CAPITAL LETTER A}" * 60 + ".png")
    tmp_path.chmod(0o300)
    try:
        atomic.write(goal, b"whole")
    finally:
        tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == [goal]

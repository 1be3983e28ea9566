"""A name appears when its file is whole; what isn't goes away, whatever the way to the end."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from mattecli.media.clips.writing.goal import Goal

ENDED = """
import pathlib, sys, threading, time
from mattecli.media.clips.writing.goal import Goal

goals = [Goal(pathlib.Path("a.mp4")), Goal(pathlib.Path("b.png"), folder=True), Goal(pathlib.Path("c.mp4"))]
(goals[1].beside / "b1.png").touch()
goals[2].finish()
threading.Thread(target=lambda: (time.sleep(60), goals), daemon=True).start()
{end}
"""


@pytest.mark.parametrize("end", ["", "sys.exit(130)", "raise KeyboardInterrupt"])
def test_nothing_is_left_where_the_program_ends_too_soon(tmp_path, end):
    """As after a second Ctrl-C, while a thread still writes."""
    subprocess.run([sys.executable, "-c", ENDED.format(end=end)], cwd=tmp_path, capture_output=True, timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["c.mp4"]


def test_what_is_dropped_or_discarded_leaves_nothing(tmp_path):
    Goal(tmp_path / "a.mp4")
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    goal = Goal(tmp_path / "a.mp4")
    goal.discard()
    goal.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_is_finished_stays(tmp_path):
    goal = Goal(tmp_path / "new" / "a.mp4")
    assert goal.beside
    goal.beside.write_bytes(b"whole")
    goal.finish()
    goal.discard()
    del goal
    gc.collect()
    assert (tmp_path / "new" / "a.mp4").read_bytes() == b"whole"
    assert len(list((tmp_path / "new").iterdir())) == 1

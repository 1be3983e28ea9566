"""What an output is called, and what it may not destroy."""

from pathlib import Path

import pytest

from mattecli.errors import UsageError
from mattecli.media.clips.writing.naming import beside, check_goal, files_of


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/clip.mov", "a/clip_alpha.mp4"),
        ("a/shot_%04d.png", "a/shot_alpha.mp4"),
        ("a/shot*.png", "a/shot_alpha.mp4"),
        ("%05d.png", "clip_alpha.mp4"),
        ("https://example.com/films/one.webm?key=2/3", "one_alpha.mp4"),
        ("rtsp://example.com/", "example_alpha.mp4"),
    ],
)
def test_names_beside(source, name):
    assert beside(source, "alpha", ".mp4") == Path(name)


def test_files_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a_01.png", "a_2.png", "a_x.png", "b:c.mp4"):
        Path(name).touch()
    assert files_of("a_%02d.png") == ["a_01.png", "a_2.png"]
    assert files_of("a_*.png") == ["a_01.png", "a_2.png", "a_x.png"]
    assert files_of("b:c.mp4") == ["b:c.mp4"]
    assert (
        files_of("none.mp4") == files_of("-") == files_of("https://example.com/%d.png") == files_of("/dev/null") == []
    )


def test_inputs_and_other_files_are_kept(tmp_path):
    clip, other = tmp_path / "clip.mp4", tmp_path / "other.mp4"
    clip.touch()
    other.touch()
    (tmp_path / "link.mp4").symlink_to(clip)
    check_goal(tmp_path / "new.mp4", [str(clip)], overwrite=False)
    check_goal(other, [str(clip)], overwrite=True)
    with pytest.raises(UsageError, match="--overwrite"):
        check_goal(other, [str(clip)], overwrite=False)
    for goal in (clip, tmp_path / "link.mp4", tmp_path / "." / "clip.mp4"):
        with pytest.raises(UsageError, match="is an input"):
            check_goal(goal, ["-", str(clip)], overwrite=True)
    (tmp_path / "in_001.png").touch()
    with pytest.raises(UsageError, match="is an input"):
        check_goal(tmp_path / "in_%03d.png", [str(tmp_path / "in_*.png")], overwrite=True)

"""What the user types, and which files it means."""

import errno
import os
from pathlib import Path

import pytest

from mattecli.errors import UsageError
from mattecli.media.batch import Job, existing, hopeless, left_out, numbered, plan
from mattecli.media.photos import PHOTOS, WRITABLE


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder to stand in, with photos, a subfolder, and what isn't a photo."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/b.JPG",
        "in/a.png",
        "in/deep/c.webp",
        "in/notes.txt",
        "in/.hidden.jpg",
        "in/.git/x.jpg",
        "one.jpg",
    ):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def planned(inputs, output, recursive=False, suffix=".png"):
    jobs = plan(inputs, output, suffix=suffix, recursive=recursive, tag="alpha")
    return {str(job.source): job.target and job.target.as_posix() for job in jobs}


def test_beside_the_photo(photos):
    assert planned(["one.jpg"], None) == {"one.jpg": "one_alpha.png"}
    assert planned(["in"], None, recursive=True, suffix=".webp") == {
        "in/a.png": "in/a_alpha.webp",
        "in/b.JPG": "in/b_alpha.webp",
        "in/deep/c.webp": "in/deep/c_alpha.webp",
    }


def test_a_second_run_does_not_eat_the_first_ones_results(photos):
    before = planned(["in"], None)
    for target in before.values():
        Path(target).write_bytes(b"")
    assert planned(["in"], None) == before


def test_folder_mirrored(photos):
    assert planned(["in"], "out") == {"in/a.png": "out/a.png", "in/b.JPG": "out/b.png"}
    assert planned(["in/"], "out/", recursive=True)["in/deep/c.webp"] == "out/deep/c.png"


def test_an_output_folder_inside_the_input_is_no_input(photos):
    Path("in/out").mkdir()
    Path("in/out/a.png").write_bytes(b"")
    assert "in/out/a.png" not in planned(["in"], "in/out", recursive=True)


def test_patterns(photos):
    assert planned(["in/*"], "out") == {"in/a.png": "out/a.png", "in/b.JPG": "out/b.png"}
    assert planned(["in/**/*.webp"], "out/") == {"in/deep/c.webp": "out/deep/c.png"}
    assert planned([str(photos / "one.*")], "out.tiff") == {str(photos / "one.jpg"): "out.tiff"}
    Path("odd[1].jpg").write_bytes(b"")
    assert planned(["odd[1].jpg"], None) == {"odd[1].jpg": "odd[1]_alpha.png"}


def test_patterns_follow_links_to_folders_only_by_name(photos):
    for name in ("round", "again"):  # a way through both as often as one likes
        Path("in/deep", name).symlink_to("..", target_is_directory=True)
    assert planned(["in/**"], "out/") == planned(["in"], "out/", recursive=True)
    assert planned(["in/deep/r*/a.png"], "out/") == {"in/deep/round/a.png": "out/round/a.png"}


def test_hidden_photos_are_found_by_those_who_ask(photos):
    assert planned(["in/.h*"], "out/") == {"in/.hidden.jpg": "out/.hidden.png"}


def test_streams(photos):
    assert plan(["-"], None, suffix=".png", recursive=False, tag="alpha") == [Job(None, None)]
    assert plan(["one.jpg"], "-", suffix=".png", recursive=False, tag="alpha") == [Job(Path("one.jpg"), None)]
    assert planned(["-"], "alpha.tiff") == {"None": "alpha.tiff"}
    with pytest.raises(UsageError, match="stdout"):
        planned(["one.jpg", "in/a.png"], "-")


def test_one_file(photos):
    assert planned(["one.jpg"], "new/alpha.webp") == {"one.jpg": "new/alpha.webp"}
    assert planned(["one.jpg"], "new") == {"one.jpg": "new/one.png"}
    assert planned(["one.jpg"], "in") == {"one.jpg": "in/one.png"}
    assert planned(["one.jpg"], "alpha.xyz") == {"one.jpg": "alpha.xyz"}
    assert planned(["gone.jpg"], None) == {"gone.jpg": "gone_alpha.png"}
    assert planned(["one.jpg", "one.jpg", "one.*"], "out") == {"one.jpg": "out/one.png"}


@pytest.mark.parametrize(
    ("inputs", "output", "words"),
    [
        (["in"], "alpha.png", "give -o a folder"),
        (["one.jpg", "in/a.png"], "alpha.png", "give -o a folder"),
        (["one.jpg"], "one.jpg", "overwritten"),
        (["one.jpg"], "./in/../one.jpg", "overwritten"),
        (["in"], "in", "input and output"),
        (["in"], "./in/deep/..", "input and output"),
        (["in/a**.png"], None, "no pattern"),
        (["in/a.png", "in/deep/a.png"], "out", "both write"),
        (["nothing*.jpg"], None, "No photo"),
        ([], None, "No photo"),
        ([""], None, "empty"),
        (["one.jpg"], "", "empty"),
    ],
)
def test_refused_before_work(photos, inputs, output, words):
    with pytest.raises(UsageError, match=words):
        planned(inputs, output)


def test_a_link_to_the_input_is_the_input(photos):
    Path("link.png").symlink_to("one.jpg")
    with pytest.raises(UsageError, match="overwritten"):
        planned(["one.jpg"], "link.png")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="a system without /dev/null")
def test_a_device_takes_the_one_photo_and_is_never_in_the_way(photos):
    jobs = plan(["one.jpg"], "/dev/null", suffix=".png", recursive=False, tag="alpha")
    assert jobs == [Job(Path("one.jpg"), Path("/dev/null"))]
    assert existing(jobs) == {}
    with pytest.raises(UsageError, match="one file"):
        planned(["in"], "/dev/null")


def test_same_name_in_one_folder(photos):
    Path("in/a.jpg").write_bytes(b"")
    assert planned(["in"], "out") == {"in/a.jpg": "out/a.jpg.png", "in/a.png": "out/a.png.png", "in/b.JPG": "out/b.png"}
    jobs = plan(["in"], None, suffix=".png", recursive=False, tag="alpha")
    assert [(job.target.name, job.namesake) for job in jobs] == [
        ("a.jpg_alpha.png", True),
        ("a.png_alpha.png", True),
        ("b_alpha.png", False),
    ]
    Path("in/a.jpg_alpha.png").write_bytes(b"")
    assert plan(["in"], None, suffix=".png", recursive=False, tag="alpha") == jobs


def test_one_name_in_two_folders(photos):
    for name in ("in/deep/a.png", "in/deep/b.JPG"):
        Path(name).write_bytes(b"")
    with pytest.raises(UsageError, match=r"in/a\.png and in/deep/a\.png would both write out/a\.png \(1 more such\);"):
        planned(["in", "in/deep"], "out")


@pytest.mark.parametrize("suffix", sorted(PHOTOS - WRITABLE))
def test_what_is_read_by_name_is_read_in_a_folder(photos, suffix):
    Path(f"in/z{suffix}").write_bytes(b"x")
    assert f"in/z{suffix}" in planned(["in"], "out") and f"in/z{suffix}" in planned(["in/*"], "out")


def test_existing(photos):
    jobs = plan(["in", "one.jpg"], "out", suffix=".png", recursive=False, tag="alpha")
    assert existing(jobs) == {}
    jobs[1].target.parent.mkdir()
    jobs[1].target.write_bytes(b"")
    assert existing([*jobs, Job(None, None)]) == {jobs[1]: jobs[1].target}


def series(inputs, output, recursive=False):
    return plan(inputs, output, suffix=".png", recursive=recursive, tag="alpha", numbered=True)


def test_a_name_too_long_to_look_up_is_no_file_that_exists(photos):
    Path("one_alpha.png").write_bytes(b"")
    jobs = [Job(Path("x"), Path("x" * 300)), Job(Path("one.jpg"), Path("one_alpha.png"))]
    assert existing(jobs) == {jobs[1]: Path("one_alpha.png")}


def test_what_no_work_can_bring_about(photos, monkeypatch):
    assert hopeless(Job(Path("one.jpg"), Path("new/one.png"))) is None
    assert hopeless(Job(None, None)) is None
    assert hopeless(Job(Path("gone.jpg"), None)) == "gone.jpg does not exist."
    assert "one.jpg is no folder" in (hopeless(Job(None, Path("one.jpg/new/one.png"))) or "")
    monkeypatch.setattr(os, "access", lambda folder, mode: folder != photos / "in")
    assert "in is closed" in (hopeless(Job(None, Path("in/new/one.png"))) or "")
    assert hopeless(Job(None, Path("in/deep/one.png"))) is None


def test_several_files_a_photo(photos):
    assert series(["one.jpg"], "new/who.webp") == [Job(Path("one.jpg"), Path("new/who.webp"), numbered=True)]
    assert [job.target for job in series(["in"], "out", recursive=True)] == [
        Path("out/a.png"),
        Path("out/b.png"),
        Path("out/deep/c.png"),
    ]
    assert numbered(Path("out/a.b.png"), 12) == Path("out/a.b_12.png")


def test_several_files_need_names(photos):
    for inputs, output in [(["-"], None), (["one.jpg"], "-"), (["one.jpg"], "/dev/null")]:
        if output != "/dev/null" or Path(output).exists():
            with pytest.raises(UsageError, match="Several files"):
                series(inputs, output)


def test_a_series_may_lie_beside_its_photo_but_never_on_another(photos):
    assert [job.target for job in series(["in/a.png"], "in")] == [Path("in/a.png")]
    Path("in/a_2.png").write_bytes(b"x")
    assert series(["in/a.png"], "in/")
    with pytest.raises(UsageError, match=r"in/a_2\.png is an input"):
        series(["in/*"], "in")
    with pytest.raises(UsageError, match="both write"):
        series(["in/a.png", "in/deep/a.png"], "out")
    apart = series(["in/a.png", "in/deep/a.jpg"], "out")
    assert [numbered(job.target, 1).name for job in apart] == ["a.png_1.png", "a.jpg_1.png"]


def test_a_series_exists_when_one_of_its_files_does(photos):
    jobs = series(["in"], "out")
    Path("out").mkdir()
    for name in ("a.png", "a_0.png", "a_x.png", "a_1.jpg", "b_3_4.png"):
        Path("out", name).write_bytes(b"")
    assert existing(jobs) == {}
    for name in ("b_3.png", "b_12.png"):
        Path("out", name).write_bytes(b"")
    assert existing(jobs) == {jobs[1]: Path("out/b_12.png")}


def test_a_second_run_does_not_eat_the_first_ones_series(photos):
    before = planned(["in"], None)
    for name in ("in/a_alpha_1.png", "in/a_alpha_2.png"):
        Path(name).write_bytes(b"")
    assert planned(["in"], None) == before
    Path("in/stray_alpha_1.png").write_bytes(b"")
    assert "in/stray_alpha_1.png" in planned(["in"], None)


def test_no_run_eats_what_another_kind_of_run_left_beside_its_photos(photos):
    before = planned(["in"], None), planned(["in"], "out")
    for name in ("in/a_cutout.png", "in/b_foreground.webp", "in/b_composite_2.jpg", "in/a_alpha.png"):
        Path(name).write_bytes(b"")
    assert (planned(["in"], None), planned(["in"], "out")) == before
    assert planned(["in/a_cutout.png"], "out") == {"in/a_cutout.png": "out/a_cutout.png"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_pipe_in_a_folder_is_no_photo(photos):
    os.mkfifo("in/pipe.png")
    assert "in/pipe.png" not in planned(["in"], "out")


def test_what_cannot_be_read_is_counted(photos):
    for name in ("in/x.HEIC", "in/y.heic", "in/deep/z.nef", "in/.git/w.heic"):
        Path(name).write_bytes(b"x")
    assert left_out(["in", "one.jpg"], recursive=True) == {".heic": 2, ".nef": 1}
    assert left_out(["in"], recursive=False) == {".heic": 2}
    assert not any(name.lower().endswith((".heic", ".nef")) for name in planned(["in"], "out", recursive=True))


def test_a_closed_subfolder_is_a_job_that_fails(photos, monkeypatch):
    walk = os.walk

    def closed(root, onerror):
        for here, folders, names in walk(root):
            if "deep" in folders:
                folders.remove("deep")
                onerror(PermissionError(errno.EACCES, "Permission denied", f"{here}/deep"))
            yield here, folders, names

    monkeypatch.setattr(os, "walk", closed)
    assert planned(["in"], "out", recursive=True) == {
        "in/a.png": "out/a.png",
        "in/b.JPG": "out/b.png",
        "in/deep": "out/deep.png",
    }


def test_a_closed_folder_is_told(photos, monkeypatch):
    def closed(root, onerror):
        onerror(PermissionError(errno.EACCES, "Permission denied", str(root)))
        yield from ()

    monkeypatch.setattr(os, "walk", closed)
    with pytest.raises(PermissionError):
        planned(["in"], "out")

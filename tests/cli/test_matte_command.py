"""`mattecli matte` as it is typed, with a network whose alpha is the red of the photo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.cli import app
from mattecli.errors import MatteError
from tests.networks import Red


@pytest.fixture(autouse=True)
def known_network(monkeypatch):
    monkeypatch.setattr(zoo, "load", lambda name, weights=None: Red())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """photos/a.jpg, photos/b.png and photos/sub/a.png, and the working directory beside them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name, red in {"a.jpg": 200, "b.png": 100, "sub/a.png": 50}.items():
        picture = np.zeros((40, 60, 3), np.uint8)
        picture[10:30, 20:40] = (40, 80, red)
        cv2.imwrite(str(tmp_path / "photos" / name), picture)
    return tmp_path


def run(*arguments, data=None):
    result = CliRunner().invoke(app, ["matte", *arguments], input=data, catch_exceptions=False)
    return SimpleNamespace(code=result.exit_code, out=result.stdout_bytes, text=result.stdout, err=result.stderr)


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_photo_in_an_alpha_out(folder):
    done = run("photos/b.png", "-o", "alpha.png")
    assert done.code == 0
    assert done.out == b""
    assert "realtime on cpu" in done.err
    alpha = cv2.imread("alpha.png", cv2.IMREAD_UNCHANGED)
    assert alpha.shape == (40, 60)
    assert alpha[20, 30] == 100 and alpha[0, 0] == 0


def test_beside_the_photo_by_default(folder):
    assert run("photos/b.png", "-q").err == ""
    assert run("photos/b.png", "--output", "cutout").code == 0
    assert files(folder / "photos") == ["a.jpg", "b.png", "b_alpha.png", "b_cutout.png", "sub/a.png"]


def test_folders_are_mirrored(folder):
    assert run("photos", "-o", "out/", "--recursive").code == 0
    assert files(folder / "out") == ["a.png", "b.png", "sub/a.png"]
    assert run("photos", "-o", "flat/", "--bg", "white", "--format", "jpg").code == 0
    assert files(folder / "flat") == ["a.jpg", "b.jpg"]


def test_photos_that_cannot_be_read_are_counted(folder):
    for name in ("c.heic", "d.HEIC", "e.nef"):
        Path("photos", name).write_bytes(b"x")
    done = run("photos", "-o", "out/")
    assert done.code == 0 and "2 .heic, 1 .nef" in done.err
    assert ".heic" not in run("photos", "-o", "again/", "--quiet").err


def test_stdin_to_stdout(folder):
    done = run("-", "-o", "-", "--json", data=(folder / "photos/b.png").read_bytes())
    assert done.code == 0
    assert cv2.imdecode(np.frombuffer(done.out, np.uint8), cv2.IMREAD_UNCHANGED)[20, 30] == 100
    assert json.loads(done.err.splitlines()[-1])["input"] == "-"


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes stdout")
@pytest.mark.parametrize("command", ["matte photos/b.png", "video photos/b.png"])
def test_a_closed_stdout_is_said(folder, command):
    command = f"exec '{sys.executable}' -m mattecli {command} -o - >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "stdout is closed" in done.stderr and "Traceback" not in done.stderr


def test_a_broken_file_among_good_ones(folder):
    (folder / "photos" / "b.png").write_bytes(b"\x89PNG nonsense")
    done = run("photos", "-o", "out/", "--recursive", "--json")
    assert done.code == 1
    assert files(folder / "out") == ["a.png", "sub/a.png"]
    assert "b.png" in done.err and "2 done, 1 failed" in done.err
    records = [json.loads(line) for line in done.text.splitlines()]
    assert [("error" in record) for record in records] == [False, True, False]
    assert (records[0]["width"], records[0]["height"]) == (60, 40)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="a system without /dev/null")
def test_a_device_as_output(folder):
    assert run("photos/b.png", "-o", "/dev/null", "--format", "webp").code == 0


def test_a_name_that_no_system_takes_is_a_sentence(folder):
    done = run("x" * 300 + ".jpg", "-o", "out/")
    assert done.code == 1 and "name too long" in done.err and "Traceback" not in done.err


def test_json_is_ascii_whatever_the_name(folder):
    (folder / "photos" / "b.png").rename(folder / "photos" / "b-\u00e4.png")
    done = run("photos", "-o", "out/", "--json")
    assert done.code == 0 and done.text.isascii()
    assert json.loads(done.text.splitlines()[1])["input"] == "photos/b-\u00e4.png"


def test_a_missing_file(folder):
    done = run("photos/b.png", "photos/none.png", "-o", "out/")
    assert done.code == 1
    assert "none.png does not exist" in done.err
    assert files(folder / "out") == ["b.png"]


def test_one_missing_file_needs_no_network(folder):
    code = (
        "import sys; from mattecli.cli import app\n"
        "try: app(['matte', 'none.jpg', '-o', 'n.png', '--json'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    record, end = done.stdout.splitlines()
    assert end == "1 False" and done.stderr == "error: none.jpg does not exist.\n"
    assert json.loads(record) == {"input": "none.jpg", "output": "n.png", "error": "none.jpg does not exist."}


def test_nowhere_to_write_is_said_before_work(folder):
    done = run("photos", "-o", "photos/b.png/out/", "--json")
    assert done.code == 1 and "realtime" not in done.err
    assert done.err.count("b.png is no folder") == 2
    assert [json.loads(line)["input"] for line in done.text.splitlines()] == ["photos/a.jpg", "photos/b.png"]


def test_photos_of_one_name_get_a_place_each(folder):
    (folder / "photos/b.jpg").write_bytes((folder / "photos/a.jpg").read_bytes())
    done = run("photos", "-o", "out/")
    assert done.code == 0 and files(folder / "out") == ["a.png", "b.jpg.png", "b.png.png"]
    assert done.err.count("keep the suffix, such as out/b.jpg.png") == 1


def test_json_tells_how_much_is_subject_and_how_much_neither(folder):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20, :, 2], picture[20:30, :, 2] = 255, 102
    cv2.imwrite("half.png", picture)
    for options in ((), ("--output", "cutout", "--crop"), ("--instances",)):
        done = run("half.png", "-o", "out/", "--json", "--overwrite", *options)
        record = json.loads(done.text)
        assert record["subject"] == pytest.approx(0.6, abs=1e-4) and record["soft"] == pytest.approx(0.25)


def test_what_a_file_has_no_place_for_is_said(folder):
    exif = (np.frombuffer(b"II*\0\x08\0\0\0" + bytes(6), np.uint8),)
    _, coded = cv2.imencodeWithMetadata(".jpg", cv2.imread("photos/a.jpg"), [cv2.IMAGE_METADATA_EXIF], exif)
    Path("described.jpg").write_bytes(coded.tobytes())
    done = run("described.jpg", "-o", "x.bmp", "--bg", "white")
    assert done.code == 0 and "described.jpg: .bmp has no place for its EXIF." in done.err
    assert "no place" not in run("described.jpg", "-o", "x.jpg", "--bg", "white").err
    assert "no place" not in run("described.jpg", "-o", "y.bmp").err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["photos/b.png", "-o", "x.jpg", "--output", "cutout"], "transparency"),
        (["photos/b.png", "-o", "x.jpg", "--bit-depth", "16"], "16 bits"),
        (["photos/b.png", "-o", "x.png", "--bit-depth", "12"], "neither 8 nor 16"),
        (["photos/b.png", "-o", "x.gif"], "no format"),
        (["photos/b.png", "-o", "out/", "--format", "docx"], "no format"),
        (["photos/b.png", "-o", "out/", "--format", ""], "no format"),
        (["photos/b.png", "-o", "out/", "--format", "../png"], "no format"),
        (["photos/b.png", "-o", "x.png", "--output", "composite"], "--bg"),
        (["photos/b.png", "-o", "x.png", "--output", "cutout", "--bg", "white"], "--bg"),
        (["photos/b.png", "-o", "x.png", "--bg", "beech.jpg"], "beech.jpg"),
        (["photos/b.png", "-o", "photos/b.png"], "would be overwritten"),
        (["photos/b.png", "-o", "./photos/a.jpg", "--bg", "photos/a.jpg", "--overwrite"], "would be overwritten"),
        (["photos/a.jpg", "photos/sub/../a.jpg", "-o", "out/"], "both write"),
        (["photos", "-o", "x.png"], "folder"),
        (["photos/b.png", "-o", "x.png", "--overwrite", "--skip-existing"], "exclude"),
        (["photos/b.png", "-o", "x.png", "--device", "tpu"], "unknown"),
        (["photos/b.png", "-o", "x.png", "--precision", "int4"], "unknown"),
        (["photos/b.png", "-o", "x.png", "--engine", "jax"], "unknown"),
        (["photos/b.png", "-o", "x.png", "--bg", ""], "no file, no colour"),
        (["photos/b.png", "-o", "x.png", "--crop", "--margin", "inf"], "--margin"),
        (["photos/b.png", "-o", "x.png", "--margin", "0.1"], "goes with --crop"),
        (["photos/b.png", "-o", "/dev/null", "--format", "docx"], "no format"),
        (["photos/b.png", "-o", "x.png", "--background", "photos/a.jpg"], "looks at no background plate"),
        (["photos/b.png", "-o", "x.png", "--background", ""], "it is empty"),
        (["photos/b.png", "-o", "x.png", "--trimap", ""], "it is empty"),
        (["photos/b.png", "-o", "x.png", "--mask", ""], "it is empty"),
        (["photos/b.png", "-o", "x.png", "--align"], "give one with --background"),
    ],
)
def test_wrong_use_is_refused_before_work(folder, arguments, sentence):
    before = files(folder)
    done = run(*arguments)
    assert done.code == 2
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert files(folder) == before


def test_existing_outputs(folder):
    (folder / "out").mkdir()
    (folder / "out/a.png").write_bytes(b"mine")
    assert run("photos", "-o", "out/").code == 2
    assert files(folder / "out") == ["a.png"]
    skipped = run("photos", "-o", "out/", "--skip-existing")
    assert skipped.code == 0 and "1 skipped" in skipped.err
    assert (folder / "out/a.png").read_bytes() == b"mine"
    assert files(folder / "out") == ["a.png", "b.png"]
    assert run("photos", "-o", "out/", "--skip-existing").code == 0
    assert run("photos", "-o", "out/", "--overwrite").code == 0
    assert cv2.imread("out/a.png") is not None


def test_crop_and_what_was_not_found(folder):
    done = run("photos/b.png", "-o", "x.png", "--output", "cutout", "--crop", "--margin", "0", "--json")
    assert cv2.imread("x.png", cv2.IMREAD_UNCHANGED).shape == (20, 20, 4)
    assert json.loads(done.text)["box"] == [20, 10, 40, 30]
    cv2.imwrite("empty.png", np.zeros((30, 40, 3), np.uint8))
    done = run("empty.png", "-o", "y.png", "--crop")
    assert done.code == 0 and "no subject" in done.err
    assert cv2.imread("y.png").shape == (30, 40, 3)


def test_names_with_brackets_are_no_markup(folder):
    (folder / "[red]x[bold].png").write_bytes(b"nothing")
    done = run("[red]x[bold].png", "-o", "out/")
    assert done.code == 1
    assert "[red]x[bold].png" in done.err


def test_interrupted(folder, monkeypatch):
    def interrupted(self, image, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Red, "forward", interrupted)
    done = run("photos", "-o", "out/")
    assert done.code == 130 and "no file is half-written" in done.err
    assert not (folder / "out").exists() or files(folder / "out") == []


def test_debug_lets_the_error_through(folder):
    with pytest.raises(MatteError):
        run("photos/b.png", "-o", "x.png", "--device", "tpu", "--debug")

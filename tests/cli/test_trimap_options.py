"""`--trimap` and `--mask` as they are typed, with networks whose alpha is 0.5."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.cli import app
from mattecli.zoo.spec import native
from tests.media.clips.making import make_clip
from tests.networks import Even


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """photos/a.png, b.png and c.png, trimaps/ of the same names, c's too small, and clip.mp4."""

    def load(name, weights=None):
        return Even(0.5, "trimap" if name == "gca" else "image", native())

    monkeypatch.setattr(zoo, "load", load)
    monkeypatch.chdir(tmp_path)
    for name, width in {"a": 60, "b": 60, "c": 30}.items():
        for kind in ("photos", "trimaps"):
            (tmp_path / kind).mkdir(exist_ok=True)
        cv2.imwrite(f"photos/{name}.png", np.full((40, 60, 3), 90, np.uint8))
        levels = np.full((40, width), 128, np.uint8)
        levels[:, :10], levels[:, -10:] = 0, 255
        cv2.imwrite(f"trimaps/{name}.png", levels)
    make_clip(tmp_path / "clip.mp4", 3, size=(40, 60))
    return tmp_path


def run(*arguments):
    done = CliRunner().invoke(app, [*arguments, "--device", "cpu"], catch_exceptions=False)
    return SimpleNamespace(code=done.exit_code, text=done.stdout, err=done.stderr)


def test_a_trimap_for_each_photo_of_a_folder(folder):
    done = run("matte", "photos", "-o", "out/", "--model", "gca", "--trimap", "trimaps", "--json")
    assert done.code == 1 and "c.png is 30 x 40 pixels" in done.err and "2 done, 1 failed" in done.err
    assert ["error" in json.loads(line) for line in done.text.splitlines()] == [False, False, True]
    alpha = cv2.imread("out/a.png", cv2.IMREAD_UNCHANGED)
    assert (alpha[:, :10] == 0).all() and (alpha[:, 10:50] == 128).all() and (alpha[:, 50:] == 255).all()


def test_a_trimap_without_foreground_is_said_where_nothing_is_found(folder, monkeypatch):
    monkeypatch.setattr(zoo, "load", lambda name, weights=None: Even(0.0, "trimap", native()))
    trimap = cv2.imread("trimaps/a.png", cv2.IMREAD_UNCHANGED)
    cv2.imwrite("no_white.png", np.minimum(trimap, 128))
    done = run("matte", "photos/a.png", "-o", "a.png", "--model", "gca", "--trimap", "no_white.png")
    assert done.code == 0 and "photos/a.png: no subject found; its trimap has no white" in done.err
    assert "no white" not in run("matte", "photos/a.png", "-o", "b.png", "--model", "gca", "--trimap", "trimaps").err


def test_a_mask_for_networks_without_trimap(folder):
    mask = np.zeros((40, 60), np.uint8)
    mask[:, :20] = 255
    cv2.imwrite("m.png", mask)
    assert run("matte", "photos/a.png", "-o", "a.png", "--mask", "m.png").code == 0
    alpha = cv2.imread("a.png", cv2.IMREAD_UNCHANGED)
    assert (alpha[:, :20] == 128).all() and (alpha[:, 26:] == 0).all()


def test_of_clips(folder):
    done = run("video", "clip.mp4", "-o", "cut_%d.png", "--model", "gca", "--trimap", "trimaps/a.png")
    assert done.code == 0, done.err
    alpha = cv2.imread("cut_1.png", cv2.IMREAD_UNCHANGED)[..., 3]
    assert (alpha[:, :10] == 0).all() and (alpha[:, 10:50] == 128).all() and (alpha[:, 50:] == 255).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["matte", "photos/a.png", "--model", "gca"], "--trimap auto"),
        (["matte", "photos/a.png", "--trimap", "trimaps/a.png"], "looks at no trimap"),
        (["matte", "photos", "--model", "gca", "--trimap", "trimaps/a.png"], "one file for 3 photos"),
        (["matte", "photos/a.png", "--model", "gca", "--trimap", "none.png"], "none.png does not exist"),
        (["matte", "photos/a.png", "--model", "gca", "--trimap", "auto", "--engine", "openvino"], "PyTorch only"),
        (["video", "clip.mp4", "--model", "gca"], "--trimap auto"),
        (["video", "clip.mp4", "--model", "gca", "--trimap", "trimaps/c.png"], "trimaps/c.png is 30 x 40 pixels"),
        (["video", "clip.mp4", "--mask", "-"], "save it to a file"),
        (["video", "clip.mp4", "-o", "trimaps/a.png", "--model", "gca", "--trimap", "trimaps/a.png"], "overwritten"),
    ],
)
def test_wrong_use_is_refused_before_work(folder, arguments, sentence):
    before = sorted(folder.rglob("*"))
    done = run(*arguments)
    assert done.code == 2 and sentence in " ".join(done.err.split()) and "Traceback" not in done.err
    assert sorted(folder.rglob("*")) == before

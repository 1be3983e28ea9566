"""`mattecli matte --instances` and `--pick`, with a network whose alpha is the red of the photo."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.cli import app
from mattecli.zoo.spec import Prediction, Spec, long_side


class Red(nn.Module):
    spec = Spec(size=long_side(128, 8))

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, image, **_):
        return Prediction(image[:, :1])


class Colours(Red):
    """Red and green are two people, whether they touch or not."""

    spec = Spec(size=long_side(128, 8), instances=True)

    def forward(self, image, **_):
        logits = torch.tensor([[[0.0, 2.0], [0.0, 3.0]]])
        people = image[:, :2]
        return Prediction(people.sum(1, keepdim=True).clamp(max=1), instances=people, maps={"person_logits": logits})


@pytest.fixture(autouse=True)
def known_network(monkeypatch):
    monkeypatch.setattr(zoo, "load", lambda name, weights=None: Colours() if name == "e2ehim-swint" else Red())


SMALL, LARGE = (10, 20, 30, 60), (60, 10, 120, 70)
"""Two people's boxes: left, top, right, bottom."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """two.png (a small one left, a large one right), one.jpg, none.png, in the folder `in`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name, boxes in {"two.png": [SMALL, LARGE], "one.jpg": [LARGE], "none.png": []}.items():
        picture = np.zeros((80, 128, 3), np.uint8)
        picture[..., 0] = 50
        for left, top, right, bottom in boxes:
            picture[top:bottom, left:right, 2] = 255
        cv2.imwrite(str(tmp_path / "in" / name), picture)
    return tmp_path


def run(*arguments, data=None):
    result = CliRunner().invoke(app, ["matte", *arguments], input=data, catch_exceptions=False)
    records = [json.loads(line) for line in result.stdout.splitlines()] if "--json" in arguments else []
    return SimpleNamespace(code=result.exit_code, records=records, err=result.stderr)


def names(folder="out"):
    return sorted(path.name for path in Path(folder).iterdir())


def read(path):
    return cv2.imread(path, cv2.IMREAD_UNCHANGED)


def test_one_file_a_person_the_largest_first(folder):
    done = run("in/two.png", "-o", "out/who.png", "--instances", "--json")
    assert done.code == 0 and names() == ["who_1.png", "who_2.png"]
    assert "touch" in done.err and "e2ehim-swint" in done.err
    record = done.records[0]
    assert "output" not in record and (record["width"], record["height"]) == (128, 80)
    assert record["instances"] == [
        {"number": 1, "output": "out/who_1.png", "box": list(LARGE), "crop": None, "score": None, "area": 3600},
        {"number": 2, "output": "out/who_2.png", "box": list(SMALL), "crop": None, "score": None, "area": 800},
    ]
    whole = read("in/two.png")[..., 2]
    np.testing.assert_array_equal(read("out/who_1.png") + read("out/who_2.png"), whole)
    assert read("out/who_2.png")[30, 20] == 255


def test_a_network_that_tells_people_apart(folder):
    picture = np.zeros((80, 128, 3), np.uint8)
    picture[10:70, 20:50, 2], picture[10:70, 50:100, 1] = 255, 255
    cv2.imwrite("couple.png", picture)
    done = run("couple.png", "--instances", "--model", "e2ehim-swint", "--json")
    first, second = done.records[0]["instances"]
    assert (first["output"], second["output"]) == ("couple_alpha_1.png", "couple_alpha_2.png")
    assert first["score"] == pytest.approx(1 / (1 + np.exp(-3))) and second["score"] == pytest.approx(0.8808, abs=1e-4)
    np.testing.assert_array_equal(read("couple_alpha_1.png"), picture[..., 1])
    assert "touch" not in done.err
    assert len(run("couple.png", "-o", "x.png", "--instances", "--json").records[0]["instances"]) == 1


def test_shares_are_of_who_was_kept(folder):
    of_all = run("in/two.png", "-o", "x.png", "--instances", "--json").records[0]
    of_one = run("in/two.png", "-o", "y.png", "--pick", "2", "--json").records[0]
    assert of_all["subject"] == pytest.approx(4400 / (128 * 80), abs=1e-4)
    assert of_one["subject"] == pytest.approx(800 / (128 * 80), abs=1e-4)


def test_cutouts_cropped_to_each(folder):
    done = run("in/two.png", "-o", "out/", "--output", "cutout", "--crop", "--margin", "0", "--instances", "--json")
    assert read("out/two_1.png").shape == (60, 60, 4) and read("out/two_2.png").shape == (40, 20, 4)
    assert [person["crop"] for person in done.records[0]["instances"]] == [list(LARGE), list(SMALL)]


def test_a_folder_with_somebody_and_nobody(folder):
    done = run("in", "-o", "out", "--instances", "--json")
    assert done.code == 0 and names() == ["one_1.png", "two_1.png", "two_2.png"]
    assert "none.png: no subject" in done.err
    assert [len(record["instances"]) for record in done.records] == [0, 1, 2]


def test_what_is_there_already(folder):
    assert run("in", "-o", "out", "--instances").code == 0
    again = run("in", "-o", "out", "--instances")
    assert again.code == 2 and "out/one_1.png exists already (and 1 more)" in again.err
    for name in ("one_1.png", "two_1.png"):
        Path("out", name).write_bytes(b"mine")
    assert "2 skipped" in run("in", "-o", "out", "--instances", "--skip-existing").err
    assert Path("out/two_1.png").read_bytes() == b"mine"
    Path("out/one_2.png").write_bytes(b"old")
    over = run("in", "-o", "out", "--instances", "--overwrite")
    assert over.code == 0 and read("out/two_1.png") is not None
    assert "out/one_2.png" in over.err and "earlier run" in over.err


def test_a_disk_that_fills_leaves_none_of_a_photos_files(folder, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        if "two_2" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    done = run("in", "-o", "out", "--instances")
    assert done.code == 1 and "no space left" in done.err and names() == ["one_1.png"]


def test_picked_by_number_and_by_place(folder):
    for pick, box in {"1": LARGE, "2": SMALL, "20,30": SMALL, "0.7,0.5": LARGE}.items():
        done = run("in/two.png", "-o", "x.png", "--pick", pick, "--overwrite", "--json")
        assert done.code == 0 and done.records[0]["output"] == "x.png"
        alpha = read("x.png")
        assert cv2.boundingRect(alpha) == (box[0], box[1], box[2] - box[0], box[3] - box[1])
        assert done.records[0]["instances"][0]["box"] == list(box)
    run("in/two.png", "-o", "y.png", "--pick", "2", "--bg", "white", "--crop", "--margin", "0")
    assert read("y.png").shape == (40, 20, 3)


def test_picked_from_stdin_to_stdout(folder):
    done = CliRunner().invoke(app, ["matte", "-", "-o", "-", "--pick", "2"], input=Path("in/two.png").read_bytes())
    assert cv2.imdecode(np.frombuffer(done.stdout_bytes, np.uint8), cv2.IMREAD_UNCHANGED)[30, 20] == 255


def test_who_is_not_there_fails_that_photo(folder):
    done = run("in", "-o", "out", "--pick", "2")
    assert done.code == 1 and names() == ["two.png"]
    assert "one.jpg: there is no number 2 to pick; one person was found" in done.err
    done = run("in/two.png", "-o", "x.png", "--pick", "5,5")
    assert done.code == 1 and "nobody is at 5,5; 2 people were found" in done.err and not Path("x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["in/two.png", "-o", "x.png", "--instances", "--pick", "1"], "choose one"),
        (["in/two.png", "-o", "x.png", "--pick", "0"], "--pick 0"),
        (["in/two.png", "-o", "x.png", "--pick", "left"], "--pick left"),
        (["in/two.png", "-o", "-", "--instances"], "Several files"),
        (["-", "--instances"], "Several files"),
        (["in", "-o", "x.png", "--instances"], "one file"),
        (["in/two.png", "in/two_1.png", "-o", "in", "--instances"], "in/two_1.png is an input"),
        (["in/two.png", "-o", "x.jpg", "--output", "cutout", "--instances"], "transparency"),
    ],
)
def test_wrong_use_is_refused_before_work(folder, arguments, sentence):
    done = run(*arguments)
    assert done.code == 2 and sentence in done.err
    assert names("in") == ["none.png", "one.jpg", "two.png"] and names(".") == ["in"]

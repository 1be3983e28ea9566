import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.cli import app
from mattecli.evaluation.metrics import METRICS
from mattecli.zoo.spec import Prediction, Spec, long_side


def run(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def square(side, value=255):
    plane = np.zeros((64, 64), np.uint8)
    plane[8 : 8 + side, 8 : 8 + side] = value
    return plane


@pytest.fixture
def folders(tmp_path):
    for name, side in (("a", 20), ("b", 30)):
        write(tmp_path / f"alphas/{name}.png", square(side, 200))
        write(tmp_path / f"pred/{name}.png", square(side + 1, 200))
        write(tmp_path / f"images/{name}.png", np.repeat(square(side)[..., None], 3, 2))
    return tmp_path


def test_json_of_a_folder(folders):
    result = run(folders / "pred", "--gt", folders / "alphas", "--json", "--per-image")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record["predictions"] == str(folders / "pred")
    assert (record["images"], record["expected"], record["truth"]) == (2, 2, "mattes")
    assert (record["missing"], record["failed"], record["surplus"]) == ([], {}, [])
    assert set(record["mean"]) == {"whole"} and set(record["mean"]["whole"]) == set(METRICS)
    assert [row["name"] for row in record["per_image"]] == ["a", "b"]
    assert record["per_image"][0]["whole"]["sad"] == pytest.approx((21**2 - 20**2) * 200 / 255 / 1000)


def test_table_of_a_folder(folders):
    result = run(folders / "pred", "--gt", folders / "alphas")
    assert result.exit_code == 0
    assert "2 of 2 images" in " ".join(result.stdout.split()) and "Grad" in result.stdout
    mean = np.mean([(n + 1) ** 2 - n**2 for n in (20, 30)]) * 200 / 255 / 1000
    assert f"{mean:.4f}" in result.stdout
    assert "masks" not in result.stdout


def test_masks_are_called_masks(folders):
    for name, side in (("a", 20), ("b", 30)):
        write(folders / f"masks/{name}.png", square(side))
    assert "ground truth is masks" in run(folders / "pred", "--gt", folders / "masks").stdout


def test_missing_and_mismatched_predictions_exit_1(folders):
    (folders / "pred/a.png").unlink()
    write(folders / "pred/b.png", square(30)[:60])
    write(folders / "alphas/c.png", square(10, 200))
    write(folders / "pred/c.png", square(10, 200))
    result = run(folders / "pred", "--gt", folders / "alphas", "--json")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert (record["images"], record["expected"]) == (1, 3)
    assert record["missing"] == ["a"] and "64 x 60" in record["failed"]["b"]
    assert "a has ground truth, but no prediction" in result.stderr and "64 x 60" in result.stderr


def test_nothing_to_average_is_still_a_report(folders):
    (folders / "empty").mkdir()
    result = run(folders / "empty", "--gt", folders / "alphas", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["mean"] == {}
    result = run(folders / "empty", "--gt", folders / "alphas")
    assert result.exit_code == 1 and not result.stdout


@pytest.mark.parametrize(
    "arguments",
    [[], ["pred"], ["--gt", "alphas"], ["pred", "--gt", "nowhere"], ["pred", "--gt", "alphas", "--data", "."],
     ["pred", "--gt", "alphas", "--model", "modnet"],
     ["pred", "--gt", "alphas", "--device", "cpu"], ["pred", "--gt", "alphas", "--engine", "torch"],
     ["--model", "realtime"], ["--data", "pred"],
     ["pred", "--gt", "alphas", "--clips", "--trimaps", "alphas"], ["pred", "--gt", "alphas", "--clips", "--per-image"],
     ["pred", "--gt", "alphas", "--clips", "--steady", "none"], ["--data", ".", "--steady", "none"],
     ["pred", "--gt", "nowhere", "--clips"], ["--data", "pred", "--clips"],
     ["--data", ".", "--model", "no-such"], ["--data", ".", "--data", ".", "--trimaps", "alphas"],
     ["--data", ".", "--model", "closed-form"]],
)  # fmt: skip
def test_wrong_use_exits_2(folders, monkeypatch, arguments):
    monkeypatch.chdir(folders)
    result = run(*arguments)
    assert result.exit_code == 2 and "error" in result.stderr.lower() and result.stdout == ""


class Brightness(nn.Module):
    """Alpha is the red channel."""

    spec = Spec(size=long_side(64, 32))

    def forward(self, image, *, trimap=None, background=None, state=None):
        return Prediction(image[:, :1])


def test_a_network_over_data_sets(folders, monkeypatch):
    monkeypatch.setattr(zoo, "load", lambda name, weights=None, device="cpu": Brightness().eval())
    arguments = ["--data", folders, "--data", folders, "--model", "realtime", "--device", "cpu", "--precision", "fp32"]
    result = run(*arguments, "--limit", 1, "--json")
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == 2 and records[0].keys() == records[1].keys()
    assert records[0]["mean"]["whole"] == pytest.approx(records[1]["mean"]["whole"], abs=1e-9)
    assert records[0]["data"] == str(folders) and records[0]["model"] == "realtime"
    assert (records[0]["images"], records[0]["device"], records[0]["precision"]) == (1, "cpu", "fp32")
    assert records[0]["mean"]["whole"]["iou"] > 0.9
    assert "realtime on cpu, fp32" in result.stderr
    assert torch.is_grad_enabled()


@pytest.fixture
def clips(tmp_path):
    """Two clips of three frames; the second moves."""
    for name, step in (("rest", 0), ("walk", 2)):
        for number in range(3):
            matte = np.roll(square(20, 200), step * number, 1)
            write(tmp_path / f"data/{name}/alphas/{number}.png", matte)
            write(tmp_path / f"data/{name}/images/{number}.png", np.repeat(matte[..., None], 3, 2))
            write(tmp_path / f"pred/{name}/{number}.png", np.roll(matte, number % 2, 1))
    return tmp_path


def test_json_of_clips(clips):
    result = run(clips / "pred", "--gt", clips / "data", "--clips", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["clips"], record["frames"], record["expected"], record["missing"]) == (2, 6, 2, [])
    assert [(row["name"], row["frames"]) for row in record["per_clip"]] == [("rest", 3), ("walk", 3)]
    # one frame in three lies a pixel to the right: two columns of 20 pixels at 200 / 255
    shifted = 2 * 20 / 64**2 * (200 / 255)
    assert record["mean"]["whole"]["mad"] == pytest.approx(shifted / 3)
    rest = record["per_clip"][0]["whole"]
    assert rest["dtssd"] == pytest.approx(100 * np.sqrt(2 * 20 / 64**2) * 200 / 255, rel=1e-5)
    assert rest["dtssd_rvm"] == pytest.approx(rest["dtssd"] * 2 / 3)


def test_table_of_clips(clips):
    (clips / "pred/walk/2.png").unlink()
    result = run(clips / "pred", "--gt", clips / "data", "--clips")
    assert result.exit_code == 1 and "walk has 2 frames, not the 3 of its ground truth" in result.stderr
    assert "the means leave 1 of 2 clips out" in result.stderr
    said = " ".join(result.stdout.split())
    assert "1 of 2 clips" in said and "dtSSD" in said and "MESSDdt" in said and "rest" in said
    assert f"{100 * np.sqrt(2 * 20 / 64**2) * 200 / 255:.4f}" in said


@pytest.mark.parametrize(("steady", "applied"), [(None, "delay"), ("state", "delay"), ("none", "none")])
def test_a_network_over_clips(clips, monkeypatch, steady, applied):
    monkeypatch.setattr(zoo, "load", lambda name, weights=None, device="cpu": Brightness().eval())
    chosen = ["--steady", steady] if steady else []
    fixed = ["--device", "cpu", "--precision", "fp32", "--engine", "torch"]
    result = run("--data", clips / "data", "--clips", "--json", *fixed, *chosen)
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["model"], record["engine"], record["frames"]) == ("realtime", "torch", 6)
    assert record["steady"] == applied  # this network has no state
    assert record["mean"]["whole"]["mad"] < 1e-3 and record["mean"]["whole"]["dtssd"] < 0.5

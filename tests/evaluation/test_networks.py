import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mattecli.evaluation import clip_dataset, clip_run, dataset, metrics, networks, run
from mattecli.inference import Matter
from mattecli.zoo.spec import Prediction, Spec, long_side


def square(left, value=200):
    plane = np.zeros((64, 64), np.uint8)
    plane[16:48, left : left + 24] = value
    return plane


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.repeat(picture[..., None], 3, 2))


class Red(nn.Module):
    """Alpha is the red channel; with `state`, the mean of what it has been."""

    def __init__(self, recurrent=False):
        super().__init__()
        self.spec = Spec(size=long_side(64, 32), recurrent=recurrent)

    def forward(self, image, *, trimap=None, background=None, state=None):
        alpha = image[:, :1]
        if state is not None:
            alpha = (alpha + state[0]) / 2
        return Prediction(alpha, state=(alpha,) if self.spec.recurrent else None)


class TooLarge(Red):
    def forward(self, image, *, trimap=None, background=None, state=None):
        if image.max() > 0.9:
            torch.empty(2**60)
        return super().forward(image)


def matter(network):
    return Matter(network, "cpu", "fp32")


@pytest.fixture
def photos(tmp_path):
    for name, value in (("a", 200), ("b", 255)):
        write(tmp_path / f"images/{name}.png", square(8, value))
        write(tmp_path / f"alphas/{name}.png", square(8, 200))
    return tmp_path


@pytest.fixture
def clip(tmp_path):
    for number in range(4):
        write(tmp_path / f"c/com/{number}.png", square(8 + 2 * number))
        write(tmp_path / f"c/pha/{number}.png", square(8 + 2 * number))
    return tmp_path


def test_a_photo_is_measured_in_the_8_bits_of_its_file(photos):
    report = run.evaluate(dataset.open_data(photos), networks.photos(matter(Red())))
    assert [row.scores["whole"]["mad"] for row in report.rows] == pytest.approx(
        [0, metrics.mad(square(8, 255), square(8, 200))], abs=1e-4
    )


def test_out_of_memory_is_one_photos_failure(photos):
    report = run.evaluate(dataset.open_data(photos), networks.photos(matter(TooLarge())))
    assert [row.name for row in report.rows] == ["a"]
    assert "b.png: not enough memory; try a smaller --size" in report.failed["b"]


def test_out_of_memory_is_one_clips_failure(clip):
    write(clip / "d/com/0.png", square(8))
    write(clip / "d/com/1.png", square(8, 255))
    for number in range(2):
        write(clip / f"d/pha/{number}.png", square(8))
    report = clip_run.evaluate(clip_dataset.open_data(clip), networks.clips(matter(TooLarge())))
    assert [row.name for row in report.rows] == ["c"] and "com: not enough memory" in report.failed["d"]


def test_a_clip_is_followed_with_state_or_without(clip):
    found = {}
    for steady in ("state", "none"):
        predict = networks.clips(matter(Red(recurrent=True)), steady)
        report = clip_run.evaluate(clip_dataset.open_data(clip), predict)
        found[steady] = report.rows[0].scores["whole"]
    assert found["none"]["mad"] == pytest.approx(0, abs=1e-4) and found["none"]["dtssd"] < 0.1
    assert found["state"]["mad"] > 0.01 and found["state"]["dtssd"] > 1

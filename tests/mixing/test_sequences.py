"""Test clips with exact alpha, out of the photos kept aside."""

import cv2
import numpy as np

from mattecli.mixing import sequences

RECIPE = """
[data]
root = "elsewhere"
[[data.phases]]
until = 1
size = 64
batch = 1
[[data.sources]]
name = "people"
kind = "mattes"
root = "people"
holdout = 10
scenery = 1.0
"""


def _photos(root, colours):
    for number, level in colours.items():
        for kind in ("images", "alphas"):
            (root / "people" / kind).mkdir(parents=True, exist_ok=True)
        alpha = np.zeros((96, 64), np.uint8)
        cv2.ellipse(alpha, (32, 50), (15, 35), 0, 0, 360, 255, -1, cv2.LINE_AA)
        cv2.imwrite(str(root / f"people/images/{number:04}.png"), np.dstack([np.where(alpha > 0, level, 128)] * 3))
        cv2.imwrite(str(root / f"people/alphas/{number:04}.png"), alpha)


def test_clips_come_from_photos_kept_aside(tmp_path):
    _photos(tmp_path / "data", {1: 0, 2: 0, 10: 255, 20: 255})
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    out = tmp_path / "out"
    made = [str(recipe), str(out), "--data", str(tmp_path / "data"), "--clips", "2", "--frames", "5", "--size", "64"]
    assert sequences.main(made) == 0
    images, alphas = (sorted(out.glob(f"*/{kind}/*.png")) for kind in ("images", "alphas"))
    assert len(images) == len(alphas) == 10
    assert [path.name for path in images[:5]] == [f"{t:04}.png" for t in range(5)]
    bright = []
    for image, alpha in zip(images, alphas, strict=True):
        inside = cv2.imread(str(alpha), cv2.IMREAD_GRAYSCALE) > 250
        bright.append(cv2.imread(str(image))[inside].mean() - cv2.imread(str(image))[~inside].mean())
    assert np.mean(bright) > 20, "the subjects kept aside are white, those trained on black"


def test_nothing_kept_aside_is_said(tmp_path, capsys):
    _photos(tmp_path / "data", {1: 0, 2: 0})
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    assert sequences.main([str(recipe), str(tmp_path / "out"), "--data", str(tmp_path / "data")]) == 2
    assert "keeps nothing aside" in capsys.readouterr().err

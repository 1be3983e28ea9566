"""What a network's own mattes may teach: only people whose boxes they meet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import mattecli
from mattecli.errors import UsageError
from mattecli.mixing.batch import Label
from mattecli.mixing.sources import Picture, Source, items, read
from mattecli.training import check_recipes, read_recipe, train
from mattecli.training.self_training import mark, trimap
from tests.training.making import small


class Bright:
    """A matter for which the subject is what is bright, and what is half bright is uncertain."""

    def matte(self, rgb):
        return rgb[..., 0].astype(np.float32) / 255


def _picture(boxes, *bodies):
    rgb = np.zeros((100, 120, 3), np.uint8)
    for (x0, y0, x1, y1), level in bodies:
        rgb[y0:y1, x0:x1] = level
    return Picture(rgb, Label.BOXES, boxes=np.float32(boxes) / np.float32([120, 100, 120, 100]))


def test_a_person_who_fills_the_box_is_marked_and_the_rest_is_background():
    known = trimap(_picture([[20, 20, 60, 80]], ((20, 20, 60, 80), 255)), Bright())
    assert (known[22:78, 22:58] == 255).all() and (known[:18] == 0).all() and (known[:, 62:] == 0).all()


def test_the_uncertain_stays_unknown():
    known = trimap(_picture([[20, 20, 60, 80]], ((20, 20, 60, 80), 255), ((30, 30, 40, 40), 150)), Bright())
    assert (known[30:40, 30:40] == 128).all() and (known[50:78, 22:58] == 255).all()


@pytest.mark.parametrize(
    "body",
    [(20, 20, 60, 50), (30, 20, 60, 80), (20, 20, 100, 80), (38, 20, 42, 80)],
    ids=["legs missing", "an arm missing", "reaches beyond", "a pole"],
)
def test_nobody_is_marked_whose_box_is_not_met(body):
    assert trimap(_picture([[20, 20, 60, 80]], (body, 255)), Bright()) is None


def test_a_box_that_is_not_met_is_unknown_beside_one_that_is():
    known = trimap(_picture([[10, 20, 40, 80], [70, 20, 110, 80]], ((10, 20, 40, 80), 255)), Bright())
    assert (known[22:78, 12:38] == 255).all() and (known[25:75, 75:105] == 128).all() and (known[90:] == 0).all()


def _photos(folder: Path) -> None:
    for number in range(3):
        picture = _picture([[20, 20, 60, 80]], ((20, 20, 60, 80 if number else 40), 255))
        for kind in ("images", "boxes"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"images/{number}.png"), picture.rgb)
        np.savetxt(folder / f"boxes/{number}.txt", picture.boxes)


def test_the_folder_is_read_as_trimaps_and_made_once(tmp_path):
    _photos(tmp_path / "crowd")
    said = []
    mark(tmp_path / "crowd", tmp_path / "made/crowd", Bright(), said.append)
    assert said == ["3 of 3 photos of crowd looked at, people marked in 2"]
    found, _ = items(Source("crowd", "trimaps", "crowd", labels="crowd"), tmp_path, tmp_path / "made")
    picture = read(found[0])
    assert [item.image.stem for item in found] == ["1", "2"] and picture.label == Label.MASK
    assert set(np.unique(picture.alpha)) == {0, 255}
    assert [path.name for path in (tmp_path / "made/crowd").iterdir()] == ["trimaps"]
    mark(tmp_path / "crowd", tmp_path / "made/crowd", None, said.append)
    assert len(said) == 1


WEIGHTS = Path(mattecli.__file__).parent / "zoo/weights"
BOXES = """
name = "crowd, boxes"
kind = "boxes"
root = "crowd"
scenery = 1.0
"""
MARKED = """
name = "crowd"
kind = "trimaps"
root = "crowd"
labels = "crowd"
"""


def _recipe(folder: Path) -> str:
    start = f'init = "{WEIGHTS}/realtime.safetensors"\nself_training = "crowd"'
    return small(folder, "realtime", BOXES, MARKED, start=start)


def test_a_recipe_marks_before_it_trains(tmp_path, monkeypatch):
    _photos(tmp_path / "crowd")
    (tmp_path / "recipe.toml").write_text(_recipe(tmp_path))
    plan = read_recipe(str(tmp_path / "recipe.toml"))
    monkeypatch.setattr("mattecli.inference.network.Matter", lambda *given, **more: Bright())
    check_recipes([plan])
    notes = []
    train(plan, lambda event: notes.append(getattr(event, "text", "")))
    assert notes[0].endswith("people marked in 2") and (tmp_path / "made/crowd/trimaps/1.png").is_file()
    assert (tmp_path / "run/last.ckpt").is_file()


def test_self_training_needs_boxes_and_weights(tmp_path):
    _photos(tmp_path / "crowd")
    text = _recipe(tmp_path)
    (tmp_path / "recipe.toml").write_text(text.replace("init =", "# init ="))
    with pytest.raises(UsageError, match="init must be given"):
        read_recipe(str(tmp_path / "recipe.toml"))
    (tmp_path / "recipe.toml").write_text(text.replace('self_training = "crowd"', 'self_training = "nowhere"'))
    with pytest.raises(UsageError, match="no folder boxes"):
        check_recipes([read_recipe(str(tmp_path / "recipe.toml"))])

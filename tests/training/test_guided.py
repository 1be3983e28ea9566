"""Training of networks that are given a trimap or a background plate beside the image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mattecli import zoo
from mattecli.errors import UsageError
from mattecli.mixing.sampling import Sample
from mattecli.training import Progress, Validated, check_recipes, read_recipe, train, validation
from mattecli.training.loop import Training
from mattecli.zoo.spec import Prediction, Spec, long_side
from tests.training.making import small

PEOPLE = """
name = "people"
kind = "mattes"
root = "people"
composed = 0.5
holdout = 10
scenery = 1.0
validate = true
"""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch) -> Path:
    """Three photos to train on and one to validate on, of soft-edged discs."""
    rng = np.random.default_rng(0)
    for folder in ("images", "alphas"):
        (tmp_path / "people" / folder).mkdir(parents=True)
    for number in (1, 2, 3, 10):
        alpha = np.zeros((64, 48), np.uint8)
        cv2.circle(alpha, (24, 30), 16, 255, -1)
        cv2.imwrite(str(tmp_path / f"people/alphas/{number}.png"), cv2.GaussianBlur(alpha, (0, 0), 2))
        cv2.imwrite(str(tmp_path / f"people/images/{number}.png"), rng.integers(0, 255, (64, 48, 3), dtype=np.uint8))
    monkeypatch.setattr(validation, "LONG_SIDE", 64)
    return tmp_path


def recipe(folder: Path, model: str, background: str):
    path = folder / "recipe.toml"
    path.write_text(small(folder, model, PEOPLE, data=f'background = "{background}"\ngroups = 0.5', steps=2))
    return read_recipe(str(path))


def smallest() -> list[str]:
    """One network of every builder that is given something beside the image and learns."""
    cards = [zoo.card(name) for name in zoo.names()]
    guided = sorted((c for c in cards if c.inputs != "image" and c.parameters), key=lambda c: -c.parameters)
    return sorted({card.builder: card.name for card in guided}.values())


@pytest.mark.parametrize("model", smallest())
def test_networks_with_guidance_are_trained_and_validated(photos: Path, model: str, monkeypatch) -> None:
    for writing in ("_save", "_export"):  # half a gigabyte of some
        monkeypatch.setattr(Training, writing, lambda *anything: None)
    plan = recipe(photos, model, "plate" if "background" in zoo.card(model).inputs else "layer")
    check_recipes([plan])
    events: list[object] = []
    best = train(plan, events.append)
    steps = [event for event in events if isinstance(event, Progress)]
    assert len(steps) == 2 and steps[-1].skipped == 0 and np.isfinite(steps[-1].loss)
    assert any(isinstance(event, Validated) for event in events) and 0 <= best["mad"] <= 1


@pytest.mark.parametrize("background", ["none", "layer"])
def test_a_network_without_its_plates_is_refused_before_work(photos: Path, background: str) -> None:
    plan = recipe(photos, "bgmv2-mobilenetv2", background)
    for begin in (lambda: check_recipes([plan]), lambda: train(plan)):
        with pytest.raises(
            UsageError, match=r"bgmv2-mobilenetv2 is given a background plate: set background = 'plate'"
        ):
            begin()
    assert not plan.output.exists()


@pytest.mark.parametrize("model", ["dim", "fba"])
def test_a_network_that_learns_layers_is_refused_without_them(photos: Path, model: str) -> None:
    with pytest.raises(UsageError, match=f"{model} learns from composites: set background = 'layer'"):
        check_recipes([recipe(photos, model, "none")])


def test_what_is_solved_is_not_trained(photos: Path) -> None:
    with pytest.raises(UsageError, match="closed-form is solved, not learned"):
        check_recipes([recipe(photos, "closed-form", "layer")])


def test_plates_are_for_networks_that_are_given_them(photos: Path) -> None:
    with pytest.raises(UsageError, match="fba is given no background plate: leave background out"):
        check_recipes([recipe(photos, "fba", "plate")])


@pytest.mark.parametrize("needs", ["image", "trimap", "background"])
def test_validation_gives_what_training_gave(needs: str) -> None:
    """At the size that the network sees."""
    alpha = np.zeros((200, 100), np.float32)
    alpha[50:150, 30:70] = 1
    rgb = np.full((200, 100, 3), 200, np.uint8)
    given: dict[str, torch.Tensor] = {}

    class Spy(torch.nn.Module):
        spec = Spec(size=long_side(64, 32), needs=needs)  # type: ignore[arg-type]

        def forward(self, image: torch.Tensor, **beside: torch.Tensor) -> Prediction:
            given.update(image=image, **beside)
            return Prediction(image[:, :1])

    held = validation.hold([Sample(rgb, alpha, "tall", rgb // 2)])
    ((photo, found),) = validation.predict(Spy(), held, torch.device("cpu"), False)
    assert found.shape == photo.alpha.shape == (128, 64)
    assert set(given) == {"image", needs} and {plane.shape[-2:] for plane in given.values()} == {(64, 32)}
    if needs == "trimap":
        assert given["trimap"].unique().tolist() == [0.0, 0.5, 1.0] and given["trimap"].shape[1] == 1
    if needs == "background":
        torch.testing.assert_close(given["background"], given["image"] / 2)

"""What batches tell of the background: the layer that composed the image, or a plate of it."""

from dataclasses import asdict

import cv2
import numpy as np
import pytest

from mattecli.errors import UsageError
from mattecli.mixing import augment, plate, scene
from mattecli.mixing.augment import Damage
from mattecli.mixing.batch import Label
from mattecli.mixing.plate import Plate, Shadow
from mattecli.mixing.sampling import Mixture
from mattecli.mixing.settings import data_settings
from tests.mixing.making import save


@pytest.fixture
def data(tmp_path):
    """Five red discs with soft edges, one kept aside, four crowds with boxes, and two scenes without red."""
    rng = np.random.default_rng(0)

    def noise(*channels):
        planes = [cv2.resize(rng.integers(0, 255, (8, 8), dtype=np.uint8), (96, 96)) * on for on in channels]
        return np.dstack(planes).astype(np.uint8)

    for number in (1, 2, 3, 4, 10):
        alpha = np.zeros((96, 96), np.uint8)
        cv2.circle(alpha, (48, 40), 30, 255, -1)
        save(tmp_path / f"people/images/{number}.png", np.dstack([alpha * 0, alpha * 0, alpha * 0 + 230]))
        save(tmp_path / f"people/alphas/{number}.png", cv2.GaussianBlur(alpha, (0, 0), 3))
        save(tmp_path / f"crowd/images/{number}.png", noise(0, 0, 1))
        (tmp_path / "crowd/boxes").mkdir(exist_ok=True)
        (tmp_path / f"crowd/boxes/{number}.txt").write_text("0.3 0.3 0.6 0.9\n")
    for number in range(2):
        save(tmp_path / f"scenes/{number}.png", noise(1, 1, 0))
    return tmp_path


def mixture(data, background="plate", composed=0.5, frames=1, **more):
    people = {"name": "people", "kind": "mattes", "root": "people", "holdout": 10, "validate": True}
    return Mixture(
        data_settings(
            {
                "background": background,
                "phases": [{"until": 9, "size": 64, "batch": 4 * frames, "frames": frames}],
                "sources": [
                    people | {"composed": composed},
                    {"name": "crowd", "kind": "boxes", "root": "crowd", "composed": composed},
                    {"name": "scenes", "kind": "backgrounds", "root": "scenes", "weight": 0.0, "scenery": 1.0},
                ],
            }
            | more
        ),
        data,
        5,
    )


@pytest.fixture
def clean(monkeypatch):
    """Pictures without damage, plates that differ in nothing."""
    monkeypatch.setattr(Damage, "draw", lambda rng: Damage(None, None, 0.0, None))
    for share in ("MOVED", "RELIT", "SHADED"):
        monkeypatch.setattr(plate, share, 0.0)
    return monkeypatch


def test_nothing_is_told_unless_asked(data):
    batch = mixture(data, "none").batch(0)
    assert batch.foreground is None and batch.background is None


@pytest.mark.parametrize("frames", [1, 4])
def test_layers_compose_the_image(data, clean, frames):
    """With several subjects, and with things that pass in front of them."""
    clean.setattr(scene, "OCCLUDED", 1.0)
    mixed = mixture(data, "layer", frames=frames, groups=0.7)
    for number in range(4):
        batch = mixed.batch(number).flat()
        composed = batch.alpha * batch.foreground + (1 - batch.alpha) * batch.background
        assert (composed - batch.image).abs().max() < 0.6 / 255


@pytest.mark.parametrize("turned", [0.0, 1.0])
def test_a_plate_is_the_scenery_without_the_subject(data, clean, turned):
    clean.setattr(augment, "relight", lambda rgb, *others: rgb)
    mixed, seen = mixture(data, turned=turned), 0.0
    for number in range(4):
        batch = mixed.batch(number)
        away = (batch.alpha == 0).expand_as(batch.image)
        assert (batch.image - batch.background)[away].abs().max() < 0.6 / 255
        inside = batch.alpha[:, 0] > 0.99
        seen += inside.float().mean()
        assert (batch.background[:, 0][inside] == 0).all() and (batch.image[:, 0][inside] > 0.85).all()
    assert seen > 0.3


@pytest.mark.parametrize("share", ["MOVED", "RELIT", "SHADED"])
def test_plate_and_picture_differ_where_nobody_stands(data, clean, share):
    clean.setattr(plate, share, 1.0)
    batch = mixture(data).batch(0)
    away = (batch.alpha == 0).expand_as(batch.image)
    difference = (batch.image - batch.background)[away]
    assert difference.abs().max() > 5 / 255 and difference.abs().mean() < 0.2
    if share == "SHADED":
        assert difference.max() < 0.6 / 255, "a shadow lies on the picture, not on the plate"


def test_a_plate_has_noise_of_its_own(data, clean):
    clean.setattr(Damage, "draw", lambda rng: Damage(None, None, 0.04, None))
    batch = mixture(data).batch(0)
    away = (batch.alpha == 0).expand_as(batch.image)
    assert 0.03 < (batch.image - batch.background)[away].std() < 0.07


def test_a_plate_moves_little():
    """By at most a degree, and a percent of the canvas in place and size: the corner by less than five percent."""
    rng, corner = np.random.default_rng(0), np.array([0.0, 0.0, 1.0])
    moves = [Plate.draw((100, 200), rng).moved @ corner for _ in range(200)]
    far = np.array([np.abs(move[:2]).max() for move in moves])
    assert (far == 0).mean() > 0.5 and 2 < far.max() < 0.05 * 200


def test_a_shadow_only_darkens():
    rng = np.random.default_rng(1)
    alpha = np.zeros((64, 64), np.float32)
    alpha[20:50, 20:40] = 1
    ground = np.full((64, 64, 3), 200, np.float32)
    for _ in range(20):
        shadow = Shadow.draw((64, 64), rng)
        cast = shadow.cast(ground, alpha)
        assert (cast <= ground).all() and (cast >= 200 - 255 * shadow.depth - 1e-3).all()


def test_all_samples_are_composed(data):
    """A photo's own background is known nowhere, nor is the subject within a box."""
    mixed = mixture(data, composed=0.05)
    for number in range(4):
        batch = mixed.batch(number)
        assert (batch.label == Label.MATTE).all() and batch.background.shape == batch.image.shape
    with pytest.raises(UsageError, match="no source with mattes or masks has composed above 0"):
        mixture(data, composed=0.0)


def test_clips_have_plates_of_their_frames(data):
    batch = mixture(data, frames=4).batch(1)
    assert batch.background.shape == batch.foreground.shape == batch.image.shape == (4, 4, 3, *batch.image.shape[-2:])
    assert batch.flat().background.shape[0] == 16


def test_photos_kept_aside_are_composed_with_a_plate(data, clean):
    mixed = mixture(data)
    ((one,), (two,)) = (list(mixed.validation()) for _ in range(2))
    own = cv2.imread(str(data / "people/alphas/10.png"), cv2.IMREAD_GRAYSCALE)
    assert one.name == "people/10" and np.array_equal(np.rint(one.alpha * 255), own)
    assert np.array_equal(one.image, two.image) and np.array_equal(one.background, two.background)
    away = own == 0
    assert np.abs(one.image[away].astype(int) - one.background[away]).max() <= 1
    assert one.background[..., 1:].any() and one.image[..., 0][own == 255].min() > one.background[..., 0].max()
    (photo,) = mixture(data, "layer").validation()
    assert photo.background is None and (photo.image == cv2.imread(str(data / "people/images/10.png"))[..., ::-1]).all()


def test_scenery_that_is_kept_aside_is_validated_on(data, clean):
    """Blue is kept aside, the rest is green."""
    clean.setattr(augment, "relight", lambda rgb, *others: rgb)
    for number in range(11):
        colour = (200, 0, 0) if number == 10 else (0, 200, 0)
        cv2.imwrite(str(data / f"scenes/{number + 90}.png"), np.full((96, 96, 3), colour, np.uint8))
    people, scenes = (asdict(mixture(data).data.sources[place]) for place in (0, 2))
    (sample,) = mixture(data, sources=[people, scenes | {"holdout": 100}]).validation()
    assert (sample.background == (0, 0, 200)).all()


def test_a_background_that_is_none_of_the_three_is_named(data):
    with pytest.raises(UsageError, match="background 'plates' is none of none, layer, plate"):
        mixture(data, "plates")

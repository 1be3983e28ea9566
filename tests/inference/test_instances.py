"""People told apart: by a network whose three people are red, green and blue, and by what hangs together."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mattecli.errors import InputError, UsageError
from mattecli.inference import instances
from mattecli.inference.coarse import Coarse
from mattecli.inference.instances import People, everyone, parse_pick
from mattecli.inference.network import Matter
from mattecli.zoo.spec import Prediction, Spec, long_side

SURE = (0.6, 0.9, 0.7)


class Colours(nn.Module):
    """Each colour is a person's alpha; a fourth query found nobody."""

    spec = Spec(size=long_side(128, 8), instances=True)

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, image, **_):
        people = torch.cat((image, torch.zeros_like(image[:, :1])), 1)
        logits = torch.tensor([[[0.0, np.log(p / (1 - p))] for p in (*SURE, 0.1)]])
        return Prediction(image.sum(1, keepdim=True).clamp(max=1), instances=people, maps={"person_logits": logits})


@pytest.fixture
def colours():
    return Colours()


def disc(shape, x, y, radius):
    """1 inside, with a soft edge of a few pixels."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.clip((radius - np.hypot(columns - x, rows - y)) / 4 + 0.5, 0, 1).astype(np.float32)


def crowd(dtype=np.uint8):
    """Red 140 pixels wide, green 100 that touches it, blue 60 apart, on black."""
    shape = (300, 400)
    planes = [disc(shape, 90, 150, 70), disc(shape, 210, 150, 50), disc(shape, 340, 150, 30)]
    planes[1] *= 1 - planes[0]
    return np.rint(np.stack(planes, -1) * np.iinfo(dtype).max).astype(dtype)


def seen(network, rgb, **settings):
    coarse = Matter(network, "cpu", instances=True, **settings).predict(rgb)
    alpha = coarse.at(rgb)
    return People(coarse, rgb, alpha), alpha


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_networks_people_largest_first(colours, dtype):
    rgb = crowd(dtype)
    people, _ = seen(colours, rgb)
    assert people.scores == pytest.approx(SURE)
    colour_sums = rgb.sum((0, 1), dtype=float) / np.iinfo(dtype).max
    assert people.areas == pytest.approx(colour_sums, rel=0.03)
    for index in range(3):
        difference = np.abs(people.alpha(index) - rgb[..., index] / np.iinfo(dtype).max)
        assert difference.mean() < 0.01 and np.quantile(difference, 0.99) < 0.25
    turned, _ = seen(colours, np.ascontiguousarray(rgb[..., ::-1]))
    assert turned.scores == pytest.approx(SURE[::-1])
    np.testing.assert_allclose(turned.areas, people.areas, rtol=1e-4)


def test_the_people_are_the_whole(colours):
    people, alpha = seen(colours, crowd())
    np.testing.assert_allclose(sum(people.alpha(index) for index in range(3)), alpha, atol=1e-5)


def test_people_behind_each_other_share_a_point(colours):
    """Both are sure of it; it is there once."""
    rgb = np.zeros((128, 128, 3), np.uint8)
    rgb[20:100, 20:70, 0] = rgb[20:100, 50:120, 1] = 255
    people, alpha = seen(colours, rgb)
    for index in range(2):
        assert people.alpha(index)[60, 60] == pytest.approx(0.5, abs=0.01)
    assert alpha[60, 60] == 1


def test_a_find_of_less_than_a_thousand_pixels_is_nobody(colours):
    rgb = crowd()
    rgb[..., 2] = 255 * disc(rgb.shape, 340, 150, 15)
    people, alpha = seen(colours, rgb)
    assert people.scores == pytest.approx(SURE[:2])
    assert alpha[150, 340] > 0.9
    assert max(people.alpha(index)[150, 340] for index in range(2)) < 0.01


def test_a_photo_smaller_than_the_network_sees(colours):
    rgb = cv2.resize(crowd(), (100, 75), interpolation=cv2.INTER_AREA)
    people, alpha = seen(colours, rgb, size=256)
    assert len(people) == 3 and alpha.shape == people.alpha(0).shape == (75, 100)
    np.testing.assert_allclose(people.areas, rgb.sum((0, 1)) / 255, rtol=0.03)


def test_only_who_is_asked_tells_people_apart(colours, red):
    assert Matter(colours, "cpu").predict(crowd()).instances is None
    assert Matter(red, "cpu", instances=True).predict(crowd()).instances is None


def test_openvino_is_refused_where_the_network_must_tell_apart(colours, monkeypatch):
    monkeypatch.setattr("mattecli.inference.network.resolve_engine", lambda *_: "openvino")
    with pytest.raises(UsageError, match="openvino"):
        Matter(colours, "cpu", engine="openvino", instances=True)
    assert Matter(colours, "cpu", instances=True).engine == "torch"


def connected(alpha):
    """The people of a matte that the network saw at its own size."""
    rgb = np.zeros((*alpha.shape, 3), np.uint8)
    return People(Coarse(alpha, rgb), rgb, alpha)


def test_people_who_do_not_touch_are_told_apart():
    shape = (200, 300)
    left, right = disc(shape, 70, 100, 40), disc(shape, 200, 100, 60)
    people = connected(left + right)
    np.testing.assert_allclose(people.alpha(0), right, atol=1e-6)
    np.testing.assert_allclose(people.alpha(1), left, atol=1e-6)
    assert people.scores == [None, None]
    assert people.areas == pytest.approx([right.sum(), left.sum()])
    assert len(connected(np.maximum(left, disc(shape, 150, 100, 60)))) == 1


def test_small_parts_belong_to_the_nearest_or_to_nobody():
    shape = (200, 400)
    left, right = disc(shape, 60, 60, 50), disc(shape, 180, 60, 40)
    hand, haze, lamp = disc(shape, 240, 60, 5), 0.3 * disc(shape, 60, 130, 12), disc(shape, 390, 190, 6)
    people = connected(left + right + hand + haze + lamp)
    assert len(people) == 2
    np.testing.assert_allclose(people.alpha(0), left + haze, atol=1e-6)
    np.testing.assert_allclose(people.alpha(1), right + hand, atol=1e-6)
    np.testing.assert_allclose(connected(left + lamp).alpha(0), left, atol=1e-6)


def test_a_piece_between_two_is_not_cut():
    shape = (120, 400)
    left, right, between = disc(shape, 60, 60, 50), disc(shape, 330, 60, 40), disc(shape, 212, 60, 25)
    people = connected(left + right + 0.4 * between)
    np.testing.assert_allclose(people.alpha(0), left, atol=1e-6)
    np.testing.assert_allclose(people.alpha(1), right + 0.4 * between, atol=1e-6)


def test_nobody_in_an_empty_matte():
    for alpha in (np.zeros((40, 60), np.float32), np.full((40, 60), 0.3, np.float32)):
        people = connected(alpha)
        assert len(people) == 0 and people.at(0.5, 0.5) is None and list(everyone(people, "")) == []


@settings(max_examples=25, deadline=None)
@given(
    blobs=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 60), st.integers(3, 25)), max_size=6),
    size=st.sampled_from([(61, 90), (122, 180), (200, 301), (30, 45)]),
)
def test_together_they_are_what_there_is(blobs, size):
    small = np.zeros((61, 90), np.float32)
    for x, y, radius in blobs:
        small = np.maximum(small, disc(small.shape, x, y, radius))
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    coarse = Coarse(small, cv2.resize(noise, (90, 61), interpolation=cv2.INTER_AREA))
    alpha = cv2.resize(small, size[::-1])
    people = People(coarse, noise, alpha)
    nobodys = Coarse(instances.shares(people.planes)[0], coarse.seen).unrefined().at(noise) * alpha
    alphas = np.stack([nobodys, *(people.alpha(index) for index in range(len(people)))])
    assert alphas.min() >= 0
    assert people.areas == sorted(people.areas, reverse=True)
    if len(people):
        np.testing.assert_allclose(alphas.sum(0), alpha, atol=1e-5)


def test_a_matte_larger_than_people_are_told_apart_at(monkeypatch):
    monkeypatch.setattr(instances, "LARGEST", 100)
    left, right = disc((300, 600), 140, 150, 80), disc((300, 600), 400, 150, 120)
    people = connected(left + right)
    np.testing.assert_allclose(people.alpha(0), right, atol=1e-6)
    np.testing.assert_allclose(people.areas, [right.sum(), left.sum()], rtol=0.01)


@pytest.mark.parametrize(
    ("text", "index"),
    [("1", 0), ("3", 2), ("90,150", 0), ("210, 150", 1), ("0.85,0.5", 2), (".525,.5", 1), ("0,0.5", None)],
)
def test_picked(colours, text, index):
    people, _ = seen(colours, crowd())
    if index is None:
        with pytest.raises(InputError, match=r"p.jpg: nobody is at 0,0.5; 3 people were found"):
            parse_pick(text)(people, "p.jpg")
    else:
        assert parse_pick(text)(people, "p.jpg") == [index]


def test_where_two_are_the_stronger_is_picked(colours):
    rgb = np.zeros((128, 128, 3), np.uint8)
    rgb[20:100, 20:70, 0], rgb[20:100, 50:120, 1] = 200, 120
    people, _ = seen(colours, rgb)
    assert parse_pick("60,60")(people, "") == [people.scores.index(pytest.approx(SURE[0]))]


@pytest.mark.parametrize(("text", "words"), [("4", "no number 4"), ("400,10", "400 x 300"), ("1,300", "400 x 300")])
def test_who_is_not_there_cannot_be_picked(colours, text, words):
    people, _ = seen(colours, crowd())
    with pytest.raises(InputError, match=words):
        parse_pick(text)(people, "p.jpg")


@pytest.mark.parametrize("text", ["0", "-1", "", "x", "1,2,3", "1,", "1.5", "nan,1", "-1,2", "1e3,4"])
def test_no_pick(text):
    with pytest.raises(UsageError, match="--pick"):
        parse_pick(text)

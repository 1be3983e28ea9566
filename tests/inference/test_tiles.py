"""Large pictures in tiles: every unknown pixel is seen, and no edge of a tile shows."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mattecli import zoo
from mattecli.errors import InputError
from mattecli.inference import tiles
from mattecli.inference.guidance.hints import Hints
from mattecli.inference.network import Matter
from mattecli.inference.tiles import CLOSED_FORM, KNN, NETWORK, Memory
from mattecli.zoo.spec import Prediction, Spec, native
from mattecli.zoo.trimap import keep_known


class Local(nn.Module):
    """Three convolutions, the middle one at half size: 7 pixels to each side."""

    spec = Spec(size=native(2), needs="trimap")

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(4, 8, 3, stride=2, padding=1),
            nn.Tanh(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Tanh(),
            nn.Upsample(scale_factor=2.0),
            nn.Conv2d(8, 1, 3, padding=1),
            nn.Sigmoid(),
        )
        self.seen = []

    def forward(self, image, *, trimap=None, background=None, state=None):
        self.seen.append(trimap)
        return Prediction(keep_known(self.layers(torch.cat((image, trimap), 1)), trimap))


@pytest.fixture
def small(monkeypatch):
    """Tiles of 128 pixels, of pictures that have more."""
    monkeypatch.setattr(tiles, "SIDES", (128,))
    monkeypatch.setattr(tiles, "BUDGET", NETWORK.unknown * 128**2)
    monkeypatch.setattr(tiles, "HELD", 0)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def disc(height, width, band):
    """A soft disc on stripes, and its trimap."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    far = 0.35 * min(height, width) - np.hypot(y - height / 2, x - width / 2)
    alpha = np.clip(far / 6 + 0.5, 0, 1)[..., None]
    warm = np.stack((200 + 20 * np.sin(x / 9), 90 + 0 * x, 60 + 20 * np.sin(y / 7)), -1)
    cold = np.stack((40 + 20 * np.sin(y / 8), 90 + 30 * np.cos(x / 11), 170 + 0 * x), -1)
    trimap = np.where(np.abs(far) < band, 0.5, far > 0).astype(np.float32)
    return np.rint(alpha * warm + (1 - alpha) * cold).astype(np.uint8), trimap


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9000), st.sampled_from([128, *tiles.SIDES]))
def test_spans_count_each_pixel_once(length, side):
    total, neighbours = np.zeros(length), np.zeros(length, int)
    for span in tiles.spans(length, side):
        assert 0 < span.stop - span.start <= side and span.start % 32 == 0
        assert not span.ramp[span.rim].any()
        total[span.start : span.stop] += span.ramp
        neighbours[span.start : span.stop] += 1
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert neighbours.max() <= 2


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 600))
def test_every_unknown_pixel_is_covered_within_the_budget(height, width, seed, share, side):
    random = np.random.default_rng(seed)
    unknown = cv2.resize(random.random((7, 9)), (width, height)) < share
    memory = Memory(1, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "SIDES", (512, 256, 128))
        patch.setattr(tiles, "BUDGET", 4 * max(128, side) ** 2)
        patch.setattr(tiles, "HELD", 0)
        total = np.zeros(unknown.shape)
        for tile in tiles.cut(unknown, memory):
            assert memory.of(unknown[tile.window]) <= tiles.BUDGET and unknown[tile.window].any()
            total[tile.window] += tile.weight
    np.testing.assert_allclose(total[unknown], 1, atol=1e-5)


@pytest.mark.parametrize("shape", [(300, 420), (130, 128), (96, 500), (64, 64)])
def test_a_local_network_sees_the_same_in_tiles(shape, small):
    network, rgb = Local(), picture(*shape)
    trimap = np.full(shape, 0.5, np.float32)
    trimap[:10], trimap[-5:] = 0, 1
    matter = Matter(network, "cpu", "fp32")
    tiled = matter.step(rgb, None, Hints(trimap=trimap))[0].alpha
    assert len(matter.network.seen) == (1 if np.prod(shape) <= 128**2 else len(matter.network.seen)) > 0
    assert all(max(seen.shape[2:]) <= 128 for seen in matter.network.seen)
    np.testing.assert_allclose(tiled, matter._guided(rgb, trimap), atol=1e-5, rtol=0)


def test_only_tiles_with_unknown_pixels_are_seen(small):
    trimap = np.zeros((500, 500), np.float32)
    trimap[250:] = 1
    matter = Matter(Local(), "cpu", "fp32")
    np.testing.assert_array_equal(matter.step(picture(500, 500), None, Hints(trimap=trimap))[0].alpha, trimap)
    assert matter.network.seen == []
    trimap[20:30, 20:30] = 0.5
    matter.step(picture(500, 500), None, Hints(trimap=trimap))
    assert len(matter.network.seen) == 1


def seams(difference, unknown, side):
    """Its mean gradient across the cross-fades of tiles, in the unknown region, and its largest value."""
    inside = []
    for d, known in ((difference, ~unknown), (difference.T, ~unknown.T)):
        gradient = np.where(known[1:] | known[:-1], np.nan, np.abs(np.diff(d, axis=0)))
        fading = np.zeros(len(gradient), bool)
        for span in tiles.spans(len(d), side)[1:]:
            fading[span.start + round(tiles.CONTEXT * side) - 1 : span.start + round(5 / 32 * side) + 1] = True
        inside.append(gradient[fading].ravel())
    return np.nanmean(np.concatenate(inside)), np.abs(difference).max()


def in_tiles(rgb, trimap, monkeypatch):
    """Closed-form's alpha of the picture as a whole, and in tiles of 128 pixels."""
    matter, hints = Matter(zoo.create("closed-form"), "cpu", "fp32"), Hints(trimap=trimap)
    whole = matter.step(rgb, None, hints)[0].alpha
    monkeypatch.setattr(tiles, "SIDES", (128,))
    monkeypatch.setattr(tiles, "BUDGET", 0.9 * CLOSED_FORM.of(trimap == 0.5))
    assert len(tiles.cut(trimap == 0.5, CLOSED_FORM)) > 2
    return whole, matter.step(rgb, None, hints)[0].alpha


def test_tiles_of_closed_form_leave_no_seams(monkeypatch):
    rgb, trimap = disc(150, 260, band=12)
    whole, tiled = in_tiles(rgb, trimap, monkeypatch)
    across, largest = seams(tiled - whole, trimap == 0.5, 128)
    assert largest < 0.1 and across < 1 / 255
    assert across < 0.05 * np.abs(np.diff(whole, axis=0))[trimap[1:] == 0.5].mean()


def test_the_whole_seen_smaller_leaves_room_for_the_picture(monkeypatch):
    """What the tiles are held to is found beside the picture, and is not to take more than they."""
    seen = []

    def see(rgb, trimap):
        seen.append((trimap > 0) & (trimap < 1))
        return trimap

    _, trimap = disc(150, 260, band=12)
    rgb = np.zeros((150, 260, 3), np.uint8)
    monkeypatch.setattr(tiles, "HELD", 20)
    monkeypatch.setattr(tiles, "BUDGET", CLOSED_FORM.of(trimap == 0.5))
    monkeypatch.setattr(tiles, "SIDES", (128,))
    tiles._smaller(see, rgb, trimap, CLOSED_FORM)
    assert len(seen) == 1 and CLOSED_FORM.of(seen[0]) + 20 * (trimap.size + seen[0].size) < tiles.BUDGET


def test_a_hair_is_not_lost_where_a_tile_begins(monkeypatch):
    """Below, the tiles know nothing but background: what the hair is comes from above."""
    rgb = np.full((260, 60, 3), (30, 60, 200), np.uint8)
    trimap = np.zeros((260, 60), np.float32)
    rgb[:30], rgb[:, 28:33] = (220, 150, 40), (220, 150, 40)
    trimap[:20], trimap[20:, 18:42] = 1, 0.5
    rgb = np.clip(rgb + np.random.default_rng(0).normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    whole, tiled = in_tiles(rgb, trimap, monkeypatch)
    assert whole[40:, 30].min() > 0.5
    assert np.abs(tiled - whole)[40:, 30].max() < 0.25


@pytest.mark.parametrize("name", ["closed-form", "knn"])
def test_beside_background_alone_equations_give_background(name):
    trimap = np.zeros((40, 40), np.float32)
    trimap[10:20, 10:20] = 0.5
    alpha = Matter(zoo.create(name), "cpu", "fp32").matte(picture(40, 40), Hints(trimap=trimap))
    assert (alpha == 0).all()


def test_what_fits_in_no_tile_is_said(monkeypatch):
    monkeypatch.setattr(tiles, "BUDGET", 1000)
    with pytest.raises(InputError, match="--size"):
        tiles.cut(np.ones((500, 500), bool), NETWORK)


def test_tiles_leave_room_for_the_picture():
    many, few = (
        [tile.rows.stop - tile.rows.start for tile in tiles.cut(np.ones(shape, bool), NETWORK)]
        for shape in ((9000, 9000), (1600, 1600))
    )
    assert max(few) == 1408 and NETWORK.unknown * max(many) ** 2 < tiles.BUDGET - tiles.HELD * 9000**2


def test_what_each_network_takes():
    kinds = {"closed-form": CLOSED_FORM, "knn": KNN, "gca": NETWORK}
    assert {name: tiles.memory(zoo.create(name)) for name in kinds} == kinds
    assert all(memory.unknown * side**2 <= tiles.BUDGET for memory, side in ((NETWORK, 1408), (KNN, 640)))

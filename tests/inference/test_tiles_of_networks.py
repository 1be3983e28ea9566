"""Tiles of the networks guided by a trimap, beside the same picture seen whole. Their weights are the recordings'.

Pictures are 32 rows high, so that whole tiles of the shipped sizes cost a second.
"""

import numpy as np
import pytest
import torch

from mattecli import zoo
from mattecli.inference import tiles
from mattecli.inference.network import Matter
from mattecli.inference.tiles import NETWORK
from mattecli.zoo.encoders import vgg

HEIGHT = 32

RECORDED = {"dim-skip-refine": "dim_stage3", "gca": "gca", "fba": "fba"}

REACH = sum(count * 2**level for level, (_, count) in enumerate(vgg.STAGES)) + 32 + 2 * (31 + 1) + 4 + 31
"""Pixels to each side that DIM's alpha depends on: VGG16's 3×3 convolutions, the bottleneck's at 1/32, the decoder's
5×5 at 1/16 … 1/1 and the last one, the refinement; and the pixel's place in its cell of 32, which unpools as one."""


@pytest.fixture(scope="module")
def matter(parity, tmp_path_factory):
    """Networks by name, with the weights of their recordings, whose outputs vary over the whole range."""
    made = {}

    def load(name):
        if name not in made:
            path = tmp_path_factory.mktemp(name) / "recorded.pth"
            checkpoint = parity(RECORDED[name]).checkpoint
            torch.save({key: torch.from_numpy(np.array(value)) for key, value in checkpoint.items()}, path)
            made[name] = Matter(zoo.load(name, path), "cpu", "fp32")
        return made[name]

    return load


def waves(width):
    """Colours that change slowly, so that a seam would show, nearly all unknown: `[HEIGHT, width, 3]`, its trimap."""
    y, x = np.mgrid[:HEIGHT, :width].astype(np.float32)
    red, green, blue = np.sin(x / 70 + y / 50), np.cos(x / 110 - y / 40), np.sin(x / 150 + 1)
    trimap = np.full((HEIGHT, width), 0.5, np.float32)
    trimap[:3], trimap[-4:], trimap[12:20, 100:130] = 0, 1, 0
    return np.rint(128 + 90 * np.stack((red, green, blue), -1)).astype(np.uint8), trimap


def in_two(matter, width, side, monkeypatch):
    """The alpha of `waves(width)` whole, in two tiles of `side`, and of each tile where it lies, NaN elsewhere."""
    rgb, trimap = waves(width)
    monkeypatch.setattr(tiles, "SIDES", (side,))
    monkeypatch.setattr(tiles, "BUDGET", NETWORK.unknown * side * HEIGHT)
    monkeypatch.setattr(tiles, "HELD", 0)
    parts = []

    def see(rgb, trimap):
        parts.append(matter._guided(rgb, trimap))
        return parts[-1]

    tiled = tiles.run(see, rgb, trimap, NETWORK)
    one, two = (np.full(trimap.shape, np.nan, np.float32) for _ in range(2))
    one[:, : parts[0].shape[1]], two[:, -parts[1].shape[1] :] = parts
    assert len(parts) == 2 and parts[0].shape[1] == side
    np.testing.assert_array_equal(tiled[trimap != 0.5], trimap[trimap != 0.5])
    return matter._guided(rgb, trimap), tiled, one, two


def test_tiles_of_dim_that_overlap_by_its_reach_are_the_whole(matter, monkeypatch):
    monkeypatch.setattr(tiles, "OVERLAP", 480 / 512)
    monkeypatch.setattr(tiles, "CONTEXT", 224 / 512)
    whole, tiled, one, _ = in_two(matter("dim-skip-refine"), 544, 512, monkeypatch)
    np.testing.assert_allclose(tiled, whole, atol=2e-6, rtol=0)
    assert REACH == 221 and whole.std() > 0.1
    beside = np.abs(one - whole)
    assert beside[:, : 512 - REACH].max() < 2e-6
    assert beside[:, 512 - 112 : 512].max() > 2e-4, "a tile that knows less of what is round it is another"


def test_tiles_of_dim_as_they_are_shipped_are_nearly_the_whole(matter, monkeypatch):
    """The overlap of tiles of 1408 pixels, as all of DIM's are: without `--size` it sees no more than 1600 × 1600."""
    overlap, context = (round(share * 1408) for share in (tiles.OVERLAP, tiles.CONTEXT))
    assert (overlap, context) == (352, 132)
    monkeypatch.setattr(tiles, "OVERLAP", overlap / 480)
    monkeypatch.setattr(tiles, "CONTEXT", context / 480)
    whole, tiled, one, _ = in_two(matter("dim-skip-refine"), 608, 480, monkeypatch)
    np.testing.assert_allclose(tiled, whole, atol=1e-4, rtol=0)
    assert np.abs(one - whole)[:, :480].max() > 0.01, "without the overlap it would show"


def added(alpha, one, two):
    """What of its step from each column to the next neither tile has, where both lie: `[h, w - 1]`."""
    step, own = np.diff(alpha, axis=1), np.diff(np.stack((one, two)), axis=2)
    return np.nan_to_num(np.maximum(step - own.max(0), own.min(0) - step).clip(min=0))


@pytest.mark.parametrize("name", ["gca", "fba"])
def test_tiles_leave_no_seams_where_a_network_sees_all_at_once(name, matter, monkeypatch):
    """Attention and group norms make tiles differ everywhere. 640 pixels are the smallest that networks get."""
    whole, tiled, one, two = in_two(matter(name), 960, 640, monkeypatch)
    unknown = waves(960)[1] == 0.5

    def lines(steps):
        return (steps * unknown[:, 1:]).sum(0) / unknown[:, 1:].sum(0)

    first, second = tiles.spans(960, 640)
    faded = np.diff(np.pad(first.ramp, (0, 960 - first.stop))) != 0
    assert faded.sum() == 640 // 16 + 1
    seen, own = (lines(np.abs(np.diff(alpha, axis=1)))[faded] for alpha in (tiled, whole))
    assert seen.mean() < 1.1 * own.mean() and seen.max() < 1.2 * own.max()
    cut = np.where(np.arange(960) < (second.start + first.stop) // 2, one, two)
    assert lines(added(cut, one, two)).max() > max(0.003, 10 * lines(added(tiled, one, two)).max())

"""Trimaps and masks of clips: one picture for all frames, or the frame of another clip at the same time."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mattecli import zoo
from mattecli.errors import InputError, UsageError
from mattecli.inference.clips import process
from mattecli.inference.guidance import clips as hinting_frames
from mattecli.inference.guidance.clips import for_frames
from mattecli.inference.network import Matter
from mattecli.inference.rendering import Renderer
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.clips.writing.sink import Target, open_sink
from mattecli.zoo.spec import long_side, native
from tests.media.clips.making import make_clip
from tests.networks import Even


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """clip.mp4, eight frames of 96 x 64 at 25 a second."""
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4")
    return tmp_path


def thirds(shift=0, size=(64, 96)):
    """Background, unknown, foreground, from left to right."""
    levels = np.full(size, 128, np.uint8)
    levels[:, : 30 + shift], levels[:, 60 + shift :] = 0, 255
    return levels


def matted(network, trimap=None, mask=None):
    """The alphas `[H, W]` uint8 of the frames of clip.mp4."""
    matter = Matter(network, "cpu", "fp32", engine="torch")
    clip = open_clip("clip.mp4")
    hint = for_frames("half", matter, "clip.mp4", clip, trimap=trimap, mask=mask)
    renderer = Renderer("cutout", clip.format)
    process(clip, matter, renderer, open_sink(Target(Path("out.mkv"), "ffv1"), renderer.format, clip), hint=hint)
    with open_clip("out.mkv") as made:
        return [frame.planes[3] for frame in made]


@pytest.mark.parametrize("name", ["closed-form", "half"])
def test_known_regions_are_exact_in_every_frame(folder, name):
    cv2.imwrite("t.png", thirds())
    network = zoo.create(name) if name == "closed-form" else Even(0.5, "trimap", native())
    alphas = matted(network, trimap="t.png")
    assert len(alphas) == 8
    for alpha in alphas:
        assert (alpha[:, :30] == 0).all() and (alpha[:, 60:] == 255).all()
        assert name == "closed-form" or (alpha[:, 30:60] == 128).all()


def test_a_network_that_sees_less_keeps_what_is_far_from_the_edge(folder):
    cv2.imwrite("t.png", thirds())
    for alpha in matted(Even(0.5, "trimap", long_side(48, 8)), trimap="t.png"):
        assert (alpha[:, :24] == 0).all() and (alpha[:, 66:] == 255).all()


@pytest.mark.parametrize("rate", [25, 30])
def test_numbered_trimaps_go_frame_by_frame(folder, rate):
    make_clip(folder / "clip.mp4", rate=rate)
    for index in range(8):
        cv2.imwrite(f"t_{index}.png", thirds(shift=4 * (index % 2)))
    for index, alpha in enumerate(matted(Even(0.5, "trimap", native()), trimap="t_%d.png")):
        shift = 4 * (index % 2)
        assert (alpha[:, : 30 + shift] == 0).all() and (alpha[:, 60 + shift :] == 255).all() and alpha[9, 45] == 128


def test_a_part_of_a_clip_goes_with_the_same_part_of_its_trimaps(folder):
    for index in range(8):
        cv2.imwrite(f"t_{index}.png", thirds(shift=index))
    matter = Matter(Even(0.5, "trimap", native()), "cpu")
    with open_clip("clip.mp4", start=0.12) as clip:
        hint = for_frames("half", matter, "clip.mp4", clip, trimap="t_%d.png", start=0.12)
        found = [np.flatnonzero(hint(frame, 64, 96).trimap[9] == 0.5)[0] for frame in clip]
    assert found == [33, 34, 35, 36, 37]


@pytest.mark.parametrize("size", [(64, 96), (32, 48)])
def test_a_mask_keeps_what_is_near(folder, size):
    levels = np.zeros(size, np.uint8)
    levels[:, : size[1] // 3] = 255
    cv2.imwrite("m.png", levels)
    for alpha in matted(Even(0.5, "image", long_side(64, 8)), mask="m.png"):
        assert (abs(alpha[:, :30].astype(int) - 128) <= 1).all() and (alpha[:, 50:] == 0).all()


def test_a_mask_makes_the_trimap_of_networks_that_need_one(folder):
    for index in range(8):
        levels = np.zeros((64, 96), np.uint8)
        if index < 4:  # the subject leaves
            cv2.circle(levels, (48, 32), 24, 255, -1)
        cv2.imwrite(f"m_{index}.png", levels)
    alphas = matted(Even(0.5, "trimap", native()), mask="m_%d.png")
    for alpha in alphas[:4]:
        assert alpha[32, 48] == 255 and alpha[32, 48 - 24] == 128 and alpha[2, 2] == 0
    assert not np.any(alphas[4:])


def test_auto_follows_what_the_default_network_finds(folder, red, monkeypatch):
    """Its alpha is the red of the frame: nothing is sure but the corner."""
    default = Matter(red, "cpu")
    monkeypatch.setattr(hinting_frames, "Matter", lambda device: default)
    with open_clip("clip.mp4") as clip:
        hint = for_frames("half", Matter(Even(0.5, "trimap", native()), "cpu"), "clip.mp4", clip, trimap="auto")
        for frame in clip:
            trimap = hint(frame, 64, 96).trimap
            assert trimap.shape == (64, 96) and set(np.unique(trimap)) <= {0, 0.5, 1} and (trimap == 0.5).any()


@pytest.mark.parametrize(
    ("needs", "trimap", "mask", "sentence"),
    [
        ("trimap", "none.png", None, "none.png does not exist"),
        ("trimap", "small.png", None, "small.png is 48 x 32 pixels, clip.mp4 is 96 x 64; make them equal"),
        ("trimap", "other.mp4", None, "other.mp4 is 96 x 32 pixels"),
        ("trimap", "white.png", None, "Nothing is unknown in white.png"),
        ("image", None, "white.png", "white.png is all white"),
        ("image", None, "other.mp4", "same proportions"),
        ("trimap", None, None, "--trimap auto"),
        ("image", "small.png", None, "looks at no trimap"),
    ],
)
def test_what_can_be_told_before_work_is(folder, needs, trimap, mask, sentence):
    cv2.imwrite("small.png", thirds(size=(32, 48)))
    cv2.imwrite("white.png", np.full((64, 96), 255, np.uint8))
    make_clip(folder / "other.mp4", 2, size=(32, 96))
    matter = Matter(Even(0.5, needs, native()), "cpu")
    with open_clip("clip.mp4") as clip, pytest.raises(UsageError, match=sentence):
        for_frames("half", matter, "clip.mp4", clip, trimap=trimap, mask=mask)


def test_a_frame_of_which_nothing_is_known_is_told_by_its_time(folder):
    for index in range(8):
        cv2.imwrite(f"t_{index}.png", thirds() if index < 5 else np.full((64, 96), 128, np.uint8))
    with pytest.raises(InputError, match=r"All is unknown in t_%d\.png at 0\.20 s"):
        matted(Even(0.5, "trimap", native()), trimap="t_%d.png")


def test_a_plate_and_a_mask_go_together(folder):
    cv2.imwrite("p.png", np.full((64, 96, 3), (0, 0, 51), np.uint8))
    cv2.imwrite("m.png", thirds())
    matter = Matter(Even(0.5, "background", long_side(48, 8)), "cpu")
    with open_clip("clip.mp4") as clip:
        told = {"mask": "m.png", "background": "p.png"}
        hints = for_frames("half", matter, "clip.mp4", clip, **told)(next(iter(clip)), 32, 48)
        assert for_frames("half", Matter(Even(0.5, "image", native()), "cpu"), "clip.mp4", clip) is None
        with pytest.raises(UsageError, match="half needs to see the scene"):
            for_frames("half", matter, "clip.mp4", clip, mask="m.png")
    assert hints.trimap is None and hints.region.shape == (32, 48) and (hints.background == (51, 0, 0)).all()
    assert hints.region[16, 47] == 1 and hints.region[16, 5] == 0

"""Frames on a device come out as from the CPU's `Renderer`: the same tensors, here on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mattecli.inference import clips
from mattecli.inference.behind import still
from mattecli.inference.clips import process
from mattecli.inference.on_device import suits
from mattecli.inference.on_device.lane import Direct
from mattecli.inference.rendering import Renderer
from mattecli.media.clips.planes.colour import to_planes
from mattecli.media.clips.planes.frame import Colour, Format
from mattecli.media.clips.reading.clip import open_clip
from mattecli.media.clips.writing.sink import Target, open_sink
from mattecli.zoo.spec import Spec, long_side
from tests.inference.on_device.making import (
    FORMATS,
    KINDS,
    PQ,
    Counting,
    Even,
    Flickering,
    Given,
    check,
    expected,
    frame_of,
    matter_of,
    named,
    on_device,
    picture,
    renderer_of,
    run,
    scenes,
)
from tests.media.clips.making import make_clip


@pytest.mark.parametrize("kind", [*KINDS, "blur"])
@pytest.mark.parametrize("form", FORMATS, ids=named)
def test_frames_are_those_of_the_renderer(form, kind):
    matter, frame = matter_of(Given()), frame_of(form)
    wanted = expected(matter, renderer_of(kind, form), [frame])
    for number in [torch.float32, torch.float16] if form.depth == 8 else [None]:
        made = run(on_device(matter, renderer_of(kind, form), form, steady="none", number=number), [frame])
        check(made, wanted)
        off = [plane.astype(float) - goal for plane, goal in zip(made[0].planes, wanted[0].planes, strict=True)]
        assert max(abs(plane.mean()) for plane in off) < 0.4  # truncated, they would be half a level off


@pytest.mark.parametrize("form", FORMATS, ids=named)
def test_levels_pass_where_alpha_is_1_and_the_background_where_it_is_0(form):
    form = replace(form, alpha=False)
    frame, behind = frame_of(form), renderer_of("composite", form)
    for level, wanted in ((1.0, frame.planes), (0.0, behind.behind(frame, np.zeros((1, 1))))):
        for number in [torch.float32, torch.float16] if form.depth == 8 else [None]:
            (made,) = run(on_device(matter_of(Even(level)), behind, form, steady="none", number=number), [frame])
            assert all((plane == goal).all() for plane, goal in zip(made.planes, wanted, strict=True))


@pytest.mark.parametrize("colour", [PQ, Colour(9, 9, 18)])
def test_hdr_is_seen_tone_mapped_and_fitted_anew(colour):
    form, matter = Format(90, 160, colour, depth=10), matter_of(Given())
    frame = frame_of(form)
    for kind in ("alpha", "composite"):
        wanted = expected(matter, renderer_of(kind, form), [frame])
        check(run(on_device(matter, renderer_of(kind, form), form, steady="none"), [frame]), wanted, levels=3)


def test_hdr_pictures_reach_the_network():
    form, matter = Format(96, 160, PQ, depth=10), matter_of(Flickering())
    frame = frame_of(form)
    seen = np.full((40, 64, 3), 255, np.uint8)
    frame.view = lambda height, width: seen[:height, :width]
    (made,) = run(on_device(matter, Renderer("alpha", form), form, steady="none"), [frame])
    assert (made.planes[0] >= 935).all()


def test_state_is_carried_and_forgotten_at_cuts():
    form, matter = Format(72, 128), matter_of(Counting())
    frames = scenes(form, [3, 4, 2])
    for lead, expected_counts in ((0, [1, 2, 3, 1, 2, 3, 4, 1, 2]), (8, [3, 4, 5, 4, 5, 6, 7, 2, 3])):
        made = run(on_device(matter, Renderer("alpha", form), form, lead=lead), frames)
        counts = [(float(frame.planes[0].mean()) - 16) / 219 * 10 for frame in made]
        np.testing.assert_allclose(counts, expected_counts, atol=0.05)
    check(made, expected(matter, Renderer("alpha", form), frames, "state"))
    stateless = run(on_device(matter, Renderer("alpha", form), form, steady="none"), frames)
    check(stateless, expected(matter, Renderer("alpha", form), frames))


def test_a_second_clip_begins_without_state():
    form = Format(72, 128)
    device = on_device(matter_of(Counting()), Renderer("alpha", form), form)
    first, second = (run(device, scenes(form, [2])) for _ in range(2))
    check(second, first, 0)


@pytest.mark.parametrize("length", [0, 1, 2, 7])
def test_flicker_is_mended_a_frame_late(length):
    """A cut before frame 5, a patch that flickers through it, and another that grows."""
    form, matter = Format(64, 128), matter_of(Flickering())
    scene, other = (picture(64, 128, seed, cell=5) // 2 for seed in (3, 4))
    other[8:40, 16:64] = scene[8:40, 16:64]
    frames = []
    for index in range(length):
        rgb = (scene if index < 5 else other).copy()
        rgb[8:40, 16:64, 0] += 90 if index in (2, 4, 6) else 0
        rgb[44:60, 90:120, 0] = 7 * index**2
        frames.append(frame_of(form, rgb, index))
    made = run(on_device(matter, Renderer("alpha", form), form, steady="delay"), frames)
    if not length:
        assert made == []
        return
    check(made, expected(matter, Renderer("alpha", form), frames, "delay"), 3)
    plain = run(on_device(matter, Renderer("alpha", form), form, steady="none"), frames)
    away = [float(np.abs(a.planes[0].astype(int) - b.planes[0]).max()) for a, b in zip(made, plain, strict=True)]
    assert [one > 50 for one in away] == [index in (2, 3) and length > 3 for index in range(length)]


class Passing:
    """A background that changes every second frame."""

    def __init__(self, form):
        self.shown = [
            to_planes(np.full((form.height, form.width, 3), level, np.uint8), form) for level in (30, 120, 220)
        ]

    def __call__(self, frame, alpha):
        return self.shown[frame.pts // 2]


@pytest.mark.parametrize("steady", ["none", "delay"])
def test_backgrounds_go_up_when_they_change(steady, monkeypatch):
    form, matter = Format(64, 96), matter_of(Flickering())
    frames = [frame_of(form, index=index, seed=7) for index in range(6)]
    went_up = []
    up = Direct.up
    monkeypatch.setattr(Direct, "up", lambda lane, arrays: went_up.append(arrays) or up(lane, arrays))
    behind = Passing(form)
    made = run(on_device(matter, Renderer("composite", form, behind), form, steady=steady), frames)
    check(made, expected(matter, Renderer("composite", form, behind), frames, steady))
    assert sum(any(arrays is planes for planes in behind.shown) for arrays in went_up) == 3


@pytest.mark.parametrize("steady", ["state", "delay"])
def test_backgrounds_are_asked_for_in_the_order_of_frames(steady):
    """Clips as a background can't go back but from their beginning; rehearsals need none."""
    form, asked = Format(72, 128), []
    frames, behind = scenes(form, [3, 12, 2]), renderer_of("composite", form).behind

    def noted(frame, alpha):
        asked.append(frame.pts)
        return behind(frame, alpha)

    matter, renderer = matter_of(Counting()), Renderer("composite", form, noted)
    made = run(on_device(matter, renderer, form, steady=steady), frames)
    assert asked == list(range(17))
    check(made, expected(matter, renderer, frames, steady))


def test_a_few_frames_are_sent_ahead():
    form, matter = Format(64, 96), matter_of(Given())
    for ahead in (0, 2):
        taken = []
        device = on_device(matter, Renderer("alpha", form), form, steady="none", ahead=ahead)

        def frames(device=device, taken=taken):
            for index in range(5):
                taken.append(index)
                frame = frame_of(form, index=index)
                yield frame, device.look(frame)

        made = []
        for frame in device.frames(frames()):
            made.append(frame.pts)
            assert len(taken) == min(len(made) + ahead, 5)
        assert made == [0, 1, 2, 3, 4]


def test_clips_pass_through_the_device(tmp_path, monkeypatch):
    make_clip(tmp_path / "in.mp4", 6)
    made = []
    for name, there in (("cpu", False), ("device", True)):
        monkeypatch.setattr(clips, "suits", lambda matter, there=there: there)
        monkeypatch.setattr(Renderer, "render", Renderer.render if not there else None)
        clip = open_clip(str(tmp_path / "in.mp4"))
        renderer = Renderer("composite", clip.format, still(picture(64, 96)))
        sink = open_sink(Target(tmp_path / f"{name}.mkv", "ffv1"), renderer.format, clip)
        assert process(clip, matter_of(Given()), renderer, sink, steady="none").frames == 6
        with open_clip(str(tmp_path / f"{name}.mkv")) as clip:
            made.append(list(clip))
    for ours, cpu in zip(*reversed(made), strict=True):
        assert ours.pts == cpu.pts
        assert all(np.abs(a.astype(int) - b).max() <= 2 for a, b in zip(ours.planes, cpu.planes, strict=True))


def test_it_is_for_cuda_and_pictures_alone():
    matter = matter_of(Given())
    assert not suits(matter)
    matter.device = torch.device("cuda")
    assert suits(matter)
    matter.spec = Spec(size=long_side(64, 8), needs="background")
    assert not suits(matter)


def test_a_step_alone_can_be_timed():
    form = Format(64, 96)
    device = on_device(matter_of(Given()), Renderer("alpha", form), form)
    assert 0 < device.seconds(frame_of(form), runs=2) < 60
    check(
        run(device, [frame_of(form)]),
        run(on_device(matter_of(Given()), Renderer("alpha", form), form), [frame_of(form)]),
    )

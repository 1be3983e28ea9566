"""One person kept through a clip: discs of known colours, whose alphas are the red of what a network would see."""

from fractions import Fraction

import numpy as np
import pytest

from mattecli.errors import InputError
from mattecli.inference.coarse import Coarse
from mattecli.inference.instances import parse_pick
from mattecli.inference.tracking import Tracker
from mattecli.media.clips.planes.frame import Format, Frame

HEIGHT, WIDTH = 72, 128
rows, columns = np.mgrid[:HEIGHT, :WIDTH]
TEXTURE = np.random.default_rng(0).integers(-25, 25, (2, HEIGHT, 4 * WIDTH, 3))
BLUE, GREEN = (60, 80, 220), (70, 200, 60)


class Scene:
    """Discs `(x, y, radius, colour)`, the later ones in front, and the alpha `[h, w]` of each that is seen."""

    def __init__(self, *discs):
        self.rgb = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        self.alphas = []
        for index, (x, y, radius, colour) in enumerate(discs):
            inside = np.hypot(columns - x, rows - y) <= radius
            texture = TEXTURE[index % 2, :, WIDTH - int(x) : 2 * WIDTH - int(x)]
            self.rgb[inside] = (np.array(colour) + texture[inside]).clip(0, 255)
            self.alphas = [alpha * ~inside for alpha in self.alphas] + [inside.astype(np.float32)]

    def coarse(self, **more):
        return Coarse(sum(self.alphas, np.zeros((HEIGHT, WIDTH), np.float32)), self.rgb, **more)


def frame(number):
    return Frame(Format(HEIGHT, WIDTH), [], number, 1, Fraction(1, 25))


def tracked(scenes, pick="1", cuts=(), tracker=None):
    """The alphas that are kept, and the tracker."""
    tracker = tracker or Tracker(parse_pick(pick), "clip.mp4", (HEIGHT, WIDTH))
    return [tracker(frame(n), scene.coarse(), n in (0, *cuts)).alpha for n, scene in enumerate(scenes)], tracker


def off(alpha, wanted):
    """The share of what is kept or wanted that is wrong."""
    return np.abs(alpha - wanted).sum() / max(1, np.maximum(alpha, wanted).sum())


def left(x=30, y=36, radius=20, colour=BLUE):
    return x, y, radius, colour


def right(x=95, y=36, radius=16, colour=GREEN):
    return x, y, radius, colour


@pytest.mark.parametrize(("pick", "index"), [("1", 0), ("2", 1), ("95,36", 1), ("0.2,0.5", 0)])
def test_one_of_two_is_kept_exactly_though_sizes_change(pick, index):
    scenes = [Scene(left(30 + n, radius=20 - n), right(95 - n, radius=16 + n)) for n in range(8)]
    alphas, tracker = tracked(scenes, pick)
    for alpha, scene in zip(alphas, scenes, strict=True):
        np.testing.assert_allclose(alpha, scene.alphas[index], atol=1e-5)
    assert tracker.notes == []


def test_the_first_frame_that_shows_somebody_counts():
    scenes = [Scene(), Scene((60, 5, 3, BLUE)), Scene(left(), right()), Scene(left(), right())]
    alphas, _ = tracked(scenes, "2")
    assert not alphas[0].any() and not (alphas[1] > 0.01).any()
    np.testing.assert_allclose(alphas[3], scenes[3].alphas[1], atol=1e-5)
    with pytest.raises(InputError, match=r"clip\.mp4 at 0\.08 s: there is no number 3 to pick; 2 people"):
        tracked(scenes, "3")
    with pytest.raises(InputError, match=r"clip\.mp4 at 0\.08 s: nobody is at 64,70"):
        tracked(scenes, "64,70")


def test_a_clip_of_nobody():
    alphas, tracker = tracked([Scene()] * 3)
    assert not np.any(alphas) and "clip.mp4 shows nobody" in tracker.notes[0]


def test_two_who_pass_each_other_are_parted_and_told_again():
    """Ours walks behind the other, who hides nearly all of it for a while."""
    scenes = [Scene(left(20 + 3 * n), right(70)) for n in range(34)]
    for pick, index in (("20,36", 0), ("70,36", 1)):
        alphas, _ = tracked(scenes, pick)
        errors = [off(alpha, scene.alphas[index]) for alpha, scene in zip(alphas, scenes, strict=True)]
        assert max(errors[:4]) < 0.01 and max(errors[-4:]) < 0.01
        assert np.mean(errors) < 0.12


def test_who_is_hidden_wholly_is_found_when_they_part():
    small, large = (20, 40, 10, GREEN), (75, 36, 24, BLUE)
    scenes = [Scene((small[0] + 3 * n, *small[1:]), large) for n in range(33)]
    alphas, tracker = tracked(scenes, "20,40")
    errors = [off(alpha, scene.alphas[0]) for alpha, scene in zip(alphas, scenes, strict=True)]
    assert not scenes[18].alphas[0].any() and not (alphas[18] > 0.1).any()
    assert max(errors[:8]) < 0.01 and max(errors[-2:]) < 0.01
    assert "out of sight" in tracker.notes[0] and "first at 0." in tracker.notes[0]


def test_who_left_and_comes_back_is_found_and_a_stranger_is_not():
    here, gone = Scene(left(), right()), Scene(right())
    strange, back = Scene(left(colour=(200, 60, 60)), right()), Scene(left(25), right())
    alphas, tracker = tracked([here, gone, strange, strange, back])
    assert not (np.array(alphas[1:4]) > 0.01).any()
    np.testing.assert_allclose(alphas[4], back.alphas[0], atol=1e-5)
    assert tracker.notes == ["Who was picked is out of sight, or not known again, in 3 frames, first at 0.04 s."]


def test_the_other_is_not_taken_for_who_left_though_they_look_alike():
    here, gone = Scene(left(), right(colour=BLUE)), Scene(right(90, colour=BLUE))
    alphas, _ = tracked([here, gone, gone])
    assert not (np.array(alphas[1:]) > 0.01).any()


def test_behind_a_cut_colours_decide():
    scenes = [Scene(left(), right()), Scene(left(95, radius=16), right(30, radius=20))]
    alphas, _ = tracked(scenes, cuts=(1,))
    np.testing.assert_allclose(alphas[1], scenes[1].alphas[0], atol=1e-5)
    alphas, _ = tracked([scenes[0], Scene(right(30, radius=20))], cuts=(1,))
    assert not (alphas[1] > 0.01).any()


def test_a_fast_jump_is_followed():
    scenes = [Scene(left(), right()), Scene(left(30, 50, radius=8)), Scene(left(62, 15, radius=8))]
    alphas, _ = tracked(scenes)
    np.testing.assert_allclose(alphas[2], scenes[2].alphas[0], atol=1e-5)


def test_a_part_that_comes_off_is_ours_until_it_is_far():
    """As where a pole or a gap in the matte cuts somebody in two; and where two who hung together part."""
    scenes = [Scene(left(40), (60 + n, 36, 10, BLUE)) for n in range(0, 40, 2)]
    alphas, _ = tracked(scenes)
    kept = [
        (alpha * scene.alphas[1]).sum() / scene.alphas[1].sum() for alpha, scene in zip(alphas, scenes, strict=True)
    ]
    assert kept[:8] == pytest.approx([1] * 8, abs=0.01) and kept[-5:] == pytest.approx([0] * 5, abs=0.01)
    np.testing.assert_allclose(alphas[-1], scenes[-1].alphas[0], atol=1e-5)


def test_a_thing_that_is_taken_up_is_kept():
    scenes = [Scene(left(), (60 - n, 36, 6, GREEN)) for n in range(10)]
    alphas, _ = tracked(scenes)
    assert (alphas[0] * scenes[0].alphas[1]).sum() == 0
    np.testing.assert_allclose(alphas[-1], sum(scenes[-1].alphas), atol=1e-5)


def test_networks_that_tell_people_apart_are_believed():
    """Both are alike and touch: there is no other way to tell."""
    tracker = Tracker(parse_pick("2"), "clip.mp4", (HEIGHT, WIDTH))
    for number in range(5):
        scene = Scene(left(40 + number, colour=BLUE), right(75 - number, colour=BLUE))
        order = scene.alphas if number % 2 else scene.alphas[::-1]
        kept = tracker(frame(number), scene.coarse(instances=np.stack(order)), False).alpha
        assert off(kept, scene.alphas[1] if scene.alphas[1].sum() < scene.alphas[0].sum() else scene.alphas[0]) < 0.06


def test_another_run_goes_on_where_frames_stay(tmp_path):
    """Also in the midst of a crossing: what comes is the same as without a break."""
    scenes = [Scene(left(20 + 3 * n), right(70)) for n in range(30)]
    whole, _ = tracked(scenes, "70,36")
    memory = tmp_path / "picked.npz"
    first = Tracker(parse_pick("70,36"), "clip.mp4", (HEIGHT, WIDTH), memory)
    assert first.known_until is None
    tracked(scenes[:20], tracker=first)
    first.written(3, stays=False)
    assert not memory.exists()
    first.written(14, stays=True)
    second = Tracker(parse_pick("70,36"), "clip.mp4", (HEIGHT, WIDTH), memory)
    assert second.known_until == 14
    rest = [second(frame(n), scenes[n].coarse(), n == 10).alpha for n in range(10, 30)]
    np.testing.assert_array_equal(rest[5:], whole[15:])
    assert [path.name for path in tmp_path.iterdir()] == ["picked.npz"]

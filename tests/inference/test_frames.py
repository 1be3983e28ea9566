"""A network over a clip: memory, cuts, the one-frame delay, and the frames given back as they came."""

import numpy as np
import pytest
import torch

from mattecli.errors import UsageError
from mattecli.inference.frames import follow
from mattecli.inference.guidance.hints import Hints
from mattecli.inference.guided import resize
from mattecli.inference.network import Matter
from mattecli.zoo.spec import Prediction, Spec, native

HEIGHT, WIDTH = 40, 64
rng = np.random.default_rng(1)
SCENES = [resize(rng.integers(0, 255, (10, 16, 3), dtype=np.uint8), HEIGHT, WIDTH) for _ in range(3)]


def picture(red, scene=0):
    """A picture of one red all over, whose green and blue tell the scene."""
    rgb = SCENES[scene].copy()
    rgb[..., 0] = round(255 * red)
    return rgb


def alphas(network, frames, **options):
    answers = follow(Matter(network, "cpu"), frames, lambda rgb: rgb, **options)
    return [coarse.alpha.mean().round(2) for _, coarse in answers]


def test_the_network_remembers(remembering):
    assert alphas(remembering, [picture(0.8)] * 3, lead=0) == pytest.approx([0.4, 0.6, 0.7], abs=0.01)


def test_it_forgets_at_cuts_and_new_sizes(remembering):
    cut = [picture(0.8)] * 3 + [picture(0.8, scene=1)] * 2
    assert alphas(remembering, cut, lead=0) == pytest.approx([0.4, 0.6, 0.7, 0.4, 0.6], abs=0.01)
    turned = [picture(0.8)] * 2 + [picture(0.8).transpose(1, 0, 2)] * 2
    assert alphas(remembering, turned, lead=0) == pytest.approx([0.4, 0.6, 0.4, 0.6], abs=0.01)


def test_a_scene_begins_with_what_is_remembered_of_its_next_frames(remembering):
    assert alphas(remembering, [picture(0.8)] * 4, lead=2) == pytest.approx([0.7, 0.75, 0.775, 0.7875], abs=0.01)
    cut = [picture(0.4)] * 2 + [picture(0.8, scene=1)] * 2  # of a short scene all frames, and none of the next
    assert alphas(remembering, cut, lead=2) == pytest.approx([0.3, 0.35, 0.6, 0.7], abs=0.01)
    assert alphas(remembering, [picture(0.8)], lead=2) == pytest.approx([0.4], abs=0.01)
    assert alphas(remembering, [picture(red) for red in (0.0, 0.4, 0.8)], lead=1) == pytest.approx(
        [0.1, 0.25, 0.525], abs=0.01
    )


@pytest.mark.parametrize("steady", ["none", "delay"])
def test_without_memory_each_frame_is_alone(remembering, steady):
    assert alphas(remembering, [picture(0.8)] * 3, steady=steady) == pytest.approx([0.4] * 3, abs=0.01)


def test_what_the_network_remembers_stays_a_tensor(remembering):
    matter = Matter(remembering, "cpu")
    list(follow(matter, [picture(0.8)] * 2, lambda rgb: rgb))
    assert matter.network.given[0] is None
    assert all(isinstance(part, torch.Tensor) for part in matter.network.given[1])


def test_frames_come_back_as_they_came(red):
    names = ["a", "b", "c"]
    pictures = {name: picture(0.2 * number) for number, name in enumerate(names)}
    for steady in ("state", "delay", "none"):
        answers = list(follow(Matter(red, "cpu"), names, pictures.__getitem__, steady=steady))
        assert [name for name, _ in answers] == names
        assert [coarse.alpha.mean() for _, coarse in answers] == pytest.approx([0, 0.2, 0.4], abs=0.01)


def test_frames_are_taken_one_by_one(remembering, red):
    for network, lead, expected in (
        (remembering, 0, [1, 2, 3]),
        (remembering, 2, [3, 3, 3]),
        (remembering, 1, [2, 2, 3]),
        (red, 2, [2, 3, 4]),
    ):
        taken = []
        clip = (taken.append(number) or picture(0.5) for number in range(5))
        answers = follow(Matter(network, "cpu"), clip, lambda rgb: rgb, lead=lead)
        assert [len(taken) for _ in range(3) if next(answers)] == expected


@pytest.mark.parametrize("guides", [True, False])
@pytest.mark.parametrize(
    ("reds", "expected"),
    [
        ([0.2, 0.8, 0.24, 0.2], [0.2, 0.22, 0.24, 0.2]),  # a blink
        ([0.2, 0.8, 0.8, 0.8], [0.2, 0.8, 0.8, 0.8]),  # a change
        ([0.2, 0.4, 0.6, 0.8], [0.2, 0.4, 0.6, 0.8]),  # a fade
        ([0.2, 0.29, 0.2, 0.2], [0.2, 0.29, 0.2, 0.2]),  # too little
        ([0.8, 0.2, 0.2, 0.8], [0.8, 0.2, 0.2, 0.8]),  # the ends
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_one_frame_delay(red, red_without_guides, guides, reds, expected):
    """Part of the picture changes by `reds`; the rest, which does not, stays as it was."""
    network = red if guides else red_without_guides
    frames = [picture(0.5) for _ in reds]
    for frame, value in zip(frames, reds, strict=True):
        frame[:, : WIDTH // 2, 0] = round(255 * value)
    answers = [coarse for _, coarse in follow(Matter(network, "cpu"), frames, lambda rgb: rgb, steady="state")]
    inner = (slice(None), slice(None, WIDTH // 2 - 2))
    assert [coarse.alpha[inner].mean() for coarse in answers] == pytest.approx(expected, abs=0.01)
    for frame, coarse in zip(frames, answers, strict=True):
        assert np.abs(coarse.alpha[:, WIDTH // 2 :] - 0.5).max() < 0.01
        linear = (coarse.slope * frame.transpose(2, 0, 1) / 255).sum(0) + coarse.intercept
        np.testing.assert_allclose(linear.clip(0, 1), coarse.alpha, atol=1e-4)


def test_what_a_trimap_knows_is_not_mended():
    class Told(torch.nn.Module):
        """alpha is the trimap, and the red of the picture where that is unknown."""

        spec = Spec(size=native(), needs="trimap")

        def __init__(self):
            super().__init__()
            self.offset = torch.nn.Parameter(torch.zeros(1))

        def forward(self, image, *, trimap=None, background=None, state=None):
            return Prediction(torch.where(trimap == 0.5, image[:, :1], trimap))

    trimaps = [np.full((HEIGHT, WIDTH), 0.5, np.float32) for _ in range(3)]
    for trimap, known in zip(trimaps, (0, 1, 0), strict=True):
        trimap[:, :20] = known
    pictures = [picture(0.2), picture(0.8), picture(0.2)]
    answers = follow(
        Matter(Told(), "cpu"), range(3), pictures.__getitem__, hint=lambda number: Hints(trimap=trimaps[number])
    )
    alpha = [coarse.alpha for _, coarse in answers][1]
    assert (alpha[:, :20] == 1).all()
    np.testing.assert_allclose(alpha[:, 20:], 0.2, atol=0.01)


def test_what_counts_of_an_answer_is_smoothed(red):
    """`select` sees each answer once, in order, and whether a scene begins."""
    seen = []

    def select(item, coarse, begins):
        seen.append((item, begins))
        return coarse.times(np.full((2, 2), 0.5, np.float32))

    pictures = [picture(0.2), picture(0.8), picture(0.2), picture(0.2, scene=1)]
    answers = list(follow(Matter(red, "cpu"), range(4), pictures.__getitem__, select=select))
    assert seen == [(0, True), (1, False), (2, False), (3, True)]
    assert [coarse.alpha.mean() for _, coarse in answers] == pytest.approx([0.1] * 4, abs=0.01)
    assert [coarse.at(rgb).mean() for (_, coarse), rgb in zip(answers, pictures, strict=True)] == pytest.approx(
        [0.1] * 4, abs=0.01
    )


def test_no_mean_over_a_cut(red):
    frames = [picture(0.2), picture(0.8), picture(0.2, scene=1), picture(0.8, scene=2), picture(0.2, scene=2)]
    assert alphas(red, frames, steady="delay") == pytest.approx([0.2, 0.8, 0.2, 0.8, 0.2], abs=0.01)


def test_guides_smaller_than_alpha_are_mended_too(red):
    """`realtime` gives them at half the size."""

    class Half(type(red)):
        def forward(self, image, **rest):
            prediction = super().forward(image, **rest)
            prediction.maps = {name: plane[..., ::2, ::2] for name, plane in prediction.maps.items()}
            return prediction

    frames = [picture(0.2), picture(0.8), picture(0.2)]
    answers = list(follow(Matter(Half(), "cpu"), frames, lambda rgb: rgb))
    np.testing.assert_allclose(answers[1][1].alpha, 0.2, atol=0.01)
    assert answers[1][1].intercept.shape == answers[1][1].slope.shape[1:] == (HEIGHT, WIDTH)


def test_plates_go_to_the_network_with_their_frames(difference):
    frames = [picture(0.9), picture(0.5)]
    plates = [picture(0.2), picture(0.4)]
    matter = Matter(difference, "cpu", engine="torch", clip=True)
    answers = follow(matter, [0, 1], frames.__getitem__, hint=lambda number: Hints(background=plates[number]))
    assert [coarse.alpha.mean() for _, coarse in answers] == pytest.approx([0.7, 0.1], abs=0.01)


def test_networks_that_need_a_plate_get_one_or_are_refused(difference):
    with pytest.raises(UsageError, match="background"):
        list(follow(Matter(difference, "cpu", engine="torch", clip=True), [picture(0.5)], lambda rgb: rgb))


def test_an_unknown_way_is_refused_before_any_work(red):
    with pytest.raises(UsageError, match="state, delay, none"):
        follow(Matter(red, "cpu"), [picture(0.5)], lambda rgb: rgb, steady="always")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alphas_of_a_clip_at_its_size(red, remembering, dtype):
    frames = [resize(picture(0.8), 90, 150).astype(dtype) * (257 if dtype == np.uint16 else 1)] * 3
    still = list(Matter(red, "cpu").frames(frames))
    assert [alpha.shape for alpha in still] == [(90, 150)] * 3
    assert [alpha.mean() for alpha in still] == pytest.approx([0.8] * 3, abs=0.01)
    moving = Matter(remembering, "cpu").frames(frames)
    assert [alpha.mean() for alpha in moving] == pytest.approx([0.7, 0.75, 0.775], abs=0.01)


def test_clips_of_what_is_no_picture_are_refused(red):
    with pytest.raises(UsageError, match="HxWx3"):
        list(Matter(red, "cpu").frames([np.zeros((5, 6), np.uint8)]))

"""The recorded values of a clip, and what must hold of any."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from mattecli.evaluation import clip_metrics, metrics

with np.load(Path(__file__).parents[1] / "data" / "parity" / "video_metrics.npz") as archive:
    FRAMES = list(zip(archive["pred"], archive["gt"], strict=True))
    RECORDED = json.loads(archive["meta.json"].tobytes())


def pairs(metric, frames):
    return [metric(before, now) for before, now in itertools.pairwise(frames)]


def test_recorded_values_of_each_pair():
    assert pairs(clip_metrics.dtssd, FRAMES) == pytest.approx(RECORDED["rvm_dtssd_per_frame"][1:], rel=1e-5)
    flow = RECORDED["messddt_corrected_sum_per_pair_farneback_on_gt"]
    assert len(flow) == 4 and pairs(clip_metrics.messddt, FRAMES) == pytest.approx(flow, rel=1e-3)


def test_recorded_values_of_the_clip():
    found = clip_metrics.measure(FRAMES)
    assert tuple(found) == clip_metrics.CLIP_METRICS
    assert found["dtssd"] == pytest.approx(RECORDED["dtssd_mean_over_pairs"], rel=1e-5)
    assert found["dtssd_rvm"] == pytest.approx(RECORDED["rvm_dtssd_clip_as_in_its_spreadsheet"], rel=1e-5)
    flow = RECORDED["messddt_corrected_sum_per_pair_farneback_on_gt"]
    assert found["messddt"] == pytest.approx(np.mean(flow), rel=1e-3)
    assert found["messddt_mean"] == pytest.approx(np.mean(flow) / (96 * 128) * 1e4, rel=1e-3)


def test_image_metrics_are_the_mean_of_the_frames():
    found = clip_metrics.measure(FRAMES)
    frames = [metrics.measure(*frame) for frame in FRAMES]
    for name in metrics.METRICS:
        assert found[name] == pytest.approx(np.mean([scores[name] for scores in frames])), name


def test_floats_and_16_bits_measure_as_8_bits_do():
    expected = pytest.approx(clip_metrics.measure(FRAMES[:3]), rel=1e-5)
    deep = [(p.astype(np.float32) / 255, g.astype(np.uint16) * 257) for p, g in FRAMES[:3]]
    assert clip_metrics.measure(deep) == expected


def test_a_constant_error_does_not_flicker():
    truth = np.linspace(0, 0.5, 40 * 50, dtype=np.float32).reshape(40, 50)
    found = clip_metrics.measure([(truth + np.float32(0.25), truth)] * 3)
    assert found["mad"] == pytest.approx(0.25)
    assert found["dtssd"] == pytest.approx(0, abs=1e-4) and found["messddt"] == pytest.approx(0, abs=1e-3)


def test_dtssd_of_a_blink():
    dark, light = np.zeros((4, 8), np.uint8), np.full((4, 8), 255, np.uint8)
    frames = [(dark, dark), (light, dark), (dark, dark)]
    assert pairs(clip_metrics.dtssd, frames) == [100, 100]
    assert pairs(clip_metrics.messddt, frames) == [32, 32]
    assert clip_metrics.measure(frames)["dtssd_rvm"] == pytest.approx(200 / 3)


def test_messddt_follows_an_error_that_moves_with_the_subject():
    def frame(left):
        """A textured subject with a hole in the prediction, `left` pixels to the right."""
        rows, columns = np.mgrid[:96, :160]
        soft = np.exp(-((rows - 48) ** 2 + (columns - 60 - left) ** 2) / 400)
        texture = 0.75 + 0.25 * np.sin(rows / 5) * np.sin((columns - left) / 4)
        truth = (soft * texture).astype(np.float32)
        hole = np.exp(-((rows - 48) ** 2 + (columns - 60 - left) ** 2) / 60).astype(np.float32)
        return truth * (1 - hole), truth

    moved, resting = (frame(4), frame(0)), ((frame(4)[0], frame(0)[1]), frame(0))
    unfollowed = np.abs(np.square(np.subtract(*moved[0])) - np.square(np.subtract(*moved[1]))).sum()
    assert clip_metrics.messddt(*moved) < 0.4 * unfollowed
    assert clip_metrics.messddt(*resting) > 0.9 * unfollowed


def test_frames_are_read_as_they_are_needed():
    alive = []

    def frames():
        for prediction, truth in FRAMES:
            alive.append(len(alive))
            yield prediction, truth

    seen = []

    def one_at_a_time(function, items):
        for item in items:
            seen.append(len(alive))
            yield function(item)

    clip_metrics.measure(frames(), one_at_a_time)
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("frames", [[], FRAMES[:1]])
def test_less_than_two_frames_are_no_clip(frames):
    with pytest.raises(ValueError, match="two frames"):
        clip_metrics.measure(frames)

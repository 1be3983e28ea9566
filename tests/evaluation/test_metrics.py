"""What the official MATLAB code gives (run in GNU Octave on metrics.npz), and what must hold of any matte."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mattecli.evaluation import metrics

with np.load(Path(__file__).parents[1] / "data" / "parity" / "metrics.npz") as archive:
    RECORDED = dict(archive)
OFFICIAL = json.loads(RECORDED["meta.json"].tobytes())["official_octave"]

sides = st.tuples(st.integers(2, 24), st.integers(2, 24))
pairs = sides.flatmap(lambda shape: st.tuples(arrays(np.uint8, shape), arrays(np.uint8, shape)))
quick = settings(deadline=None, max_examples=40)


def recorded(image, region):
    unknown = metrics.unknown(RECORDED[f"tri{image}"]) if region == "trimap" else None
    return RECORDED[f"pred{image}"], RECORDED[f"gt{image}"], unknown


@pytest.mark.parametrize("case", sorted(OFFICIAL))
def test_official_values(case):
    prediction, truth, region = recorded(*case.split("/"))
    found = metrics.measure(prediction, truth, region)
    for name, value in OFFICIAL[case].items():
        assert found[name] == pytest.approx(value, rel=1e-4), name


def test_the_record_is_complete():
    assert len(OFFICIAL) == 8 and all(set(values) == {"sad", "mse", "grad", "conn"} for values in OFFICIAL.values())


@pytest.mark.parametrize("image", "0123")
def test_floats_and_16_bits_measure_as_8_bits_do(image):
    prediction, truth, _ = recorded(image, "whole")
    expected = pytest.approx(metrics.measure(prediction, truth), rel=1e-6)
    assert metrics.measure(prediction.astype(np.float32) / 255, truth.astype(np.float64) / 255) == expected
    assert metrics.measure(prediction.astype(np.uint16) * 257, truth) == expected


@quick
@given(pairs)
def test_each_metric_alone_is_what_measure_says(pair):
    together = metrics.measure(*pair)
    for metric in (metrics.mse, metrics.mad, metrics.iou):
        assert metric(*pair) == pytest.approx(together[metric.__name__], abs=1e-9)


@quick
@given(pairs)
def test_a_perfect_matte_has_no_error(pair):
    perfect = dict.fromkeys(metrics.METRICS, 0.0) | {"iou": 1.0}
    assert metrics.measure(pair[0], pair[0].copy()) == pytest.approx(perfect, abs=1e-12)


@quick
@given(pairs)
def test_metrics_are_symmetric_and_bounded(pair):
    there, back = metrics.measure(*pair), metrics.measure(*reversed(pair))
    assert there == pytest.approx(back)
    assert 0 <= there["mse"] <= there["mad"] <= 1 and 0 <= there["iou"] <= 1
    assert there["sad"] == pytest.approx(there["mad"] * pair[0].size / 1000)
    assert 0 <= there["conn"] * 1000 <= pair[0].size + 1e-3


@quick
@given(pairs)
def test_regions_add_up(pair):
    left = np.zeros(pair[0].shape, np.bool_)
    left[:, : left.shape[1] // 2] = True
    whole, one, other = (metrics.measure(*pair, region) for region in (None, left, ~left))
    for name in ("sad", "grad", "conn"):
        assert one[name] + other[name] == pytest.approx(whole[name], abs=1e-9)


@quick
@given(pairs)
def test_regions_are_measured_together_as_alone(pair):
    left = np.zeros(pair[0].shape, np.bool_)
    left[:, : left.shape[1] // 2 + 1] = True
    regions = {"whole": None, "left": left}
    alone = {name: pytest.approx(metrics.measure(*pair, region), abs=1e-9) for name, region in regions.items()}
    assert metrics.measure_regions(*pair, regions) == alone


@quick
@given(pairs, st.integers(0, 4))
def test_conn_is_that_of_components_labelled_at_each_threshold(pair, blur):
    """As the official code does it: blobs that split, islands that outgrow others at lower thresholds."""
    p, g = (cv2.blur(plane.astype(np.float32) / 255, (blur + 1, blur + 1)) for plane in pair)
    shared, level = np.minimum(p, g), np.full(p.shape, -1, np.float32)
    for step in range(1, 11):
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(
            (shared >= np.float32(step / 10)).view(np.uint8), connectivity=4
        )
        areas = statistics[1:, cv2.CC_STAT_AREA]
        largest = labels == 1 + areas.argmax() if areas.size else np.zeros(p.shape, np.bool_)
        level[(level < 0) & ~largest] = (step - 1) / 10
    level[level < 0] = 1
    connected = [1 - np.where(plane - level >= np.float32(0.15), plane - level, 0) for plane in (p, g)]
    assert metrics.measure(p, g)["conn"] * 1000 == pytest.approx(
        np.abs(np.subtract(*connected)).sum(), rel=1e-5, abs=1e-3
    )


def test_iou_of_two_bars():
    truth, prediction = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    truth[:, :4] = 255
    prediction[:, 2:6] = 128
    assert metrics.iou(prediction, truth) == pytest.approx(20 / 60)


def test_conn_of_a_false_island_is_its_alpha_whatever_the_island_touches():
    truth = np.zeros((20, 20), np.uint8)
    truth[2:10, 2:10] = 255
    prediction = truth.copy()
    prediction[14:17, 14:17] = 204
    assert metrics.measure(prediction, truth)["conn"] == pytest.approx(9 * 204 / 255 / 1000)


def test_conn_never_takes_the_background_for_a_component():
    truth = np.zeros((16, 16), np.uint8)
    truth[4, 4] = 255
    prediction = np.full((16, 16), 255, np.uint8)
    assert metrics.measure(prediction, truth)["conn"] == pytest.approx(255 / 1000)


def test_conn_counts_corners_as_apart():
    truth = np.zeros((8, 8), np.uint8)
    truth[:4, :4] = 255
    truth[4, 4] = 255
    prediction = truth.copy()
    prediction[4, 4] = 128
    # The pixel at the corner belongs to no component: level 0, so both values count as disconnected in full.
    assert metrics.measure(prediction, truth)["conn"] == pytest.approx((255 - 128) / 255 / 1000)


def test_conn_ignores_what_lies_within_its_tolerance():
    truth = np.zeros((8, 8), np.uint8)
    truth[2:6, 2:6] = 30
    assert metrics.measure(np.zeros_like(truth), truth)["conn"] == 0
    assert metrics.measure(np.zeros_like(truth), truth * 2)["conn"] == pytest.approx(16 * 60 / 255 / 1000)


def test_grad_sees_the_stretched_matte():
    ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (16, 1))
    assert metrics.measure(ramp * 0.25 + 0.5, ramp)["grad"] == pytest.approx(0, abs=1e-9)
    assert metrics.measure(np.full_like(ramp, 0.5), ramp)["grad"] > 0


def test_an_empty_region_has_no_mean():
    plane = np.zeros((4, 4), np.uint8)
    found = metrics.measure(plane, plane, np.zeros((4, 4), np.bool_))
    assert math.isnan(found["mse"]) and math.isnan(found["mad"]) and found["sad"] == 0


@pytest.mark.parametrize("shape", [(4, 5), (4, 4, 1)])
def test_sizes_must_agree(shape):
    with pytest.raises(ValueError, match="one size"):
        metrics.measure(np.zeros(shape, np.uint8), np.zeros((4, 4), np.uint8))


def test_a_region_is_boolean():
    plane = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="boolean region"):
        metrics.measure(plane, plane, plane)

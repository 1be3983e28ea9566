"""Matte labels from photo and mask: the closed-form band, its checks, and the command."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from mattecli.errors import InputError, UsageError
from mattecli.mixing import mask_to_matte, matting_laplacian, prepare

SIDE = 240


@pytest.fixture(scope="module")
def scene():
    """(rgb in [0, 1], true alpha): a disc with a soft edge and strands; both layers are lines in colour space."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    distance = np.hypot(x - SIDE / 2, y - SIDE / 2)
    alpha = np.clip((70 - distance) / 5 + 0.5, 0, 1)
    strands = np.zeros((8 * SIDE, 8 * SIDE), np.uint8)
    for angle in np.linspace(0, np.pi, 13):
        direction = np.array([np.cos(angle), -np.sin(angle)])
        ends = (8 * (SIDE / 2 + r * direction) for r in (62, 76))
        cv2.line(strands, *(tuple(end.astype(int).tolist()) for end in ends), 255, 12)
    alpha = np.maximum(alpha, cv2.resize(strands, (SIDE, SIDE), interpolation=cv2.INTER_AREA) / np.float32(255))
    t, u = (0.5 + 0.5 * np.sin(x / 9))[..., None], (0.5 + 0.5 * np.cos(y / 7))[..., None]
    ours = (1 - t) * np.array([0.25, 0.12, 0.05]) + t * np.array([0.55, 0.35, 0.2])
    theirs = (1 - u) * np.array([0.5, 0.7, 0.9]) + u * np.array([0.7, 0.9, 0.95])
    image = alpha[..., None] * ours + (1 - alpha[..., None]) * theirs
    return image.astype(np.float32), alpha.astype(np.float32), ours.astype(np.float32)


def _trimap(alpha, reach):
    kernel = np.ones((2 * reach + 1,) * 2, np.uint8)
    inner, outer = cv2.erode((alpha >= 1).astype(np.uint8), kernel), cv2.dilate((alpha > 0).astype(np.uint8), kernel)
    return ((inner + outer) / 2).astype(np.float32)


def test_closed_form_recovers_an_alpha_of_two_colour_lines(scene):
    image, alpha, _ = scene
    solved = matting_laplacian.solve(image, _trimap(alpha, 2), epsilon=1e-9)
    error, hard = np.abs(solved - alpha).mean(), np.abs((alpha > 0.5) - alpha).mean()
    assert error < hard / 10


def test_known_pixels_keep_their_value(scene):
    image, alpha, _ = scene
    trimap = _trimap(alpha, 1)
    solved = matting_laplacian.solve(image, trimap)
    known = trimap != 0.5
    np.testing.assert_array_equal(solved[known], trimap[known])
    np.testing.assert_array_equal(matting_laplacian.solve(image, np.round(alpha)), np.round(alpha))


def test_the_band_equals_the_full_system_of_pymatting():
    pymatting = pytest.importorskip("pymatting")
    from scipy.sparse.linalg import spsolve

    rng = np.random.default_rng(3)
    image = cv2.GaussianBlur(rng.random((40, 36, 3)).astype(np.float32), (0, 0), 1.5)
    trimap = np.full((40, 36), 0.5, np.float32)
    trimap[:, :9], trimap[:, 27:], trimap[:4] = 0, 1, 0  # unknown pixels also at the lower edge of the picture
    full = pymatting.cf_laplacian(image.astype(np.float64), epsilon=1e-6).tocsr()
    unknown = trimap.ravel() == 0.5
    expected = np.clip(
        spsolve(full[unknown][:, unknown].tocsc(), -full[unknown][:, ~unknown] @ trimap.ravel()[~unknown]), 0, 1
    )
    ours = matting_laplacian.solve(image, trimap, epsilon=1e-6, tolerance=1e-9)
    np.testing.assert_allclose(ours.ravel()[unknown], expected, atol=1e-4)
    theirs = pymatting.estimate_alpha_cf(image.astype(np.float64), trimap, laplacian_kwargs={"epsilon": 1e-6})
    assert np.abs(ours - theirs).max() < 0.02  # its known pixels are held by a spring only
    matrix, _ = matting_laplacian.system(image, trimap, trimap == 0.5, 1e-6)
    assert abs(matrix - full[unknown][:, unknown]).max() < 1e-6


def test_equations_are_the_same_in_small_parts_and_take_little(scene, monkeypatch):
    image, alpha, _ = scene
    unknown = _trimap(alpha, 2) == 0.5
    whole, right = matting_laplacian.system(image, alpha, unknown, 1e-6)
    monkeypatch.setattr(matting_laplacian, "_CHUNK", 50)
    tracemalloc.start()
    parts, right_of_parts = matting_laplacian.system(image, alpha, unknown, 1e-6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(parts - whole).max() < 1e-12
    np.testing.assert_allclose(right_of_parts, right, atol=1e-12)
    assert parts.has_canonical_format
    assert peak < 800 * np.count_nonzero(unknown) + 50 * unknown.size + 1e6, "25 weights and columns, and their copy"


def test_a_prior_pulls_only_where_it_is_confident(scene):
    image, alpha, _ = scene
    trimap = _trimap(alpha, 2)
    zeros, prior = np.zeros_like(alpha), np.zeros_like(alpha)
    free = matting_laplacian.solve(image, trimap)
    np.testing.assert_allclose(matting_laplacian.solve(image, trimap, prior=prior, confidence=zeros), free, atol=1e-6)
    held = matting_laplacian.solve(image, trimap, prior=prior, confidence=zeros + 1e4)
    assert held[trimap == 0.5].max() < 0.01


def test_without_pymatting_the_extra_is_named(scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymatting", None)
    image, alpha, _ = scene
    with pytest.raises(UsageError, match=r"mattecli\[train\]"):
        matting_laplacian.solve(image, _trimap(alpha, 1))


def _subject(scene, mask=None):
    image, alpha, _ = scene
    rgb = np.rint(image * 255).astype(np.uint8)
    mask = alpha > 0.5 if mask is None else mask
    return mask_to_matte.Subject(rgb, mask, mask)


def test_a_matte_is_nearer_to_the_truth_than_its_mask(scene):
    alpha, checks = mask_to_matte.matte(_subject(scene))
    truth = scene[1]
    near = truth > 0.2  # fainter strands end outside the band
    assert np.abs(alpha - truth)[near].mean() < np.abs((truth > 0.5) - truth)[near].mean() / 3
    assert checks.verdict() == ""
    assert alpha.min() == 0 and alpha.max() == 1


def test_hair_gets_a_wide_band_and_other_edges_a_narrow_one(scene):
    mask = scene[1] > 0.5
    hair = mask.copy()
    hair[SIDE // 2 :] = False
    # The picture is scaled up, for its band to be more than the smallest.
    mask, hair = (
        cv2.resize(m.astype(np.uint8), None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST) > 0 for m in (mask, hair)
    )
    band = mask_to_matte.unknown_band(mask, hair)
    column = band.unknown[:, 2 * SIDE]
    top, bottom = np.count_nonzero(column[: 2 * SIDE]), np.count_nonzero(column[2 * SIDE :])
    assert top > 3 * bottom > 0


def test_a_mask_in_the_wrong_place_is_rejected(scene):
    image, alpha, _ = scene
    noise = np.random.default_rng(0).normal(0, 0.02, image.shape)
    rgb = np.rint(np.clip(image + noise, 0, 1) * 255).astype(np.uint8)
    mask = np.roll(alpha > 0.5, 25, axis=1)
    _, checks = mask_to_matte.matte(mask_to_matte.Subject(rgb, mask, np.zeros_like(mask)))
    assert "edge" in checks.verdict()


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_an_edge_is_an_input_error(scene, value):
    with pytest.raises(InputError, match="edge"):
        mask_to_matte.matte(_subject(scene, np.full((SIDE, SIDE), value)))


def test_the_foreground_carries_no_background_over_the_edge(scene):
    image, alpha, _ = scene
    rgb = np.rint(image * 255).astype(np.uint8)
    colours = mask_to_matte.foreground(rgb, alpha)
    np.testing.assert_array_equal(colours[alpha >= 1], rgb[alpha >= 1])
    around = (alpha < 1) & (cv2.dilate((alpha > 0.5).astype(np.uint8), np.ones((21, 21))) > 0)
    # Blue of the background is 0.9, of the subject at most 0.2: half way would be a halo.
    assert colours[around][:, 2].max() < 0.45 * 255
    assert colours[around][:, 2].mean() < 0.25 * 255


def test_islands_are_removed_and_the_subject_stays():
    alpha = np.zeros((40, 40), np.float32)
    alpha[5:20, 5:20], alpha[30:34, 30:34] = 1, 0.4
    hard = (alpha == 1).astype(np.float32)
    np.testing.assert_array_equal(mask_to_matte._connected(alpha, hard), hard)


@pytest.fixture
def source(scene, tmp_path):
    root = tmp_path / "people"
    for folder in ("images", "masks", "labels"):
        (root / folder).mkdir(parents=True)
    image, alpha, _ = scene
    mask = (alpha > 0.5).astype(np.uint8)
    for name in ("a", "b"):
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.rint(image[..., ::-1] * 255).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask * 255)
        cv2.imwrite(str(root / "labels" / f"{name}.png"), mask * 19)
    (root / "labels.txt").write_text("0 null\n19 hair\n41 skin\n")
    (root / "images" / "c.png").write_bytes(b"no picture")
    cv2.imwrite(str(root / "masks" / "c.png"), mask)
    return root


def _report(out: Path):
    return [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]


def test_the_command_writes_mattes_and_a_report_and_resumes(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert prepare.main([str(source), str(out), "--workers", "1"]) == 1
    assert [line["name"] + " " + line["status"] for line in _report(out)] == ["a accepted", "b accepted", "c failed"]
    assert sorted(p.name for p in out.rglob("*.*g")) == ["a.jpg", "a.png", "b.jpg", "b.png"]
    first = (out / "alphas" / "a.png").read_bytes()
    (out / "alphas" / "a.png").unlink()

    done = []
    original = prepare.process
    monkeypatch.setattr(prepare, "process", lambda task: done.append(task.name) or original(task))
    assert prepare.main([str(source), str(out), "--workers", "1"]) == 1
    assert done == ["a", "c"]
    assert (out / "alphas" / "a.png").read_bytes() == first
    assert len(_report(out)) == 3


def test_a_mask_saved_as_jpeg_is_the_same_mask(source, tmp_path):
    mask = cv2.imread(str(source / "masks/a.png"), cv2.IMREAD_GRAYSCALE)
    (source / "masks/a.png").unlink()
    assert cv2.imwrite(str(source / "masks/a.jpg"), mask, [cv2.IMWRITE_JPEG_QUALITY, 80])
    exact, coded = (prepare._read(task).mask for task in reversed(prepare.tasks(source, tmp_path)[:2]))
    assert np.count_nonzero(exact != coded) < 0.002 * exact.sum()


def test_an_interrupted_run_keeps_what_it_did(source, tmp_path):
    run = prepare.prepare(source, tmp_path / "out", workers=1)
    next(run)
    run.close()
    assert [line["name"] for line in _report(tmp_path / "out")] == ["a"]
    assert not list((tmp_path / "out").rglob(".*"))


def test_processes_and_limit(source, tmp_path):
    """On pictures that are refused at once: each process would take seconds to compile the solver."""
    one, two = tmp_path / "one", tmp_path / "two"
    for name in ("a", "b"):
        (source / "images" / f"{name}.png").write_bytes(b"no picture")
    list(prepare.prepare(source, one, workers=1, limit=2))
    list(prepare.prepare(source, two, workers=2, limit=2))
    assert _report(one) == _report(two) and [line["name"] for line in _report(two)] == ["a", "b"]


def test_its_processes_do_without_torch():
    """Which takes a second and 180 MB of each."""
    code = "import sys, mattecli.mixing.prepare; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_folders_that_do_not_fit_are_wrong_use(tmp_path, capsys):
    assert prepare.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "images/" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

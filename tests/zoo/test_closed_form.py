import sys
from importlib.machinery import ModuleSpec

import cv2
import numpy as np
import pymatting
import pytest
import torch
from scipy.sparse import csc_matrix

from mattecli import zoo
from mattecli.errors import InputError, UsageError
from mattecli.zoo import closed_form

methods = pytest.mark.parametrize("method", ["closed-form", "knn"])


def disc(height=36, width=48):
    """A soft orange disc on blue, every colour drifting; a trimap with a band round the edge."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    alpha = np.clip((0.3 * height - np.hypot(y - height / 2, x - width / 2)) / 4 + 0.5, 0, 1)
    warm = np.stack((0.8 + 0 * x, 0.3 + 0.1 * np.sin(x / 20), 0.2 + 0.1 * np.sin(y / 15)))
    cold = np.stack((0.1 + 0.1 * np.cos(x / 25), 0.4 + 0.1 * np.sin(y / 30), 0.7 + 0 * x))
    band = cv2.dilate(((alpha > 0) & (alpha < 1)).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    trimap = np.where(band, 0.5, alpha)
    image = alpha * warm + (1 - alpha) * cold
    return [torch.from_numpy(np.asarray(x, np.float32))[None] for x in (image, alpha[None], trimap[None])]


@methods
def test_a_matte_is_restored_from_its_trimap(method):
    image, alpha, trimap = disc()
    found = zoo.load(method)(image, trimap=trimap).alpha
    error = (found - alpha).abs()
    assert error.max() < {"closed-form": 0.02, "knn": 0.2}[method]
    assert error[trimap == 0.5].mean() < {"closed-form": 0.005, "knn": 0.06}[method]
    assert torch.equal(found[trimap != 0.5], trimap[trimap != 0.5])


@methods
def test_it_is_pymattings(method):
    image, _, trimap = disc()
    estimate = {"closed-form": pymatting.estimate_alpha_cf, "knn": pymatting.estimate_alpha_knn}[method]
    expected = estimate(image[0].permute(1, 2, 0).double().numpy(), trimap[0, 0].double().numpy())
    found = zoo.load(method)(image, trimap=trimap).alpha[0, 0].numpy()
    unknown = trimap[0, 0].numpy() == 0.5
    np.testing.assert_allclose(found[unknown], expected[unknown], atol=1e-3)


@methods
def test_trimaps_that_know_nothing_or_all_come_back(method):
    network, image = zoo.load(method), torch.rand(2, 3, 8, 9)
    trimap = torch.full((2, 1, 8, 9), 0.5)
    assert torch.equal(network(image, trimap=trimap).alpha, trimap)
    trimap = torch.randint(0, 2, (2, 1, 8, 9)).float()
    assert torch.equal(network(image, trimap=trimap).alpha, trimap)


@methods
def test_known_foreground_alone_spreads(method):
    trimap = torch.full((1, 1, 8, 9), 0.5)
    trimap[..., 0, 0] = 1
    alpha = zoo.load(method)(disc(8, 9)[0], trimap=trimap).alpha
    torch.testing.assert_close(alpha, torch.ones_like(alpha), atol=0.01, rtol=0)


@methods
def test_every_picture_of_a_batch_by_itself_in_its_own_precision(method):
    image, _, trimap = disc()
    both = torch.cat((image, image.flip(3))).half(), torch.cat((trimap, trimap.flip(3))).half()
    alpha = zoo.load(method)(both[0], trimap=both[1]).alpha
    assert alpha.dtype == torch.float16
    torch.testing.assert_close(alpha[1:], alpha[:1].flip(3), atol=2e-3, rtol=0)


@methods
def test_wrong_use(method, monkeypatch, tmp_path):
    image, _, _ = disc()
    with pytest.raises(UsageError, match=f"{method} needs a trimap"):
        zoo.load(method)(image)
    torch.save({"weight": torch.rand(3)}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match=f"no checkpoint of {method}: its keys are of no network here"):
        zoo.load(method, tmp_path / "w.pth")
    monkeypatch.setitem(sys.modules, "pymatting", None)
    with pytest.raises(UsageError, match=rf"{method} is solved by pymatting, .*mattecli\[trimap\]"):
        zoo.load(method)  # before the first of many photos
    monkeypatch.setattr(closed_form, "find_spec", lambda name: ModuleSpec(name, None))  # a folder that pip left behind
    with pytest.raises(UsageError, match=r"mattecli\[trimap\]"):
        zoo.load(method)


def test_equations_without_solution_are_said(monkeypatch):
    image, _, trimap = disc()

    def diverge(*_, **__):
        raise ValueError("did not converge")

    monkeypatch.setattr(pymatting, "cg", diverge)
    with pytest.raises(InputError, match="The equations of knn found no solution"):
        zoo.load("knn")(image, trimap=trimap)


def test_pymattings_own_warnings_stay_off_stdout(capsys):
    """Of an indefinite matrix it prints that its first tries failed."""
    image, _, trimap = disc()
    closed_form.knn(image[0].permute(1, 2, 0).numpy(), trimap[0, 0].numpy())
    matrix = np.array([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError):
        pymatting.ichol(csc_matrix(matrix), shifts=[0.0])
    assert capsys.readouterr().out == ""

"""The oracle of Matte Label Blending: a teacher that knows the truth gives the truth on the boundary."""

import pytest
import torch

from mattecli.mixing.batch import Batch, Label
from mattecli.mixing.blending import blend, edge_band
from mattecli.zoo.spec import Prediction


@pytest.fixture
def truth():
    ramp = torch.linspace(-0.5, 1.5, 64).clamp(0, 1)
    return ramp.expand(2, 1, 32, 64).contiguous()


def _batch(truth, label):
    mask = (truth > 0.5).float()
    known = (~edge_band(mask, 2).bool()).float()
    return Batch(torch.zeros(2, 3, 32, 64), mask.clone(), known, torch.tensor(label), mask=mask)


def _teacher(truth):
    return Prediction(truth, boundary=((truth > 0.05) & (truth < 0.95)).float())


def test_true_teacher_gives_the_matte_on_the_boundary_and_the_mask_elsewhere(truth):
    blended = blend(_teacher(truth), _batch(truth, [Label.MASK] * 2), gate=1.0)
    soft = (truth > 0.05) & (truth < 0.95)
    assert torch.equal(blended.alpha[soft], truth[soft])
    assert torch.equal(blended.alpha[~soft], (truth > 0.5).float()[~soft])
    assert (blended.alpha - truth).abs().max() <= 0.05
    assert blended.known.all()


def test_gate_keeps_a_boundary_out_that_is_far_from_the_mask(truth):
    teacher = Prediction(torch.zeros_like(truth), boundary=torch.ones_like(truth))
    blended = blend(teacher, _batch(truth, [Label.MASK] * 2), gate=0.06)
    far = ~edge_band((truth > 0.5).float(), 2).bool()
    assert torch.equal(blended.alpha[far], (truth > 0.5).float()[far])
    assert (blended.alpha[~far] == 0).all()


def test_other_labels_are_left_alone(truth):
    batch = _batch(truth, [Label.MATTE, Label.MASK])
    blended = blend(_teacher(truth), batch, gate=1.0)
    assert torch.equal(blended.alpha[0], batch.alpha[0])
    assert torch.equal(blended.known[0], batch.known[0])
    assert not torch.equal(blended.alpha[1], batch.alpha[1])


def test_an_unlabelled_photo_learns_what_the_teacher_is_sure_of(truth):
    batch = _batch(truth, [Label.NONE, Label.BOXES])
    batch.known.zero_()
    unsure = Prediction(truth, boundary=torch.zeros_like(truth))
    blended = blend(unsure, batch)
    assert torch.equal(blended.alpha[0], truth[0])
    assert torch.equal(blended.known[0] == 0, (truth[0] >= 0.05) & (truth[0] <= 0.95))
    assert blend(_teacher(truth), batch).known[0].all()
    assert not blended.known[1].any()

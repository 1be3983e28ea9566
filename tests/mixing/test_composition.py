import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mattecli.mixing.composition import composite

unit = arrays.arrays(np.float32, (4, 5, 3), elements=st.floats(0, 1, width=32))
plane = arrays.arrays(np.float32, (4, 5, 1), elements=st.floats(0, 1, width=32))


@settings(deadline=None)
@given(plane, unit, unit)
def test_between_foreground_and_background(alpha, front, back):
    image = composite(alpha, front, back)
    assert (image >= np.minimum(front, back) - 1e-6).all()
    assert (image <= np.maximum(front, back) + 1e-6).all()


@settings(deadline=None)
@given(plane, unit, unit)
def test_is_the_papers_formula_and_the_same_for_tensors(alpha, front, back):
    image = composite(alpha, front, back)
    np.testing.assert_allclose(image, alpha * front + (1 - alpha) * back, atol=1e-6)
    tensors = composite(*(torch.from_numpy(a.transpose(2, 0, 1)[None].copy()) for a in (alpha, front, back)))
    np.testing.assert_allclose(tensors[0].numpy().transpose(1, 2, 0), image, atol=1e-6)


def test_opaque_and_clear():
    front, back = np.full((2, 2, 3), 0.3, np.float32), np.full((2, 2, 3), 0.7, np.float32)
    np.testing.assert_allclose(composite(np.ones((2, 2, 1), np.float32), front, back), front)
    np.testing.assert_array_equal(composite(np.zeros((2, 2, 1), np.float32), front, back), back)

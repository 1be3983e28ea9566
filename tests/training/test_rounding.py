"""Alpha in bf16 kept close to alpha in fp32 by training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mattecli.errors import UsageError
from mattecli.training import Progress, read_recipe
from mattecli.training.rounding import DROPPED, FewerBits, change


def normalised(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True)


def test_layers_in_bf16_have_fewer_bits_and_the_same_gradient() -> None:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    exact = normalised(x)
    with FewerBits():
        cut = normalised(x)
    assert not (cut.detach().view(torch.int16) & ((1 << DROPPED) - 1)).any()
    error = (cut - exact).abs() / exact.abs()
    assert 2.0 ** (DROPPED - 10) < error.max() <= 2.0 ** (DROPPED - 8)
    gradients = [torch.autograd.grad(y, x, torch.ones_like(y) * x.detach())[0] for y in (exact, cut)]
    assert torch.equal(*gradients) and gradients[0].abs().max() > 0


def test_what_is_in_fp32_stays_exact() -> None:
    x = torch.randn(2, 3, 8, 8)
    with FewerBits():
        within = normalised(x)
    assert torch.equal(within, normalised(x))


def test_the_change_is_that_of_its_worst_pixels() -> None:
    alpha = torch.rand(2, 1, 32, 32)
    assert change(alpha, alpha) < 2e-3
    everywhere = alpha + 0.08
    somewhere = alpha.clone()
    somewhere[..., :8, :8] += 0.08 * 4  # as much in all, and as a mean of squares twice as bad only
    torch.testing.assert_close(change(everywhere, alpha), torch.tensor(0.08 / 2**DROPPED), atol=1e-4, rtol=0)
    assert change(somewhere, alpha) > 1.9 * change(everywhere, alpha)


def test_a_recipe_asks_for_it(tiny, tmp_path: Path) -> None:
    events: list[object] = []
    recipe = tiny.recipe(tmp_path, steps=12)
    recipe.write_text(recipe.read_text().replace("[run]", "[run]\nrounding = 2.0").replace('"fp32"', '"bf16"'))
    tiny.train(read_recipe(str(recipe)), report=events.append)
    asked = ["rounding" in event.terms for event in events if isinstance(event, Progress)]
    assert any(asked) and not all(asked)  # only a share of the steps runs twice


def test_a_weight_below_zero_is_refused(tiny, tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace("[run]", "[run]\nrounding = -1.0"))
    with pytest.raises(UsageError, match=r"run\.rounding must be 0 or more"):
        read_recipe(str(recipe))

"""A training that begins with the mean of several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mattecli
from mattecli.errors import UsageError
from mattecli.training import _first, read_recipe
from mattecli.training.recipe import check_files

WEIGHTS = Path(mattecli.__file__).parent / "zoo/weights/realtime.safetensors"
RECIPE = """
model = "realtime"
output = "{0}/run"
init = "{1}"
soup = ["{0}/a.safetensors", "{0}/b.safetensors"]
[optimizer]
steps = 1
"""


@pytest.fixture
def folder(tmp_path):
    shipped = load_file(WEIGHTS)
    for name, scale in (("a", 2.0), ("b", 6.0)):
        save_file(
            {k: v * scale if v.is_floating_point() else v for k, v in shipped.items()}, tmp_path / f"{name}.safetensors"
        )
    (tmp_path / "recipe.toml").write_text(RECIPE.format(tmp_path, WEIGHTS))
    return tmp_path


def test_it_begins_with_the_mean(folder):
    first = _first(read_recipe(str(folder / "recipe.toml"))).state_dict()
    shipped = load_file(WEIGHTS)
    name = "encoder.0.0.0.weight"
    torch.testing.assert_close(first[name], shipped[name].float() * 3, rtol=2e-3, atol=1e-6)


def test_a_missing_file_is_named(folder):
    (folder / "b.safetensors").unlink()
    with pytest.raises(UsageError, match=r"soup names .*b\.safetensors"):
        check_files(read_recipe(str(folder / "recipe.toml")))

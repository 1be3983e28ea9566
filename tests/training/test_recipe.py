"""Recipes: what is wrong with one is said in a sentence before any work begins."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from mattecli.errors import UsageError
from mattecli.mixing.settings import data_settings
from mattecli.training import check_recipes, packaged, read_recipe
from mattecli.training.recipe import RunSettings, check_files
from tests.training.making import small

GOOD = """
model = "realtime"
output = "out"
[optimizer]
steps = 10
lr = 1
betas = [0.9, 0.95]
[run]
workers = 0
[data]
root = "photos"
size = 64
"""


def write(folder: Path, text: str) -> str:
    path = folder / "recipe.toml"
    path.write_text(text)
    return str(path)


def test_a_recipe_is_typed(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD))
    assert recipe.output == Path("out") and recipe.root == Path("photos")
    assert recipe.optimizer.lr == 1.0 and isinstance(recipe.optimizer.lr, float)
    assert recipe.optimizer.betas == (0.9, 0.95)
    assert recipe.data == {"size": 64}
    assert recipe.learns == ("*",)
    assert recipe.blend is None and recipe.run == RunSettings(workers=0)


def test_the_command_line_wins(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD), data=Path("d"), output=Path("o"), device="cpu", steps=3)
    assert (recipe.root, recipe.output, recipe.run.device, recipe.optimizer.steps) == (
        Path("d"),
        Path("o"),
        "cpu",
        3,
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("workers = 0", "wokers = 0", "unknown key run.wokers"),
        ("lr = 1", 'lr = "fast"', "optimizer.lr should be a number, not 'fast'"),
        ("steps = 10", "steps = 10.5", "optimizer.steps should be a whole number"),
        ("steps = 10", "steps = true", "optimizer.steps should be a whole number"),
        ("steps = 10", "", "optimizer.steps is missing"),
        ("steps = 10", "steps = -1", "optimizer.steps must be 0 or more"),
        ("lr = 1", "lr = 0", "optimizer.lr must be above 0"),
        ("lr = 1", "lr = nan", "optimizer.lr must be above 0 and finite"),
        ("steps = 10", "steps = 10\nclip = inf", "clip must be 0 or more, and finite"),
        ('output = "out"', f'output = "out"\nseed = {2**63}', "seed must lie in"),
        ("[0.9, 0.95]", "[0.9]", "a list of 2 numbers"),
        ("[0.9, 0.95]", "[0.9, 1.0]", "betas must lie in"),
        ("workers = 0", "workers = -1", "run.workers"),
        ("workers = 0", 'precision = "fp8"', "'auto' or 'bf16' or 'fp32'"),
        ("workers = 0", "compile = 1", "run.compile should be true or false"),
        ("workers = 0", "bf16_weights = 1", "run.bf16_weights should be true or false"),
        ("workers = 0", "ema = 1.0", "run.ema must lie in"),
        ('output = "out"', 'output = ""', "output is empty"),
        ('output = "out"', "output = 3", "output should be a path"),
        ('model = "realtime"', "", "model is missing"),
        ('model = "realtime"', 'model = "realtime"\nrun = 3\n', "not valid TOML"),
        ('model = "realtime"', 'model = "realtime"\nlearns = "up*"', "learns should be a list of strings, not 'up*'"),
        ('output = "out"', 'output = "out"\nencoder = "a.pth"\ninit = "b.pth"', "init must not be given beside it"),
        ('root = "photos"', "root = 3", "data.root should be a string"),
        ("[data]", "[blend]\nmodel='x'\n[data]", "blend.teacher is missing"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe(write(tmp_path, GOOD.replace(old, new)))
    assert sentence in str(caught.value) and "recipe.toml" in str(caught.value)


def test_a_table_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run should be a table"):
        read_recipe(write(tmp_path, 'model = "x"\noutput = "o"\nrun = 3\n[optimizer]\nsteps = 1\n'))


def test_an_unknown_name_lists_the_packaged_ones() -> None:
    with pytest.raises(UsageError, match=packaged()[0]):
        read_recipe("no-such-recipe")


def test_missing_files_are_named(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD + '[blend]\nteacher = "teacher.safetensors"\n'))
    with pytest.raises(UsageError, match="photos does not exist"):
        check_files(recipe)
    recipe = dataclasses.replace(recipe, root=tmp_path)
    with pytest.raises(UsageError, match=r"blend\.teacher names teacher\.safetensors"):
        check_files(recipe)
    check_files(recipe, promised=[Path("teacher.safetensors")])
    recipe = dataclasses.replace(recipe, blend=None, encoder="resnet50.pth")
    with pytest.raises(UsageError, match=r"encoder names resnet50\.pth, which does not exist"):
        check_files(recipe)
    (tmp_path / "resnet50.pth").touch()
    check_files(dataclasses.replace(recipe, encoder=str(tmp_path / "resnet50.pth")))
    with pytest.raises(UsageError, match=r"output names .*, but .*resnet50\.pth is a file"):
        check_files(dataclasses.replace(recipe, output=tmp_path / "resnet50.pth"))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ('name = "x"\nkind = "masks"\nroot = "none"', "Source 'x': there is no folder"),
        ('name = "x"\nkind = "mask"\nroot = "."', "Source 'x': kind 'mask' is none of"),
        ('name = "x"\nkind = "masks"\nroot = "."\nsize = 3', "data.sources: unknown key 'size'"),
    ],
)
def test_a_wrong_source_is_said_with_the_recipes_file(tmp_path: Path, source: str, sentence: str) -> None:
    path = write(tmp_path, small(tmp_path, "realtime", source))
    with pytest.raises(UsageError, match=f"^{re.escape(f'{path}: {sentence}')}"):
        check_recipes([read_recipe(path)])


def test_no_key_of_a_recipe_is_called_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown key file"):
        read_recipe(write(tmp_path, 'file = "x"\n' + GOOD))


def test_the_digest_is_of_what_decides_the_result(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD))
    moved = dataclasses.replace(
        recipe,
        output=Path("elsewhere"),
        root=Path("there"),
        run=dataclasses.replace(recipe.run, workers=8, log_every=1),
    )
    assert moved.digest() == recipe.digest()
    assert dataclasses.replace(recipe, seed=1).digest() != recipe.digest()
    assert dataclasses.replace(recipe, data={"size": 65}).digest() != recipe.digest()
    assert dataclasses.replace(recipe, encoder="resnet50.pth").digest() != recipe.digest()
    rounded = dataclasses.replace(recipe.run, bf16_weights=True)
    assert dataclasses.replace(recipe, run=rounded).digest() != recipe.digest()


@pytest.mark.parametrize("name", packaged())
def test_packaged_recipes_are_valid(name: str) -> None:
    data_settings(read_recipe(name).data)

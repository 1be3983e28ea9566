import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.cli import app, console
from mattecli.cli.train import Display
from mattecli.training import Progress
from tests.training.making import small

pytestmark = pytest.mark.usefixtures("one_thread")

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 180
SQUARES = """
name = "squares"
kind = "masks"
root = "squares"
holdout = 3
validate = true
"""


def run(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    """photos/squares/{images,masks} and recipe.toml, whose output is run/."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "photos" / "squares" / name).mkdir(parents=True)
    for number in range(1, 5):
        mask = np.zeros((96, 80), np.uint8)
        mask[20:80, 20:60] = 255
        image = (mask[..., None] // 2 + rng.integers(0, 90, (96, 80, 3))).astype(np.uint8)
        assert cv2.imwrite(str(tmp_path / f"photos/squares/images/{number}.png"), image)
        assert cv2.imwrite(str(tmp_path / f"photos/squares/masks/{number}.png"), mask)
    recipe(tmp_path, 2)
    return tmp_path


def recipe(folder, steps):
    path = folder / "recipe.toml"
    path.write_text(small(folder, "realtime", SQUARES, steps=steps))
    return path


def test_it_trains_what_the_zoo_loads(folder):
    result = run(folder / "recipe.toml", "--data", folder / "photos")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "step 2/2: loss" in result.stderr and "waiting for data" in result.stderr
    assert "best.safetensors: iou" in result.stderr
    network = zoo.load("realtime", folder / "run" / "best.safetensors")
    assert not network.training
    again = run(folder / "recipe.toml", "--data", folder / "photos")
    assert again.exit_code == 2 and "--resume" in again.stderr
    longer = run(folder / "recipe.toml", "--data", folder / "photos", "--resume", "--steps", 3, "--quiet")
    assert longer.exit_code == 0 and longer.output == ""
    steps = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["event"] == "progress"] == [1, 2, 3]


def test_a_training_without_weights_has_failed(folder, monkeypatch):
    monkeypatch.setattr("mattecli.training.train", lambda plan, report, resume: {})
    result = run(folder / "recipe.toml", "--data", folder / "photos")
    assert result.exit_code == 1 and "best.safetensors was not written" in result.stderr


def test_a_terminal_shows_the_loss_terms_and_a_bar(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr(console, "console", terminal)
    monkeypatch.setattr(sys.modules["mattecli.cli.train"], "console", terminal)
    with Display("train x", 10, quiet=False) as display:
        display(Progress(5, 10, 0.5, {"alpha": 0.3, "edge": 0.2}, 1e-3, 2.0, 3.0, 0.1, 0))
    said = terminal.file.getvalue()
    assert "alpha 0.3000  edge 0.2000" in said and "3 s left" in said and "5/10" in said and "2.00 steps/s" in said


def test_a_second_recipe_may_start_from_what_the_first_will_write(folder):
    second = folder / "second.toml"
    text = (folder / "recipe.toml").read_text().replace("/run", "/second")
    weights = (folder / "run" / "best.safetensors").as_posix()
    second.write_text(f'init = "{weights}"\n' + text)
    alone = run(second, "--data", folder / "photos")
    assert alone.exit_code == 2 and "init names" in alone.stderr
    both = run(folder / "recipe.toml", second, "--data", folder / "photos", "--steps", 1)
    assert both.exit_code == 0, both.output
    assert (folder / "second" / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no-such-recipe"], "There is no recipe"),
        (["recipe.toml"], "unknown key 'nonsense'"),
        (["good.toml", "--data", "nowhere"], "nowhere does not exist"),
        (["good.toml", "--device", "cuda:9"], "cuda:9"),
        (["good.toml", "good.toml", "--output", "x"], "several recipes"),
        (["good.toml", "good.toml"], "Two recipes write to"),
    ],
)
def test_wrong_use_is_one_sentence_and_leaves_nothing(folder, monkeypatch, arguments, sentence):
    monkeypatch.chdir(folder)
    text = (folder / "recipe.toml").read_text()
    (folder / "good.toml").write_text(text.replace(f'root = "{folder.as_posix()}"', 'root = "photos"'))
    (folder / "recipe.toml").write_text(text.replace("[data]", "[data]\nnonsense = 1"))
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr and "Traceback" not in result.output
    assert not (folder / "run").exists()


def test_a_signal_saves_and_exits_with_130(folder):
    command = [
        sys.executable,
        "-m",
        "mattecli",
        "train",
        str(recipe(folder, 100_000)),
        "--data",
        str(folder / "photos"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + PATIENCE
        while not (folder / "run" / "last.ckpt").exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, talk = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "go on with --resume" in talk and "Traceback" not in talk


def test_help_has_an_example_and_no_torch(monkeypatch):
    result = CliRunner().invoke(app, ["train", "--help"])
    assert result.exit_code == 0 and "--resume" in result.output
    assert "mattecli train realtime-teacher realtime --data photos/" in result.output
    code = "import sys, mattecli.cli.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0

"""A training that was interrupted, killed or spread over processes ends where an unbroken one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mattecli.errors import InputError, UsageError
from mattecli.training import Note, read_recipe
from mattecli.training.checkpoint import Checkpoint

REPOSITORY = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("tiny.py")
PATIENCE = 120


def start(*command: str, **environment: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True)


def state(folder: Path) -> Checkpoint:
    return Checkpoint.load(folder / "run" / "last.ckpt")


def flat(value: object, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors in nested tables, by path."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {k: v for key, inner in items for k, v in flat(inner, f"{name}/{key}").items()}


def assert_identical(one: Checkpoint, other: Checkpoint) -> None:
    assert (one.step, one.skipped, one.best) == (other.step, other.skipped, other.best)
    for part in ("model", "ema", "optimizer"):
        ours, theirs = flat(getattr(one, part)), flat(getattr(other, part))
        assert ours.keys() == theirs.keys() and ours
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), f"{part}{key}"


def wait_for_step(process: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    end = time.monotonic() + PATIENCE
    while not ((folder / "run" / "last.ckpt").exists() and state(folder).step >= step):
        assert process.poll() is None and time.monotonic() < end, "the training never came that far"
        time.sleep(0.05)


def losses(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "run" / "log.jsonl").read_text().splitlines())
    return [line["terms"] | {"loss": line["loss"]} for line in lines if line["event"] == "progress"]


@pytest.fixture
def unbroken(tiny, tmp_path: Path) -> Checkpoint:
    folder = tmp_path / "unbroken"
    folder.mkdir()
    tiny.train(read_recipe(str(tiny.recipe(folder, steps=12))))
    return state(folder)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_six_steps_are_three_and_three(tiny, tmp_path: Path, precision: str) -> None:
    ends = []
    for name, stop in (("whole", None), ("halves", 3)):
        folder = tmp_path / name
        folder.mkdir()
        plan = read_recipe(str(tiny.recipe(folder, steps=6, precision=precision)))
        if stop is not None:

            class Interrupting(tiny.Squares):  # type: ignore[name-defined, misc]
                def batch(self, index: int):  # type: ignore[no-untyped-def]
                    if index == 3:
                        signal.raise_signal(signal.SIGINT)
                    return super().batch(index)

            with pytest.raises(KeyboardInterrupt):
                tiny.train(plan, Interrupting())
            assert state(folder).step == 3
            torch.manual_seed(99)
        tiny.train(plan, resume=True)
        ends.append(state(folder))
    assert_identical(*ends)


def test_killed_and_resumed_is_bit_for_bit_the_unbroken_training(tiny, tmp_path: Path, unbroken) -> None:
    recipe = tiny.recipe(tmp_path, steps=12, workers=1)
    process = start(str(SCRIPT), str(recipe), "hang")
    try:
        wait_for_step(process, tmp_path, 6)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with its worker, which hangs
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert state(tmp_path).step < 12
    tiny.train(read_recipe(str(recipe)), resume=True)
    assert_identical(state(tmp_path), unbroken)


def test_a_signal_saves_a_checkpoint_where_it_comes(tiny, tmp_path: Path, unbroken) -> None:
    """Step 10 lies between two checkpoints of the recipe."""

    class Terminating(tiny.Squares):  # type: ignore[name-defined, misc]
        def batch(self, index: int):  # type: ignore[no-untyped-def]
            if index == 10:
                signal.raise_signal(signal.SIGTERM)
            return super().batch(index)

    plan = read_recipe(str(tiny.recipe(tmp_path, steps=12)))
    with pytest.raises(KeyboardInterrupt):
        tiny.train(plan, Terminating())
    assert state(tmp_path).step == 10
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    tiny.train(plan, resume=True)
    assert_identical(state(tmp_path), unbroken)


def test_two_processes_train_one_network(tiny, tmp_path: Path) -> None:
    """The same batches, in one process after each other or in two at once, give the same weights."""
    both, alone = tmp_path / "both", tmp_path / "alone"
    both.mkdir()
    alone.mkdir()
    script = str(tiny.recipe(both, steps=6))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start(
        *torchrun,
        str(SCRIPT),
        script,
        OMP_NUM_THREADS="1",
        PYTHONWARNINGS="error::FutureWarning:mattecli.training.processes",
    )
    assert process.wait(PATIENCE) == 0
    tiny.train(read_recipe(str(tiny.recipe(alone, steps=6, accumulate=2))))
    first, second = state(both).model, torch.load(both / "run" / "rank1.pt", weights_only=True)
    for key, value in state(alone).model.items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(first[key], second[key]), key
            torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-5)
    log = (both / "run" / "train.log").read_text()
    assert "2 × cpu" in log and log.count("validation") == 2
    for ours, theirs in zip(losses(both), losses(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_what_is_there_is_not_overwritten(tiny, tmp_path: Path) -> None:
    plan = read_recipe(str(tiny.recipe(tmp_path, steps=2)))
    tiny.train(plan)
    with pytest.raises(UsageError, match="--resume"):
        tiny.train(plan)


def test_a_changed_recipe_is_said_on_resume(tiny, tmp_path: Path) -> None:
    tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=2))))
    notes: list[str] = []
    longer = read_recipe(str(tmp_path / "recipe.toml"), steps=4)
    tiny.train(longer, resume=True, report=lambda e: notes.append(e.text) if isinstance(e, Note) else None)
    assert state(tmp_path).step == 4
    assert any("recipe has changed" in note for note in notes)


def test_a_checkpoint_of_another_network_is_refused(tiny, tmp_path: Path) -> None:
    tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=2))))
    path = tmp_path / "recipe.toml"
    path.write_text(path.read_text().replace('"tiny"', '"other"'))
    with pytest.raises(UsageError, match="training of tiny, not of other"):
        tiny.train(read_recipe(str(path)), resume=True)


@pytest.mark.parametrize("kept", [0, 20, 0.5, -30])
def test_a_cut_checkpoint_is_an_error_of_one_sentence(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "last.ckpt"
    Checkpoint({"weight": torch.rand(1000)}, {}, {}, 3, 0, {}, "tiny", "").save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 if kept == 0.5 else int(kept)])
    with pytest.raises(InputError) as caught:
        Checkpoint.load(path)
    said = f"{path} is damaged or no checkpoint of mattecli train; start again with another --output."
    assert str(caught.value) == said


@pytest.mark.parametrize("content", [b"not a checkpoint", b"PK\x03\x04broken"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"(not a|no) checkpoint"):
        Checkpoint.load(path)


def test_a_failed_save_leaves_the_old_checkpoint_alone(tiny, tmp_path: Path, monkeypatch) -> None:
    tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=2))))
    old = (tmp_path / "run" / "last.ckpt").read_bytes()

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match="space"):
        Checkpoint({}, {}, {}, 3, 0, {}, "tiny", "").save(tmp_path / "run" / "last.ckpt")
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == old
    assert not list((tmp_path / "run").glob(".*"))

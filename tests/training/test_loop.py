"""What the loop does in a step, and what it leaves behind."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mattecli.errors import MatteError, UsageError
from mattecli.mixing.batch import Batch, Label
from mattecli.mixing.sampling import Sample
from mattecli.training import Note, Progress, Validated, read_recipe, sentence, validation
from mattecli.training.ema import Ema
from mattecli.training.loop import PATIENCE, learning_rate
from mattecli.training.recipe import OptimizerSettings
from mattecli.zoo.spec import Prediction


def test_it_learns_and_reports(tiny, tmp_path: Path) -> None:
    plan = read_recipe(str(tiny.recipe(tmp_path, steps=60, validate_every=30)))
    events: list[object] = []
    training = tiny.train(plan, report=events.append)
    progress = [event for event in events if isinstance(event, Progress)]
    validated = [event for event in events if isinstance(event, Validated)]
    assert progress[-1].step == progress[-1].steps == 60
    assert progress[-1].loss < 0.5 * progress[0].loss
    assert progress[-1].loss == pytest.approx(sum(progress[-1].terms.values()))
    assert progress[-1].eta == 0 and all(0 <= event.waiting <= 1 for event in progress)
    assert set(progress[0].terms) == {"alpha", "boundary"}
    assert validated[-1].figures["iou"] > 0.9
    assert training.best["mad"] == min(event.figures["mad"] for event in validated)
    assert isinstance(events[0], Note) and "cpu in fp32" in events[0].text


def test_the_best_weights_are_the_averaged_ones(tiny, tmp_path: Path) -> None:
    training = tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=12))))
    weights = load_file(tmp_path / "run" / "best.safetensors")
    with safe_open(tmp_path / "run" / "best.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["model"] == "tiny" and metadata["recipe"] == training.recipe.digest()
    network = tiny.Tiny()
    network.load_state_dict(weights)
    pairs = validation.predict(
        network.eval(), validation.hold(training.source.validation()), torch.device("cpu"), False
    )
    figures = validation.measure((alpha, photo.alpha) for photo, alpha in pairs)
    assert figures["mad"] == pytest.approx(json.loads(metadata["mad"]), abs=1e-7)
    if int(metadata["step"]) == training.step:
        averaged = training.ema.network.state_dict()
        assert all(torch.equal(weights[key], averaged[key]) for key in weights)
        assert any(not torch.equal(weights[k], v) for k, v in training.network.state_dict().items())


def test_two_trainings_that_are_the_same_leave_the_same_bytes(tiny, tmp_path: Path) -> None:
    plan = read_recipe(str(tiny.recipe(tmp_path, steps=3)))
    for name in ("one", "two"):
        tiny.train(replace(plan, output=tmp_path / name))
    assert (tmp_path / "one/best.safetensors").read_bytes() == (tmp_path / "two/best.safetensors").read_bytes()


def test_the_start_of_the_loader_is_no_waiting(tiny, tmp_path: Path) -> None:
    class Late(tiny.Squares):  # type: ignore[name-defined, misc]
        def batch(self, index: int) -> Batch:
            time.sleep(1.0 if index == 0 else 0.0)
            return super().batch(index)

    events: list[object] = []
    plan = read_recipe(str(tiny.recipe(tmp_path, steps=6)))
    tiny.train(plan, Late(), report=events.append)
    first = next(event for event in events if isinstance(event, Progress))
    assert first.step == 2 and first.rate > 2 and first.waiting < 1, "the first batch alone takes a second"


def test_logs_are_lines_of_json_and_of_text(tiny, tmp_path: Path) -> None:
    tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=6))))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    kinds = [line["event"] for line in lines]
    assert kinds.count("progress") == 3 and kinds.count("validated") == 2
    text = (tmp_path / "run" / "train.log").read_text()
    assert "step 6/6: loss" in text and "waiting for data" in text


@pytest.mark.parametrize(("eta", "said"), [(0.4, "0 s left"), (119, "119 s left"), (120, "2 min left")])
def test_the_last_two_minutes_are_told_in_seconds(eta: float, said: str) -> None:
    assert f"  {said}  " in sentence(Progress(1, 2, 0.5, {}, 1e-3, 2.0, eta, 0.0, 0))


def test_tensorboard_gets_scalars_and_pictures(tiny, tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=6))))
    board = loader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert {"loss", "loss/alpha", "validation/mad", "lr"} <= set(tags["scalars"])
    assert set(tags["images"]) == {"validation/squares/1000", "validation/squares/1001"}
    picture = board.Images("validation/squares/1000")[0]
    assert (picture.width, picture.height) == (3 * 128, 128)


def test_without_tensorboard_nothing_is_said(tiny, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=2))))
    assert (tmp_path / "run" / "best.safetensors").exists()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_poisoned_batch_changes_nothing(tiny, tmp_path: Path) -> None:
    """Neither weights nor running statistics take in a step whose gradient is not finite."""
    plan = read_recipe(str(tiny.recipe(tmp_path, steps=6)))
    training = tiny.train(plan, tiny.Squares(poison=range(2, 4)))
    assert training.skipped == 2
    assert all(v.isfinite().all() for v in training.network.state_dict().values())
    assert all(v.isfinite().all() for v in training.ema.network.state_dict().values())
    assert training.network.body[1].num_batches_tracked == 4
    assert "NaN" not in (tmp_path / "run" / "log.jsonl").read_text()


def test_without_photos_to_validate_on_the_last_weights_are_kept(tiny, tmp_path: Path) -> None:
    class Unheld(tiny.Squares):  # type: ignore[name-defined, misc]
        def validation(self):  # type: ignore[no-untyped-def]
            return iter(())

    plan = read_recipe(str(tiny.recipe(tmp_path, steps=4, validate_every=0)))
    training = tiny.train(plan, Unheld())
    torch.testing.assert_close(load_file(plan.best)["head.bias"], training.ema.network.state_dict()["head.bias"])


def test_nothing_but_poison_ends_the_training(tiny, tmp_path: Path) -> None:
    plan = read_recipe(str(tiny.recipe(tmp_path, steps=PATIENCE + 5, validate_every=0)))
    with pytest.raises(MatteError, match=r"optimizer\.lr"):
        tiny.train(plan, tiny.Squares(poison=range(500)))


def test_accumulated_batches_are_one_step(tiny, tmp_path: Path) -> None:
    asked: list[int] = []

    class Counting(tiny.Squares):  # type: ignore[name-defined, misc]
        def batch(self, index: int):  # type: ignore[no-untyped-def]
            asked.append(index)
            return super().batch(index)

    tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=3, accumulate=2))), Counting())
    assert [index for index in asked if index < 1000] == list(range(6))


class Oracle(torch.nn.Module):
    """A teacher that says 0.25 everywhere and trusts it nowhere, or everywhere."""

    def __init__(self, trust: float) -> None:
        super().__init__()
        self.trust, self.seen = trust, 0

    def forward(self, image, *, trimap=None, background=None, state=None) -> Prediction:  # type: ignore[no-untyped-def]
        assert not self.training and not torch.is_grad_enabled()
        self.seen += len(image)
        plane = torch.full_like(image[:, :1], 0.25)
        return Prediction(plane, boundary=torch.full_like(plane, self.trust))


def test_only_masks_are_blended(tiny, tmp_path: Path) -> None:
    plan = read_recipe(str(tiny.recipe(tmp_path, steps=1)))
    teacher = Oracle(1.0)
    training = tiny.train(plan, teacher=teacher)
    assert teacher.seen == 0, "mattes need no teacher"
    batch = training.source.batch(0)
    batch.label[1] = Label.MASK
    before = batch.alpha.clone()
    after = training._blended(batch)
    assert teacher.seen == 1
    assert torch.equal(after.alpha[[0, 2, 3]], before[[0, 2, 3]])
    assert (after.alpha[1] == 0.25).any() and torch.equal(after.label, batch.label)
    teacher.trust = 0.0
    assert torch.equal(training._blended(batch).alpha, before)


def test_learning_rate_warms_up_and_falls() -> None:
    settings = OptimizerSettings(steps=110, lr=1.0, warmup=10, min_lr=0.1)
    rates = [learning_rate(settings, step) for step in range(111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    constant = OptimizerSettings(steps=110, lr=1.0, warmup=0, schedule="constant")
    assert learning_rate(constant, 0) == learning_rate(constant, 109) == 1.0


def test_no_weight_decay_on_biases_and_normalisations(tiny, tmp_path: Path) -> None:
    training = tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=1))))
    kernels, rest = training.optimizer.param_groups
    assert all(p.ndim > 1 for p in kernels["params"]) and kernels["weight_decay"] > 0
    assert all(p.ndim == 1 for p in rest["params"]) and rest["weight_decay"] == 0


def test_what_does_not_learn_stays_as_it_is(tiny, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = tiny.Tiny().state_dict()
    plan = replace(read_recipe(str(tiny.recipe(tmp_path, steps=4))), seed=3, learns=("head.w*", "idle"))
    after = tiny.train(plan).network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight"}, "the loss does not reach idle"
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name.startswith("body."))


def test_without_steps_the_beginning_is_the_result(tiny, tmp_path: Path) -> None:
    torch.manual_seed(3)
    begin = tiny.Tiny().state_dict()
    training = tiny.train(replace(read_recipe(str(tiny.recipe(tmp_path, steps=0))), seed=3))
    weights = load_file(tmp_path / "run" / "best.safetensors")
    assert all(torch.equal(weights[key], value) for key, value in begin.items())
    assert training.best["step"] == 0


def test_what_no_loss_reaches_learns_nothing(tiny, tmp_path: Path) -> None:
    plan = replace(read_recipe(str(tiny.recipe(tmp_path, steps=4))), learns=("idle",))
    before = tiny.Tiny().state_dict()["idle"]
    training = tiny.train(plan)
    assert training.step == 4 and training.skipped == 0
    assert torch.equal(training.network.state_dict()["idle"], before)


def test_a_pattern_that_fits_nothing_is_named(tiny, tmp_path: Path) -> None:
    plan = replace(read_recipe(str(tiny.recipe(tmp_path))), learns=("head.*", "tail.*"))
    with pytest.raises(UsageError, match=r"learns: 'tail\.\*' fits no parameter"):
        tiny.train(plan)
    assert not plan.output.exists()


def test_ema_warms_up_then_decays() -> None:
    network = torch.nn.BatchNorm1d(2)
    ema = Ema(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(2.0)
        network.running_mean.fill_(2.0)
        network.num_batches_tracked.fill_(7)
    ema.update(network, 0)
    assert ema.network.weight.tolist() == pytest.approx([1.9, 1.9])
    assert ema.network.running_mean.tolist() == pytest.approx([1.8, 1.8])
    assert ema.network.num_batches_tracked == 7
    ema.update(network, 1000)
    assert ema.network.weight.tolist() == pytest.approx([1.95, 1.95])
    assert not ema.network.training and not ema.network.weight.requires_grad


def test_figures_of_known_mattes() -> None:
    truth = np.zeros((10, 10), np.float32)
    truth[:, :5] = 1
    half = np.full((10, 10), 0.6, np.float32)
    figures = validation.measure([(truth, truth), (half, truth)])
    assert figures["iou"] == pytest.approx((1 + 0.5) / 2)
    assert figures["mad"] == pytest.approx((0.4 + 0.6) / 2 / 2)
    assert figures["mse"] == pytest.approx((0.16 + 0.36) / 2 / 2)


def test_validation_is_at_its_own_size_and_the_network_sees_the_networks(tiny) -> None:
    seen: list[tuple[int, ...]] = []

    class Spy(tiny.Tiny):  # type: ignore[name-defined, misc]
        def forward(self, image, **rest):  # type: ignore[no-untyped-def]
            seen.append(tuple(image.shape))
            return super().forward(image, **rest)

    rgb = np.zeros((1000, 500, 3), np.uint8)
    held = validation.hold([Sample(rgb, np.ones((1000, 500), np.float32), "tall")])
    ((photo, alpha),) = validation.predict(Spy().eval(), held, torch.device("cpu"), False)
    assert alpha.shape == photo.alpha.shape == (128, 64)
    assert seen == [(1, 3, 64, 32)]
    assert photo.alpha.min() == pytest.approx(1.0)
    assert validation.strip(photo, alpha).shape == (128, 192, 3)


class _Clips:
    """Two clips of three frames a batch."""

    def __init__(self, squares) -> None:
        self.squares = squares

    def batch(self, index: int) -> Batch:
        photos = [self.squares.batch(3 * index + t) for t in range(3)]
        names = ("image", "alpha", "known", "label", "mask")
        stacked = {name: torch.stack([getattr(photo, name)[:2] for photo in photos], 1) for name in names}
        return Batch(**stacked)

    def validation(self):
        return self.squares.validation()


@pytest.mark.parametrize("recurrent", [False, True])
def test_clips_reach_the_network_with_time_first(tiny, tmp_path: Path, monkeypatch, recurrent: bool) -> None:
    seen: list[tuple[torch.Tensor, int]] = []
    forward = tiny.Tiny.forward

    def watched(self, image, *, frames=1, **others):
        if self.training:
            seen.append((image.detach().clone(), frames))
        return forward(self, image, **others)

    monkeypatch.setattr(tiny.Tiny, "forward", watched)
    monkeypatch.setattr(tiny.Tiny, "spec", replace(tiny.Tiny.spec, recurrent=recurrent))
    clips = _Clips(tiny.Squares())
    tiny.train(read_recipe(str(tiny.recipe(tmp_path, steps=2))), clips)
    assert [frames for _, frames in seen] == ([3, 3] if recurrent else [1, 1])
    expected = clips.batch(1).image
    for t in range(3):
        assert torch.equal(seen[1][0].view(3, 2, 3, 32, 32)[t], expected[:, t])
